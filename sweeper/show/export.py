"""Results as a JSON document for other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sweeper.records import METRICS, Alias, generation_of
from sweeper.results import PointResult, SweepResult
from sweeper.stats.intervals import Interval


def json_text(identity: Mapping[str, Any], results: SweepResult) -> str:
    """Everything that a `SweepResult` holds, as one JSON document; NaN is null.

    `identity` is the folder's: `problem`, `seed`, `settings`.  Of a program, points have its own
    metrics, and `metrics` says which values are better.
    """
    points = []
    for place, (point, summary) in enumerate(zip(results, results.summary().points, strict=True)):
        fields = _classic(point) if not results.of_program else {"params": point.params}
        fields |= {name: list(values[place]) for name, values in results.declared.items()}
        if results.test is not None:
            tested = results.test[place]._asdict()
            fields |= {metric: list(values) for metric, values in tested.items()}
        params = fields.pop("params")
        counts = {"n": summary.n, "diverged": summary.diverged, "failed": summary.failed}
        intervals = {name: _interval(interval) for name, interval in summary.intervals.items()}
        points.append(
            {
                "params": _params(params),
                "budget": results.budgets[place],
                "group": results.groups[place],
                **_origin(results, place),
                **fields,
                "trial_numbers": [int(number) for number in results.trial_numbers[place]],
                **({} if results.of_program else _tuned(results, place)),
                "flag": results.flags[place],
                "summary": {**counts, **intervals},
            }
        )
    failures = [
        {
            "params": _params(failure.params),
            "budget": failure.budget,
            "group": failure.group,
            **({"lineage": failure.lineage} if failure.lineage else {}),
            "stage": failure.stage,
            "number": failure.number,
            "message": failure.message,
            "detail": failure.detail,
        }
        for failure in results.failures
    ]
    document = {
        "program" if results.of_program else "problem": identity.get("problem"),
        "seed": identity.get("seed"),
        **(_of_program(identity, results) if results.of_program else _of_problem(identity)),
        "points": points,
        "failures": failures,
        "notes": list(results.notes),
    }
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


def _of_problem(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {"settings": identity.get("settings")}


def _of_program(identity: Mapping[str, Any], results: SweepResult) -> dict[str, Any]:
    """A program is not tuned: of the settings it has the cores of each trial alone."""
    settings = identity.get("settings") or {}
    return {
        "cores_per_trial": settings.get("cores_per_trial", 1),
        "metrics": {metric.name: metric.direction for metric in results.metrics},
    }


def _tuned(results: SweepResult, place: int) -> dict[str, Any]:
    """How a problem's point was tuned, and by which of its tunings each trial was trained."""
    return {
        "tunings": [int(tuning) for tuning in results.tunings[place]],
        "settings": [_present(asdict(found)) for found in results.settings[place]],
    }


def _origin(results: SweepResult, place: int) -> dict[str, Any]:
    """What a point's trials began from; nothing if they began from nothing."""
    lineage, parent = results.lineages[place], results.parents[place]
    if not lineage:
        return {}
    found = {"generation": generation_of(lineage), "lineage": lineage}
    if parent is None:
        return found
    own = {"trial": parent.trial, "budget": parent.budget, "lineage": parent.lineage}
    return {**found, "parent": {"params": _params(parent.params), **own}}


def _present(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a tuning found, without what was not tuned."""
    return {name: value for name, value in found.items() if value is not None}


def _classic(point: PointResult) -> dict[str, Any]:
    """A problem's point: its parameters, its first tuning, and its trials."""
    return point._asdict() | {metric: list(getattr(point, metric)) for metric in METRICS}


def _interval(interval: Interval) -> dict[str, float]:
    found = {"mean": interval.mean, "std": interval.std, "half_width": interval.half_width}
    return {**found, "low": interval.low, "high": interval.high}


def _params(value: Any) -> Any:
    """Parameters as JSON: keys, and infinite values, which JSON lacks, become text."""
    if isinstance(value, Alias):
        return {"alias": value.name, "value": _params(value.value)}
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): _params(value[key]) for key in value}
    if isinstance(value, tuple | list):
        return [_params(item) for item in value]
    return repr(value) if isinstance(value, float) and math.isinf(value) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
