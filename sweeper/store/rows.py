"""What rows say, as records; what no sweep writes is refused.

What is raised here `sweeper.store.damage.understood` turns into an error for people.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from sweeper.records import (
    DIRECTIONS,
    Asked,
    Failure,
    Metric,
    Params,
    Point,
    Step,
    Told,
    TunedSettings,
)
from sweeper.results import METRICS
from sweeper.signature import decode

APART = ".code"
"""Between the signature of a point that was trained by earlier code, and which revision it is."""

MOST_TIME = 1e11
"""Later than any clock that can be shown."""

AT_ONCE = 1_000
"""Rows that are read together: few enough to stay in the processor's caches."""


def in_columns(
    found: Iterable[Mapping[str, float]], names: Sequence[str]
) -> list[tuple[float, ...]]:
    """The metrics of trials in the order of these names.

    NaN stands for one that a problem has declared since the trial ended.
    """
    declared = [name for name in names if name not in METRICS]
    if declared:
        lacking = dict.fromkeys(declared, math.nan)
        found = [{**lacking, **one} for one in found]
    return list(map(operator.itemgetter(*names), found))


def read_metrics(found: Any) -> tuple[Metric, ...]:
    """What the folder says that trials come to beside the four of every problem."""
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


def is_apart(name: str) -> bool:
    """Whether the name in the database is that of a point that was trained by earlier code."""
    return APART in name


def read_entry(points: Mapping[int, Point], kind: str, point_id: Any, value: str) -> Asked | Told:
    """An entry of the log, of these points by id."""
    if kind == "waits":
        return Asked(None)
    point = points[point_id]
    if kind != "asked":
        return Told(point.signature, kind, tuple(json.loads(value)))  # type: ignore[arg-type]
    trials = json.loads(value)
    expect(isinstance(trials, int) and trials >= 0, "trials asked for", trials)
    return Asked(point, trials, point_id)


def read_documents(texts: Iterable[str]) -> list[Any]:
    """Read as one document: a million little ones take several times as long."""
    document = f"[{','.join(texts)}]"
    try:
        return orjson.loads(document)  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:  # NaN, say, which is no JSON to the letter, and is a loss
        return json.loads(document)  # type: ignore[no-any-return]


def read_step(fields: dict[str, Any]) -> Step:
    """Where tuning stands."""
    found = fields["found"]
    if found is not None:
        rates = (float(found["lr_min"]), float(found["lr_max"]))
        expect(isinstance(found["batch_size"], int), "a batch size", found["batch_size"])
        fields["found"] = TunedSettings(*rates, found["batch_size"])
    step = Step(**fields)
    expect(isinstance(step.stage, str), "a stage", step.stage)
    expect(isinstance(step.payload, dict), "a payload", step.payload)
    expect(isinstance(step.error, str | None), "an error", step.error)
    return step


def read_params(encoded: str) -> Params:
    """Parameters as files keep them: classes are not imported."""
    params = decode(encoded)
    named = isinstance(params, dict) and are_texts(params)
    expect(named or isinstance(params, tuple), "parameters", params)
    return params  # type: ignore[no-any-return]


def read_failure(fields: dict[str, Any]) -> Failure:
    """Why a replica has no result."""
    expect(are_texts(fields.values()), "a failure", fields)
    return Failure(**fields)


def are_texts(values: Iterable[object]) -> bool:
    """Whether all are texts."""
    return all(isinstance(value, str) for value in values)


def are_replicas(numbers: Sequence[Any], *times: Sequence[Any]) -> bool:
    """Whether all are numbers, and times that can be."""
    kinds = {*map(type, numbers)} == {int} and all({*map(type, each)} == {float} for each in times)
    return kinds and all(-MOST_TIME < min(each) <= max(each) < MOST_TIME for each in times)


def expect(holds: bool, what: str, found: object) -> None:
    """Refuse what is not as it must be."""
    if not holds:
        raise ValueError(f"{found!r:.80} is not {what}")
