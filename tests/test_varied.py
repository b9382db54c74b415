"""Sweeps of points that differ in more than their model."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

import pytest
import torch

import sweeper
import varied
from blobs import LADDER
from sweeper.errors import ParamError
from sweeper.signature import encode
from sweeper.train.data.samples import Data, HeldSet
from sweeper.train.eager.trial import train_trial
from sweeper.train.mode.choose import choose_mode
from sweeper.train.packs.trial import Member, train_pack
from sweeper.train.problem.importing import ProblemRef
from sweeper.train.problem.problem import Problem
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
    assert "5 of 5 points in packs" in str(results.summary())
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


def test_none_means_tuned(tmp_path):
    points = [{"hidden": 2, "lr": None, "epochs": None}]
    settings = replace(LADDER, lr=0.1, batch_size=8)
    selector = sweeper.FixedSweep.with_fixed_trials(points, 1)
    run(tmp_path, selector, varied, hparams=settings)
    assert "ladder.2" in stages_of(tmp_path)[0]
    assert final_of(tmp_path, 0)["epochs"] == 2


# -- one trial ------------------------------------------------------------------------------------

PROBLEM = Problem(ProblemRef("varied", "varied"), varied)
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
