"""Results as a table of trials: its columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sweeper.records import LABELS, Alias, Params, Parent, Usage, generation_of
from sweeper.results.metrics import METRICS
from sweeper.summary import show_params

TRIAL_COLUMNS = ("trial", "tuning", "lr_min", "lr_max", "batch_size", *METRICS)
"""The columns of a trial's row besides its parameters and the metrics that its problem declares."""

ALWAYS_TAKEN = LABELS[:2]
"""Those that a parameter cannot have as its column's name, whether they are shown or not."""

_OF_TABLES = {"perf", "loss", "params", "n", "diverged", "failed", "std"}

TAKEN_NAMES = {*_OF_TABLES, *LABELS[2:], *TRIAL_COLUMNS}
"""Names that a problem's own metric cannot have."""


USAGE_COLUMNS = ("started", "ended", "cpu_seconds", "peak_mib", "host", "cores")
"""The columns of what a trial used; a metric of one of these names keeps its own."""


def usage_columns(used: Usage | None) -> dict[str, Any]:
    """What a trial used, by column; None for what was not recorded."""
    if used is None:
        return dict.fromkeys(USAGE_COLUMNS)
    mib, cores = used.peak_bytes / 2**20, " ".join(map(str, used.cores))
    values = (used.started, used.ended, used.cpu_seconds, mib, used.host, cores)
    return dict(zip(USAGE_COLUMNS, values, strict=True))


def label_columns(
    budget: int | None, group: str, lineage: str, parent: Parent | None
) -> dict[str, Any]:
    """What else than its parameters distinguishes a point's row, by the names of columns.

    `parent` is shown by its parameters and number; `lineage` has all that came before.
    """
    shown = f"{show_params(parent.params)} #{parent.trial}" if parent else ""
    own = {"generation": generation_of(lineage), "parent": shown, "lineage": lineage}
    return {"budget": budget, "group": group, **own}


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
