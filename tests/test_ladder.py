"""The ladder as scenarios: a made-up loss surface answers the plan; nothing is trained."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.records import CHECK, EAGER, PACKED, TRIAL, Failure, Outcome, Planned, Point, Step
from sweeper.settings import PRESETS, HyperparameterSettings, SweepSettings
from sweeper.signature import make_point
from sweeper.train.tuning import ladder
from sweeper.train.tuning.held_out import FOLDS, split
from sweeper.train.tuning.ladder import (
    LARGEST_BASE_BATCH,
    MARGIN,
    MOST_LOWERINGS,
    ROUNDS,
    Probe,
    base_batch,
    first_rates,
    kept_samples,
    other_batch,
)
from sweeper.train.tuning.names import LADDER
from sweeper.train.tuning.plans.ladder_plan import (
    CONSTANT,
    LEAST_STEPS,
    LadderPlan,
)
from sweeper.train.tuning.plans.range_plan import CHOOSE_MODE
from sweeper.train.tuning.schedule import LOW, Schedule, cycle_ends, cycle_rates, rates
from sweeper.train.tuning.stages import STREAMS, LadderRound
from sweeper.train.tuning.trials import Trial, Trials
from sweeper.train.tuning.tried import Candidate, Tried, best_loss
from test_plan import sane, stages, stored

PRESETS_OF_IT = ("fastest", "fast", "slow", "slowest")
SIZES_OF_DATA = (1, 2, 3, 10, 40, 1000, 10**7)
PLATEAU = 1.0
"""The loss of the best constant prediction."""


# -- made-up probes -------------------------------------------------------------------------------

Surface = Callable[[Probe, int], float]
"""A probe's loss after its last cycle, by the probe and its round."""


def valley(best: float, *, depth: float = 0.8, width: float = 3.0, top: float = 8.0) -> Surface:
    """Lowest at one rate, a constant's loss some octaves from it; above `top` times it diverges."""

    def loss(probe: Probe, _: int) -> float:
        if probe.high > best * top:
            return math.inf
        distance = abs(math.log2(probe.high / best)) / width
        return PLATEAU - depth * max(0.0, 1 - distance**2)

    return loss


def plateau(probe: Probe, number: int) -> float:
    return PLATEAU


def diverging(probe: Probe, number: int) -> float:
    return math.inf


USUAL = valley(2.0**-4)


@functools.lru_cache(maxsize=1 << 14)
def packed(losses: tuple[float, ...]) -> bytes:
    """What a probe gives; made once, since that is most of what these tests do."""
    return pack_arrays({"loss": np.array(losses)})


@dataclass(frozen=True)
class Probes:
    """Answers a step with what its probes would give."""

    loss: Surface = USUAL
    by_tuning: Sequence[Surface] = ()
    """In place of `loss`: a surface for each tuning."""
    before: Callable[[float], float] = lambda loss: loss
    """The loss after the cycles before the last one."""
    constant: float | None = PLATEAU
    performance: Surface | None = None

    def __call__(self, point: Point, step: Step) -> list[Outcome]:
        if step.stage in (CHECK, CHOOSE_MODE):
            texts = {"way": PACKED, "because": ""} if step.stage == CHOOSE_MODE else {}
            return [
                Outcome(point.signature, step.stage, number, 0.0, 1.0, info=texts)
                for number in range(step.replicas)
            ]
        return [self._one(point, step, probe) for probe in LadderRound.read(step.payload).probes()]

    def _one(self, point: Point, step: Step, probe: Probe) -> Outcome:
        surface = self.by_tuning[probe.stream // STREAMS] if self.by_tuning else self.loss
        last = surface(probe, step.payload["round"])
        losses = [self.before(last)] * (probe.cycles - 1) + [last]
        metrics = {}
        if step.stage == LADDER and probe.number == 0 and self.constant is not None:
            metrics[CONSTANT] = self.constant
        arrays = packed(tuple(losses))
        if self.performance is not None:
            right = [self.performance(probe, step.payload["round"])] * probe.cycles
            arrays = pack_arrays({"loss": np.array(losses), "performance": np.array(right)})
        return Outcome(point.signature, step.stage, probe.number, 0.0, 1.0, metrics, arrays)


def make(hparams: Any = "fast", n_train: int = 1000, optimizer: str = "sgd", **options: Any) -> Any:
    settings = PRESETS[hparams] if isinstance(hparams, str) else hparams
    return LadderPlan(SweepSettings(settings), n_train, optimizer, **options)


def once(**changes: Any) -> HyperparameterSettings:
    """One tuning: what it decides is what the point's trials get."""
    return HyperparameterSettings(tunings=1, **changes)


def tune(
    plan: LadderPlan,
    probes: Callable[[Point, Step], Sequence[Outcome]] | None = None,
    **options: Any,
) -> list[Planned]:
    """Every step of a point's tuning, each checked and each stored and restored on the way."""
    probes = probes or Probes()
    point = make_point((1,), "toy", plan.settings, 0)
    planned = [plan.first(point, check=options.get("check", False))]
    while planned[-1].step.found is None and planned[-1].step.error is None:
        assert len(planned) < 12, "tuning does not end"
        sane(planned[-1])
        step = stored(planned[-1].step)
        if step.stage.startswith(LADDER):
            assert len(LadderRound.read(step.payload).probes()) == step.replicas
        planned.append(plan.next(point, step, probes(point, step)))
    sane(planned[-1])
    return planned


def rates_tried(step: Step, tuning: int = 0) -> list[float]:
    return [rate for rate, _ in step.payload["candidates"][tuning]]


def chosen(planned: Sequence[Planned]) -> list[tuple[float, int]]:
    """The highest rate and the batch size of each tuning."""
    last = planned[-1].step
    return [(one["lr_end"], one["batch_size"]) for one in last.payload["tunings"]]


ALL_ROUNDS = [LADDER, *(f"{LADDER}.{number}" for number in range(1, len(ROUNDS)))]


# -- a clear optimum ------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", range(-10, 2))
def test_the_best_rate_is_found(exponent):
    best = 2.0**exponent
    planned = tune(make(once()), Probes(valley(best)))
    assert stages(planned) == [*ALL_ROUNDS, TRIAL]
    assert [one.after for one in planned] == ["", *ALL_ROUNDS]
    found = planned[-1].step.found
    assert found.lr_max == best * MARGIN
    assert found.lr_min == best * MARGIN * LOW["triangular"] == found.lr_max / 8


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adadelta", "mine:Own"])
def test_every_optimiser_has_a_span_that_begins_where_nothing_trains(optimizer):
    rates = first_rates(optimizer)
    assert rates == sorted(rates)
    assert all(high / low == 2 for low, high in itertools.pairwise(rates))
    assert len(rates) >= 10
    middle = rates[len(rates) // 2]
    planned = tune(make(once(), optimizer=optimizer), Probes(valley(middle)))
    assert rates_tried(planned[0].step) == rates
    assert chosen(planned)[0][0] == middle * MARGIN


def test_of_rates_that_cannot_be_told_apart_the_highest_is_taken():
    def flat_bottomed(probe, _):
        return 0.2 if 2.0**-7 <= probe.high <= 2.0**-3 else PLATEAU

    assert chosen(tune(make(once()), Probes(flat_bottomed)))[0][0] == 2.0**-3 * MARGIN


def test_a_round_tries_what_is_around_the_best_of_the_one_before():
    planned = tune(make(once(batch_size=16)), Probes(valley(2.0**-4)))
    for number, octaves in enumerate(ladder.AROUND):
        assert rates_tried(planned[number + 1].step) == [2.0 ** (-4 + one) for one in octaves]


def test_probes_get_longer_and_fewer():
    planned = tune(make("fast"))
    steps = [one.step.payload["steps"] for one in planned]
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps)
    lengths = [one.step.payload["lengths"] for one in planned[:-1]]
    plan = make("fast")
    trial, kept = planned[-1].step.payload, kept_samples(1000)
    epochs = trial["cycle_epochs"] * trial["cycles"]
    for made, length in zip(ROUNDS, lengths, strict=True):
        for size, taken in length.items():
            wanted = round(made.share * epochs * kept / int(size))
            assert taken == max(LEAST_STEPS, wanted)
    longer = tune(make(replace(plan.settings.hparams, probe_length=2.0)))
    assert longer[2].step.payload["steps"] == pytest.approx(2 * steps[2], abs=1)


@pytest.mark.parametrize("preset", PRESETS_OF_IT)
def test_the_presets_say_how_many_tunings_and_initialisations(preset):
    settings = PRESETS[preset]
    planned = tune(make(preset))
    for number, one in enumerate(planned[:-1]):
        candidates, inits = one.step.payload["candidates"], one.step.payload["inits"]
        assert len(candidates) == settings.tunings
        is_full = number == len(ROUNDS)
        wanted = settings.full_length_inits if is_full else settings.probe_inits if number else 1
        assert inits == wanted
        assert one.step.replicas == inits * sum(map(len, candidates))
    assert len(chosen(planned)) == settings.tunings


def test_a_candidate_of_which_an_initialisation_diverged_has_gained_less():
    def unlucky(probe, number):
        at_top = probe.high == 2.0**-3 and probe.stream % STREAMS == 1
        return math.inf if number and at_top else 0.2 if probe.high <= 2.0**-3 else PLATEAU

    hparams = once(probe_inits=3)
    assert chosen(tune(make(hparams), Probes(unlucky)))[0][0] == 2.0**-4 * MARGIN


def test_a_loss_that_rises_from_cycle_to_cycle_counts_against_a_rate():
    def overfits(probe, number):
        return 0.3 if probe.high <= 2.0**-3 else PLATEAU

    def probes(point, step):
        outcomes = Probes(overfits)(point, step)
        for place, probe in enumerate(LadderRound.read(step.payload).probes()):
            if probe.high == 2.0**-3 and probe.cycles > 1:
                outcomes[place] = replace(outcomes[place], arrays=packed((0.295, 0.3)))
        return outcomes

    assert chosen(tune(make(once()), Probes(overfits)))[0][0] == 2.0**-3 * MARGIN
    assert chosen(tune(make(once()), probes))[0][0] == 2.0**-4 * MARGIN


@dataclass(frozen=True)
class Overfitting:
    """Probes of a set whose loss depends on the rate times the length alone, and has a minimum.

    So the best rate of a trial, whose length is 1, is where that product is `best`.
    """

    best: float
    samples: float
    """That a trial trains on in all its epochs, less what is held out of probes."""
    steepness: float = 0.1

    @classmethod
    def of(cls, best: float, hparams: Any, n_train: int = 1000) -> Overfitting:
        trial = tune(make(hparams, n_train))[-1].step.payload
        return cls(best, trial["cycle_epochs"] * trial["cycles"] * kept_samples(n_train))

    def __call__(self, point: Point, step: Step) -> list[Outcome]:
        outcomes = Probes()(point, step)
        if not step.stage.startswith(LADDER):
            return outcomes
        return [
            replace(one, arrays=packed(self.losses(probe)))
            for one, probe in zip(outcomes, LadderRound.read(step.payload).probes(), strict=True)
        ]

    def losses(self, probe: Probe) -> tuple[float, ...]:
        """After each cycle."""
        amount = probe.high * probe.steps * probe.batch_size / self.samples
        at_ends = [amount * cycle / probe.cycles for cycle in range(1, probe.cycles + 1)]
        octaves = [math.log2(each / self.best) for each in at_ends]
        return tuple(min(PLATEAU, 0.2 + self.steepness * each**2) for each in octaves)


@pytest.mark.parametrize("preset", PRESETS_OF_IT)
@pytest.mark.parametrize("exponent", range(-8, -4))
def test_where_a_set_overfits_a_trial_comes_as_far_as_the_best_probe(exponent, preset):
    best = 2.0**exponent
    for rate, _ in chosen(tune(make(preset), Overfitting.of(best, preset))):
        assert abs(math.log2(rate / best)) <= 0.75


def test_how_far_probes_come_is_told_by_the_steps_that_they_make():
    """Not by those that they would make if there were not a least number."""
    losses = {2.0**-2: (0.5, 0.4), 2.0**-1: (0.4, 0.2), 2.0**0: (0.2, 0.5)}

    def probes(point, step):
        outcomes = Probes(valley(2.0**0))(point, step)
        told = LadderRound.read(step.payload) if step.stage.startswith(LADDER) else None
        if told is None or told.round + 1 < len(ROUNDS):
            return outcomes
        assert {probe.steps for probe in told.probes()} == {LEAST_STEPS}
        own = [losses.get(probe.high, (1.0, 1.0)) for probe in told.probes()]
        return [replace(one, arrays=packed(each)) for one, each in zip(outcomes, own, strict=True)]

    hparams = once(cycle_epochs=3, cycles=1, probe_length=0.25, batch_size=8)
    assert chosen(tune(make(hparams, 80), probes))[0][0] == 2.0**-1 * MARGIN


def test_a_rise_that_is_small_is_not_taken_for_overfitting():
    steep = Overfitting.of(2.0**-6, once())
    flat = replace(steep, steepness=0.001)
    assert chosen(tune(make(once()), flat))[0][0] > 4 * chosen(tune(make(once()), steep))[0][0]


# -- the ends of the span -------------------------------------------------------------------------


def test_a_good_rate_at_the_end_of_the_span_is_followed_beyond_it():
    highest = first_rates("sgd")[-1]
    planned = tune(make(once()), Probes(valley(2 * highest)))
    assert max(rates_tried(planned[0].step)) == highest
    assert max(rates_tried(planned[1].step)) == 2 * highest
    assert chosen(planned)[0][0] == 2 * highest * MARGIN


def falling(loss: float) -> float:
    """The loss a cycle before."""
    return loss + 0.01


def behind_a_plateau(best: float, seen: float) -> Surface:
    """A net that is hardly better than a constant until it has trained long at a high rate.

    Early on it looks best at the rate `seen`; in the last round each octave up to `best` gains.
    """

    def loss(probe, number):
        if number + 1 < len(ROUNDS):
            return 0.9 if probe.high == seen else 0.97
        return PLATEAU - 0.8 / (1 + (math.log2(probe.high / best) / 2) ** 2)

    return loss


@pytest.mark.parametrize("octaves", [3, 5, 6])
def test_rates_that_are_far_too_low_are_followed_upwards(octaves):
    seen = 2.0**-9
    best = seen * 2.0**octaves
    planned = tune(make(once(batch_size=16)), Probes(behind_a_plateau(best, seen), before=falling))
    rate = chosen(planned)[0][0]
    assert abs(math.log2(rate / best)) <= 1.5
    assert len(planned) > len(tune(make(once(batch_size=16)), Probes(valley(seen))))


def test_where_losses_rise_no_higher_rates_are_tried():
    surface = behind_a_plateau(2.0**-5, 2.0**-9)
    rising = Probes(surface, before=lambda loss: loss - 0.001)
    assert len(tune(make(once(batch_size=16)), rising)) == len(ROUNDS) + 1


def test_only_the_tunings_whose_rates_are_too_low_go_on():
    surfaces = [valley(2.0**-4), behind_a_plateau(2.0**-4, 2.0**-9), valley(2.0**-5)]
    planned = tune(make("fast"), Probes(by_tuning=surfaces, before=falling))
    further = planned[len(ROUNDS)].step
    assert [len(some) for some in further.payload["candidates"]] == [0, len(ladder.FURTHER), 0]
    rates = [rate for rate, _ in chosen(planned)]
    assert rates[0] == 2.0**-4 * MARGIN
    assert rates[2] == 2.0**-5 * MARGIN
    assert abs(math.log2(rates[1]) + 4) <= 1.5


def test_a_rebound_after_a_collapse_is_no_good_rate():
    def rebounds(probe, number):
        return 0.1 if probe.high <= 2.0**-4 or probe.high == 2 else 3 * PLATEAU

    assert chosen(tune(make(once()), Probes(rebounds)))[0][0] == 2.0**-4 * MARGIN


def test_a_good_rate_at_the_lower_end_is_followed_below_it():
    lowest = first_rates("sgd")[0]
    planned = tune(make(once()), Probes(valley(lowest / 4)))
    assert min(rates_tried(planned[1].step)) < lowest
    assert chosen(planned)[0][0] == lowest / 4 * MARGIN


def test_where_every_rate_diverges_lower_ones_are_tried():
    lowest = first_rates("sgd")[0]
    best = lowest * 2.0**-9
    planned = tune(make("fast"), Probes(valley(best)))
    tried = [rates_tried(one.step) for one in planned[:2]]
    assert max(tried[1]) == lowest / 2
    assert planned[1].step.payload["round"] == planned[0].step.payload["round"]
    assert "diverged" in planned[1].choice["verdict"]
    assert [rate for rate, _ in chosen(planned)] == [best * MARGIN] * 3


def test_where_everything_diverges_the_points_error_names_the_rates():
    planned = tune(make("fast"), Probes(diverging))
    assert len(planned) == MOST_LOWERINGS + 2
    tried = [rate for one in planned[:-1] for rate in rates_tried(one.step)]
    assert len(set(tried)) == len(tried)
    last = planned[-1].step
    assert last.found is None
    assert f"{min(tried):.3g}" in last.error
    assert last.error.startswith(f"{last.stage}: training diverges at ")
    assert "is there a NaN or an infinite value in the data?" in last.error
    assert np.isinf(unpack_arrays(planned[-1].arrays)["loss"]).all()


# -- nothing learns -------------------------------------------------------------------------------


def nothing_before(number: int, surface: Surface) -> Surface:
    """Nothing learns, until round `number`."""
    return lambda probe, now: (
        surface(probe, now) if now >= number else min(max(surface(probe, now), PLATEAU), math.inf)
    )


@pytest.mark.parametrize("first", [1, 2])
def test_on_a_plateau_all_that_have_not_diverged_train_longer(first):
    surface = nothing_before(first, valley(2.0**-6))
    planned = tune(make("fast"), Probes(surface))
    tried = [rates_tried(one.step) for one in planned[:-1]]
    sound = [rate for rate in tried[0] if rate <= 2.0**-6 * 8]
    assert len(sound) < len(tried[0])
    for number in range(1, first + 1):
        assert tried[number] == sound
    assert planned[first].step.payload["steps"] > planned[0].step.payload["steps"]
    assert [rate for rate, _ in chosen(planned)] == [2.0**-6 * MARGIN] * 3


def test_a_loss_just_below_a_constants_is_no_ranking():
    def slightly(probe, number):
        return (
            PLATEAU - min(0.02, 0.01 * probe.high)
            if number < len(ROUNDS) - 1
            else valley(2.0**-9)(probe, 0)
        )

    assert chosen(tune(make(once()), Probes(slightly)))[0][0] == 2.0**-9 * MARGIN


def test_where_no_round_finds_anything_everything_is_tried_as_long_as_a_trial():
    late = nothing_before(len(ROUNDS), valley(2.0**-5))
    planned = tune(make("fast"), Probes(late))
    assert stages(planned) == [*ALL_ROUNDS, f"{LADDER}.{len(ROUNDS)}", TRIAL]
    last = planned[-2].step.payload
    assert {rate for rate, _ in last["candidates"][0]} == set(first_rates("sgd"))
    sizes = {size for _, size in last["candidates"][0]}
    assert sizes == {base_batch(1000), other_batch(base_batch(1000), 1000)}
    trial = planned[-1].step.payload
    epochs = trial["cycle_epochs"] * trial["cycles"]
    assert last["cycles"] == trial["cycles"]
    assert last["lengths"] == {str(size): round(epochs * 800 / size) for size in sizes}
    assert [rate for rate, _ in chosen(planned)] == [2.0**-5 * MARGIN] * 3


def test_a_point_of_which_nothing_learns_is_trained_all_the_same():
    planned = tune(make("fast"), Probes(plateau))
    assert planned[-1].step.error is None
    for told in planned[-1].step.payload["tunings"]:
        assert told["expected"] == PLATEAU == planned[-1].step.payload["constant"]


def test_only_the_tunings_that_found_nothing_go_on():
    late = nothing_before(len(ROUNDS), valley(2.0**-3))
    planned = tune(make("fast"), Probes(by_tuning=[valley(2.0**-6), late, valley(2.0**-2)]))
    assert [len(some) > 0 for some in planned[-2].step.payload["candidates"]] == [
        False,
        True,
        False,
    ]
    expected = [2.0**-6 * MARGIN, 2.0**-3 * MARGIN, 2.0**-2 * MARGIN]
    assert [rate for rate, _ in chosen(planned)] == expected
    reached = [one["expected"] for one in planned[-1].step.payload["tunings"]]
    assert reached == pytest.approx([0.2, 0.2, 0.2])


def test_without_a_constant_the_lowest_rate_stands_in_for_it():
    planned = tune(make(once()), Probes(valley(2.0**-3), constant=None))
    assert planned[-1].step.payload["constant"] == PLATEAU
    assert chosen(planned)[0][0] == 2.0**-3 * MARGIN


@pytest.mark.parametrize("shift", [-5.0, -1.0, 0.5])
def test_a_loss_may_be_negative_or_its_constant_zero(shift):
    def lower(probe, number):
        return valley(2.0**-3)(probe, number) + shift

    planned = tune(make(once()), Probes(lower, constant=PLATEAU + shift))
    assert chosen(planned)[0][0] == 2.0**-3 * MARGIN


# -- what is given --------------------------------------------------------------------------------


def test_a_given_rate_is_every_trials():
    planned = tune(make(HyperparameterSettings(lr=0.05)), Probes(valley(1.0)))
    assert stages(planned) == [LADDER, TRIAL]
    assert planned[0].step.replicas == 3
    assert [rate for rate, _ in chosen(planned)] == [0.05] * 3
    assert planned[-1].step.payload["constant"] == PLATEAU


def test_a_given_rate_that_diverges_fails_the_point_and_is_not_lowered():
    planned = tune(make(HyperparameterSettings(lr=0.05)), Probes(diverging))
    assert stages(planned) == [LADDER, LADDER]
    assert "learning rate of 0.05" in planned[-1].step.error


@pytest.mark.parametrize(("given", "used"), [(1, 1), (8, 8), (24, 24), (1000, 1000), (5000, 1000)])
def test_a_given_batch_size_is_every_probes_and_every_trials(given, used):
    planned = tune(make(HyperparameterSettings(batch_size=given)))
    for one in planned[:-1]:
        sizes = {size for some in one.step.payload["candidates"] for _, size in some}
        assert sizes == {used}
    assert [size for _, size in chosen(planned)] == [used] * 3
    assert planned[-1].step.found.lr_max == 2.0**-4 * MARGIN


def test_rate_and_batch_size_may_both_be_given():
    planned = tune(
        make(HyperparameterSettings(lr=1, batch_size=7, cycles=2, cycle_epochs=3)),
        Probes(valley(1.0)),
    )
    trial = planned[-1].step.payload
    assert chosen(planned) == [(1.0, 7)] * 3
    assert trial["steps"] == 2 * 3 * (1000 // 7)


@pytest.mark.parametrize("name", LOW)
def test_probes_and_trials_go_by_the_schedule_that_is_given(name):
    hparams = HyperparameterSettings(schedule=name, warmup=0.05, epochs=40)
    planned = tune(make(hparams))
    for one in planned[:-1]:
        assert (one.step.payload["schedule"], one.step.payload["warmup"]) == (name, 0.05)
        for probe in LadderRound.read(one.step.payload).probes():
            assert (probe.schedule, probe.warmup) == (name, 0.05)
            # Of the others the last step alone says what a rate is worth.
            assert probe.cycles == 1 or name == "triangular"
    for told in planned[-1].step.payload["tunings"]:
        assert (told["schedule"], told["warmup"]) == (name, 0.05)
        assert told["lr_start"] == told["lr_end"] * LOW[name]
        assert told["steps"] == 40 * (1000 // told["batch_size"])
        found = cycle_rates(Trial.read(told))
        assert len(found) == told["steps"]
        assert max(found) == pytest.approx(told["lr_end"], rel=0.01)


# -- batch sizes ----------------------------------------------------------------------------------


def sized(best_size: int, best: float = 2.0**-4) -> Surface:
    def loss(probe, number):
        found = valley(best)(probe, number)
        return found if probe.batch_size == best_size else found + 0.1

    return loss


@pytest.mark.parametrize("n_train", [100, 1000, 10_000, 10**6])
def test_a_second_batch_size_is_tried_in_the_last_round_and_taken_where_it_is_better(n_train):
    base = base_batch(n_train)
    other = other_batch(base, n_train)
    for best in {base, other}:
        planned = tune(make("fast", n_train), Probes(sized(best)))
        sizes = [
            {size for some in one.step.payload["candidates"] for _, size in some}
            for one in planned[:-1]
        ]
        assert sizes == [{base}] * (len(ROUNDS) - 1) + [{base, other}]
        assert [size for _, size in chosen(planned)] == [best] * 3


@given(st.integers(1, 10**7))
def test_batch_sizes_are_powers_of_two_and_visibly_different(n_train):
    base = base_batch(n_train)
    assert 1 <= base <= min(LARGEST_BASE_BATCH, n_train)
    assert base == n_train or math.log2(base).is_integer()
    other = other_batch(base, n_train)
    assert other == base or (max(base, other) / min(base, other) >= 2 and other <= n_train / 4)


# -- several tunings ------------------------------------------------------------------------------


def test_each_tuning_decides_by_its_own_probes():
    surfaces = [valley(2.0**-8), valley(2.0**-2), diverging, plateau]
    hparams = HyperparameterSettings(tunings=4)
    together = tune(make(hparams), Probes(by_tuning=surfaces))[-1].step.payload["tunings"]
    for place in (0, 1, 3):
        alone = tune(make(once()), Probes(surfaces[place]))[-1].step.payload["tunings"]
        assert together[place] == alone[0]


def test_a_trial_has_the_settings_of_its_tuning():
    surfaces = [valley(2.0**-8), valley(2.0**-2), valley(2.0**-5)]
    planned = tune(make("fast"), Probes(by_tuning=surfaces))
    last = planned[-1].step
    trials = Trials.read(last.payload)
    told = [trials.of(number).payload() for number in range(7)]
    assert [one["lr_end"] for one in told[:3]] == [rate for rate, _ in chosen(planned)]
    assert len({one["lr_end"] for one in told[:3]}) == 3
    for number, one in enumerate(told):
        assert one == last.payload["tunings"][number % 3]
    assert (last.found.lr_min, last.found.lr_max) == (told[0]["lr_start"], told[0]["lr_end"])


def test_what_a_range_test_found_is_every_trials():
    trial = Trial(0.1, 0.2, batch_size=8, cycle_epochs=1, cycles=2, steps=16)
    assert Trials(trial).of(5) == trial


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_candidates_of_an_initialisation_share_their_streams_and_nobody_else_does(
    tunings, inits, rates
):
    candidates = tuple(Candidate(2.0**-rate, 8) for rate in range(rates))
    told = LadderRound(
        round=0,
        modes={},
        constant=None,
        candidates=(candidates,) * tunings,
        inits=inits,
        lengths={8: 30},
        cycles=2,
        schedule="cosine",
        warmup=0.1,
        steps=30,
    )
    probes = told.probes()
    assert [probe.number for probe in probes] == list(range(tunings * rates * inits))
    groups: dict[int, list[float]] = {}
    for probe in probes:
        groups.setdefault(probe.stream, []).append(probe.high)
        assert (probe.steps, probe.cycles) == (30, 2)
        assert (probe.schedule, probe.warmup) == ("cosine", 0.1)
    assert len(groups) == tunings * inits
    assert all(some == [2.0**-rate for rate in range(rates)] for some in groups.values())


# -- failures and what comes before ---------------------------------------------------------------


@pytest.mark.parametrize("stage", ALL_ROUNDS)
def test_a_failed_probe_fails_the_point(stage):
    def answer(point, step):
        outcomes = Probes()(point, step)
        if step.stage == stage:
            failure = Failure("exception", "ValueError: no", "a traceback")
            outcomes[2] = replace(outcomes[2], failure=failure)
        return outcomes

    last = tune(make(), answer)[-1].step
    assert last.stage == stage
    assert last.found is None
    assert last.error == f"{stage} 2: ValueError: no"


def test_the_first_point_is_checked_and_each_finds_its_execution_mode():
    planned = tune(make(eager_because=None), check=True)
    assert stages(planned) == [CHECK, CHOOSE_MODE, *ALL_ROUNDS, TRIAL]
    sizes = {base_batch(1000), other_batch(base_batch(1000), 1000)}
    assert {trial["batch_size"] for trial in planned[1].step.payload["trials"]} == sizes
    assert planned[1].step.replicas == len(sizes)
    for one in planned[2:-1]:
        assert {size: mode["way"] for size, mode in one.step.payload["ways"].items()} == {
            str(size): PACKED for size in sizes
        }
    assert {told["way"] for told in planned[-1].step.payload["tunings"]} == {PACKED}


def test_an_execution_mode_that_cannot_be_found_is_eager():
    def answer(point, step):
        outcomes = Probes()(point, step)
        if step.stage == CHOOSE_MODE:
            failure = Failure("exception", "ValueError: no", "a traceback")
            outcomes[1] = replace(outcomes[1], failure=failure)
        return outcomes

    planned = tune(make(eager_because=None), answer)
    base = base_batch(1000)
    modes = planned[1].step.payload["ways"]
    assert modes[str(base)]["way"] == PACKED
    assert modes[str(other_batch(base, 1000))] == {
        "way": EAGER,
        "because": "choosing failed: ValueError: no",
    }
    assert planned[-1].step.found is not None


def test_where_nothing_is_packed_the_reason_is_kept():
    planned = tune(make(eager_because="packing is off"))
    for told in planned[-1].step.payload["tunings"]:
        assert (told["way"], told["because"]) == (EAGER, "packing is off")


# -- small data and large -------------------------------------------------------------------------


@pytest.mark.parametrize("n_train", SIZES_OF_DATA)
@pytest.mark.parametrize("preset", PRESETS_OF_IT)
def test_small_data_and_large(n_train, preset):
    planned = tune(make(preset, n_train), check=True)
    assert planned[0].step.payload["batch_size"] == min(64, n_train)
    assert [rate for rate, _ in chosen(planned)] == [2.0**-4 * MARGIN] * PRESETS[preset].tunings
    for one in planned[1:-1]:
        payload = one.step.payload
        for some in payload["candidates"]:
            assert all(1 <= size <= n_train for _, size in some)
        assert min(payload["lengths"].values()) >= LEAST_STEPS
    for told in planned[-1].step.payload["tunings"]:
        assert 1 <= told["batch_size"] <= n_train
        assert told["steps"] >= 1


@pytest.mark.parametrize("preset", PRESETS_OF_IT)
@pytest.mark.parametrize("n_train", [10, 1000, 10**5])
def test_the_steps_that_follow_a_stage_are_about_right(preset, n_train):
    plan = make(preset, n_train, eager_because=None)
    steps = [one.step for one in tune(plan, Probes(sized(base_batch(n_train))), check=True)]
    after = [plan.steps_after(step) for step in steps]
    assert after[-1] == 0.0
    for place in range(1, len(steps) - 1):
        taken = sum(step.payload["steps"] for step in steps[place + 1 :])
        assert taken / 2 < after[place] < taken * 2
    assert plan.steps_after(Step(LADDER, error="boom")) == 0.0


def test_the_losses_of_each_round_are_kept():
    planned = tune(make("slow"), Probes(by_tuning=[valley(2.0**-k) for k in (2, 4, 6, 8)]))
    for before, one in itertools.pairwise(planned):
        kept, probes = unpack_arrays(one.arrays), LadderRound.read(before.step.payload).probes()
        assert kept["lr"].tolist() == [probe.high for probe in probes]
        assert kept["batch_size"].tolist() == [probe.batch_size for probe in probes]
        assert kept["tuning"].tolist() == [probe.stream // STREAMS for probe in probes]
        assert kept["loss"].shape == (len(probes), before.step.payload["cycles"])


# -- the full-length round ------------------------------------------------------------------------

FULL = f"{LADDER}.{len(ROUNDS)}"
FOUND = 2.0**-4 * MARGIN
"""What the rounds before it find."""


def full(surface: Surface) -> Surface:
    """Probes as long as a trial have this surface, and shorter ones the usual one."""
    return lambda probe, number: (surface if number == ladder.FULL_LENGTH else USUAL)(probe, number)


def by_octaves(*losses: float) -> Surface:
    """The losses of lower rates than what was found, of that itself, and of higher ones."""
    return lambda probe, _: losses[int(np.sign(round(math.log2(probe.high / FOUND)))) + 1]


def settled(surface: Surface, right: Surface | None = None) -> float:
    """How many octaves from what was found trials are."""
    probes = Probes(full(surface), performance=right and full(right))
    found = chosen(tune(make(once(full_length_inits=2)), probes))
    return math.log2(found[0][0] / FOUND)


@pytest.mark.parametrize("octaves", [-3, 0, 2, 3])
@pytest.mark.parametrize("changes", [{}, {"schedule": "one_cycle"}, {"cycles": 2, "epochs": 8}])
@pytest.mark.parametrize("probe_length", [0.5, 1.0, 2.0])
def test_the_full_length_round_is_as_long_as_a_trial_and_takes_the_best_of_four(
    octaves, changes, probe_length
):
    later = full(valley(FOUND * 2.0**octaves, width=9, top=99))
    hparams = once(full_length_inits=3, probe_length=probe_length, **changes)
    planned = tune(make(hparams), Probes(later))
    assert stages(planned) == [*ALL_ROUNDS, FULL, TRIAL]
    told, trial = LadderRound.read(planned[-2].step.payload), planned[-1].step.payload
    assert sorted(rates_tried(planned[-2].step)) == [FOUND / 8, FOUND, FOUND * 4, FOUND * 8]
    assert told.inits == 3
    assert told.cycles == (trial["cycles"] if hparams.schedule == "triangular" else 1)
    (size,) = {one.batch_size for one in told.candidates[0]}
    epochs = trial["cycle_epochs"] * trial["cycles"]
    assert told.lengths[size] == round(epochs * kept_samples(1000) / size)
    assert chosen(planned) == [(FOUND * 2.0**octaves, size)]


def test_the_full_length_round_goes_by_performance_and_in_a_fifth_by_loss():
    def octaves(gained, right):
        """Where a lower rate differs by these from the others."""
        return settled(by_octaves(0.5 - gained, 0.5, 0.5), by_octaves(0.5 + right, 0.5, 0.5))

    assert octaves(0.1, 0.0) == octaves(0.0, 0.1) == octaves(0.3, -0.05) == octaves(-0.3, 0.1) == -3
    assert octaves(-0.3, 0.05) == octaves(0.1, -0.05) == octaves(0, 0) == 0, "the first of equals"


def test_in_the_full_length_round_a_rate_that_diverges_from_one_initialisation_is_not_taken():
    def diverges(probe, number):
        return math.inf if probe.high > FOUND / 2 and probe.stream % STREAMS == 1 else 0.1

    assert settled(diverges) == -3
    assert settled(lambda *_: math.inf) == -3, "the lowest, if all do"
    assert settled(by_octaves(1.05, math.inf, math.inf)) == -3


def test_in_the_full_length_round_an_initialisation_that_diverges_at_every_rate_says_nothing():
    def diverges(probe, number):
        return math.inf if probe.stream % STREAMS else by_octaves(0.6, 0.5, 0.1)(probe, number)

    assert settled(diverges) == 2


def test_in_the_full_length_round_losses_above_that_of_a_constant_count():
    assert settled(by_octaves(1.5, 1.2, 1.01)) == 2

    # A loss of half the initialisations that has blown up outweighs what the others gain.
    def lucky(probe, _):
        return 0.55 if probe.high < FOUND * 2 else (0.05, 1e19)[probe.stream % STREAMS]

    assert settled(lucky) == 0
    # One held-out sample more of eighty is not worth predictions that are far too certain.
    assert settled(by_octaves(1.1, 1.1, 3.0), by_octaves(0.642, 0.642, 0.654)) == 0


def test_if_nothing_learns_the_least_loss_counts_also_above_that_of_a_constant():
    planned = tune(make(once()), Probes(lambda probe, _: 1 + abs(math.log2(probe.high) + 4)))
    assert chosen(planned)[0][0] == 2.0**-4


def test_a_tuning_that_has_found_nothing_that_learns_has_no_full_length_round():
    hparams = HyperparameterSettings(tunings=2, full_length_inits=2)
    planned = tune(make(hparams), Probes(by_tuning=[USUAL, plateau]))
    assert [len(some) for some in planned[-2].step.payload["candidates"]] == [4, 0]
    nothing = tune(make(hparams), Probes(plateau))
    assert chosen(planned)[1] == chosen(nothing)[1]
    assert nothing[-2].step.payload["round"] == len(ROUNDS), "the additional round is the last"


def test_a_rate_that_is_given_has_no_full_length_round():
    planned = tune(make(once(full_length_inits=2, lr=0.1)))
    assert stages(planned) == [LADDER, TRIAL]


# -- what any answers lead to ---------------------------------------------------------------------


@hypothesis_settings(max_examples=40)
@given(
    st.sampled_from(["fastest", "fast", once(probe_inits=3), once(full_length_inits=2)]),
    st.sampled_from(SIZES_OF_DATA),
    st.sampled_from(["sgd", "adam", "mine:Own"]),
    st.integers(0, 2**32 - 1),
)
def test_tuning_always_ends_and_goes_on_from_what_was_stored(preset, n_train, optimizer, seed):
    def surface(probe, number):
        random = np.random.default_rng([seed, number, probe.number])
        share = np.random.default_rng(seed).random()
        found = [math.inf, PLATEAU, 1e30, 0.0, round(random.uniform(-1, 2), 1)]
        return float(random.choice(found, p=[share * 0.9, *[(1 - share * 0.9) / 4] * 4]))

    plan = make(preset, n_train, optimizer)
    planned = tune(plan, Probes(surface), check=True)
    last = planned[-1].step
    assert (last.found is None) != (last.error is None)
    if last.found is not None:
        assert all(math.isfinite(rate) and rate > 0 for rate, _ in chosen(planned))
    assert tune(plan, Probes(surface), check=True) == planned


@hypothesis_settings(max_examples=40)
@given(st.lists(st.floats(-10, 1), min_size=1, max_size=4), st.integers(0, 3))
def test_the_rate_chosen_is_never_above_the_best_by_more_than_an_octave(exponents, noise):
    surfaces = [valley(2.0**exponent) for exponent in exponents]
    hparams = HyperparameterSettings(tunings=len(exponents))
    found = chosen(tune(make(hparams), Probes(by_tuning=surfaces)))
    for exponent, (rate, _) in zip(exponents, found, strict=True):
        assert -1.6 <= math.log2(rate) - exponent <= 1


def test_the_best_loss_is_the_least_mean_that_is_finite():
    def tried(*losses):
        return Tried(Candidate(0.1, 8), tuple((0.0, one) for one in losses))

    some = [tried(0.1, 0.7), tried(0.2, 0.3), tried(0.0, math.inf)]
    assert best_loss(some) == pytest.approx(0.25)
    assert best_loss([tried(math.inf)]) is None


# -- the held-out samples -------------------------------------------------------------------------


def labels_of(kind: str, samples: int) -> np.ndarray | None:
    random = np.random.default_rng(samples)
    if kind == "classes":
        return random.choice(4, size=samples, p=[0.5, 0.3, 0.15, 0.05])
    return random.normal(size=samples) if kind == "numbers" else None


@pytest.mark.parametrize("kind", ["classes", "numbers", "nothing"])
@given(st.integers(2, 400), st.integers(0, 2**32 - 1))
def test_a_fifth_is_held_out_and_the_rest_is_kept(kind, samples, seed):
    kept, held = split(samples, labels_of(kind, samples), np.random.default_rng(seed))
    assert sorted([*kept, *held]) == list(range(samples))
    assert len(held) == max(1, samples // FOLDS)
    assert len(kept) == kept_samples(samples)
    for part in (kept, held):
        assert part.tolist() == sorted(part)


@given(st.integers(5, 400), st.integers(0, 2**32 - 1))
def test_classes_are_held_out_in_proportion(samples, seed):
    labels = labels_of("classes", samples)
    _, held = split(samples, labels, np.random.default_rng(seed))
    for label in set(labels):
        # A class is whole groups of about five, each with one, and a part of one at either end.
        count, chosen = (labels == label).sum(), (labels[held] == label).sum()
        assert count // (FOLDS + 1) - 1 <= chosen <= count // FOLDS + 2


@given(st.integers(5, 400), st.integers(0, 2**32 - 1))
def test_small_and_large_targets_are_held_out_in_proportion(samples, seed):
    labels = labels_of("numbers", samples)
    _, held = split(samples, labels, np.random.default_rng(seed))
    ranks = np.sort(np.argsort(np.argsort(labels))[held])
    # One of each group of about five neighbours.
    np.testing.assert_allclose(ranks, np.linspace(0, samples, len(held) + 1)[:-1], atol=FOLDS + 5)
    assert np.diff(ranks).max(initial=0) <= 2 * (FOLDS + 1) + FOLDS


def test_every_sample_is_held_out_by_some_generator():
    labels = labels_of("classes", 23)
    held = [split(23, labels, np.random.default_rng(seed))[1] for seed in range(100)]
    assert set(np.concatenate(held)) == set(range(23))
    assert len({tuple(one) for one in held}) > 50
    again = split(23, labels, np.random.default_rng(7))[1]
    assert again.tolist() == held[7].tolist()


def test_a_single_sample_is_kept_and_held_out():
    kept, held = split(1, np.array([3]), np.random.default_rng(0))
    assert kept.tolist() == held.tolist() == [0]


# -- the schedule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "cycles"), [(1, 1), (2, 1), (20, 1), (40, 4), (42, 4), (21, 2)])
@pytest.mark.parametrize("warmup", [0.0, 0.1])
@pytest.mark.parametrize("name", LOW)
def test_a_probes_rates_are_those_of_a_trial(name, warmup, steps, cycles):
    told = Trial(0.8 * LOW[name], 0.8, 8, 1, cycles, steps, schedule=name, warmup=warmup)
    found = rates(name, 0.8, steps, cycles, warmup)
    assert found.shape == (steps,)
    np.testing.assert_allclose(found, cycle_rates(told), rtol=1e-12)
    assert (found > 0).all()
    assert (found <= 0.8 * (1 + 1e-12)).all()


def test_a_cycle_rises_to_its_peak_in_the_middle_and_falls():
    found = Schedule("triangular", 0.1, 0.8, 40, 2).rates()
    assert found[0] == found[20] == pytest.approx(0.1)
    assert found[10] == found[30] == found.max() == 0.8
    assert (np.diff(found[:11]) > 0).all()
    assert (np.diff(found[10:20]) < 0).all()
    assert found.min() == pytest.approx(0.1)


def test_the_other_schedules_are_what_they_are_said_to_be():
    once, cosine, constant = (
        rates(name, 1.0, 1000) for name in ("one_cycle", "cosine", "constant")
    )
    assert (constant == 1.0).all()
    assert (cosine[0], cosine[500]) == (1.0, pytest.approx(0.505))
    assert cosine[-1] == pytest.approx(0.01, abs=1e-4)
    assert (np.diff(cosine) < 0).all()
    assert once[0] == pytest.approx(1 / 25)
    assert once[300] == once.max() == pytest.approx(1.0)
    assert (np.diff(once[:300]) > 0).all()
    assert (np.diff(once[300:]) < 0).all()
    assert once[-1] == pytest.approx(1e-4, abs=1e-5)


@pytest.mark.parametrize("name", LOW)
def test_a_warm_up_rises_to_what_the_schedule_says(name):
    plain, warmed = rates(name, 1.0, 100, 4), rates(name, 1.0, 100, 4, 0.1)
    assert warmed[10:].tolist() == plain[10:].tolist()
    np.testing.assert_allclose(warmed[:10] / plain[:10], np.arange(1, 11) / 11)


@given(st.integers(1, 8), st.integers(0, 300))
def test_cycles_end_one_after_the_other_and_the_last_with_the_probe(cycles, more):
    steps = 2 * cycles + more
    ends = cycle_ends(steps, cycles)
    assert len(ends) == cycles
    assert ends == sorted(set(ends))
    assert ends[-1] == steps
    found = Schedule("triangular", 0.1, 0.8, steps, cycles).rates()
    for end in ends[:-1]:
        assert found[end] == pytest.approx(0.1), "the next cycle begins low"
