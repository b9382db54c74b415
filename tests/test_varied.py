"""Sweeps of points that differ in more than their model."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sweeper
import varied
from blobs import LADDER
from sweeper.code.importing import ModuleRef
from sweeper.errors import ParamError, ProblemError
from sweeper.settings import SweepSettings
from sweeper.signature import encode, make_point
from sweeper.train.data.own import open_own, read_own
from sweeper.train.data.samples import Data, HeldSet, LoadedSet
from sweeper.train.data.splits import Splits
from sweeper.train.eager.trial import train_trial
from sweeper.train.mode.choose import choose_mode
from sweeper.train.packs.trial import Member, train_pack
from sweeper.train.problem.problem import Problem
from sweeper.train.problem.spec import DataRef
from sweeper.train.replica.streams import Streams, dataset_seed, seed_globals
from sweeper.train.tuning.ladder import first_rates
from sweeper.train.tuning.trials import Trial, Trials
from sweeping import assert_same_bits, outcomes, replicas_started, run
from test_probes import bits, streams_of

POINTS = [
    {"hidden": 3},
    {"hidden": 3, "opt": "adam", "weight_decay": 0.1},
    {"label_smoothing": 0.2, "dropout": 0.3},
    {"opt": "adamw", "lr": 0.01, "batch_size": 8, "epochs": 4},
    {"lr": 0.5, "schedule": "cosine"},
    {"copies": 2},
    {"jitter": 0.1, "lr": 0.2, "batch_size": 8},
]


def swept(folder, points=POINTS, trials=3, **options):
    selector = sweeper.FixedSweep.with_fixed_trials(points, trials)
    return run(folder, selector, varied, hparams=LADDER, **options)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The sweep of all points: its folder and its results."""
    folder = tmp_path_factory.mktemp("varied")
    return folder, swept(folder)


def final_of(folder, place):
    return json.loads((folder / f"points/{place}/hparams/final.json").read_text())


def stages_of(folder):
    """By point, the stages that were run, in order."""
    found = defaultdict(dict)
    for point, stage, _ in replicas_started(folder):
        found[point][stage] = None
    return [list(stages) for _, stages in sorted(found.items())]


def test_only_points_with_something_of_their_own_are_described(usual):
    folder, _ = usual
    tuned = ["way", "ladder", "ladder.1", "ladder.2", "trial"]
    stages = stages_of(folder)
    assert stages[0] == ["check", *tuned]
    assert [stages[place][:2] for place in (1, 2)] == [["describe", "way"]] * 2
    assert stages[3] == ["describe", "way", "trial"]  # nothing is tuned
    assert stages[4] == ["way", "ladder", "trial"]  # the rate is given, the batch size is not
    assert stages[5] == ["describe", *tuned]
    assert stages[6] == ["describe", "trial"]  # nor packed


def test_what_a_point_fixes_is_what_its_trials_have(usual):
    folder, results = usual
    fixed = results[3]
    assert (fixed.lr_min, fixed.lr_max, fixed.batch_size) == (0.01 / 8, 0.01, 8)
    assert final_of(folder, 3)["epochs"] == 4
    assert final_of(folder, 0)["epochs"] == 2
    assert (results[4].lr_min, results[4].lr_max) == (0.5 / 100, 0.5)


def test_rates_are_those_that_the_points_optimizer_needs(usual):
    folder, _ = usual
    tried = []
    for place in (0, 1):
        steps = json.loads((folder / f"points/{place}/hparams/misc.json").read_text())["steps"]
        first = next(one for one in steps if one["then"]["stage"] == "ladder")
        tried.append([rate for rate, _ in first["then"]["payload"]["candidates"][0]])
    assert tried == [first_rates("sgd"), first_rates("adam")]


def test_all_of_it_is_the_same_in_any_pack_and_on_resume(usual, tmp_path):
    folder, results = usual
    assert "6 of 7 points in packs; 1 one by one: the data is random on access" in str(
        results.summary()
    )
    swept(tmp_path, trials=1, pack=1)
    again = swept(tmp_path, pack=2)
    assert_same_bits(results, again)
    assert outcomes(folder) == outcomes(tmp_path)


def test_a_value_that_does_not_work_fails_its_point_alone(tmp_path):
    points = [{}, {"opt": "adm"}, {"reduction": "sum"}, {"weight_decay": 0.1}]
    results = swept(tmp_path, points, trials=1)
    assert [len(point.loss_val) for point in results] == [1, 0, 0, 1]
    adm, summed = results.failures
    assert {adm.stage, summed.stage} == {"describe"}
    assert "optimizer(opt=adm)" in adm.message
    assert "a sum over samples" in summed.message


@pytest.mark.parametrize(
    ("point", "part"),
    [
        ({"epochs": 3}, "epochs=3: it must be a multiple of cycles, which is 2"),
        ({"lr": -1}, "lr=-1: it must be a finite number above 0"),
        ({"batch_size": 0.5}, "batch_size=0.5: it must be a whole number"),
        ({"schedule": "steps"}, "schedule='steps': it must be 'triangular', 'one_cycle'"),
        ({"momentum": 0.9}, "'momentum' is unknown"),
    ],
)
def test_what_a_point_may_not_have_is_said_when_it_is_asked_for(tmp_path, point, part):
    with pytest.raises(ParamError) as fault:
        swept(tmp_path, [point])
    assert str(fault.value).startswith(f"params={point!r}")
    assert part in str(fault.value)


def test_settings_of_the_other_method_cannot_be_fixed(tmp_path):
    selector = sweeper.FixedSweep.with_fixed_trials([{"lr": 0.1}], 1)
    with pytest.raises(ParamError, match="it belongs to method='ladder'"):
        run(tmp_path, selector, varied)


def test_a_point_that_was_not_tuned_is_not_called_untunable(tmp_path):
    stuck = {"lr": 1e-9, "batch_size": 8}
    results = swept(tmp_path, [{}, stuck, {"lr": 1e-9}])
    assert [bool(flag) for flag in results.flags] == [False, False, True]


def test_none_means_tuned(tmp_path):
    points = [{"hidden": 2, "lr": None, "epochs": None}]
    settings = replace(LADDER, lr=0.1, batch_size=8)
    selector = sweeper.FixedSweep.with_fixed_trials(points, 1)
    run(tmp_path, selector, varied, hparams=settings)
    assert "ladder.2" in stages_of(tmp_path)[0]
    assert final_of(tmp_path, 0)["epochs"] == 2


# -- data of its own ------------------------------------------------------------------------------


def described(folder, place):
    """What `describe` found of a point."""
    steps = json.loads((folder / f"points/{place}/hparams/misc.json").read_text())["steps"]
    return next(one["choice"] for one in steps if one["after"] == "describe")


def test_data_of_a_points_own_is_described_and_shapes_its_plan(usual):
    folder, _ = usual
    doubled, random = (described(folder, place)["data"] for place in (5, 6))
    assert (doubled["n_train"], doubled["held"], doubled["remade"]) == (128, True, False)
    assert (random["n_train"], random["held"], random["remade"]) == (64, False, True)
    for place, samples in ((0, 64), (5, 128)):
        told = step_of_trials(folder, place)
        assert told["steps"] == 2 * (samples // told["batch_size"])
    assert "data" not in described(folder, 1)


def step_of_trials(folder, place):
    steps = json.loads((folder / f"points/{place}/hparams/misc.json").read_text())["steps"]
    return steps[-1]["then"]["payload"]


@pytest.mark.parametrize("given", [{"copies": 2}, {"jitter": 0.1}, {"shift": 0.5, "joined": True}])
def test_trials_train_on_the_points_own_data(tmp_path, given, monkeypatch):
    """As one trained by hand on what dataset() returns for the same seed."""
    if "joined" in given:  # then all points have one set
        monkeypatch.setattr(varied, "dataset", functools.partial(varied.dataset, joined=True))
    params = {**given, "lr": 0.2, "batch_size": 8}
    results = swept(tmp_path, [params], trials=2, pack="off")
    (point,) = results
    assert not results.failures, results.failures
    settings = SweepSettings(LADDER, 2, 1, "off")
    signature = make_point(params, "varied", settings, 0, "varied").signature
    problem = Problem(ModuleRef("varied", "varied"), varied)
    streams = Streams(0, signature, "trial", 1)
    seed_globals(dataset_seed(0))
    sets = varied.dataset(**given)
    if "joined" in given:
        labels = np.array([int(y) for _, y in sets])
        splits = Splits(0.2, len(sets), labels, 0)
        whole = LoadedSet(sets)
        own = Data(whole, whole, splits=splits).of_trial(1)
    else:
        own = Data(*map(LoadedSet, sets))
    told = Trials.read(step_of_trials(tmp_path, 0)).of(1)
    trained_here = train_trial(problem, own, streams, encode(params), told, 40, None)
    assert point.loss_val[1] == trained_here.metrics["loss_val"]
    assert point.loss_train[1] == trained_here.metrics["loss_train"]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"left_out": 4}, "2 sets with 28 samples to validate on; expected as many sets"),
        ({"joined": True}, "1 set with 19 samples to validate on; expected"),
        ({"drifting": True}, "what dataset(drifting=True) returns is random in a way"),
    ],
)
def test_data_that_cannot_be_compared_or_made_again_is_refused(tmp_path, given, part):
    results = swept(tmp_path, [{}, given], trials=1)
    (failure,) = results.failures
    assert (failure.params, failure.stage) == (given, "describe")
    assert part in failure.message


def test_data_that_is_not_what_it_was_is_refused():
    shared = DataRef(seed=0, n_train=64, n_val=32, sha256="")
    params = encode({"copies": 2})
    known = read_own(PROBLEM, params, shared)
    assert len(open_own(PROBLEM, params, shared, known).train) == 128
    other = replace(known, sha256="0" * 64)
    with pytest.raises(ProblemError, match=r"what dataset\(copies=2\) returns is other data than"):
        open_own(PROBLEM, params, shared, other)


def test_held_or_loaded_the_data_is_the_same():
    shared = DataRef(seed=0, n_train=64, n_val=32, sha256="")
    params = encode({"copies": 2})
    known = read_own(PROBLEM, params, shared)
    places = [np.arange(5), np.arange(60, 70)]
    batches = [
        [*open_own(PROBLEM, params, shared, each).train.batches(places)]
        for each in (known, replace(known, held=False), None)
    ]
    for one, *others in zip(*batches, strict=True):
        for other in others:
            assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_a_data_set_without_defaults_is_refused():
    with pytest.raises(ProblemError, match=r"dataset is .*; expected defaults for all of its"):
        Problem(
            ModuleRef("varied", "varied"),
            SimpleNamespace(**{**vars(varied), "dataset": lambda copies: None}),
        )


# -- one trial ------------------------------------------------------------------------------------

PROBLEM = Problem(ModuleRef("varied", "varied"), varied)
PARAMS = encode({"opt": "adamw", "weight_decay": 0.5, "label_smoothing": 0.3})
TRIAL = Trial(lr_start=0.01, lr_end=0.1, batch_size=8, cycle_epochs=1, cycles=2, steps=16)


def data():
    drawn = torch.Generator().manual_seed(0)
    y = torch.arange(96) % 2
    x = torch.randn(96, 2, generator=drawn) + 2 * y[:, None]
    return Data(HeldSet(x[:64], y[:64]), HeldSet(x[64:], y[64:]))


def trained(params, numbers):
    """The trials as one pack."""
    held = data()
    members = [Member.make(PROBLEM, held, streams_of(n, "trial"), params, 8) for n in numbers]
    found = train_pack(PROBLEM, held, members, Trials(TRIAL), 4)
    return {member.streams.number: one for member, one in found}


def test_packs_train_by_the_points_own_loss_and_optimizer():
    found = choose_mode(PROBLEM, data(), streams_of(0, "way"), PARAMS, TRIAL)
    assert (found.kind, found.because) == ("flat", "its packs agree with eager training")
    together = trained(PARAMS, [0, 1, 2])
    alone = trained(PARAMS, [1])[1]
    assert bits(alone.model) == bits(together[1].model)
    for number in (0, 1):
        eager = train_trial(PROBLEM, data(), streams_of(number, "trial"), PARAMS, TRIAL, 4, None)
        for name, value in eager.metrics.items():
            assert together[number].metrics[name] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("left_out", ["opt", "weight_decay", "label_smoothing"])
def test_each_parameter_changes_the_training(left_out):
    params = {"opt": "adamw", "weight_decay": 0.5, "label_smoothing": 0.3}
    fewer = encode({name: value for name, value in params.items() if name != left_out})
    assert bits(trained(PARAMS, [0])[0].model) != bits(trained(fewer, [0])[0].model)
