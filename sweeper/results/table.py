"""Results as a table of trials: its columns, and a row a trial."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweeper.errors import UsageError
from sweeper.records import LABELS, METRICS, Alias, Params, Usage, generation_of
from sweeper.results.metrics import TEST_METRICS
from sweeper.results.points import PointTrials
from sweeper.summary import show_params

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.results.result import SweepResult

_TOLD = ("trial", "tuning", "lr_min", "lr_max", "batch_size")

TRIAL_COLUMNS = (*_TOLD, *METRICS)
"""The columns of a trial's row besides its parameters and the metrics that its problem declares."""

ALWAYS_TAKEN = LABELS[:2]
"""Those that a parameter cannot have as its column's name, whether they are shown or not."""

_OF_TABLES = {"perf", "loss", "params", "n", "diverged", "failed", "std"}

TAKEN_NAMES = {*_OF_TABLES, *LABELS[2:], *TRIAL_COLUMNS}
"""Names that a problem's own metric cannot have."""

USAGE_COLUMNS = ("started", "ended", "cpu_seconds", "peak_mib", "host", "cores")
"""The columns of what a trial used; a metric of one of these names keeps its own."""


def params_columns(params: Params, taken: Collection[str] = ()) -> list[tuple[str, Any]]:
    """Name and value of each parameter; positional ones are named param_0, param_1 and so on.

    A parameter whose name is `taken` by another column becomes `param_…`; of an alias the name is
    given.
    """
    if isinstance(params, Mapping):
        named = [
            (f"param_{name}" if name in taken else name, value) for name, value in params.items()
        ]
    else:
        named = [(f"param_{place}", value) for place, value in enumerate(params)]
    return [(name, value.name if isinstance(value, Alias) else value) for name, value in named]


def label_columns(trials: PointTrials) -> dict[str, Any]:
    """What else than its parameters distinguishes a point's row, by the names of columns.

    A parent is shown by its parameters and number; `lineage` has all that came before.
    """
    parent, lineage = trials.parent, trials.lineage
    shown = f"{show_params(parent.params)} #{parent.trial}" if parent else ""
    own = {"generation": generation_of(lineage), "parent": shown, "lineage": lineage}
    return {"budget": trials.budget, "group": trials.group, **own}


def usage_columns(used: Usage | None) -> dict[str, Any]:
    """What a trial used, by column; None for what was not recorded."""
    if used is None:
        return dict.fromkeys(USAGE_COLUMNS)
    mib, cores = used.peak_bytes / 2**20, " ".join(map(str, used.cores))
    values = (used.started, used.ended, used.cpu_seconds, mib, used.host, cores)
    return dict(zip(USAGE_COLUMNS, values, strict=True))


def rows_of(results: SweepResult, *, usage: bool) -> list[dict[str, Any]]:
    """See `SweepResult.rows`."""
    labels = [label_columns(one) for one in results.point_trials]
    used = [name for name in LABELS if any(row[name] for row in labels)]
    options, metrics = results.tuned_options, _measured(results)
    told = _TOLD[:1] if results.of_program else (*_TOLD, *options)
    taken = [*told, *metrics, *ALWAYS_TAKEN, *used, *(USAGE_COLUMNS if usage else ())]
    rows = []
    for one, label in zip(results.point_trials, labels, strict=True):
        named = dict(params_columns(one.point.params, taken))
        named |= {name: label[name] for name in used}
        measured = [one.values(name) for name in metrics]
        for trial in range(len(one.trial_numbers)):
            spent = usage_columns(one.usage[trial]) if usage else {}
            own = dict(zip(told, _told_of(one, trial, options), strict=False))
            found = [float(values[trial]) for values in measured]
            rows.append({**named, **spent, **own, **dict(zip(metrics, found, strict=True))})
    return rows


def _told_of(one: PointTrials, trial: int, options: Sequence[str]) -> tuple[Any, ...]:
    """The values of `_TOLD` and of tuned options; of a program, which has no settings, the first.

    An option that was not tuned for this point is NaN.
    """
    number, tuning = int(one.trial_numbers[trial]), int(one.tunings[trial])
    if not one.settings:
        return (number,)
    found = one.settings[tuning]
    tuned = [getattr(found, name) for name in options]
    values = (math.nan if value is None else value for value in tuned)
    return number, tuning, found.lr_min, found.lr_max, found.batch_size, *values


def _measured(results: SweepResult) -> list[str]:
    """The metrics that have a column of their own."""
    names = [*([] if results.of_program else METRICS), *results.declared]
    return names if results.test is None else [*names, *TEST_METRICS]


def frame_of(results: SweepResult, *, history: bool, pivot: bool, usage: bool) -> pd.DataFrame:
    """See `SweepResult.to_dataframe`."""
    if history and usage:
        raise UsageError(
            "history=True, usage=True: what a trial used is of the whole trial, not of an "
            "iteration: give one of them"
        )
    import pandas as pd

    from sweeper.results.history import history_rows

    rows = history_rows(results) if history else rows_of(results, usage=usage)
    return pd.DataFrame(rows if pivot else unpivoted(rows, _measured(results)))


def unpivoted(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each number of `rows` under the names `metrics`; NaN is left out."""
    names = set(metrics)
    return [
        {**{key: row[key] for key in row if key not in names}, "metric": name, "value": row[name]}
        for row in rows
        for name in row
        if name in names and not math.isnan(row[name])
    ]
