"""What Optuna is to search, as a function that draws a point by an Optuna trial's suggestions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sweeper.errors import UsageError
from sweeper.records import Params
from sweeper.search.checks import check_params
from sweeper.search.domain import (
    Choice,
    Domain,
    IntUniform,
    LogIntUniform,
    LogUniform,
    Uniform,
)
from sweeper.search.domain.axes import Axis, Values
from sweeper.search.domain.nodes import Named, Node, One, Pairs, Product, Sum, When, Where
from sweeper.search.domain.writing import write
from sweeper.signature import encode
from sweeper.summary import show_params, show_value

Suggest: TypeAlias = Callable[[optuna.Trial], Params]
"""Draws a point; raises `optuna.TrialPruned` for a draw that is no point of the space."""

_Part: TypeAlias = Callable[[optuna.Trial], Named]


def read_space(given: Any) -> Suggest:
    """The search space that was given, in any of its forms.

    Args:
        given: A `Domain`, or a mapping of names to what a `Domain` takes; a mapping of names to
            Optuna's distributions; or a function of an Optuna trial that returns a point.

    Raises:
        UsageError: it is none of these, or Optuna cannot suggest a part of the domain.
        ParamError: a value that cannot be stored.
    """
    if isinstance(given, Domain):
        return _suggesting(given.node)
    if isinstance(given, Mapping):
        if any(isinstance(one, BaseDistribution) for one in given.values()):
            return _together([_of_distribution(name, one) for name, one in given.items()])
        return _suggesting(Domain(given).node)
    if callable(given):
        return lambda trial: check_params(f"{_name_of(given)}(trial)", given(trial))
    raise UsageError(
        f"domain={given!r} is a {type(given).__name__}: give a Domain, a mapping of names to "
        "values or to Optuna's distributions, or a function of an Optuna trial"
    )


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", function))


def _together(parts: Sequence[_Part]) -> _Part:
    def suggest(trial: optuna.Trial) -> Named:
        return {name: value for part in parts for name, value in part(trial).items()}

    return suggest


# -- parameters -----------------------------------------------------------------------------------


def _of_distribution(name: str, distribution: Any) -> _Part:
    """A parameter with a distribution of Optuna's."""
    match distribution:
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return lambda trial: {name: trial.suggest_float(name, low, high, step=step, log=log)}
        case IntDistribution(low=low, high=high, step=step, log=log):
            return lambda trial: {name: trial.suggest_int(name, low, high, step=step, log=log)}
        case CategoricalDistribution(choices=choices):
            return lambda trial: {name: trial.suggest_categorical(name, choices)}
    raise UsageError(
        f"{name}={distribution!r}: beside Optuna's distributions it must be one, too, a "
        "FloatDistribution, IntDistribution or CategoricalDistribution; for sweeper's own give "
        "them for all parameters"
    )


def _of_axis(name: str, axis: Axis) -> _Part:
    match axis:
        case Uniform(low=low, high=high):
            return _of_distribution(name, FloatDistribution(low, high))
        case LogUniform(low=low, high=high):
            return _of_distribution(name, FloatDistribution(low, high, log=True))
        case IntUniform(low=low, high=high):
            return _of_distribution(name, IntDistribution(int(low), int(high)))
        case LogIntUniform(low=low, high=high):
            return _of_distribution(name, IntDistribution(int(low), int(high), log=True))
        case Values(values=values) | Choice(values=values, weights=None):
            return _chosen(name, [{name: value} for value in values], list(values))
    raise UsageError(
        f"{name}={axis!r}: an Optuna sampler draws from lists of values, Choice without weights, "
        "Uniform, LogUniform, IntUniform and LogIntUniform: use one of them"
    )


def _chosen(name: str, options: Sequence[Named], shown: Sequence[Any]) -> _Part:
    """One of some options, as a categorical parameter; a single one is no parameter of Optuna's."""
    if len(options) == 1:
        return lambda _trial: dict(options[0])
    choices = _choices(shown)
    # Choices are told apart by what is shown, so that Optuna gives back the one that it chose.
    by_choice = dict(zip(choices, options, strict=True))
    return lambda trial: dict(by_choice[trial.suggest_categorical(name, choices)])


def _choices(shown: Sequence[Any]) -> list[Any]:
    """Optuna stores texts, numbers, bools and None, and takes 1, 1.0 and True for the same."""
    plain = all(one is None or type(one) in (str, int, float, bool) for one in shown)
    if plain and len(set(shown)) == len(shown):
        return list(shown)
    texts = [show_value(one) for one in shown]
    if len(set(texts)) == len(texts):
        return texts
    return [f"{place}: {text}" for place, text in enumerate(texts)]


# -- domains --------------------------------------------------------------------------------------


def _suggesting(node: Node) -> _Part:
    """The points of a domain's node.

    Raises:
        UsageError: Optuna cannot suggest a part of it.
    """
    match node:
        case One(name=name, axis=axis):
            return _of_axis(name, axis)
        case Product(parts=parts):
            return _together([_suggesting(part) for part in parts])
        case When():
            return _suggesting_when(node)
        case Where():
            return _suggesting_where(node)
        case Pairs() | Sum() if node.size is not None:
            every = node.points(np.random.default_rng(0))
            points = list({encode(point): point for point in every}.values())
            return _chosen(", ".join(node.names), points, [show_params(point) for point in points])
    raise UsageError(
        f"{write(node)}: an Optuna sampler decides itself how often it tries each part: without "
        "weights, parts that are lists can be added, a + b; else give a function of an Optuna "
        "trial that chooses the part with trial.suggest_categorical"
    )


def _suggesting_when(node: When) -> _Part:
    base, extra = _suggesting(node.base), _suggesting(node.extra)

    def suggest(trial: optuna.Trial) -> Named:
        point = base(trial)
        met = all(name in point and point[name] in values for name, values in node.conditions)
        return point | extra(trial) if met else point

    return suggest


def _suggesting_where(node: Where) -> _Part:
    base = _suggesting(node.base)

    def suggest(trial: optuna.Trial) -> Named:
        point = base(trial)
        if not node.holds(point):
            raise optuna.TrialPruned("the domain's where() refuses it")
        return point

    return suggest
