"""What trials measure, and on which samples."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.errors import SettingsError

DIRECTIONS = ("maximize", "minimize", "none")
"""Which values of a metric are better: large, small, or neither."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A named number that every trial measures."""

    name: str
    direction: str = DIRECTIONS[0]
    shown: bool = True
    """Whether tables have a column for it."""
    bounds: tuple[float, float] | None = None
    """The smallest and the largest possible value; None: no bounds."""


SHARES = frozenset({"acc", "accuracy", "auc", "f1"})
"""Words of the names of metrics that are from 0 to 1, or in per cent; larger values are better."""

CLASSIC = (
    Metric("perf_train", bounds=(0.0, 1.0)),
    Metric("loss_train", "minimize", shown=False),
    Metric("perf_val", bounds=(0.0, 1.0)),
    Metric("loss_val", "minimize", shown=False),
)
"""The metrics of every problem, in the order of the tuples that selectors get."""

METRICS = tuple(metric.name for metric in CLASSIC)
"""Their names."""


@dataclass(frozen=True, slots=True)
class KFold:
    """A value of a problem's `validation`: trial n validates on fold `n % folds`."""

    folds: int

    def __post_init__(self) -> None:
        if not isinstance(self.folds, int) or isinstance(self.folds, bool) or self.folds < 2:
            raise SettingsError(
                f"KFold(folds={self.folds!r}): folds must be a whole number of at least 2"
            )

    def __str__(self) -> str:
        return f"KFold({self.folds})"
