"""Tuning as scenarios: made-up probes answer the plan's steps; nothing is trained."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import expit

from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.records import CHECK, TRIAL, Failure, Outcome, Planned, Point, Step, TunedSettings
from sweeper.settings import PRESETS, HyperparameterSettings, SweepSettings
from sweeper.signature import make_point
from sweeper.train.tuning.names import BATCH_CHOICE, BATCH_RANGE, LR_RANGE, LR_RESCAN, split_stage
from sweeper.train.tuning.plans.range_plan import (
    MOST_LOWERINGS,
    RangePlan,
    batches_per_epoch,
    cycle_epochs,
)
from sweeper.train.tuning.ranges import batch_sizes, learning_rates
from sweeper.train.tuning.stages import read

RANGES = [name for name in PRESETS if name.startswith("ranges-")]
SIZES_OF_DATA = (1, 2, 10, 40, 100, 350)


# -- made-up probes -------------------------------------------------------------------------------


def rises_at(middle: float, width: float = 0.05) -> Callable[[Any], Any]:
    return lambda x: 0.1 + 0.5 * expit((np.asarray(x) - middle) / width)


RISES, RISES_BY_SIZE = rises_at(0.3), rises_at(60, 8)


def flat(x: Any) -> Any:
    return np.full(np.shape(x), 0.1)


def never(_: int) -> float:
    return np.inf


@dataclass(frozen=True)
class Probes:
    """Answers a step with what its probes would give: one function a stage."""

    by_rate: Callable[[Any], Any] = RISES
    diverges_above: Callable[[int], float] = never
    """For each replica: the learning rate above which its loss is not finite."""
    by_size: Callable[[Any], Any] = RISES_BY_SIZE
    size_diverges_above: Callable[[int], float] = never
    final: Callable[[int], float] = lambda size: 0.5
    """The final performance after a cycle at a batch size."""

    def __call__(self, point: Point, step: Step) -> list[Outcome]:
        return [self._one(point, step, number) for number in range(step.replicas)]

    def _one(self, point: Point, step: Step, number: int) -> Outcome:
        payload = step.payload
        base, _ = split_stage(step.stage)
        outcome = Outcome(point.signature, step.stage, number, 0.0, 1.0)
        if base == CHECK:
            return outcome
        if base == BATCH_CHOICE:
            size = payload["sizes"][number // payload["inits"]]
            return dataclasses.replace(outcome, metrics={"perf": self.final(size)})
        if base == BATCH_RANGE:
            x = batch_sizes(payload["batch_start"], payload["batch_end"], payload["samples"])
            perf, limit = self.by_size(x), self.size_diverges_above(number)
        else:
            x = learning_rates(
                *(payload[key] for key in ("lr_start", "lr_end", "steps", "spacing"))
            )
            perf, limit = self.by_rate(x), self.diverges_above(number)
        steps = int(np.argmax(x > limit)) if (x > limit).any() else len(x)
        return dataclasses.replace(outcome, arrays=pack_arrays({"perf": perf[:steps]}))


def make(
    hparams: Any = "ranges-fast", n_train: int = 1000, cores: int = 4, seed: int = 0
) -> RangePlan:
    settings = PRESETS[hparams] if isinstance(hparams, str) else hparams
    return RangePlan(SweepSettings(settings, cores), n_train, seed)


def point_of(plan: RangePlan, params: Any = (1,)) -> Point:
    return make_point(params, "toy", plan.settings, plan.seed)


def tune(
    plan: RangePlan, probes: Callable[[Point, Step], Sequence[Outcome]], *, check: bool = False
) -> list[Planned]:
    """Every step of a point's tuning, each checked and each stored and restored on the way."""
    point = point_of(plan)
    planned = [plan.first(point, check=check)]
    while planned[-1].step.found is None and planned[-1].step.error is None:
        assert len(planned) < 30, "tuning does not end"
        sane(planned[-1])
        step = stored(planned[-1].step)
        planned.append(plan.next(point, step, probes(point, step)))
    sane(planned[-1])
    return planned


def stored(step: Step) -> Step:
    fields = json.loads(json.dumps(asdict(step)))
    found = fields.pop("found")
    return Step(**fields, found=None if found is None else TunedSettings(**found))


def sane(planned: Planned) -> None:
    step = planned.step
    assert stored(step) == step
    if step.error is None:
        assert list(read(step.stage, step.payload).payload().items()) == list(step.payload.items())
    plain(asdict(step))
    plain(dict(planned.choice))
    if step.found is not None:
        found = step.found
        assert step.stage == TRIAL
        is_constant = step.payload.get("schedule") == "constant"
        assert 0 < found.lr_min <= found.lr_max
        assert (found.lr_min == found.lr_max) == is_constant
        assert found.batch_size >= 1
        assert (step.payload["lr_start"], step.payload["lr_end"]) == (found.lr_min, found.lr_max)
        assert step.payload["batch_size"] == found.batch_size
    elif step.error is None:
        assert step.replicas >= 1
        assert all(told["steps"] >= 1 for told in step.payload.get("trials", [step.payload]))


def plain(value: Any) -> None:
    """Exactly JSON's types: a numpy scalar would be read back as something else."""
    assert type(value) in {dict, list, str, int, float, bool, type(None)}, repr(value)
    for item in value.values() if isinstance(value, dict) else value if type(value) is list else ():
        plain(item)


def stages(planned: Sequence[Planned]) -> list[str]:
    return [one.step.stage for one in planned]


# -- the presets ----------------------------------------------------------------------------------


def test_fastest_takes_the_middle():
    planned = tune(make("ranges-fastest"), Probes(), check=True)
    assert stages(planned) == [CHECK, LR_RANGE, BATCH_RANGE, TRIAL]
    assert [one.after for one in planned] == ["", CHECK, LR_RANGE, BATCH_RANGE]
    choice = planned[-1].choice
    assert planned[-1].step.found.batch_size == (choice["bs_min"] + choice["bs_max"]) // 2
    assert 40 < choice["bs_min"] < 60 < choice["bs_max"] < 80


def test_fast_compares_three_sizes_and_takes_the_best():
    planned = tune(make("ranges-fast"), Probes(final=lambda size: 0.9 - size / 1000))
    assert stages(planned) == [LR_RANGE, BATCH_RANGE, BATCH_CHOICE, TRIAL]
    sizes = planned[2].step.payload["sizes"]
    low, high = planned[2].choice["bs_min"], planned[2].choice["bs_max"]
    assert len(set(sizes)) == 3
    assert all(low <= size < high for size in sizes)
    assert sizes == sorted(sizes)
    assert planned[2].step.replicas == 3 * 4
    assert planned[-1].step.found.batch_size == min(sizes)
    assert planned[-1].choice == {"batch_size": min(sizes)}


def test_slow_scans_again_at_the_chosen_size():
    planned = tune(make("ranges-slow"), Probes(final=lambda size: size / 1000))
    assert stages(planned) == [LR_RANGE, BATCH_RANGE, BATCH_CHOICE, LR_RESCAN, TRIAL]
    sizes, rescan = planned[2].step.payload["sizes"], planned[3].step.payload
    assert len(sizes) == 12
    assert rescan["batch_size"] == max(sizes)
    assert rescan["lr_start"] == pytest.approx(1e-8 * max(sizes) / 64)
    assert rescan["lr_end"] == pytest.approx(max(sizes) / 64)
    found, seen = planned[-1].step.found, planned[-1].choice
    assert (found.lr_min, found.lr_max) == (seen["lr_min"], seen["lr_max"])
    assert found.batch_size == max(sizes)


def test_without_a_rescan_the_range_is_scaled_by_size_over_64():
    planned = tune(make("ranges-fastest"), Probes())
    first, found = planned[1].choice, planned[-1].step.found
    assert first["lr_min"] < 0.3 < first["lr_max"]
    assert found.lr_min == pytest.approx(first["lr_min"] * found.batch_size / 64)
    assert found.lr_max == pytest.approx(first["lr_max"] * found.batch_size / 64)


def test_the_best_size_is_by_log_mean_exp_over_initialisations():
    hparams = dataclasses.replace(PRESETS["ranges-fast"], batch_pts=2)
    plan = make(hparams, cores=2)
    point = point_of(plan)
    payload = {
        "lr_min": 0.1,
        "lr_max": 0.2,
        "lr_batch": 64,
        "sizes": [32, 64],
        "inits": 2,
        "cycle_epochs": 20,
        "range_diverged": False,
        "steps": 400,
    }
    # Equal means; one excellent run counts for more than two middling ones.
    finals = [0.5, 0.5, 0.0, 1.0]
    outcomes = [
        Outcome(point.signature, BATCH_CHOICE, number, 0, 1, {"perf": perf})
        for number, perf in enumerate(finals)
    ]
    planned = plan.next(point, Step(BATCH_CHOICE, 4, payload), outcomes)
    assert planned.step.found == TunedSettings(0.1, 0.2, 64)
    arrays = unpack_arrays(planned.arrays)
    assert arrays["batch_size"].tolist() == [32, 64]
    assert arrays["final_perf"].tolist() == [[0.5, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize(("cores", "initialisations"), [(1, 3), (3, 3), (8, 8)])
def test_a_stage_averages_the_cores_or_the_setting_whichever_is_more(cores, initialisations):
    planned = tune(make("ranges-slow", cores=cores), Probes())
    replicas = {one.step.stage: one.step.replicas for one in planned}
    assert replicas[LR_RANGE] == replicas[BATCH_RANGE] == replicas[LR_RESCAN] == initialisations
    assert replicas[BATCH_CHOICE] == 12 * initialisations


def test_the_curves_of_each_stage_are_kept():
    planned = tune(make("ranges-slow"), Probes())
    curves = {one.after: set(unpack_arrays(one.arrays)) for one in planned if one.after}
    derived = {"raw", "smoothed", "combined", "derived"}
    assert curves[LR_RANGE] == curves[LR_RESCAN] == {"lr", *derived}
    assert curves[BATCH_RANGE] == {"batch_size", *derived}
    assert curves[BATCH_CHOICE] == {"batch_size", "final_perf", "combined"}


def test_the_trials_step_says_how_long_a_trial_is():
    trial = tune(make("ranges-fastest"), Probes())[-1].step
    assert trial.payload["cycles"] == 4
    assert trial.payload["cycle_epochs"] == 20
    assert trial.payload["steps"] == 4 * 20 * (1000 // trial.found.batch_size)


# -- a range run that diverges --------------------------------------------------------------------


def test_steps_before_the_first_divergence_are_kept_halved():
    # The second replica diverges at 0.8 of the span: the curve up to 0.4 is what is read.
    probes = Probes(diverges_above=lambda number: 0.8 if number == 1 else np.inf)
    planned = tune(make("ranges-fastest"), probes)
    assert stages(planned) == [LR_RANGE, BATCH_RANGE, TRIAL]
    assert planned[1].choice["steps_kept"] == planned[1].choice["diverged_after"] // 2
    assert planned[1].choice["lr_max"] <= 0.4
    assert unpack_arrays(planned[1].arrays)["lr"].max() == pytest.approx(0.4, abs=0.01)


def test_an_early_divergence_lowers_the_end_to_half_of_what_survived():
    # At 0.15: half of it is 7.5 % of the span, which is less than a tenth and more than 5 %.
    probes = Probes(by_rate=rises_at(0.03, 0.005), diverges_above=lambda _: 0.15)
    planned = tune(make("ranges-fastest"), probes)
    assert stages(planned)[:3] == [LR_RANGE, "lr_range.1", BATCH_RANGE]
    assert planned[1].step.payload["lr_end"] == pytest.approx(0.075, abs=0.015)
    assert planned[1].step.payload["lowered"] == 1
    assert "diverged early" in planned[1].choice["verdict"]
    assert planned[2].choice["lr_min"] < 0.03 < planned[2].choice["lr_max"] < 0.075


def test_a_very_early_divergence_lowers_the_end_to_5_percent_of_the_span():
    probes = Probes(by_rate=rises_at(2e-4, 2e-5), diverges_above=lambda _: 1e-3)
    planned = tune(make("ranges-fastest"), probes)
    ends = [one.step.payload["lr_end"] for one in planned if "lr_range" in one.step.stage]
    start = 1e-6
    assert ends[:3] == pytest.approx([1.0, 0.05, 0.0025], rel=1e-3)
    assert ends[1] == pytest.approx(start + 0.05 * (1.0 - start))
    assert planned[-1].step.found is not None


def test_nothing_survived_at_all():
    # Every run ends at its first step while the rate may go above 1e-5.
    def answer(point: Point, step: Step) -> list[Outcome]:
        limit = 0.0 if step.payload.get("lr_end", 0) > 1e-4 else np.inf
        probes = Probes(by_rate=rises_at(5e-5, 5e-6), diverges_above=lambda _: limit)
        return probes(point, step)

    planned = tune(make("ranges-fastest"), answer)
    assert planned[1].choice["steps_kept"] == 0
    assert planned[-1].step.found is not None


def test_the_end_is_lowered_eight_times_then_the_point_fails():
    planned = tune(make("ranges-fastest"), Probes(diverges_above=lambda _: 0.0))
    assert stages(planned[:-1]) == [LR_RANGE, *(f"{LR_RANGE}.{n}" for n in range(1, 9))]
    assert [one.step.payload["lowered"] for one in planned[:-1]] == list(range(9))
    last = planned[-1].step
    assert last.stage == "lr_range.8"
    assert last.found is None
    assert "diverges" in last.error
    assert f"lowered {MOST_LOWERINGS} times" in last.error


# -- a range at the end of the span, and a flat curve ---------------------------------------------


def test_a_rise_at_the_end_extends_the_span_fourfold():
    planned = tune(make("ranges-fastest"), Probes(by_rate=rises_at(1.1, 0.1)))
    assert stages(planned) == [LR_RANGE, "lr_range.1", BATCH_RANGE, TRIAL]
    assert "still rising" in planned[1].choice["verdict"]
    assert planned[1].step.payload["lr_end"] == pytest.approx(4.0, rel=1e-4)
    assert planned[2].choice["lr_min"] < 1.1 < planned[2].choice["lr_max"]
    assert planned[2].choice["at_end"] is False


def test_a_rise_that_goes_on_after_the_extension_is_flagged():
    planned = tune(make("ranges-fastest"), Probes(by_rate=rises_at(5.0, 0.3)))
    assert stages(planned) == [LR_RANGE, "lr_range.1", BATCH_RANGE, TRIAL]
    assert planned[2].choice["at_end"] is True
    assert planned[-1].step.found is not None


def test_a_rise_up_to_a_divergence_is_flagged_and_not_extended():
    probes = Probes(by_rate=rises_at(0.45, 0.05), diverges_above=lambda _: 0.9)
    planned = tune(make("ranges-fastest"), probes)
    assert stages(planned) == [LR_RANGE, BATCH_RANGE, TRIAL]
    assert planned[1].choice["at_end"] is True


def test_a_flat_curve_is_tried_once_more_with_logarithmic_spacing():
    # All the rise lies below the second of the linear rates.
    probes = Probes(by_rate=lambda x: 0.1 + 0.5 * expit((np.log10(x) + 4) * 8) * (x < 3e-3))
    planned = tune(make("ranges-fastest"), probes)
    assert stages(planned) == [LR_RANGE, "lr_range.1", BATCH_RANGE, TRIAL]
    assert planned[1].step.payload["spacing"] == "log"
    assert planned[1].step.payload["lr_end"] == 1.0
    assert 1e-5 < planned[2].choice["lr_min"] < 1e-4 < planned[2].choice["lr_max"] < 1e-3


def test_a_curve_that_is_flat_both_ways_fails_the_point():
    planned = tune(make("ranges-fastest"), Probes(by_rate=flat))
    assert stages(planned) == [LR_RANGE, "lr_range.1", "lr_range.1"]
    assert planned[-1].step.error == "lr_range.1: no learning rate improves it"
    assert planned[-1].step.found is None


def test_a_curve_that_falls_fails_the_point():
    planned = tune(make("ranges-fastest"), Probes(by_rate=lambda x: 0.9 - 0.1 * x))
    assert planned[-1].step.error == "lr_range.1: no learning rate improves it"


# -- batch sizes ----------------------------------------------------------------------------------


def test_a_diverged_batch_run_forces_the_rescan():
    probes = Probes(size_diverges_above=lambda number: 100 if number == 2 else np.inf)
    planned = tune(make("ranges-fastest"), probes)
    assert stages(planned) == [LR_RANGE, BATCH_RANGE, LR_RESCAN, TRIAL]
    assert planned[2].choice["diverged"] is True
    raw = unpack_arrays(planned[2].arrays)
    gone = raw["raw"][2][raw["batch_size"] > 101]
    assert len(gone)
    assert (gone == 0).all()
    assert planned[2].step.payload["batch_size"] == planned[2].choice["batch_size"]


def test_a_diverged_batch_run_forces_the_rescan_after_a_choice():
    probes = Probes(size_diverges_above=lambda _: 100)
    planned = tune(make("ranges-fast"), probes)
    assert stages(planned)[:4] == [LR_RANGE, BATCH_RANGE, BATCH_CHOICE, LR_RESCAN]


def test_every_batch_run_may_diverge_at_its_first_step():
    planned = tune(make("ranges-fast"), Probes(size_diverges_above=lambda _: 0))
    assert stages(planned)[:4] == [LR_RANGE, BATCH_RANGE, BATCH_CHOICE, LR_RESCAN]
    assert planned[-1].step.found is not None


def test_where_no_batch_size_is_better_all_are_candidates():
    planned = tune(make("ranges-fastest"), Probes(by_size=lambda x: 0.9 - x / 1000))
    assert (planned[2].choice["bs_min"], planned[2].choice["bs_max"]) == (16, 128)
    assert planned[-1].step.found.batch_size == 72


def test_other_points_and_seeds_draw_other_sizes():
    def drawn(seed: int, params: Any) -> list[int]:
        plan = make("ranges-fast", seed=seed)
        point = point_of(plan, params)
        step = plan.first(point, check=False).step
        while step.stage != BATCH_CHOICE:
            step = plan.next(point, step, Probes()(point, step)).step
        return list(step.payload["sizes"])

    assert drawn(0, (1,)) == drawn(0, (1,))
    assert len({tuple(drawn(seed, (value,))) for seed in (0, 1) for value in (1, 2)}) > 1


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [LR_RANGE, BATCH_RANGE, BATCH_CHOICE, LR_RESCAN])
def test_a_failed_replica_fails_the_point(stage):
    def answer(point: Point, step: Step) -> list[Outcome]:
        outcomes = Probes()(point, step)
        if step.stage == stage:
            failure = Failure("exception", "ValueError: no", "a traceback")
            outcomes[1] = Outcome(point.signature, stage, 1, 0.0, 1.0, failure=failure)
        return outcomes

    last = tune(make("ranges-slow"), answer)[-1].step
    assert last.stage == stage
    assert last.found is None
    assert last.error == f"{stage} 1: ValueError: no"


# -- small data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_train", SIZES_OF_DATA)
@pytest.mark.parametrize("preset", RANGES)
def test_small_data(n_train, preset):
    planned = tune(make(preset, n_train), Probes(by_size=rises_at(min(60, n_train / 2), 3)))
    found = planned[-1].step.found
    assert found is not None
    assert found.batch_size <= n_train
    for one in planned:
        for key in ("batch_size", "batch_start", "batch_end", "warmup_batch"):
            assert 1 <= one.step.payload.get(key, 1) <= n_train
        assert all(1 <= size <= n_train for size in one.step.payload.get("sizes", ()))
    assert planned[0].step.payload["batch_size"] == min(64, n_train)


@pytest.mark.parametrize("n_train", [1, 2, 8, 10, 16])
def test_data_smaller_than_every_batch_size_skips_the_batch_range(n_train):
    planned = tune(make("ranges-fastest", n_train), Probes())
    assert stages(planned) == [LR_RANGE, TRIAL]
    assert planned[-1].step.found.batch_size == n_train


def test_a_rescan_follows_even_where_there_is_one_size():
    assert stages(tune(make("ranges-slow", 10), Probes())) == [LR_RANGE, LR_RESCAN, TRIAL]


# -- the numbers ----------------------------------------------------------------------------------


def test_a_length_is_samples_or_epochs():
    def steps(length: Any) -> int:
        hparams = HyperparameterSettings(method="ranges", lr_sweep_len=length)
        plan = make(hparams, n_train=10_000)
        return plan.first(point_of(plan), check=False).step.payload["steps"]

    assert steps(12_800) == 200
    assert steps(2.0) == 312
    assert steps(1) == steps(0.5) == 100, "never less than a hundred"


def test_the_warm_up_is_a_tenth_of_an_epoch_or_none():
    def warm_up(**changes: Any) -> tuple[float, int, int]:
        plan = make(HyperparameterSettings(method="ranges", **changes), n_train=10_000)
        payload = plan.first(point_of(plan), check=False).step.payload
        return payload["warmup_lr"], payload["warmup_batch"], payload["warmup_steps"]

    assert warm_up() == (1e-6, 64, 16)
    assert warm_up(warmup_pts=0) == (1e-6, 64, 0)
    assert warm_up(warmup_pts=100, warmup_batch=50, warmup_lr=1e-3) == (1e-3, 50, 2)


@pytest.mark.parametrize(
    ("n_train", "epochs"),
    [(1, 20), (1000, 20), (30_000, 20), (50_000, 12), (150_000, 4), (10**7, 4)],
)
def test_a_cycle_has_more_epochs_where_there_is_less_data(n_train, epochs):
    assert cycle_epochs(HyperparameterSettings(), n_train) == epochs
    assert cycle_epochs(HyperparameterSettings(cycle_epochs=3), n_train) == 3


@pytest.mark.parametrize(("n", "batch", "count"), [(10, 3, 3), (10, 10, 1), (10, 64, 1), (9, 3, 3)])
def test_the_last_partial_batch_is_dropped_unless_it_is_the_only_one(n, batch, count):
    assert batches_per_epoch(n, batch) == count


@given(st.integers(1, 200), st.integers(1, 300), st.integers(1, 20_000))
def test_batch_sizes_rise_linearly_in_samples(start, more, samples):
    end = start + more
    sizes = batch_sizes(start, end, samples)
    consumed = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    assert sizes[0] == start
    assert sizes.max() <= end
    assert consumed[-1] < samples <= sizes.sum()
    np.testing.assert_allclose(sizes, start + more * consumed / samples, atol=0.5)


@pytest.mark.parametrize("preset", RANGES)
def test_the_steps_that_follow_a_stage_are_about_right(preset):
    plan = make(preset)
    steps = [one.step for one in tune(plan, Probes(), check=True)]
    after = [plan.steps_after(step) for step in steps]
    assert after[-1] == 0.0
    for place in range(len(steps) - 1):
        taken = sum(step.payload["steps"] for step in steps[place + 1 :])
        assert taken / 2 < after[place] < taken * 2
    assert plan.steps_after(Step(LR_RANGE, error="boom")) == 0.0


def test_a_stage_has_a_base_and_an_attempt():
    assert split_stage("lr_range") == ("lr_range", 0)
    assert split_stage("lr_rescan.11") == ("lr_rescan", 11)


# -- what any answers lead to ---------------------------------------------------------------------


@hypothesis_settings(max_examples=60)
@given(
    st.sampled_from(RANGES),
    st.sampled_from([*SIZES_OF_DATA, 5000]),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_tuning_always_ends_and_goes_on_from_what_was_stored(preset, n_train, cores, seed):
    def answer(point: Point, step: Step) -> list[Outcome]:
        random = np.random.default_rng([seed, *step.stage.encode()])
        limit = random.choice([0.0, 0.01, 0.1, 0.5, np.inf], p=[0.1, 0.1, 0.1, 0.1, 0.6])
        wave, sigma = random.uniform(1, 20), random.choice([0.0, 0.01])

        def curve(x: Any) -> Any:
            return 0.3 + 0.1 * np.sin(wave * x) + sigma * random.standard_normal(len(x))

        probes = Probes(
            curve,
            lambda _: limit * random.uniform(0.5, 1),
            lambda x: curve(x / 64),
            lambda _: limit * 200,
            lambda _: float(random.choice([0.0, random.random()])),
        )
        return probes(point, step)

    plan = make(preset, n_train, cores)
    planned = tune(plan, answer, check=True)
    last = planned[-1].step
    assert (last.found is None) != (last.error is None)
    assert tune(plan, answer, check=True) == planned


ELSEWHERE = """
import json, sys
sys.path.insert(0, {tests!r})
from test_plan import Probes, make, tune
planned = tune(make("ranges-slow", seed=7), Probes(final=lambda size: size % 7 / 10))
print(json.dumps([[one.step.stage, dict(one.step.payload), dict(one.choice)] for one in planned]))
"""


def test_every_process_decides_the_same(request):
    planned = tune(make("ranges-slow", seed=7), Probes(final=lambda size: size % 7 / 10))
    here = [[one.step.stage, dict(one.step.payload), dict(one.choice)] for one in planned]
    root = request.config.rootpath
    run = subprocess.run(
        [sys.executable, "-c", ELSEWHERE.format(tests=str(root / "tests"))],
        cwd=root,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout) == json.loads(json.dumps(here))
