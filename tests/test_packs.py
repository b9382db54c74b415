"""Trials in packs: the same bits however they are packed, and eager wherever they must be."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import random as python_random
import re
import threading
import weakref
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from ignite.handlers.param_scheduler import LinearCyclicalScheduler
from torch import nn
from torch.utils.checkpoint import checkpoint

import oddly
import patterns
import sweeper
from blobs import UNTUNED
from models_zoo import ZOO
from sweeper.errors import SettingsError
from sweeper.train.data.samples import Data, HeldSet, LoadedSet
from sweeper.train.eager.trial import train_trial
from sweeper.train.mode import agreement
from sweeper.train.mode import choose as mode
from sweeper.train.mode.choose import choose_mode
from sweeper.train.packs.evaluation import CHUNK
from sweeper.train.packs.members import Member, most_members
from sweeper.train.packs.trial import train_pack
from sweeper.train.problem.measure import reductions
from sweeper.train.tuning.schedule import cycle_rates
from sweeper.train.tuning.trials import Trials
from sweeper.train.vectorize import optimizers as stacked
from sweeper.train.vectorize import random as random_numbers
from sweeping import assert_same_bits, outcomes, replicas_started
from sweeping import run as run_tuned
from test_probes import PARAMS, TRIAL, bits, data_of, plain, problem_of, streams_of, with_state

PACKABLE = [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.SiLU, nn.ELU, nn.GELU, nn.LeakyReLU, nn.PReLU]
SWEPT = [nn.Tanh, nn.PReLU, nn.RReLU]
"""Two that are packed, and one that is not."""


pytestmark = pytest.mark.usefixtures("one_thread")


# -- whole sweeps ---------------------------------------------------------------------------------


def run(folder, selector, module="blobs", **options):
    """Nothing is tuned: packed probes have their own tests."""
    return run_tuned(folder, selector, module, hparams=UNTUNED, **options)


def grid(trials, kinds=SWEPT):
    return sweeper.Grid(trials=trials, hidden=[3], nonlinearity=list(kinds))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return folder, run(folder, grid(7))


@pytest.mark.parametrize(
    "options",
    [
        {"pack": 2},
        {"pack": 4, "backend": "local"},
        {"pack": "auto", "backend": "local", "total_cores": 1},
        {"pack": 1, "backend": "local", "total_cores": 1},
    ],
    ids=str,
)
def test_every_pack_and_every_number_of_cores_gives_the_same_bits(reference, tmp_path, options):
    result = run(tmp_path, grid(7), **options)
    assert_same_bits(reference[1], result)
    assert outcomes(tmp_path) == outcomes(reference[0])


def test_fewer_trials_first_and_more_later_are_the_same_trials(reference, tmp_path):
    first = run(tmp_path, grid(3))
    for few, many in zip(first, reference[1], strict=True):
        assert few.loss_val.tobytes() == many.loss_val[:3].tobytes()
    assert_same_bits(reference[1], run(tmp_path, grid(7), pack=3))
    assert outcomes(tmp_path) == outcomes(reference[0])


def test_the_execution_mode_and_why_is_in_the_files_and_in_the_summary(reference):
    folder, result = reference
    modes = [
        json.loads((folder / f"points/{place}/hparams/final.json").read_text())
        for place in range(len(SWEPT))
    ]
    assert [found["way"] for found in modes] == ["flat", "flat", "plain"]
    refused = "it computes rrelu_with_noise in 1, a RReLU, rrelu_with_noise_backward; packs have"
    assert modes[-1]["way_because"].startswith(refused)
    assert "training: 2 of 3 points in packs; 1 one by one: it computes rrelu" in str(
        result.summary()
    )
    assert sweeper.load(folder).notes == result.notes


def test_off_is_another_sweep_and_a_number_is_not(reference, tmp_path):
    off = run(tmp_path, grid(3, [nn.Tanh]), pack="off")
    assert "0 of 1 points in packs; 1 one by one: packing is off" in str(off.summary())
    assert off[0].loss_val.tobytes() != reference[1][0].loss_val[:3].tobytes()
    with pytest.raises(sweeper.FolderError, match="pack is 'off' in the folder and 'auto' here"):
        run(tmp_path, grid(3, [nn.Tanh]), pack=2)


@pytest.mark.parametrize("value", ["on", 0, True, 2.0])
def test_a_pack_that_is_none_is_refused(tmp_path, value):
    with pytest.raises(SettingsError, match="choose 'auto', 'off' or a whole number"):
        run(tmp_path, grid(1), pack=value)


def test_the_queue_cuts_packs_for_all_free_cores(tmp_path):
    run(tmp_path, grid(6, [nn.Tanh]), pack=4)
    with sweeper.store.database.store.Store.read(tmp_path / "sweep.db") as store:
        rows = store.connection.execute(
            "SELECT value FROM events WHERE kind = 'started' AND stage = 'trial'"
        )
        cut = [json.loads(value)["numbers"] for (value,) in rows]
    assert cut == [[0, 1, 2, 3], [4, 5]]


DIES = """
import os, blobs
from blobs import dataset, loss, accuracy_style
calls = 0
def model(hidden):
    import torch
    made = blobs.model(hidden)
    if os.path.exists({mark!r}) and torch.initial_seed() % 7 == 0:
        os._exit(7)
    return made
"""


def test_a_trial_that_kills_its_worker_costs_no_neighbour_its_result(tmp_path):
    folder, mark = tmp_path / "out", tmp_path / "mark"
    path = tmp_path / "dies.py"
    path.write_text(DIES.format(mark=str(mark)))
    selector = {"trials": 8, "hidden": [2]}
    sound = run_tuned(tmp_path / "sound", sweeper.Grid(**selector), str(path), backend="local")
    run_tuned(folder, sweeper.Grid(trials=0, hidden=[2]), str(path), backend="local")
    mark.touch()
    result = run_tuned(folder, sweeper.Grid(**selector), str(path), backend="local", total_cores=1)
    kept = result.trial_numbers[0]
    assert 0 < len(kept) < 8, "the seed of this test kills nothing, or everything"
    assert len(result.failures) == 8 - len(kept)
    assert result[0].loss_val.tobytes() == sound[0].loss_val[kept].tobytes()
    assert len(replicas_started(folder)) > 8


def test_what_keeps_buffers_draws_or_attends_has_the_same_bits_in_every_pack(tmp_path):
    grid = {"kind": ["norm", "dropout", "attention"]}
    many = run(tmp_path / "many", sweeper.Grid(trials=7, **grid), patterns)
    for place in range(3):
        final = (tmp_path / f"many/points/{place}/hparams/final.json").read_text()
        assert json.loads(final)["way"] == "flat", final
    folder = tmp_path / "one"
    few = run(folder, sweeper.Grid(trials=3, **grid), patterns, pack=1)
    for one, other in zip(few, many, strict=True):
        assert one.loss_val.tobytes() == other.loss_val[:3].tobytes()
    options = {"backend": "local", "total_cores": 1, "pack": 4}
    assert_same_bits(many, run(folder, sweeper.Grid(trials=7, **grid), patterns, **options))
    assert outcomes(folder) == outcomes(tmp_path / "many")


def test_odd_remainders_are_measured_the_same_however_a_sweep_is_cut(tmp_path):
    def swept(name, **options):
        folder, kinds = tmp_path / name, ["without bias", "convolutional"]
        result = run(folder, sweeper.Grid(trials=4, kind=kinds), oddly, **options)
        return result, outcomes(folder)

    auto, known = swept("auto")
    assert "2 of 2 points in packs" in str(auto.summary())
    for options in (
        {"pack": 1, "backend": "local", "total_cores": 2},
        {"pack": 3, "backend": "local", "total_cores": 1},
    ):
        result, found = swept(str(options["pack"]), **options)
        assert_same_bits(auto, result)
        assert found == known


# -- packs ----------------------------------------------------------------------------------------


def pack(numbers, problem=None, data=None, samples=0, **changes):
    problem, data = problem or problem_of(plain), data or data_of()
    tunings = tuple(replace(TRIAL, **rates) for rates in changes.pop("tunings", ()))
    told = Trials(replace(TRIAL, **changes), tunings)
    size = told.first.batch_size
    members = [Member.make(problem, data, streams_of(n, "trial"), PARAMS, size) for n in numbers]
    found = train_pack(problem, data, members, told, samples)
    return {member.streams.number: trained for member, trained in found}


def alike(one, other):
    assert bits(one.model) == bits(other.model)
    assert repr(one.metrics) == repr(other.metrics)
    assert {k: v.tobytes() for k, v in one.arrays.items()} == {
        k: v.tobytes() for k, v in other.arrays.items()
    }


def with_buffers_and_random():
    return nn.Sequential(nn.BatchNorm1d(7), nn.Dropout(0.2))


@pytest.mark.parametrize("kind", [*PACKABLE, with_buffers_and_random])
def test_a_trial_is_the_same_alone_and_in_any_company(kind):
    problem = problem_of(lambda: nn.Sequential(nn.Linear(3, 7), kind(), nn.Linear(7, 2)))
    known = pack(range(9), problem, samples=10)
    for numbers in ([4], [4, 5], [5, 4], [8, 3, 4]):
        for number, trained in pack(numbers, problem, samples=10).items():
            alike(trained, known[number])
    assert len({repr(trained.metrics) for trained in known.values()}) == 9


@pytest.mark.parametrize(
    "optimizer",
    ["sgd", {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}, "adam"],
    ids=str,
)
def test_a_packed_trial_is_the_eager_one_but_for_rounding(optimizer):
    problem = problem_of(plain, optimizer=optimizer)
    told = replace(TRIAL, lr_end=0.03)
    for number, found in pack([0, 1], problem, samples=8, lr_end=0.03).items():
        streams = streams_of(number, "trial")
        expected = train_trial(problem, data_of(), streams, PARAMS, told, 8, None)
        for name, value in expected.metrics.items():
            assert found.metrics[name] == pytest.approx(value, rel=1e-4)
        assert expected.arrays.keys() == found.arrays.keys()
        for name, curve in expected.arrays.items():
            np.testing.assert_allclose(found.arrays[name], curve, rtol=1e-3)


def test_a_packed_trial_takes_its_buffers_with_it():
    for number, found in pack([0, 1], problem_of(with_state)).items():
        norm = found.model[1]
        assert norm.num_batches_tracked == TRIAL.steps
        alike(pack([number], problem_of(with_state))[number], found)
        assert float((norm.running_var - 1).abs().max()) > 0


@pytest.mark.parametrize(("steps", "cycles"), [(1, 1), (3, 1), (40, 4), (42, 4), (3520, 7)])
def test_the_rates_of_a_pack_are_those_of_ignites_scheduler(steps, cycles):
    told = replace(TRIAL, lr_start=0.013, lr_end=0.37, steps=steps, cycles=cycles)
    simulated = LinearCyclicalScheduler.simulate_values(
        num_events=steps,
        param_name="lr",
        start_value=0.013,
        end_value=0.37,
        cycle_size=max(2, steps // cycles),
    )
    assert cycle_rates(told) == [rate for _, rate in simulated]


def odd_data():
    x, y = oddly.samples()
    count = oddly.TRAINED
    return Data(HeldSet(x[:count], y[:count]), HeldSet(x[count:], y[count:]))


@pytest.mark.parametrize("kind", oddly.KINDS)
def test_what_is_left_over_of_a_set_is_measured_the_same_in_every_pack(kind):
    problem, data = problem_of(oddly.KINDS[kind]), odd_data()
    known = pack(range(8), problem, data, samples=7)
    for numbers in ([4], [5, 4], [7, 3, 4]):
        for number, trained in pack(numbers, problem, data, samples=7).items():
            alike(trained, known[number])


def test_data_that_is_loaded_as_it_goes_gives_the_same_pack():
    for held, loaded in zip(
        pack([0, 1]).values(), pack([0, 1], data=data_of(held=False)).values(), strict=True
    ):
        alike(held, loaded)


def test_one_that_diverges_leaves_the_others_bits_alone(monkeypatch):
    """Trial 1 starts from weights that are not finite; trial 0 and 2 are as they are without it."""
    make = Member.make.__func__

    def spoilt(cls, problem, data, streams, *told):
        member = make(cls, problem, data, streams, *told)
        if streams.number == 1:
            with torch.no_grad():
                next(member.model.parameters()).fill_(np.inf)
        return member

    monkeypatch.setattr(Member, "make", classmethod(spoilt))
    together = pack([0, 1, 2], samples=5)
    alone = pack([1], samples=5)[1]
    alike(together[1], alone)
    assert np.isnan(alone.metrics["loss_val"])
    assert alone.metrics["perf_val"] == 0
    assert np.isnan(alone.arrays["loss_val"]).all()
    for number in (0, 2):
        alike(together[number], pack([number], samples=5)[number])


# -- the rule -------------------------------------------------------------------------------------


def found(model=plain, data=None, **changes):
    mode = choose_mode(
        problem_of(model, **changes), data or data_of(), streams_of(0, "way"), PARAMS, TRIAL
    )
    return mode.kind, mode.because


def test_a_usual_model_is_packed_with_every_optimiser():
    for optimizer in ("sgd", "adam", "adamw", {"name": "sgd", "momentum": 0.9}):
        assert found(optimizer=optimizer) == ("flat", "its packs agree with eager training")


def test_the_execution_mode_does_not_depend_on_whether_data_is_held():
    assert found(data=data_of(held=False))[0] == "flat"


def counting():
    """A function that counts its calls where only it can see that."""
    calls = 0

    def count():
        nonlocal calls
        calls += 1
        return calls

    return count


class Box(dict):
    """A dictionary with an attribute."""

    calls = 0


class Odd(nn.Module):
    """A small model with one oddity, by name."""

    made = 0

    def __init__(self, oddity):
        super().__init__()
        self.oddity = oddity
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.constant, self.steps, self.seen = torch.ones(8), 0, []
        if oddity == "tied":
            self.again = self.first
            self.other = nn.Linear(3, 8)
            self.other.weight = self.first.weight
        self.generator = torch.Generator() if oddity == "drawn from its own" else None
        if oddity == "shared buffer":
            self.register_buffer("mean", self.first.bias.detach())
        if oddity == "growing buffer":
            self.register_buffer("rows", torch.zeros(1, 8))
        if oddity == "viewed buffer":
            self.register_buffer("rows", torch.zeros(2, 8))
        if oddity == "hook":
            self.first.register_forward_hook(lambda *_: None)
        if oddity == "parameter hook":
            self.first.weight.register_hook(lambda gradient: gradient * 2)
        if oddity == "unused":
            self.never = nn.Parameter(torch.zeros(1))
        if oddity == "double":
            self.double()
        if oddity == "other seeds":
            self.factor = float(torch.rand(1))
        self.numbers = {
            "numbers of its own": lambda: np.random.default_rng(0),
            "python's of its own": lambda: python_random.Random(0),
            "iterator": itertools.count,
            "deque": lambda: deque([1.0]),
            "closure": counting,
            "hidden part": lambda: [nn.BatchNorm1d(8, affine=False)],
            "lock": threading.Lock,
            "phase": lambda: deque([torch.relu, torch.tanh]),
            "phase of its own": lambda: deque([counting, plain]),
            "box": Box,
        }.get(oddity, lambda: None)()

    def forward(self, x):  # noqa: C901, PLR0912, PLR0915 - one case an oddity
        h = torch.relu(self.first(x.double() if self.oddity == "double" else x))
        match self.oddity:
            case "constant":
                h = h * self.constant
            case "counter":
                self.steps += 1
            case "list":
                self.seen.append(1)
            case "schedule":
                self.steps += 1
                h = h * (1.0 + self.steps)
            case "other seeds":
                h = h * self.factor
            case "numpy":
                h = h * np.random.rand()  # noqa: NPY002
            case "python":
                h = h + python_random.random()
            case "unused draw":
                np.random.rand()  # noqa: NPY002
            case "numbers of its own" | "python's of its own":
                h = h if self.numbers.random() < 2 else -h
            case "iterator":
                h = h if next(self.numbers) < 1000 else -h
            case "phase" | "phase of its own":
                self.numbers = deque([*self.numbers][::-1])
            case "box":
                self.numbers.calls += 1
            case "deque":
                self.numbers.append(1.0)
            case "closure":
                h = h if self.numbers() < 1000 else -h
            case "class attribute":
                type(self).made += 1
            case "hidden part":
                self.numbers[0](h)
            case "list of values":
                h = h if max(h.flatten().tolist()) < 1000 else -h
            case "array of values":
                h = h if np.asarray(h.detach()).max() < 1000 else -h
            case "values":
                h = h if h.sum() > 0 else -h
            case "growing buffer":
                self.rows = torch.cat([self.rows, h.detach()[:1]])
            case "viewed buffer":
                self.rows[0].add_(h.detach()[0])
            case "drawn otherwise":
                h = h + torch.poisson(torch.ones(8))
            case "drawn after all":
                h = h * torch.multinomial(torch.ones(8), 1)
            case "drawn from its own":
                h = h * torch.empty_like(h).bernoulli_(0.5, generator=self.generator)
            case "clipped":
                self.last.bias.data.clamp_(-10, 10)
            case "in place":
                h = self.first(x)
                h[:, 0].mul_(2.0)
        return self.last(h)


ODDITIES = {
    "shared buffer": "first.bias and mean are two tensors that share memory",
    "growing buffer": "buffers of Odd change their size",
    "viewed buffer": "not computed by torch's operations",
    "hook": "Linear has hooks",
    "parameter hook": "first.weight has hooks",
    "unused": "takes no part in the loss",
    "double": "not an ordinary float32 tensor",
    "constant": "neither its own nor a sample",
    "counter": "attributes change",
    "list": "attributes change",
    "numbers of its own": "attributes change",
    "python's of its own": "attributes change",
    "iterator": "attributes change",
    "deque": "attributes change",
    "closure": "attributes change",
    "class attribute": "attributes change",
    "hidden part": "attributes change|neither its own",
    "phase": "attributes change",
    "phase of its own": "attributes change",
    "box": "attributes change",
    "lock": "it holds a lock, which may change",
    "list of values": "depends on the values of its data .tolist",
    "array of values": "depends on the values of its data .*(numpy|array)",
    "schedule": "changes from batch to batch",
    "other seeds": "not the same for every seed",
    "numpy": "",
    "python": "",
    "unused draw": "draws random numbers",
    "values": "depends on the values of its data",
    "in place": "neither its own nor a sample",
    "drawn from its own": "it draws from a generator of its own",
    "clipped": "changes a trained parameter|neither its own",
    "drawn otherwise": "it computes .*poisson",
    "drawn after all": "it computes .*multinomial|depends on the values",
}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_whatever_a_trace_cannot_say_is_trained_eagerly(oddity):
    taken, because = found(lambda: Odd(oddity))
    assert taken == "plain"
    assert re.search(ODDITIES[oddity], because), because


class Furnished(nn.Module):
    """A usual model that holds all kinds of things, none of which changes."""

    def __init__(self):
        super().__init__()
        self.inner = plain()
        self.activation, self.half = torch.relu, functools.partial(torch.mul, 0.5)
        self.logger, self.pattern = logging.getLogger("furnished"), re.compile("x+")
        self.kinds = {"a": torch.float32, "b": int | None, "c": np.exp, "d": torch.strided}
        self.box, self.numbers = Box(a=1), np.arange(3)
        self.parent = weakref.ref(self)
        self.inside, self.kept = [self], re.compile("y").match
        self.op, self.limits = torch.ops.aten.relu.default, torch.finfo(torch.float32)
        self.seeded = np.random.default_rng(0)

    def forward(self, x):
        return self.half(self.activation(self.inner(x)))


def test_what_a_model_holds_and_leaves_as_it_is_does_not_matter():
    assert found(Furnished) == ("flat", "its packs agree with eager training")


class Counting:
    """One that counts for all of its kind."""

    calls = 0

    def __init__(self):
        pass

    def __call__(self, output, y):
        type(self).calls += 1
        return nn.functional.cross_entropy(output, y)


class Annealed:
    """A loss that is no module, and changes after a while."""

    def __init__(self):
        self.calls = 0

    def __call__(self, output, y):
        self.calls += 1
        smoothing = 0.2 if self.calls < 1000 else 0.0
        return nn.functional.cross_entropy(output, y, label_smoothing=smoothing)


def test_a_loss_that_is_no_module_is_packed_where_it_stays_as_it_is():
    for loss in (Annealed, Counting):
        assert (
            f"attributes change in each step, those of the loss, a {loss.__name__}"
            in found(loss=loss)[1]
        )
    assert found(loss=lambda: nn.functional.cross_entropy)[0] == "flat"


class Rooted(nn.Module):
    def forward(self, output, y):
        return nn.functional.cross_entropy(output, y).sqrt()


def leaving_out(data):
    data.val.y[:CHUNK] = -100
    return data


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"loss": Rooted}, data_of(2 * CHUNK)),
        ({}, leaving_out(data_of(3 * CHUNK, val=2 * CHUNK))),
    ],
    ids=["a root of a mean", "labels left out"],
)
def test_a_set_comes_to_the_same_however_it_is_cut(changes, data):
    assert found(data=data, **changes)[0] == "flat"


def test_what_depends_on_how_many_are_evaluated_at_once_is_trained_eagerly(monkeypatch):
    monkeypatch.setattr(reductions, "MOST_WHOLE", 0)
    assert found(loss=Rooted)[0] == "flat"
    taken, because = found(data=data_of(2 * CHUNK), loss=Rooted)
    assert taken == "plain"
    assert "depends on how many samples are evaluated at once" in because


def test_what_cannot_be_evaluated_in_parts_is_trained_eagerly():
    def without_memory():
        return nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 2))

    assert found(without_memory)[0] == "flat"
    taken, because = found(without_memory, data_of(CHUNK + 1))
    assert taken == "plain"
    assert "more than 1 value per channel" in because


def test_normalisation_over_a_batch_and_dropout_are_packed():
    assert found(with_state) == ("flat", "its packs agree with eager training")


# -- what looks as if it disagreed, and does not --------------------------------------------------


class Named(nn.Module):
    """A small model in which something has two names, or two tensors have one memory."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)
        match how:
            case "tied":
                self.second = nn.Linear(3, 3)
                self.second.weight = self.first.weight
            case "twice":
                self.second = self.first
            case "buffer":
                self.register_buffer("scale", torch.ones(3))
                self.first.register_buffer("scale", self.scale)
                self.second = self.first
            case "parting":
                self.register_buffer("scale", torch.ones(3))
                self.first.register_buffer("scale", self.scale)
                self.second = self.first
            case "views":
                both = torch.randn(2, 3, 3)
                self.second = nn.Linear(3, 3)
                self.first.weight, self.second.weight = map(nn.Parameter, both)

    def forward(self, x):
        h = self.second(self.first(x).tanh())
        if self.how == "buffer":
            if self.training:
                self.scale.mul_(0.9)
            h = h * self.first.scale
        if self.how == "parting":
            h = h * self.first.scale
            self.scale = self.scale * 0.9
        return self.last(h)


@pytest.mark.parametrize("how", ["tied", "twice", "buffer"])
def test_what_has_two_names_is_packed_and_saved_under_both(how):
    assert found(lambda: Named(how)) == ("flat", "its packs agree with eager training")
    problem = problem_of(lambda: Named(how))
    for number, trained in pack([0, 1], problem).items():
        eager = train_trial(problem, data_of(), streams_of(number, "trial"), PARAMS, TRIAL, 0, None)
        saved, expected = trained.model.state_dict(), eager.model.state_dict()
        assert saved.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(saved[name], value, rtol=1e-3, atol=1e-5)


def test_what_shares_memory_otherwise_is_trained_eagerly_and_said_by_name():
    taken, because = found(lambda: Named("views"))
    assert taken == "plain"
    assert "first.weight and second.weight are two tensors that share memory" in because
    taken, because = found(lambda: Named("parting"))
    assert taken == "plain"
    assert "become two tensors" in because


class Zero(nn.Module):
    """Gradients and means that only rounding keeps from being zero, and buffers without a number.

    A bias before a normalisation changes nothing, nor does one of the keys of attention.
    """

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.query, self.key = nn.Linear(2, 2), nn.Linear(2, 2)
        self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
        self.register_buffer("unknown", torch.full((2,), torch.nan))
        self.register_buffer("mean", torch.zeros(8))
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.key.bias)

    def forward(self, x):
        h = self.norm(self.first(x))
        if self.training:
            centred = h.detach() - h.detach().mean(0)
            self.mean.mul_(0.9).add_(centred.mean(0))
            self.unknown.mul_(2.0)
        rows = h.view(-1, 4, 2)
        scores = self.query(rows).bmm(self.key(rows).transpose(1, 2)) + self.mask
        return self.last(scores.softmax(-1).bmm(rows).flatten(1).tanh())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_gradient_that_is_zero_but_for_rounding_is_no_disagreement(optimizer):
    usual = lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))  # noqa: E731
    for model in (usual, Zero):
        taken, because = found(model, optimizer=optimizer)
        assert taken == "flat", because


def test_a_rule_that_is_wrong_for_a_small_gradient_alone_is_found_out(monkeypatch):
    """A gradient a millionth of the others' is wrong by a millionth of its own."""
    from sweeper.train.vectorize import lowering as batched

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.small, self.last = nn.Parameter(torch.ones(3)), nn.Linear(3, 2)

        def forward(self, x):
            return self.last(x + 1e-6 * self.small.exp())

    assert found(Small)[0] == "flat"
    wrong = lambda x: torch.exp(x) * (1 + 1e-6)  # noqa: E731
    monkeypatch.setattr(batched, "RULES", batched.RULES | {"aten.exp.default": wrong})
    assert "differ by" in found(Small)[1]


class Scaled(nn.Module):
    """A loss with buffers, one of which it changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, 3.0]))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, output, y):
        if torch.is_grad_enabled():
            self.seen += 1
        each = (output - y.unsqueeze(1)).square()
        return (each * self.scale).mean() / (1 + 0.01 * self.seen)


def test_a_loss_with_buffers_is_packed_and_its_buffers_are_each_trials_own():
    problem = problem_of(plain, loss=Scaled, accuracy_style="inv-loss")
    changes = {"loss": Scaled, "accuracy_style": "inv-loss"}
    assert found(**changes) == ("flat", "its packs agree with eager training")
    known = pack(range(3), problem)
    alike(pack([1], problem)[1], known[1])
    for number, one in known.items():
        eagerly = train_trial(
            problem, data_of(), streams_of(number, "trial"), PARAMS, TRIAL, 0, None
        )
        assert one.metrics["loss_val"] == pytest.approx(eagerly.metrics["loss_val"], rel=1e-4)


def test_class_weights_are_packed():
    weights = torch.tensor([1.0, 3.0])
    taken, because = found(loss=lambda: nn.CrossEntropyLoss(weight=weights))
    assert taken == "flat", because
    data = data_of()
    for part in (data.train, data.val):
        object.__setattr__(part, "y", nn.functional.one_hot(part.y, 2).float())
    loss = lambda: nn.BCEWithLogitsLoss(pos_weight=weights)  # noqa: E731
    taken, because = found(data=data, loss=loss, accuracy_style="multiclass")
    assert taken == "flat", because


def test_a_loss_with_parameters_is_trained_eagerly():
    class Learnt(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, output, y):
            return nn.functional.cross_entropy(output * self.scale, y)

    assert "the loss has parameters" in found(loss=Learnt)[1]


class Two(nn.Module):
    """Two outputs, in a tuple or by name."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.first, self.last = kind, nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        inner = self.first(x).tanh()
        return {"x": self.last(inner), "rest": [inner]} if self.kind is dict else (x, inner)


def of_two(output, y):
    one, other = output.values() if isinstance(output, dict) else output
    inner = other[0] if isinstance(other, list) else other
    return one.square().mean() + inner.square().mean() + 0.0 * y.sum()


@pytest.mark.parametrize("kind", [dict, tuple])
def test_several_outputs_are_packed_where_performance_needs_none_of_them(kind):
    model = (
        (lambda: Two(dict)) if kind is dict else (lambda: nn.Sequential(nn.Linear(3, 3), Last()))
    )
    taken, because = found(model, loss=lambda: of_two, accuracy_style="inv-loss")
    assert taken == "flat", because


class Last(Two):
    """One whose outputs all depend on what is trained."""

    def __init__(self):
        super().__init__(tuple)
        del self.last


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_whole_numbers_that_a_model_makes_floats_of_are_packed(dtype):
    class Pictures(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain()

        def forward(self, x):
            return self.inner(x.float() / 255 + torch.zeros(3, dtype=torch.float32))

    x = torch.arange(240).reshape(80, 3).to(dtype)
    y = torch.arange(80) % 2
    data = Data(HeldSet(x[:60], y[:60]), HeldSet(x[60:], y[60:]))
    taken, because = found(Pictures, data)
    assert taken == "flat", because


class Placed(nn.Module):
    """Something that has no rule, in a part of its own."""

    def forward(self, x):
        return torch.lgamma(x)  # marked


def test_a_refusal_says_which_part_and_which_line():
    lines = Path(__file__).read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "# marked" in text)
    model = lambda: nn.Sequential(nn.Linear(3, 2), nn.Sequential(Placed()), nn.Mish())  # noqa: E731
    because = found(lambda: nn.Sequential(nn.Linear(3, 2), Asking()))[1]
    assert "values of its data" in because
    assert re.search(r"in 1, a Asking \(test_packs\.py, line \d+\)", because), because
    because = found(model)[1]
    assert f"in 1.0, a Placed (test_packs.py, line {line})" in because


class Asking(nn.Module):
    """Asks for a value."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


# -- what is drawn --------------------------------------------------------------------------------


class Drawing(nn.Module):
    """One that does something with the state of torch's generator, by name."""

    def __init__(self, how):
        super().__init__()
        self.how, self.kept = how, torch.get_rng_state()
        self.first, self.drop, self.last = nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, 2)

    def block(self, x):
        return self.drop(self.first(x).tanh())

    def forward(self, x):  # noqa: C901 - one case a way of drawing
        match self.how if self.training else "evaluated":
            case "checkpoint":
                h = checkpoint(self.block, x, use_reentrant=False)
            case "two checkpoints":
                h = checkpoint(self.block, x, use_reentrant=False)
                h = self.drop(h) + checkpoint(self.block, x, use_reentrant=False)
            case "reentrant":
                h = checkpoint(self.block, x.clone().requires_grad_(), use_reentrant=True)
            case "nothing kept":
                h = checkpoint(self.block, x, use_reentrant=False, preserve_rng_state=False)
            case "fork":
                with torch.random.fork_rng():
                    h = self.block(x)
            case "seed":
                torch.manual_seed(3)
                h = self.block(x)
            case "state":
                torch.set_rng_state(self.kept)
                h = self.block(x)
            case "generator":
                torch.default_generator.set_state(self.kept)
                h = self.block(x)
            case "twice":
                before = torch.get_rng_state()
                h = self.block(x)
                torch.set_rng_state(before)
                h = h + self.block(x * 2)
            case "another":
                before = torch.get_rng_state()
                h = self.block(x)
                torch.set_rng_state(before)
                h = h + self.drop(h[:, :7]).mean()
            case _:
                h = self.block(x)
        return self.last(h)


DRAWINGS = {
    "once": ("flat", ""),
    "checkpoint": ("flat", ""),
    "two checkpoints": ("flat", ""),
    "nothing kept": ("flat", ""),
    "twice": ("flat", ""),
    "reentrant": ("plain", "takes no part in the loss|use_reentrant"),
    "fork": ("plain", "leaves torch's random generator in another state"),
    "seed": ("plain", "sets the state of torch's random generator"),
    "state": ("plain", "sets the state of torch's random generator"),
    "generator": ("plain", "sets the state of torch's random generator"),
    "another": ("plain", "draws different numbers from one state"),
}


@pytest.mark.parametrize("how", DRAWINGS)
def test_what_resets_or_forks_the_generator_is_packed_rightly_or_not_at_all(how):
    taken, because = found(lambda: Drawing(how))
    assert taken == DRAWINGS[how][0], because
    assert re.search(DRAWINGS[how][1], because), because


def test_a_checkpoint_around_a_dropout_changes_no_bit_of_a_packed_trial():
    usual = pack([0, 1], problem_of(lambda: Drawing("once")))
    kept = pack([0, 1], problem_of(lambda: Drawing("checkpoint")))
    for number, trained in usual.items():
        alike(trained, kept[number])


def test_a_pack_that_counts_random_operations_otherwise_is_found_out(monkeypatch):
    """Each draw a new one, also where a checkpoint draws the same again."""

    def count(self, drawn):
        self._operations.append(drawn)
        return len(self._operations) - 1

    monkeypatch.setattr(random_numbers.RandomNumbers, "_number", count)
    assert found(lambda: Drawing("once"))[0] == "flat"
    for how in ("checkpoint", "twice"):
        assert found(lambda how=how: Drawing(how)) == (
            "plain",
            "its packs would repeat other random numbers than eager training does",
        )


def test_packs_that_draw_the_same_where_eager_training_does_not_are_found_out(monkeypatch):
    def merge(self, drawn):
        self._operations[:] = [drawn]
        return 0

    def twice():
        return nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Dropout(), nn.Linear(8, 2))

    assert found(twice)[0] == "flat"
    monkeypatch.setattr(random_numbers.RandomNumbers, "_number", merge)
    assert "repeat other random numbers" in found(twice)[1]


def test_a_running_mean_without_a_momentum_is_trained_eagerly():
    taken, because = found(lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=None)))
    assert taken == "plain"
    assert "depends on the values" in because


def test_a_large_model_is_trained_eagerly(monkeypatch):
    monkeypatch.setattr(mode, "MOST_PRODUCTS", 1)
    assert "large enough to fill a core" in found()[1]


def test_a_large_model_is_not_evaluated_to_find_that_out(monkeypatch):
    monkeypatch.setattr(mode, "MOST_PRODUCTS", 1)

    class Read(torch.utils.data.Dataset):
        reads = 0

        def __len__(self):
            return 5000

        def __getitem__(self, place):
            Read.reads += 1
            return torch.zeros(3), 0

    assert (
        "large enough to fill a core" in found(data=Data(LoadedSet(Read()), LoadedSet(Read())))[1]
    )
    assert Read.reads < 500


class Own(torch.optim.SGD):
    """An optimiser of the user's."""


@pytest.mark.parametrize(
    ("optimizer", "named"),
    [({"class": Own}, "test_packs.Own"), ({"name": "rprop"}, "rprop"), ("ASGD", "asgd")],
)
def test_an_optimiser_without_a_packed_form_is_trained_eagerly(optimizer, named):
    assert found(optimizer=optimizer) == (
        "plain",
        f"its optimiser, {named}, has no packed form",
    )


def some_groups(model):
    return [
        {"params": model[0].parameters(), "lr_scale": 0.25},
        {"params": model[2].parameters(), "weight_decay": 0.1, "momentum": 0.5},
    ]


RECIPES = [
    {"optimizer": {"name": "adam", "amsgrad": True}},
    {"optimizer": {"name": "rmsprop", "centered": True}},
    {"optimizer": "sgd", "clip_grad_norm": 0.3},
    {"optimizer": "adam", "clip_grad_value": 0.01},
    {"optimizer": {"name": "adamw", "weight_decay": 0.3, "decay_only": "weight"}},
    {"optimizer": {"name": "sgd", "groups": some_groups}, "clip_grad_norm": 0.5},
]


@pytest.mark.parametrize("changes", RECIPES)
def test_groups_and_clipped_gradients_are_packed_and_agree_with_eager_training(changes):
    assert found(**changes) == ("flat", "its packs agree with eager training")
    problem = problem_of(plain, **changes)
    told = replace(TRIAL, lr_end=0.03)
    packs = pack([0, 1], problem, lr_end=0.03)
    for number, packed_trial in packs.items():
        expected = train_trial(
            problem, data_of(), streams_of(number, "trial"), PARAMS, told, 0, None
        )
        for name, value in expected.metrics.items():
            assert packed_trial.metrics[name] == pytest.approx(value, rel=1e-4)
    # It changes something.
    usual = pack(
        [0], problem_of(plain, optimizer=problem.recipe(plain(), PARAMS).name), lr_end=0.03
    )
    assert usual[0].metrics["loss_val"] != packs[0].metrics["loss_val"]


def test_groups_that_differ_between_seeds_are_trained_eagerly():
    def groups(model):
        return [{"params": model.parameters(), "lr_scale": abs(model[0].bias[0].item())}]

    optimizer = {"name": "sgd", "groups": groups}
    assert found(optimizer=optimizer) == (
        "plain",
        "its parameter groups are not the same for every seed",
    )


def test_a_clipping_or_a_group_that_packs_forget_is_found_out(monkeypatch):
    monkeypatch.setattr(stacked, "clipped", lambda gradients, _: gradients)
    assert "differ by" in found(clip_grad_norm=0.1)[1]
    monkeypatch.undo()

    def unscaled(optimizer, rate):
        for group in optimizer.param_groups:
            group["lr"] = rate

    monkeypatch.setattr(agreement, "set_rate", unscaled)
    assert "differ by" in found(optimizer={"name": "sgd", "groups": some_groups})[1]


def test_a_rule_that_is_wrong_or_depends_on_the_pack_is_found_out(monkeypatch):
    from sweeper.train.vectorize import lowering as batched

    rules = dict(batched.RULES)
    monkeypatch.setattr(batched, "RULES", rules | {"aten.tanh.default": torch.sigmoid})
    assert "differ by" in found()[1]
    drifting = lambda x: torch.tanh(x) * (1 + 1e-6 * len(x))  # noqa: E731
    monkeypatch.setattr(batched, "RULES", rules | {"aten.tanh.default": drifting})
    taken, because = found()
    assert taken == "plain"
    assert "depend on the size of its pack" in because


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (45, "45 samples of train"),
        (83, "83 samples of val"),
        (CHUNK, "256 samples of train"),
        (64, "64 samples of a curve of train"),
    ],
)
def test_a_product_whose_bits_depend_on_the_place_is_refused_for_every_size_that_is_used(
    monkeypatch, rows, what
):
    """As MKL's do where a product is thin and its address is no multiple of 16 bytes."""
    from sweeper.train.vectorize import lowering as batched

    usual = batched.RULES["aten.mm.default"]

    def by_place(x, y):
        found = usual(x, y)
        if x.shape[1] == rows:
            found[1] = found[1] * (1 + 2.0**-23)
        return found

    problem = problem_of(oddly.without_bias)
    mode = choose_mode(problem, odd_data(), streams_of(0, "way"), PARAMS, TRIAL, curve_samples=7)
    assert mode.kind == "flat", mode.because
    monkeypatch.setattr(batched, "RULES", batched.RULES | {"aten.mm.default": by_place})
    mode = choose_mode(problem, odd_data(), streams_of(0, "way"), PARAMS, TRIAL, curve_samples=7)
    assert mode.kind == "plain"
    assert f"the size of its pack or its place there ({what})" in mode.because


def test_a_rule_that_is_wrong_for_the_last_samples_alone_is_found_out(monkeypatch):
    from sweeper.train.vectorize import lowering as batched

    data = data_of()
    data.train.x[:60], data.train.x[60:] = 0.0, 3.0
    model = lambda: nn.Sequential(nn.Tanh(), nn.Linear(3, 2))  # noqa: E731
    assert found(model, data)[0] == "flat"
    wrong = lambda x: torch.where(x > 2, torch.sigmoid(x), torch.tanh(x))  # noqa: E731
    monkeypatch.setattr(batched, "RULES", batched.RULES | {"aten.tanh.default": wrong})
    assert "differ by" in found(model, data)[1]


def test_samples_count_among_what_a_pack_holds_in_memory(monkeypatch):
    monkeypatch.setattr("sweeper.train.packs.members.MEMORY_SHARE", 0.02)
    room = 0.02 * psutil.virtual_memory().available / psutil.cpu_count()
    side = int((room / 10 / CHUNK / 4) ** 0.5)  # ten replicas' evaluations have room
    problem = problem_of(
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 2))
    )
    x, y = torch.zeros(2, 1, side, side), torch.zeros(2, dtype=torch.int64)
    data = Data(HeldSet(x, y), HeldSet(x, y))
    member = Member.make(problem, data, streams_of(0, "trial"), PARAMS, TRIAL.batch_size)
    assert 5 <= most_members(member, "flat") <= 12


def test_samples_that_are_not_tensors_are_trained_eagerly():
    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, place):
            return {"x": torch.ones(3)}, 0

    data = Data(LoadedSet(Pairs()), LoadedSet(Pairs()))
    assert found(data=data) == ("plain", "its samples are not pairs of tensors")


class Converting(nn.Module):
    """Makes numbers of bytes, names the usual type where it is the type anyway, and draws."""

    def __init__(self):
        super().__init__()
        self.inner = plain()

    def forward(self, x):
        x = (x.float() / 255).to(torch.float32).float() + torch.zeros(3, dtype=torch.float32)
        if self.training:
            x = x + 0.1 * torch.randn(len(x), 3)
        return self.inner(x @ torch.eye(3))


def test_images_of_bytes_are_packed():
    data = data_of()
    train, val = (
        HeldSet((part.x.clamp(-2, 2) * 60 + 128).to(torch.uint8), part.y)
        for part in (data.train, data.val)
    )
    taken, because = found(Converting, Data(train, val))
    assert (taken, because) == ("flat", "its packs agree with eager training")
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", sorted(ZOO.keys() - {"gpt_block_tied"}))
def test_models_in_the_style_of_real_ones_are_packed(name):
    make, loss, x, y = ZOO[name]()
    problem = problem_of(make, loss=loss, accuracy_style="inv-loss", optimizer="adam")
    data = Data(HeldSet(x[:64], y[:64].contiguous()), HeldSet(x[64:], y[64:].contiguous()))
    told = replace(TRIAL, lr_start=1e-3, lr_end=1e-2)
    mode = choose_mode(problem, data, streams_of(0, "way"), PARAMS, told)
    assert mode.because == "its packs agree with eager training"


@pytest.mark.parametrize("kind", PACKABLE)
def test_the_common_activations_are_packed(kind):
    assert found(lambda: nn.Sequential(nn.Linear(3, 7), kind(), nn.Linear(7, 2)))[0] == "flat"
