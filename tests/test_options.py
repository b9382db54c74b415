"""What is tuned, and options of the optimizer among it: scenarios of the plan, and whole sweeps."""

from __future__ import annotations

import functools
import itertools
import json
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import blobs
import sweeper
import varied
from sweeper.cli.execute import _read_settings
from sweeper.code.importing import find_ref
from sweeper.disk.arrays import pack_arrays
from sweeper.errors import ParamError, ProblemError, SettingsError
from sweeper.records import (
    CHOOSE_MODE,
    COMPILED,
    EAGER,
    PACKED,
    TRIAL,
    Finished,
    Outcome,
    Planned,
)
from sweeper.settings import HyperparameterSettings, SweepSettings
from sweeper.show.export import json_text
from sweeper.show.table import results_table
from sweeper.signature import encode, make_point
from sweeper.store.database.store import Store
from sweeper.store.identity import differences, identify
from sweeper.train.data.samples import Data, HeldSet
from sweeper.train.eager import probes as eager_probes
from sweeper.train.eager.trial import train_trial
from sweeper.train.packs.members import Member
from sweeper.train.packs.probes import train_probes
from sweeper.train.packs.step import numbers_of
from sweeper.train.packs.trial import train_pack
from sweeper.train.problem.loading import load_problem
from sweeper.train.problem.optimizer.optimizers import recipe_of
from sweeper.train.problem.optimizer.options import (
    own_value,
    tuned_values,
    values_to_try,
    with_options,
)
from sweeper.train.problem.optimizer.recipe import Clipping, Recipe
from sweeper.train.replica.streams import Streams, dataset_seed, seed_globals
from sweeper.train.tuning import options
from sweeper.train.tuning.ladder import STREAMS
from sweeper.train.tuning.names import LADDER
from sweeper.train.tuning.option_round import OptionRound
from sweeper.train.tuning.plans.ladder_plan import CONSTANT, LadderPlan
from sweeper.train.tuning.schedule import LOW
from sweeper.train.tuning.stages import LadderRound, read
from sweeper.train.tuning.trials import Trial, Trials
from sweeper.train.tuning.tried import Candidate, Tried
from sweeper.train.vectorize.formulas import FORMULAS
from sweeper.train.vectorize.optimizers import OF_EACH, find_optimizer
from sweeping import assert_same_bits, outcomes, run
from test_plan import sane, stages, stored
from test_probes import data_of, plain, problem_of, streams_of

BOTH = ("lr", "batch_size", "weight_decay", "momentum")
OWN = {"weight_decay": 0.0, "momentum": 0.0}


# -- what is tuned --------------------------------------------------------------------------------


def test_the_order_of_names_says_nothing_and_the_default_is_part_of_no_signature():
    assert HyperparameterSettings(tune=("batch_size", "lr")) == HyperparameterSettings()
    found = HyperparameterSettings(tune=["momentum", "lr"])
    assert (found.tune, found.options) == (("lr", "momentum"), ("momentum",))
    usual, other = (
        make_point((1,), "toy", SweepSettings(hparams), 0).signature
        for hparams in (HyperparameterSettings(), replace(found, batch_size=8))
    )
    assert usual == make_point((1,), "toy", SweepSettings(), 0).signature != other


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tune": ("lr", "decay")}, "tune=.*'decay'.*names out of 'lr', 'batch_size', 'weight"),
        ({"tune": "lr"}, "tune='lr': it must be a tuple of names"),
        ({"tune": ("lr",), "method": "ranges"}, "tune=.*belongs to method='ladder'"),
    ],
)
def test_names_that_cannot_be_tuned_are_refused(given, message):
    with pytest.raises(SettingsError, match=message):
        HyperparameterSettings(**given)


@pytest.mark.parametrize(
    ("module", "tune", "point", "message"),
    [
        (blobs, ("batch_size",), {}, r"tune=\('batch_size',\): lr must be tuned or given"),
        (blobs, (), {"lr": 0.1}, r"tune=\(\): batch_size must be tuned or given"),
        (varied, BOTH, {"weight_decay": 0.1}, "weight_decay is tuned, and the point sets it"),
        ("tests/adamant.py", BOTH, {}, "momentum.*'adam' has no such .* lr, batch_size, weight_d"),
    ],
)
def test_what_does_not_fit_a_point_is_refused_before_anything_runs(
    tmp_path, module, tune, point, message
):
    if isinstance(module, str):
        module = tmp_path / "adamant.py"
        module.write_text("from tests.blobs import *\noptimizer = 'adam'\n")
    selector = sweeper.FixedSweep.with_fixed_trials([point], 1)
    with pytest.raises(ParamError, match=message):
        run(tmp_path / "out", selector, module, hparams=replace(blobs.LADDER, tune=tune))


def test_a_points_own_optimizer_is_tuned_and_without_the_option_that_point_fails(tmp_path):
    points = [{"opt": name, "lr": 0.01, "batch_size": 8} for name in ("adam", "rmsprop")]
    selector = sweeper.FixedSweep.with_fixed_trials(points, 1)
    hparams = replace(blobs.LADDER, tune=("momentum",))
    results = run(tmp_path, selector, varied, hparams=hparams, pack="off")
    (failure,) = results.failures
    assert failure.params == points[0]
    assert "'adam' has no such option" in failure.message
    assert [one.momentum in options.MOMENTA for one in results.settings[1]] == [True, True]


def test_given_settings_are_not_tuned_whatever_else_is(tmp_path):
    points = [{"lr": 0.25, "batch_size": 4}, {"lr": 0.25, "batch_size": 32}]
    selector = sweeper.FixedSweep.with_fixed_trials(points, 2)
    results = run(tmp_path, selector, hparams=replace(blobs.LADDER, tune=()), pack="off")
    assert [(point.lr_max, point.batch_size) for point in results] == [(0.25, 4), (0.25, 32)]
    assert {stage for _, stage, _ in outcomes(tmp_path)} <= {"check", "describe", TRIAL}


def test_a_folder_says_what_was_tuned_and_one_from_before_tuned_two():
    def identity(hparams):
        found = identify({"problem": "toy"}, SweepSettings(hparams), 0, 40)
        return json.loads(json.dumps(found))

    usual, more = identity(HyperparameterSettings()), identity(HyperparameterSettings(tune=BOTH))
    before = json.loads(json.dumps(usual))
    del before["settings"]["tune"]
    assert differences(before, usual) == differences(more, more) == []
    for known in (before, usual):
        assert "tune is ['lr', 'batch_size'] in the folder and" in differences(known, more)[0]


def test_the_command_line_says_what_is_tuned():
    assert _read_settings(None, (), "lr,weight_decay").tune == ("lr", "weight_decay")
    assert _read_settings("slow", ("lr=0.1", "batch_size=8"), "none").tune == ()
    assert _read_settings(None, (), None) is None
    with pytest.raises(SettingsError, match="names out of"):
        _read_settings(None, (), "rate")


# -- the plan -------------------------------------------------------------------------------------

Surface = Callable[[str, float], float]
"""The loss of a probe by the option that is tuned and its value."""

PLATEAU, LEARNED = 1.0, 0.2


def valley(**best: float) -> Surface:
    """Lowest at one value of each option, and higher at all others."""
    return lambda option, value: LEARNED + 0.1 * (value != best[option])


USUAL = (valley(**OWN),)


def planned(
    tune: Any = BOTH,
    surfaces: Any = USUAL,
    own: Any = OWN,
    mode: str = PACKED,
    optimizer: str = "sgd",
    **changes: Any,
) -> list[Planned]:
    """Every step of a point's tuning; the surfaces are those of its tunings."""
    hparams = HyperparameterSettings(tunings=len(surfaces), tune=tune, **changes)
    values = {name: options.values(name, value) for name, value in own.items()}
    plan = LadderPlan(SweepSettings(hparams), 1000, optimizer, None, None, values)
    point = make_point((1,), "toy", plan.settings, 0)
    found = [plan.first(point, check=False)]
    while found[-1].step.found is None:
        assert len(found) < 9, "tuning does not end"
        sane(found[-1])
        step = stored(found[-1].step)
        assert plan.steps_after(step) > 0
        found.append(plan.next(point, step, answers(point.signature, step, surfaces, mode)))
    sane(found[-1])
    return found


def answers(signature: str, step: Any, surfaces: Any, mode: str) -> list[Outcome]:
    blank = [Outcome(signature, step.stage, number, 0.0, 1.0) for number in range(step.replicas)]
    told = read(step.stage, step.payload)
    if not isinstance(told, LadderRound | OptionRound):
        return [replace(one, info={"way": mode, "because": step.stage}) for one in blank]
    assert len(told.probes()) == step.replicas
    return [
        replace(
            one,
            metrics={CONSTANT: PLATEAU},
            arrays=packed(loss_of(told, probe, surfaces), probe.cycles),
        )
        for one, probe in zip(blank, told.probes(), strict=True)
    ]


def loss_of(told: Any, probe: Any, surfaces: Any) -> float:
    """Of a rate, best at 1/16, or of an option."""
    if isinstance(told, OptionRound):
        tuning = probe.stream // STREAMS
        return surfaces[tuning](told.option, probe.options[told.option])
    return LEARNED + 0.05 * abs(math.log2(probe.high * 16))


@functools.cache
def packed(loss: float, cycles: int) -> bytes:
    return pack_arrays({"loss": np.full(cycles, loss)})


ROUNDS = [CHOOSE_MODE, LADDER, f"{LADDER}.1", f"{LADDER}.2"]


def test_options_follow_the_rate_and_modes_are_chosen_again_where_they_are_others():
    same = planned()
    assert stages(same) == [*ROUNDS, "momentum", "weight_decay", TRIAL]
    other = planned(surfaces=[valley(momentum=0.0, weight_decay=1e-3)] * 2)
    assert stages(other) == [*stages(same)[:-1], f"{CHOOSE_MODE}.1", TRIAL]
    assert len(other[-2].step.payload["trials"]) == 1  # both tunings have found the same
    trials = Trials.read(other[-1].step.payload)
    assert {one.mode.because for one in trials.tunings} == {f"{CHOOSE_MODE}.1"}
    eager = planned(surfaces=[valley(momentum=0.9, weight_decay=0.0)], mode=EAGER)
    assert stages(eager) == stages(same)
    assert stages(planned(tune=("lr", "batch_size"))) == [*ROUNDS, TRIAL]


def test_a_tuning_with_its_own_options_keeps_the_mode_of_its_batch_size():
    surfaces = [valley(**OWN), valley(momentum=0.9, weight_decay=0.0)]
    trials = Trials.read(planned(surfaces=surfaces, mode=COMPILED)[-1].step.payload)
    assert [one.mode.because for one in trials.tunings] == [CHOOSE_MODE, f"{CHOOSE_MODE}.1"]
    assert [one.options["momentum"] for one in trials.tunings] == [0.0, 0.9]


def test_probes_of_options_are_packed_where_trials_are_compiled():
    found = planned(mode=COMPILED)
    told = read("momentum", found[ROUNDS.index(f"{LADDER}.2") + 1].step.payload)
    assert {told.mode_of(one).kind for one in told.probes()} == {PACKED}


def test_the_effective_rate_is_held_while_momentum_is_tuned():
    usual = planned()[-1].step.found
    for own, best in itertools.product((0.0, 0.9), (0.5, 0.99)):
        surfaces = [valley(momentum=best, weight_decay=0.0)]
        given = {"weight_decay": 0.0, "momentum": own}
        found = planned(surfaces=surfaces, own=given)[-1].step.found
        assert (found.momentum, found.weight_decay) == (best, 0.0)
        assert found.lr_max / (1 - best) == pytest.approx(usual.lr_max / (1 - own))
        assert found.lr_min == pytest.approx(found.lr_max * LOW["triangular"])
    found = planned(surfaces=[valley(momentum=0.5, weight_decay=1e-4)], optimizer="muon")[-1]
    assert found.step.found.lr_max == planned(optimizer="muon")[-1].step.found.lr_max


def test_each_tuning_decides_by_its_own_probes_alone():
    surfaces = [valley(momentum=m, weight_decay=d) for m, d in ((0.9, 0.0), (0, 1e-2), (0.5, 0.1))]
    together = Trials.read(planned(surfaces=surfaces)[-1].step.payload).tunings
    for place, surface in enumerate(surfaces):
        alone = Trials.read(planned(surfaces=[surface])[-1].step.payload).first
        assert replace(together[place], mode=alone.mode) == alone


def test_what_was_found_and_why_is_recorded():
    last = planned(surfaces=[valley(momentum=0.0, weight_decay=1e-3)])
    momentum, decay = last[-3].choice, last[-2].choice
    assert (momentum["option"], momentum["chosen"]) == ("momentum", [0.0])
    assert decay["values"] == list(options.DECAYS)
    assert decay["chosen"] == [1e-3]
    assert decay["gains"][0] == pytest.approx([0.7, 0.7, 0.7, 0.8, 0.7, 0.7])
    assert decay["because"] == [
        "weight_decay 0.001 gains 0.8000, the optimizer's own 0 gains 0.7000"
    ]


def test_a_given_rate_is_tried_with_every_batch_size_that_is_tuned():
    found = planned(tune=("batch_size",), lr=0.5)
    assert stages(found) == [CHOOSE_MODE, LADDER, TRIAL]
    assert found[1].step.payload["candidates"] == [[[0.5, 16], [0.5, 64]]]
    assert found[-1].step.found.batch_size == 16
    fixed = planned(tune=("weight_decay",), lr=0.5, batch_size=8)
    assert stages(fixed) == [CHOOSE_MODE, LADDER, "weight_decay", TRIAL]
    assert fixed[1].step.payload["candidates"] == [[[0.5, 8]]]


# -- which value ----------------------------------------------------------------------------------


def chosen(values, gains, own=0.0):
    """The value that is taken; each of `gains` is of one initialisation, or of several."""
    tried = [
        Tried(Candidate(0.1, 8), tuple((1 - each,) for each in np.atleast_1d(some)))
        for some in gains
    ]
    return values[options.choose("weight_decay", values, tried, 1.0).place]


def test_the_least_value_that_cannot_be_told_from_the_best_is_taken_or_else_the_own():
    values = (0.01, 0.0, 1e-4, 1e-3, 0.1)
    assert chosen(values, [0.5, 0.7, 0.8, 0.8, 0.5]) == 1e-4
    assert chosen(values, [0.5, 0.798, 0.8, 0.8, 0.5]) == 0.0
    assert chosen(values, [0.798, 0.798, 0.8, 0.8, 0.5]) == 0.01
    assert chosen(values, [0.01, 0.0, 0.02, 0.0, -math.inf]) == 0.01  # nothing has learned
    assert chosen(values, [-math.inf, -math.inf, 0.5, -math.inf, 0.4]) == 1e-4
    # The own is worse by less than what initialisations differ by, and then by more.
    assert chosen((0.0, 0.1), [[0.5, 0.7, 0.6], [0.7, 0.6, 0.7]]) == 0.0
    assert chosen((0.0, 0.1), [[0.5, 0.7, 0.6], [0.6, 0.8, 0.71]]) == 0.1


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_no_value_is_taken_that_gains_clearly_less_than_another(gains):
    taken = options.DECAYS.index(chosen(options.DECAYS, gains))
    least = (1 - options.CLEARLY) * max(gains) - 1e-9
    assert taken == 0 or gains[taken] >= least
    assert taken == 0 or gains[0] < least + 2e-9


@pytest.mark.parametrize(
    ("own", "expected"),
    [(0.0, options.DECAYS), (0.01, (0.01, 0.0, 1e-4, 1e-3, 0.1, 1.0))],
)
def test_decays_are_powers_of_ten_around_the_optimizers_own(own, expected):
    assert options.values("weight_decay", own) == pytest.approx(expected)
    assert options.values("momentum", 0.8) == (0.8, *options.MOMENTA)


# -- the optimizer --------------------------------------------------------------------------------


class Mine(torch.optim.SGD):
    pass


@pytest.mark.parametrize(
    ("optimizer", "decay", "momentum"),
    [
        ("sgd", 0.0, 0.0),
        ("adamw", 0.01, None),
        ("rprop", None, None),
        ({"name": "rmsprop", "momentum": 0.5, "weight_decay": 1e-3}, 1e-3, 0.5),
        ({"class": Mine, "momentum": 0.9}, 0.0, 0.9),
    ],
)
def test_an_optimizer_has_a_value_of_its_own_or_no_such_option(optimizer, decay, momentum):
    assert own_value(optimizer, "weight_decay") == decay
    assert own_value(optimizer, "momentum") == momentum
    known = values_to_try(optimizer)
    assert {name: values[0] for name, values in known.items()} == {
        name: value
        for name, value in (("weight_decay", decay), ("momentum", momentum))
        if value is not None
    }
    for name in {"weight_decay", "momentum"} - known.keys():
        with pytest.raises(ProblemError, match="no such option: choose from lr, batch_size"):
            tuned_values(optimizer, [name])


def test_values_that_an_optimizer_does_not_accept_are_not_tried():
    nesterov = {"name": "sgd", "momentum": 0.9, "nesterov": True}
    assert values_to_try(nesterov)["momentum"] == (0.9, 0.5, 0.95, 0.99)


def test_a_tuned_option_takes_the_place_of_the_optimizers_own():
    given = {"name": "sgd", "momentum": 0.9, "decay_only": ("weight",)}
    model, found = nn.Linear(2, 2), with_options(given, {"weight_decay": 0.1, "momentum": 0.5})
    written = {"name": "sgd", "momentum": 0.5, "weight_decay": 0.1, "decay_only": ("weight",)}
    assert recipe_of(found, Clipping(), model) == recipe_of(written, Clipping(), model)
    # Its own value leaves it as it is written, so that compiled steps are found again.
    assert with_options("sgd", {"weight_decay": 0.0, "momentum": 0.0}) == "sgd"
    assert with_options(given, {"momentum": 0.9}) is given


# -- packs ----------------------------------------------------------------------------------------

PROBES = OptionRound(
    option="weight_decay",
    values=(0.0, 0.01, 0.5),
    rates=((0.1,) * 3, (0.2,) * 3),
    tunings=(Trial(0.1, 0.1, 16, 1, 1, 20, options={"momentum": 0.5}),) * 2,
    constant=0.7,
    modes={},
    inits=1,
    lengths={16: 20},
    cycles=2,
    steps=20,
)


@pytest.mark.usefixtures("one_thread")
def test_probes_of_different_decays_share_a_pack_and_have_the_bits_that_they_have_alone():
    problem = problem_of(plain).with_options({"momentum": 0.5})
    data, every = data_of(), PROBES.probes()

    def make(stream):
        return Member.make(problem, data, streams_of(stream, "weight_decay"), encode(()), 16)

    together = dict(train_probes(problem, data, every, PACKED, make))
    assert len({tuple(judged.losses) for judged in together.values()}) == len(every)
    for probe in every:
        ((_, alone),) = train_probes(problem, data, [probe], PACKED, make)
        assert alone == together[probe.number]
        streams = streams_of(probe.stream, "weight_decay")
        one = eager_probes.Probe.make(
            problem.with_options(probe.options), data, streams, encode(())
        )
        assert eager_probes.run_ladder(one, probe, streams).losses == pytest.approx(
            alone.losses, rel=1e-4
        )


@pytest.mark.parametrize("name", sorted(FORMULAS))
@pytest.mark.parametrize("maximize", [False, True])
def test_a_decay_of_each_replica_is_the_same_as_one_decay_for_all(name, maximize):
    decays, generator = [0.0, 1e-3, 0.3], torch.Generator().manual_seed(0)
    rates = np.array([[0.1, 0.2, 0.3], [0.05, 0.01, 0.2]])
    options = {"maximize": maximize}
    gradients = [torch.randn(3, 5, generator=generator) for _ in rates]

    def trained(decay):
        optimizer = find_optimizer(Recipe.of(name, {**options, "weight_decay": decay}))
        parameters = [torch.linspace(-1, 1, 15).view(3, 5)]
        states = optimizer.start(parameters)
        for numbers, gradient in zip(
            numbers_of(optimizer, rates, 3, torch.float32, decays=np.array(decays)),
            gradients,
            strict=True,
        ):
            optimizer.update(parameters, states, [gradient], numbers)
        return parameters[0]

    each = trained(OF_EACH)
    for place, decay in enumerate(decays):
        assert torch.equal(each[place], trained(decay)[place])


# -- whole sweeps ---------------------------------------------------------------------------------

SHORT = replace(blobs.LADDER, tune=BOTH)
KINDS = {"hidden": [3], "nonlinearity": [nn.Tanh, nn.RReLU]}
"""One that is packed, and one that is not."""


def swept(folder, **given):
    return run(folder, sweeper.Grid(trials=3, **KINDS), "decayed", hparams=SHORT, **given)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return folder, swept(folder)


def steps_of(folder):
    with Store.read(folder / "sweep.db") as store:
        return store.recorded("").steps


def test_a_ruinous_decay_is_replaced_and_trials_are_trained_with_what_was_found(reference):
    folder, results = reference
    seed_globals(dataset_seed(0))
    data = Data(*(HeldSet(*part.tensors) for part in blobs.dataset()))
    problem, modes = load_problem(find_ref("decayed")), set()
    for place, (signature, step) in enumerate(steps_of(folder).items()):
        kind = KINDS["nonlinearity"][place]
        params, told = encode({"hidden": 3, "nonlinearity": kind}), Trials.read(step.payload)
        for number in (0, 1):
            one = told.of(number)
            if one.options["weight_decay"] < 0.5:
                modes.add(one.mode.kind)
            streams = Streams(0, signature, TRIAL, number)
            own = problem.with_options(one.options)
            if one.mode.kind == EAGER:
                found = train_trial(own, data, streams, params, one, 0, None)
            else:
                member = Member.make(own, data, streams, params, one.batch_size)
                ((_, found),) = train_pack(own, data, [member], told, 0)
            for metric, value in found.metrics.items():
                assert getattr(results[place], metric)[number] == value
    assert modes == {EAGER, PACKED}, "it was not replaced: the test shows nothing"


def test_what_was_found_is_shown_where_it_was_tuned(reference):
    folder, results = reference
    assert results.tuned_options == ("weight_decay", "momentum")
    first = results.settings[0][1]
    row = next(row for row in results.rows() if row["trial"] == 1)
    assert (row["weight_decay"], row["momentum"]) == (first.weight_decay, first.momentum)
    titles = [str(column.header) for column in results_table(results).columns]
    assert titles[2:6] == ["learning rate", "batch", "weight decay", "momentum"]
    final = json.loads((folder / "points/0/hparams/final.json").read_text())
    assert final["tunings"][1]["weight_decay"] == first.weight_decay
    with np.load(folder / "points/0/hparams/weight_decay.npz") as kept:
        assert kept["loss"].shape == (2 * len(set(kept["weight_decay"])), 2)
    exported = json.loads(json_text({}, results))["points"][0]["settings"]
    assert exported[1]["momentum"] == first.momentum


def test_what_was_not_tuned_is_shown_nowhere(tmp_path):
    grid = sweeper.Grid(trials=2, hidden=[2])
    results = run(tmp_path, grid, hparams=blobs.LADDER, pack="off")
    assert not results.tuned_options
    titles = [str(column.header) for column in results_table(results).columns]
    texts = [*results.rows()[0], *titles, (tmp_path / "points/0/hparams/final.json").read_text()]
    assert not any(name in text for text in texts for name in ("decay", "momentum"))
    exported = json.loads(json_text({}, results))["points"][0]["settings"]
    assert exported[0].keys() == {"lr_min", "lr_max", "batch_size"}


def test_interrupted_within_the_rounds_of_options_it_ends_with_the_same_bits_in_other_packs(
    reference, tmp_path, monkeypatch
):
    append, seen = Store.append, []

    def interrupted(self, records):
        records = list(records)
        append(self, records)
        ended = [one.outcome.stage for one in records if isinstance(one, Finished)]
        new = {"weight_decay", "momentum"} & set(ended) - set(seen)
        seen.extend(new)
        if new:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Store, "append", interrupted)
    for _ in ("weight_decay", "momentum"):
        with pytest.raises(sweeper.SweepInterrupted):
            swept(tmp_path, pack=3)
    assert not any(step.is_tuned for step in steps_of(tmp_path).values())
    swept(tmp_path, pack=2)
    assert_same_bits(reference[1], sweeper.load(tmp_path))
    assert outcomes(tmp_path) == outcomes(reference[0])
