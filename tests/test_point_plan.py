"""The plan of points that fix settings, or have an optimizer and data of their own: scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.errors import SettingsError
from sweeper.records import CHECK, DESCRIBE, TRIAL, Alias, Failure, Outcome, Planned, Point, Step
from sweeper.settings import HyperparameterSettings, SweepSettings
from sweeper.signature import make_point
from sweeper.train.problem.routing import Call, Routes
from sweeper.train.tuning.ladder import first_rates
from sweeper.train.tuning.own import Own, OwnData
from sweeper.train.tuning.plans.ladder_plan import LadderPlan
from sweeper.train.tuning.plans.point_plan import PointPlan, with_fixed
from sweeper.train.tuning.plans.range_plan import CHOOSE_MODE, RangePlan
from sweeper.train.tuning.trials import Trials
from test_ladder import ALL_ROUNDS, Probes, plateau
from test_plan import stages, stored

N_TRAIN = 1000


def model(width=1): ...
def loss(label_smoothing=0.0): ...
def optimizer(opt="sgd"): ...
def dataset(copies=1): ...


FUNCTIONS = {"model": model, "loss": loss, "optimizer": optimizer, "dataset": dataset}
ROUTES = Routes({name: Call.of(function) for name, function in FUNCTIONS.items()})


def method(settings: SweepSettings, own: Own) -> Any:
    n_train = N_TRAIN if own.data is None else own.data.n_train
    if settings.hparams.method == "ranges":
        return RangePlan(settings, n_train, seed=0)
    return LadderPlan(settings, n_train, own.optimizer or "sgd", None, own.constant)


@dataclass(frozen=True)
class Answers:
    """As `Probes`, and what `describe` finds."""

    texts: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    probes: Probes = field(default_factory=Probes)

    def __call__(self, point: Point, step: Step) -> Sequence[Outcome]:
        if step.stage != DESCRIBE:
            return self.probes(point, step)
        found = Outcome(point.signature, DESCRIBE, 0, 0.0, 1.0, self.metrics, info=self.texts)
        return [
            found
            if self.failure is None
            else Outcome(point.signature, DESCRIBE, 0, 0.0, 1.0, failure=self.failure)
        ]


def plan_of(**hparams: Any) -> PointPlan:
    return PointPlan(ROUTES, SweepSettings(HyperparameterSettings(**hparams)), method)


def tune(plan: Any, params: Any, answers: Any = None, *, check: bool = False) -> list[Planned]:
    """Every step of a point's tuning, each stored and restored on the way."""
    point, answers = make_point(params, "toy", plan.settings, 0), answers or Answers()
    planned = [plan.first(point, check=check)]
    while planned[-1].step.found is None and planned[-1].step.error is None:
        assert len(planned) < 12, "tuning does not end"
        step = stored(planned[-1].step)
        assert plan.steps_after(step) >= 0
        planned.append(plan.next(point, step, answers(point, step)))
    return planned


def trials_of(planned: Sequence[Planned]) -> Trials:
    return Trials.read(planned[-1].step.payload)


# -- nothing of its own ---------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("params", [{}, {"width": 3}, (3,)])
def test_a_point_of_the_models_parameters_is_planned_as_it_always_was(params, check):
    plan = plan_of()
    assert tune(plan, params, check=check) == tune(
        method(plan.settings, Own()), params, check=check
    )


# -- of its own -----------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"label_smoothing": 0.1}, {"opt": "adam"}, {"copies": 2}])
def test_a_point_with_something_of_its_own_is_described_first(params):
    planned = tune(plan_of(), params, Answers({"optimizer": "adam"}))
    assert stages(planned) == [DESCRIBE, CHOOSE_MODE, *ALL_ROUNDS, TRIAL]
    assert [one.after for one in planned] == ["", DESCRIBE, CHOOSE_MODE, *ALL_ROUNDS]
    assert planned[1].choice == {"optimizer": "adam"}
    for one in planned[1:]:
        assert Own.read(one.step.payload) == Own("adam")
    rates = [rate for rate, _ in planned[2].step.payload["candidates"][0]]
    assert rates == first_rates("adam") != first_rates("sgd")


def test_the_first_point_is_checked_before_it_is_described():
    planned = tune(plan_of(), {"opt": "adam"}, Answers({"optimizer": "adam"}), check=True)
    assert stages(planned)[:3] == [CHECK, DESCRIBE, CHOOSE_MODE]
    assert [one.after for one in planned][:3] == ["", CHECK, DESCRIBE]


def test_the_size_of_its_own_data_is_what_it_is_planned_for():
    data = OwnData(n_train=2 * N_TRAIN, sha256="", held=True, remade=False)
    given = Answers({"optimizer": "sgd", "data": data.text()})
    doubled, usual = (
        trials_of(tune(plan_of(), {"copies": n}, given if n > 1 else Answers())) for n in (2, 1)
    )
    assert doubled.first.steps == 2 * usual.first.steps * usual.first.batch_size // (
        doubled.first.batch_size
    )
    assert Own.read(tune(plan_of(), {"copies": 2}, given)[-1].step.payload).data == data


def test_what_cannot_be_described_fails_its_point():
    why = Failure("exception", "ProblemError: no such optimizer")
    planned = tune(plan_of(), {"opt": "adm"}, Answers(failure=why))
    assert stages(planned) == [DESCRIBE, DESCRIBE]
    assert planned[-1].step.error == "describe: ProblemError: no such optimizer"


# -- fixed settings -------------------------------------------------------------------------------


def test_with_rate_and_batch_size_fixed_nothing_is_tuned():
    answers = Answers({"optimizer": "sgd"}, {"constant": 2.5})
    planned = tune(plan_of(tunings=2), {"lr": 0.1, "batch_size": 16}, answers)
    assert stages(planned) == [DESCRIBE, CHOOSE_MODE, TRIAL]
    assert planned[0].step.payload["untuned"]
    told = trials_of(planned)
    assert told.constant == 2.5
    assert [(one.lr_start, one.lr_end, one.batch_size) for one in told.tunings] == [
        (0.1 / 8, 0.1, 16)
    ] * 2
    assert {one.expected for one in told.tunings} == {None}


@pytest.mark.parametrize(
    "hparams", [{"lr": 0.1}, {"batch_size": 16}, {"lr": 0.1, "batch_size": 16}]
)
@pytest.mark.parametrize("params", [{"lr": 0.1}, {"batch_size": 16}])
def test_it_is_the_same_whoever_fixes_them(hparams, params):
    fixed = {**hparams, **params}
    answers = Answers({"optimizer": "sgd"})
    own = tune(plan_of(**hparams), params, answers)
    assert [one.step for one in own] == [one.step for one in tune(plan_of(**fixed), {}, answers)]


def test_a_schedule_and_a_length_of_its_own():
    planned = tune(plan_of(cycle_epochs=5), {"schedule": "cosine", "epochs": 8})
    told = trials_of(planned).first
    assert stages(planned) == [CHOOSE_MODE, *ALL_ROUNDS, TRIAL]
    assert (told.schedule, told.cycle_epochs, told.cycles) == ("cosine", 2, 4)
    assert told.lr_start == pytest.approx(told.lr_end / 100)


def test_range_tests_know_the_points_length():
    plan = plan_of(method="ranges")
    point = make_point({"epochs": 8}, "toy", plan.settings, 0)
    step = plan.first(point, check=False).step
    assert step.stage == "lr_range"
    with pytest.raises(SettingsError, match="method='ladder'"):
        with_fixed(plan.settings, {"lr": 0.1})


def test_an_alias_fixes_its_value():
    given = {"lr": Alias(0.1, "usual"), "batch_size": 16}
    told = trials_of(tune(plan_of(), given, Answers({"optimizer": "sgd"})))
    assert told.first.lr_end == 0.1


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.none() | st.floats(1e-6, 10),
        "batch_size": st.none() | st.integers(1, 500),
        "epochs": st.none() | st.integers(1, 9).map(lambda n: 4 * n),
        "schedule": st.sampled_from(["triangular", "one_cycle", "cosine", "constant"]),
    },
)


@given(VALUES)
def test_every_point_gets_what_it_fixes(fixed):
    told = trials_of(tune(plan_of(), fixed, Answers({"optimizer": "sgd"}, probes=Probes(plateau))))
    for one in told.tunings:
        assert fixed.get("lr") in (None, one.lr_end)
        assert fixed.get("batch_size") in (None, one.batch_size)
        assert fixed.get("epochs") in (None, one.cycle_epochs * one.cycles)
        assert (one.schedule or "triangular") == fixed.get("schedule", "triangular")


# -- what is stored -------------------------------------------------------------------------------

OWN = st.builds(
    Own,
    optimizer=st.none() | st.text(max_size=5),
    constant=st.none() | st.floats(-10, 10),
    data=st.none()
    | st.builds(
        OwnData,
        n_train=st.integers(1, 100),
        sha256=st.text(max_size=5),
        held=st.booleans(),
        remade=st.booleans(),
    ),
)


@given(OWN)
def test_what_is_a_points_own_is_read_as_it_was_written(own):
    step = own.carried_by(Step("ladder", 1, {"round": 0}))
    assert Own.read(stored(step).payload) == own
    assert (step.payload == {"round": 0}) == (own == Own())
    failed = Step("describe", error="why")
    assert own.carried_by(failed) == failed
