"""Turns rows into records; refuses what no sweep writes.

`sweeper.store.database.damage.understood` turns the errors raised here into errors for users.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from sweeper.records import (
    DIRECTIONS,
    METRICS,
    Asked,
    Failure,
    Metric,
    Params,
    Parent,
    Point,
    Step,
    Told,
    TunedSettings,
)
from sweeper.settings import OPTIONS
from sweeper.signature import decode

APART = ".code"
"""Separates the signature from the revision in the name of a point trained by earlier code."""

MOST_TIME = 1e11
"""Larger times cannot be displayed."""

AT_ONCE = 1_000
"""Rows per chunk: few enough to stay in the processor's caches."""


def in_columns(
    found: Iterable[Mapping[str, float]], names: Sequence[str]
) -> list[tuple[float, ...]]:
    """The metrics of trials in the order of these names.

    NaN stands for a metric that the problem declared after the trial, and for one that a trial of a
    program did not measure.
    """
    if len(names) < len(METRICS):  # of a program; for one name, `itemgetter` gives no tuple
        return [tuple([one.get(name, math.nan) for name in names]) for one in found]
    of_problem = tuple(names[: len(METRICS)]) == METRICS
    lacking = dict.fromkeys(names[len(METRICS) if of_problem else 0 :], math.nan)
    if lacking:
        found = [{**lacking, **one} for one in found]
    return list(map(operator.itemgetter(*names), found))


def read_metrics(found: Any) -> tuple[Metric, ...]:
    """The declared metrics of the folder, besides the classic four."""
    expect(isinstance(found, list), "metrics", found)
    metrics = []
    for one in found:
        bounds = one["bounds"]
        metrics.append(
            Metric(
                one["name"],
                one["direction"],
                one["shown"],
                None if bounds is None else tuple(bounds),
            )
        )
        expect(isinstance(one["name"], str) and one["name"].isidentifier(), "a metric", one)
        expect(one["direction"] in DIRECTIONS, "a direction", one)
    return tuple(metrics)


def read_names(found: Any) -> list[str]:
    """Names of parameters."""
    expect(isinstance(found, list) and are_texts(found), "a list of names", found)
    return list(found)


def is_apart(name: str) -> bool:
    """Whether `name` is that of a point trained by earlier code."""
    return APART in name


def read_entry(points: Mapping[int, Point], kind: str, point_id: Any, value: str) -> Asked | Told:
    """An entry of the log; `points` are by id."""
    if kind == "waits":
        return Asked(None)
    point = points[point_id]
    found = json.loads(value)
    if kind != "asked":
        told = found if isinstance(found, dict) else {"numbers": found, "budget": None}
        expect(_is_budget(told["budget"]), "a budget", told)
        numbers = tuple(told["numbers"])
        lineage = _read_lineage(told)
        return Told(point.signature, kind, numbers, told["budget"], lineage)  # type: ignore[arg-type]
    if not isinstance(found, dict):
        found = {"trials": found, "budget": None, "group": ""}
    trials, budget, group = found["trials"], found["budget"], found["group"]
    expect(isinstance(trials, int) and trials >= 0, "trials asked for", trials)
    expect(_is_budget(budget), "a budget", budget)
    expect(isinstance(group, str), "a group", group)
    parent = None if "parent" not in found else _read_parent(found["parent"])
    return Asked(point, trials, point_id, budget, group, parent, _read_lineage(found))


def _read_parent(found: Mapping[str, Any]) -> Parent:
    """The trial that others begin from."""
    budget, number = found["budget"], found["trial"]
    expect(_is_budget(budget), "a budget", budget)
    expect(type(number) is int and number >= 0, "a trial", number)
    return Parent(read_params(found["params"]), number, budget, _read_lineage(found))


def _read_lineage(found: Mapping[str, Any]) -> str:
    lineage = found.get("lineage", "")
    expect(isinstance(lineage, str) and bool(_LINEAGE.fullmatch(lineage)), "a lineage", lineage)
    return str(lineage)


_LINEAGE = re.compile(r"([1-9][0-9]{0,8}-[0-9a-f]{16})?")


def _is_budget(value: object) -> bool:
    return value is None or (type(value) is int and value > 0)


def read_documents(texts: Iterable[str]) -> list[Any]:
    """Parse JSON texts as one document: a million small ones take several times as long."""
    document = f"[{','.join(texts)}]"
    try:
        return orjson.loads(document)  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:  # a loss may be NaN, which strict JSON lacks
        return json.loads(document)  # type: ignore[no-any-return]


def read_step(fields: dict[str, Any]) -> Step:
    """The step at which tuning stands."""
    found = fields["found"]
    if found is not None:
        rates = (float(found["lr_min"]), float(found["lr_max"]))
        expect(isinstance(found["batch_size"], int), "a batch size", found["batch_size"])
        options = [found.get(name) for name in OPTIONS]  # the last fields of the record
        for value in options:
            if value is not None:
                expect(type(value) is float, "an option of an optimizer", value)
        fields["found"] = TunedSettings(*rates, found["batch_size"], *options)
    step = Step(**fields)
    expect(isinstance(step.stage, str), "a stage", step.stage)
    expect(isinstance(step.payload, dict), "a payload", step.payload)
    expect(step.error is None or isinstance(step.error, str), "an error", step.error)
    return step


def read_params(encoded: str) -> Params:
    """Parameters as stored: classes are not imported."""
    params = decode(encoded)
    named = isinstance(params, dict) and are_texts(params)
    expect(named or isinstance(params, tuple), "parameters", params)
    return params  # type: ignore[no-any-return]


def read_failure(fields: dict[str, Any]) -> Failure:
    """Why a replica has no result."""
    expect(are_texts(fields.values()), "a failure", fields)
    return Failure(**fields)


def are_texts(values: Iterable[object]) -> bool:
    """Whether all values are strings."""
    return all(isinstance(value, str) for value in values)


def are_replicas(numbers: Sequence[Any], *times: Sequence[Any]) -> bool:
    """Whether all are valid replica numbers and times."""
    kinds = {*map(type, numbers)} == {int} and all({*map(type, each)} == {float} for each in times)
    return kinds and all(-MOST_TIME < min(each) <= max(each) < MOST_TIME for each in times)


def expect(holds: bool, what: str, found: object) -> None:
    """Raise `ValueError` for `found` unless `holds`."""
    if not holds:
        raise ValueError(f"{found!r:.80} is not {what}")
