"""Which of a problem's functions takes which parameter of a point, and what a plan makes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sweeper.code.importing import ModuleRef
from sweeper.errors import ParamError, ProblemError
from sweeper.signature import encode
from sweeper.train.problem.optimizer.optimizers import make_optimizer
from sweeper.train.problem.problem import NO_PARAMS, Problem
from sweeper.train.problem.routing import FUNCTIONS, SETTINGS, Routes


def width_and_act(width=4, act="Tanh"):
    return nn.Linear(2, width)


def smoothed(label_smoothing=0.0):
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing)


def chosen(opt="sgd", weight_decay=0.0):
    return {"name": opt, "weight_decay": weight_decay}


def sets(augment=False):
    raise AssertionError("nothing reads the data here")


PROBLEM = {
    "model": width_and_act,
    "loss": smoothed,
    "optimizer": chosen,
    "dataset": sets,
    "accuracy_style": "classification",
}


def routes_of(numerics: int = 3, **changes: Any) -> Routes:
    return Routes.of(SimpleNamespace(**{**PROBLEM, **changes}), numerics)


def problem_of(**changes: Any) -> Problem:
    return Problem(ModuleRef("toy", "toys.toy"), SimpleNamespace(**{**PROBLEM, **changes}))  # type: ignore[arg-type]


# -- routes ---------------------------------------------------------------------------------------


def test_each_parameter_goes_to_the_function_that_names_it():
    params = {"width": 8, "opt": "adam", "label_smoothing": 0.1, "augment": True, "epochs": 4}
    routes = routes_of()
    assert {name: routes.arguments(name, params) for name in FUNCTIONS} == {
        "model": {"width": 8},
        "loss": {"label_smoothing": 0.1},
        "optimizer": {"opt": "adam"},
        "dataset": {"augment": True},
    }
    assert routes.settings(params) == {"epochs": 4}
    routes.check(params, "toy")


def test_a_name_that_two_take_goes_to_both():
    routes = routes_of(dataset=lambda width=2: None)
    params = {"width": 8}
    assert routes.takers("width") == ["model", "dataset"]
    assert routes.arguments("model", params) == routes.arguments("dataset", params) == params


def test_folders_of_earlier_numerics_give_what_model_takes_to_model_alone():
    params = {"width": 8, "label_smoothing": 0.1}
    for model in (width_and_act, lambda **others: None):
        routes = routes_of(2, model=model, dataset=lambda width=2: None)
        assert routes.arguments("model", params)["width"] == 8
        assert routes.arguments("dataset", params) == {}
    assert routes_of(2).takers("label_smoothing") == ["loss"]
    assert routes_of(2, model=lambda **others: None).takers("label_smoothing") == ["model"]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_function_that_takes_a_reserved_name_gets_it_and_it_is_no_setting(name):
    params = {name: 3}
    assert routes_of().settings(params) == params
    for function in ("model", "loss"):
        namespace: dict[str, Any] = {}
        exec(f"def own({name}=1): pass", namespace)
        routes = routes_of(**{function: namespace["own"]})
        assert routes.settings(params) == {}
        assert routes.arguments(function, params) == params


def test_what_model_takes_by_two_stars_is_what_nobody_names():
    routes = routes_of(model=lambda width, **others: None)
    params = {"width": 1, "depth": 2, "opt": "adam", "lr": 0.1}
    assert routes.arguments("model", params) == {"width": 1, "depth": 2, "lr": 0.1}
    assert routes.arguments("optimizer", params) == {"opt": "adam"}
    assert routes.settings(params) == {}
    assert routes.known is None
    routes.check(params, "toy")


def test_two_stars_of_other_functions_take_nothing():
    def wrapped(*args, **kwargs):
        return smoothed(*args, **kwargs)

    routes = routes_of(loss=wrapped, dataset=wrapped)
    assert routes.takers("width") == ["model"]
    with pytest.raises(ParamError, match="'label_smoothing' is unknown"):
        routes.check({"label_smoothing": 0.1}, "toy")


def test_a_tuple_is_the_models_by_position():
    routes = routes_of(loss=lambda width=1: None)
    assert routes.arguments("model", (8, "ReLU")) == (8, "ReLU")
    assert [routes.arguments(name, (8,)) for name in FUNCTIONS[1:]] == [{}, {}, {}]
    assert routes.settings((8,)) == {}
    routes.check((8, "ReLU"), "toy")
    with pytest.raises(ParamError, match="too many positional"):
        routes.check((8, "ReLU", 3), "toy")


def test_classes_are_functions_too():
    class Net(nn.Module):
        def __init__(self, width=3):
            super().__init__()

    routes = routes_of(model=Net, loss=nn.CrossEntropyLoss)
    assert routes.takers("width") == ["model"]
    assert routes.takers("label_smoothing") == ["loss"]
    assert routes.takers("self") == []


@pytest.mark.parametrize(
    ("params", "parts"),
    [
        ({"opti": "adam"}, ["'opti' is unknown (did you mean opt?)", "it takes width, act"]),
        ({"lrr": 1}, ["(did you mean lr?)", "epochs, batch_size, lr, schedule are settings"]),
        ({"nonsense": 1}, ["problem toy: 'nonsense' is unknown;", "loss takes label_smoothing"]),
        ({"nonsense": 1}, ["optimizer takes opt, weight_decay", "dataset takes augment"]),
    ],
)
def test_what_no_function_takes_is_an_error_with_the_choices(params, parts):
    with pytest.raises(ParamError) as fault:
        routes_of().check(params, "toy")
    for part in parts:
        assert part in str(fault.value)


def test_what_a_function_needs_a_point_must_give():
    routes = routes_of(loss=lambda scale: None, optimizer="adam")
    routes.check({"scale": 1.0}, "toy")
    for params in ({}, {"width": 3}, (), (3,)):
        with pytest.raises(ParamError, match=r"do not fit loss\(scale\) of problem toy: missing"):
            routes.check(params, "toy")
    with pytest.raises(ParamError, match=r"model\(width\).*missing a required argument: 'width'"):
        routes_of(model=lambda width: None).check({"opt": "adam"}, "toy")


NAMES = st.sampled_from("abcdefgh")
SIGNATURES = st.fixed_dictionaries({name: st.sets(NAMES, max_size=4) for name in FUNCTIONS})


def taking(names: set[str]) -> Any:
    namespace: dict[str, Any] = {}
    exec(f"def f({', '.join(f'{name}=0' for name in sorted(names))}): pass", namespace)
    return namespace["f"]


@given(SIGNATURES, st.dictionaries(NAMES, st.integers(), max_size=6))
def test_every_parameter_reaches_exactly_those_that_name_it(signatures, params):
    routes = routes_of(**{name: taking(names) for name, names in signatures.items()})
    for function, names in signatures.items():
        expected = {name: value for name, value in params.items() if name in names}
        assert routes.arguments(function, params) == expected
    known = set().union(*signatures.values())
    if params.keys() <= known:
        routes.check(params, "toy")
    else:
        with pytest.raises(ParamError, match="is unknown"):
            routes.check(params, "toy")


# -- what the functions make of it ----------------------------------------------------------------


def test_loss_and_optimizer_have_what_the_point_says_and_else_their_defaults():
    problem = problem_of()
    given = encode({"width": 5, "label_smoothing": 0.25, "opt": "adamw", "weight_decay": 0.5})
    model = problem.make_model(given)[0]
    assert model.out_features == 5
    assert problem.make_loss(given).label_smoothing == 0.25
    optimizer = make_optimizer(problem.optimizer(given), model, 0.1)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    recipe = problem.recipe(model, given)
    assert (recipe.name, recipe.groups[0].options) == ("adamw", (("weight_decay", 0.5),))
    assert problem.make_loss(NO_PARAMS).label_smoothing == 0.0
    assert problem.recipe(model, encode({"weight_decay": 0.5})).name == "sgd"


def test_what_a_point_makes_wrong_is_said_with_the_call():
    problem = problem_of(optimizer=lambda opt: {"name": opt}, loss=lambda kind: kind())
    with pytest.raises(ProblemError, match=r"optimizer\(opt=adm\) is .*'adm' is not known"):
        problem.check_optimizer(encode({"opt": "adm"}))
    with pytest.raises(ProblemError, match=r"called as loss\(kind=3\), it raises TypeError"):
        problem.make_loss(encode({"kind": 3}))
    raising = problem_of(optimizer=lambda scale=1: {"name": "sgd", "momentum": 1 / scale})
    with pytest.raises(ProblemError, match=r"optimizer\(scale=0\) is an error: ZeroDivisionError"):
        raising.optimizer(encode({"scale": 0}))


def test_what_all_points_share_is_checked_on_import():
    with pytest.raises(ProblemError, match=r"optimizer\(\) is .*'adm' is not known"):
        problem_of(optimizer=lambda opt="adm": opt)
    with pytest.raises(ProblemError, match=r"loss is .*it raises ZeroDivisionError"):
        problem_of(loss=lambda scale=0: 1 / scale)
