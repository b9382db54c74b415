"""Probes and trials as functions of their seed, on a small real training."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch import nn
from torch.utils.data import TensorDataset

from sweeper.code.importing import ModuleRef
from sweeper.records import CORRECT
from sweeper.signature import encode
from sweeper.train.data.samples import Data, HeldSet, LoadedSet
from sweeper.train.eager import probes as probes_module
from sweeper.train.eager import training as training_module
from sweeper.train.eager.probes import (
    EVALUATED,
    Probe,
    run_batch_choice,
    run_batch_range,
    run_check,
    run_lr_range,
)
from sweeper.train.eager.trial import train_trial
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.curves import choose_samples
from sweeper.train.replica.streams import Streams
from sweeper.train.tuning.ranges import batch_sizes
from sweeper.train.tuning.stages import BatchChoice, BatchRange, Check, LrRange
from sweeper.train.tuning.trials import Trial

SIGNATURE = "5e" * 32


pytestmark = pytest.mark.usefixtures("one_thread")


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def with_state() -> nn.Module:
    """Everything that an evaluation could disturb: what is drawn, and what is gathered."""
    return nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)
    )


class Noisy(nn.Module):
    """Draws in evaluation mode too."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def drawing_always() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), Noisy(), nn.Linear(8, 2))


MODELS = pytest.mark.parametrize("model", [plain, with_state, drawing_always])


def problem_of(model: Any = with_state, **changes: Any) -> Problem:
    module = ModuleType("toy")
    good = {
        "model": model,
        "dataset": lambda: None,
        "loss": nn.CrossEntropyLoss,
        "accuracy_style": "classification",
    }
    for name, value in (good | changes).items():
        setattr(module, name, value)
    return Problem(ModuleRef("toy", "toy"), module)


def data_of(samples: int = 80, val: int = 40, *, held: bool = True) -> Data:
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(samples + val, 3))).float()
    y = (x[:, 0] > 0).long()
    kind = HeldSet if held else lambda x, y: LoadedSet(TensorDataset(x, y))
    return Data(kind(x[:samples], y[:samples]), kind(x[samples:], y[samples:]))


def streams_of(number: int = 0, stage: str = "lr_range", seed: int = 0) -> Streams:
    return Streams(seed, SIGNATURE, stage, number)


WARM_UP = {"warmup_lr": 1e-4, "warmup_batch": 16, "warmup_steps": 3}
LR_RANGE = LrRange("linear", 0, False, 1e-3, 0.5, batch_size=16, steps=30, **WARM_UP)
FOUND = {"lr_min": 0.05, "lr_max": 0.3, "lr_batch": 16}
BATCH_RANGE = BatchRange(**FOUND, batch_start=8, batch_end=20, samples=200, steps=15, **WARM_UP)
CHOICE = BatchChoice(
    **FOUND, sizes=[8, 20], inits=2, cycle_epochs=3, range_diverged=False, steps=12
)
PARAMS = encode(())
TRIAL = Trial(0.01, 0.3, batch_size=16, cycle_epochs=4, cycles=2, steps=4 * 2 * 5)


def probe_of(streams: Streams, model: Any = with_state, data: Data | None = None) -> Probe:
    return Probe.make(problem_of(model), data or data_of(), streams, encode(()))


def run(stage: str, streams: Streams, data: Data | None = None, **changes: Any) -> bytes:
    """What a probe of the stage measures, to the last bit."""
    probe = probe_of(streams, data=data)
    if stage == "lr_range":
        _, arrays = run_lr_range(probe, replace(LR_RANGE, **changes))
    elif stage == "batch_range":
        _, arrays = run_batch_range(probe, replace(BATCH_RANGE, **changes))
    else:
        metrics, _ = run_batch_choice(probe, replace(CHOICE, **changes), streams.number)
        return np.float64(metrics["perf"]).tobytes()
    return bytes(arrays["perf"].tobytes())


def trial(
    streams: Streams | None = None,
    samples: int = 0,
    data: Data | None = None,
    problem: Problem | None = None,
    **changes: Any,
) -> Any:
    streams = streams or streams_of(stage="trial")
    problem, data = problem or problem_of(), data or data_of()
    told = replace(TRIAL, **changes)
    return train_trial(problem, data, streams, PARAMS, told, samples, Path("unused"))


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def disturb_globals() -> None:
    torch.manual_seed(99)
    torch.rand(7)
    np.random.seed(99)  # noqa: NPY002 - the global generator is what this is about


# -- functions of their seed ----------------------------------------------------------------------

STAGES = pytest.mark.parametrize("stage", ["lr_range", "batch_range", "batch_choice"])


@STAGES
def test_a_probe_is_a_function_of_its_seed(stage):
    first = run(stage, streams_of(0, stage))
    disturb_globals()
    assert run(stage, streams_of(0, stage)) == first
    others = [
        run(stage, streams_of(1, stage)),
        run(stage, streams_of(0, f"{stage}.1")),
        run(stage, streams_of(0, stage, seed=1)),
        run(stage, Streams(0, "5f" * 32, stage, 0)),
    ]
    assert len({first, *others}) == 5


@STAGES
def test_a_probe_of_held_data_is_one_of_loaded_data(stage):
    held, loaded = (run(stage, streams_of(0, stage), data_of(held=held)) for held in (True, False))
    assert held == loaded


def test_a_trial_is_a_function_of_its_seed():
    first = trial()
    disturb_globals()
    again, loaded = trial(), trial(data=data_of(held=False))
    assert bits(first.model) == bits(again.model) == bits(loaded.model)
    assert first.metrics == again.metrics == loaded.metrics
    for streams in (streams_of(1, "trial"), streams_of(0, "trial", seed=1)):
        other = trial(streams)
        assert bits(other.model)["0.weight"] != bits(first.model)["0.weight"]
        assert other.metrics != first.metrics


def test_the_order_of_the_data_has_a_stream_of_its_own():
    def model():
        made = nn.Linear(3, 2)
        nn.init.zeros_(made.weight)
        nn.init.zeros_(made.bias)
        return made

    def trained(number):
        probe = probe_of(streams_of(number), model)
        run_lr_range(probe, LR_RANGE)
        of_trial = trial(streams_of(number, "trial"), problem=problem_of(model)).model
        return bits(probe.model)["weight"], bits(of_trial)["weight"]

    for one, other in zip(trained(0), trained(1), strict=True):
        assert one != other


def test_what_a_model_draws_inside_does_not_depend_on_what_its_initialisation_drew():
    def model():
        torch.rand(5)
        return plain()

    streams = streams_of()
    states = []
    for made in (plain, model):
        probe_of(streams, made)
        states.append(torch.get_rng_state())
    streams.seed_globals("inside")
    assert all(torch.equal(state, torch.get_rng_state()) for state in states)


# -- measuring does not disturb -------------------------------------------------------------------


@MODELS
@pytest.mark.parametrize("samples", [1, 40, 1000])
def test_a_trial_is_the_same_with_and_without_curves(model, samples):
    without, with_curves = (trial(samples=n, problem=problem_of(model)) for n in (0, samples))
    assert bits(without.model) == bits(with_curves.model)
    assert without.metrics == with_curves.metrics
    (correct,) = without.arrays.values()
    assert with_curves.arrays[CORRECT].tobytes() == correct.tobytes()
    assert len(with_curves.arrays["step"]) == min(samples, 40)


@MODELS
@STAGES
def test_measuring_performance_does_not_disturb_a_probe(model, stage, monkeypatch):
    def trained() -> dict[str, bytes]:
        probe = probe_of(streams_of(0, stage), model)
        if stage == "lr_range":
            run_lr_range(probe, LR_RANGE)
        elif stage == "batch_range":
            run_batch_range(probe, BATCH_RANGE)
        else:
            run_batch_choice(probe, CHOICE, 0)
        return bits(probe.model)

    measured = trained()
    monkeypatch.setattr(Probe, "performance", lambda _: 0.5)
    monkeypatch.setattr(Probe, "final_performance", lambda _: 0.5)
    assert trained() == measured


@pytest.mark.parametrize("samples", [80, EVALUATED + 1, 500])
def test_performance_is_measured_on_at_most_192_samples(samples, monkeypatch):
    seen = []

    def measured_loss(_model, _judging, _samples, batches):
        seen.append([len(y) for _, y in batches])
        return 1.0

    monkeypatch.setattr(probes_module, "measured_loss", measured_loss)
    probe = probe_of(streams_of(), data=data_of(samples))
    assert probe.performance() == 0.5
    assert seen == [[min(samples, EVALUATED)]]
    probe.final_performance()
    assert sum(seen[-1]) == samples


def test_a_model_that_learns_nothing_of_small_data_gives_a_curve_that_is_flat_exactly():
    probe = probe_of(streams_of(), plain)
    assert len({probe.performance() for _ in range(10)}) == 1


# -- divergence -----------------------------------------------------------------------------------


class Explodes(nn.Module):
    """Its loss is infinite from a step on that comes the sooner the higher the rate is."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x[:, :2] * self.weight.exp() ** 3


def exploding(**changes):
    def loss():
        return lambda output, y: -output.pow(2).mean() + 0 * y.sum()

    return problem_of(Explodes, loss=loss, accuracy_style="inv-loss", **changes)


def test_a_rate_that_diverges_ends_a_range_run_early():
    probe = Probe.make(exploding(), data_of(), streams_of(), encode(()))
    _, arrays = run_lr_range(probe, replace(LR_RANGE, lr_start=1e-6, warmup_steps=0))
    assert 0 < len(arrays["perf"]) < LR_RANGE.steps
    assert np.isfinite(arrays["perf"]).all()


def test_a_rate_that_diverges_ends_a_batch_run_early():
    probe = Probe.make(exploding(), data_of(), streams_of(), encode(()))
    _, arrays = run_batch_range(probe, BATCH_RANGE)
    assert len(arrays["perf"]) < len(batch_sizes(8, 20, 200))
    assert np.isfinite(arrays["perf"]).all()


def test_a_size_that_diverges_performs_0():
    probe = Probe.make(exploding(), data_of(), streams_of(), encode(()))
    assert run_batch_choice(probe, CHOICE, 0) == ({"perf": 0.0}, {})


def test_a_trial_that_diverges_is_a_measurement():
    found = trial(problem=exploding(), samples=40)
    assert math.isnan(found.metrics["loss_train"])
    assert math.isnan(found.metrics["loss_val"])
    assert found.metrics["perf_train"] == found.metrics["perf_val"] == 0
    assert np.isnan(found.arrays["loss_train"][-1])


def test_a_model_that_is_nan_from_the_start_leaves_an_empty_curve():
    def model():
        made = plain()
        nn.init.constant_(made[0].weight, math.nan)
        return made

    probe = Probe.make(problem_of(model), data_of(), streams_of(), encode(()))
    _, arrays = run_lr_range(probe, LR_RANGE)
    assert arrays["perf"].shape == (0,)


# -- rates and sizes ------------------------------------------------------------------------------


@pytest.fixture
def seen_rates(monkeypatch):
    """The rate of every step that any optimiser takes."""
    rates = []

    def watched(make):
        def make_optimizer(*args):
            optimizer = make(*args)
            optimizer.register_step_pre_hook(
                lambda *_: rates.append(optimizer.param_groups[0]["lr"])
            )
            return optimizer

        return make_optimizer

    for module in (probes_module, training_module):
        monkeypatch.setattr(module, "make_optimizer", watched(module.make_optimizer))
    return rates


def test_a_trials_rate_goes_low_high_low_each_cycle(seen_rates):
    trial()
    cycle = 4 * 5
    assert len(seen_rates) == 2 * cycle
    # The fall ends at the low rate with which the next cycle begins.
    expected = 0.3 + (0.01 - 0.3) * np.abs(1 - 2 * np.arange(cycle) / cycle)
    np.testing.assert_allclose(seen_rates, np.tile(expected, 2))
    assert seen_rates[0] == pytest.approx(0.01)
    assert max(seen_rates) == seen_rates[cycle // 2] == pytest.approx(0.3)


@pytest.mark.parametrize(("number", "size"), [(0, 8), (1, 8), (2, 20), (3, 20)])
def test_a_batch_choice_is_one_cycle_at_the_scaled_range(seen_rates, number, size):
    run("batch_choice", streams_of(number, "batch_choice"))
    steps, scale = 3 * (80 // size), size / 16
    assert len(seen_rates) == steps
    expected = 0.3 + (0.05 - 0.3) * np.abs(1 - 2 * np.arange(steps) / steps)
    np.testing.assert_allclose(seen_rates, expected * scale)


def test_a_range_run_warms_up_and_rises(seen_rates):
    run("lr_range", streams_of())
    assert seen_rates[:3] == [1e-4] * 3
    np.testing.assert_allclose(seen_rates[3:], np.linspace(1e-3, 0.5, 30))


def test_a_logarithmic_range_run(seen_rates):
    run("lr_range", streams_of(), spacing="log", warmup_steps=0)
    np.testing.assert_allclose(seen_rates, np.geomspace(1e-3, 0.5, 30))


def test_a_batch_runs_rate_is_in_proportion_to_its_size(seen_rates):
    run("batch_range", streams_of(stage="batch_range"), warmup_steps=0)
    np.testing.assert_allclose(seen_rates, (0.05 + 0.3) / 2 / 16 * batch_sizes(8, 20, 200))


def test_every_group_has_the_scheduled_rate_times_its_scale(monkeypatch):
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def groups(model):
        first, *others = model.parameters()
        return [{"params": first, "lr_scale": 0.25}, {"params": others}]

    problem = problem_of(optimizer={"class": Watched, "groups": groups})
    trial(problem=problem)
    rates = np.array(seen)
    assert rates.shape == (40, 2)
    assert rates[:, 1].max() == pytest.approx(0.3)
    np.testing.assert_array_equal(rates[:, 0], 0.25 * rates[:, 1])
    seen.clear()
    run_lr_range(Probe.make(problem, data_of(), streams_of(), encode(())), LR_RANGE)
    rates = np.array(seen)
    np.testing.assert_allclose(rates[3:, 1], np.linspace(1e-3, 0.5, 30))
    np.testing.assert_array_equal(rates[:, 0], 0.25 * rates[:, 1])


@pytest.mark.parametrize("changes", [{"clip_grad_norm": 1e-3}, {"clip_grad_value": 1e-4}])
def test_gradients_are_clipped_in_probes_and_in_trials(changes):
    sizes = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
            sizes.append(torch.cat(gradients))
            return super().step(closure)

    problem = problem_of(optimizer={"class": Watched}, **changes)
    trial(problem=problem)
    run_lr_range(Probe.make(problem, data_of(), streams_of(), encode(())), LR_RANGE)
    assert len(sizes) == 40 + 3 + 30
    ((name, bound),) = changes.items()
    for gradient in sizes:
        size = gradient.norm() if name == "clip_grad_norm" else gradient.abs().max()
        assert float(size) <= bound * 1.001


def test_training_improves_on_the_start():
    found = trial(samples=40)
    assert found.metrics["perf_val"] > 0.85
    curve = found.arrays["loss_train"]
    assert curve[-1] < 0.5 * curve[0]
    assert found.arrays["step"].tolist() == list(range(1, 41))
    # Its last point is measured on all samples of so small a set, in another order of adding up.
    assert found.arrays["loss_val"][-1] == pytest.approx(found.metrics["loss_val"], rel=1e-5)


@pytest.mark.parametrize(("steps", "expected"), [(10, 64), (8_000, 160), (100_000, 1024)])
def test_curves_are_measured_on_what_a_tenth_of_the_training_pays_for(steps, expected):
    told = replace(TRIAL, steps=steps, batch_size=16)
    chosen = choose_samples(data_of(2000), streams_of(), told, curve_samples=40)
    assert len(chosen["train"]) == expected
    assert len(chosen["val"]) == 40
    for places in chosen.values():
        assert len(set(places.tolist())) == len(places)


def test_the_second_of_two_models_is_trained_and_the_first_is_kept():
    class Wrapped(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.extra = inner, nn.Parameter(torch.zeros(1))

    def model():
        inner = plain()
        return Wrapped(inner), inner

    found = trial(problem=problem_of(model))
    assert type(found.model) is Wrapped
    alone = bits(trial(problem=problem_of(plain)).model)
    assert {f"inner.{name}": value for name, value in alone.items()}.items() <= bits(
        found.model
    ).items()


def test_handlers_are_told_of_the_trial(tmp_path):
    told = []

    def handlers(trainer, evaluator, trial):
        told.append(trial)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, told.append)

    problem = problem_of(handlers=handlers)
    streams = streams_of(3, "trial")
    found = train_trial(problem, data_of(), streams, PARAMS, TRIAL, 0, tmp_path / "3")
    assert bits(found.model) == bits(trial(streams).model)
    assert (told[0].number, told[0].params, told[0].folder) == (3, (), tmp_path / "3")
    assert told[0].folder.is_dir()
    assert told[0].seed == streams.trial_seed != streams_of(4, "trial").trial_seed
    assert len(told) == 1 + 8


class Auxiliary(nn.Module):
    """One with a second output, in training alone."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return (self.first(x), self.second(x)) if self.training else self.first(x)


def test_what_is_judged_is_the_output_in_evaluation_mode():
    def loss(output, y):
        given = output if isinstance(output, tuple) else (output,)
        return sum(nn.functional.cross_entropy(one, y) for one in given)

    problem = problem_of(Auxiliary, loss=lambda: loss)
    streams = streams_of(0, "check")
    assert run_check(problem, data_of(), streams, PARAMS, Check(16, steps=1)) == []
