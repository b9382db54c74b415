"""The result of a comparison: pairs of points with their verdicts, in words and as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import plural
from sweeper.stats.components import FloatArray

if TYPE_CHECKING:
    import pandas as pd

By = Literal["best", "all"]


VERDICTS = {1: "better", 0: "not told apart", -1: "worse"}


MOST_SHOWN = 10
"""Maximum number of comparisons in words; the rest is counted."""


WITHOUT_NUMBER = {True: "that diverged, without a loss,", False: "without a number"}
"""What is said of trials without a number, by whether points are tuned: of those of a program it is
not known why."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A point's trials in one metric, for comparison."""

    name: str
    params: Any
    trials: FloatArray
    """Shape (trials,), as the next two."""
    tunings: NDArray[np.int64]
    numbers: NDArray[np.int64]
    flag: str = ""
    """Why its tuning cannot be trusted ("": it can); such a point is not compared."""
    right: NDArray[np.uint8] | None = None
    """1 where one of its trials gets a validation sample right, else 0, shape (some trials,
    samples), in the same order of samples for every point; None: not known."""


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """Two points and their verdict."""

    first: str
    second: str
    first_params: Any
    second_params: Any
    difference: float
    """mean(first) - mean(second), in units of the metric."""
    low: float
    """Ends of its simultaneous interval; NaN if no variation was observed."""
    high: float
    p_value: float
    """Adjusted for all that is said together."""
    verdict: str
    """Of `first`: "better", "worse" or "not told apart"."""
    more_trials: int | None
    """So many more trials of each would tell in 80 % of cases, if the difference is as observed."""
    more_tunings: int | None
    """So many more tunings of each, with as many trials as now, if more trials would not tell."""

    @property
    def advice(self) -> str:
        """What would tell the points apart; "" if they are told apart."""
        if self.verdict != VERDICTS[0]:
            return ""
        if math.isnan(self.p_value):
            return "no variation was seen in what is compared: more trials would help"
        if self.more_trials is not None:
            return f"about {plural(self.more_trials, 'more trial')} each would tell"
        if self.more_tunings is not None:
            return f"about {plural(self.more_tunings, 'more tuning')} each would tell"
        return "too close for any reasonable number of trials"


@dataclass(frozen=True, slots=True)
class Leader:
    """The best point and its true mean."""

    name: str
    mean: float
    low: float
    """Ends of the interval for its true mean, corrected for its choice; NaN: too few trials."""
    high: float
    rivals: int
    """Number of points that it is not told apart from."""

    def __str__(self) -> str:
        reached = f"★ {self.name} reached {self.mean:.4f}"
        if math.isnan(self.low):
            return f"{reached}: too few trials for an interval of its true mean"
        ends = f"its true mean is between {number(self.low)} and {number(self.high)}"
        if not self.rivals:
            return f"{reached}; {ends}"
        return f"{reached}, as the luckiest of {self.rivals + 1} not told apart; {ends}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdicts on the points' differences; `str()` gives them in words."""

    metric: str
    confidence: float
    """Probability that all rows together are true."""
    rows: tuple[ComparedPair, ...]
    leader: Leader | None
    """None if points are compared with one that was not chosen by the data."""
    basis: str
    """The data behind it: tunings, trials, samples."""
    caveats: tuple[str, ...] = ()
    """Points that are not compared, and why."""

    def __str__(self) -> str:
        return "\n".join(self.lines(len(self.rows)))

    def lines(self, most: int = MOST_SHOWN) -> list[str]:
        """The verdicts in words, one line per pair; after `most` pairs the rest is counted."""
        if not (self.rows or self.caveats):
            return []
        if not self.rows:
            return list(self.caveats)
        lines = [self.basis]
        lines += [f"  {self._sentence(row)}" for row in self.rows[:most]]
        lines += [f"  {line}" for line in self._rest(self.rows[most:])]
        if self.leader is not None and self.rows:
            lines.append(f"  {self.leader}")
        return lines + [f"  {line}" for line in self.caveats]

    def to_markdown(self) -> str:
        """A table in Markdown, with the data behind it below."""
        head = ["first", "second", "difference", "interval", "adjusted p", "verdict"]
        rows = [
            [
                _cell(row.first),
                _cell(row.second),
                number(row.difference),
                "-" if math.isnan(row.low) else f"{number(row.low)} to {number(row.high)}",
                "-" if math.isnan(row.p_value) else f"{row.p_value:.2g}",
                f"{row.verdict}: {row.advice}" if row.advice else row.verdict,
            ]
            for row in self.rows
        ]
        table = [head, ["---"] * len(head), *rows]
        below = [self.basis.rstrip(":")]
        below += [str(self.leader)] if self.leader is not None and self.rows else []
        lines = [f"| {' | '.join(cells)} |" for cells in table] if rows else []
        return "\n".join([*lines, *(["" for _ in lines[:1]]), *below, *self.caveats]) + "\n"

    def to_dataframe(self) -> pd.DataFrame:
        """One row per pair.  Needs pandas (`pip install 'sweeper[analysis]'`)."""
        import pandas as pd

        names = ("first", "second", "difference", "low", "high", "p_value", "verdict")
        more = ("more_trials", "more_tunings")
        return pd.DataFrame(
            [[getattr(row, name) for name in (*names, *more)] for row in self.rows],
            columns=[*names, *more],
        )

    def _sentence(self, row: ComparedPair) -> str:
        # A lower loss is better, so the size of a difference is given without its sign.
        sign = -1.0 if row.difference < 0 else 1.0
        size = number(abs(row.difference))
        ends = sorted((sign * row.low, sign * row.high))
        interval = "" if math.isnan(row.low) else f"{number(ends[0])} to {number(ends[1])}"
        if row.verdict == VERDICTS[0]:
            inside = f"{size}, {interval}" if interval else size
            return f"{row.first} and {row.second} are not told apart ({inside}): {row.advice}"
        return f"{row.first} is {row.verdict} than {row.second} by {size} ({interval})"

    @staticmethod
    def _rest(rows: Sequence[ComparedPair]) -> Iterator[str]:
        if rows:
            counts = {said: sum(row.verdict == said for row in rows) for said in VERDICTS.values()}
            told = ", ".join(f"{count:,} {said}" for said, count in counts.items() if count)
            yield f"and {plural(len(rows), 'more comparison')}: {told}"


def number(value: float) -> str:
    """A number with four decimals, or with four digits if a loss is large or small."""
    if value == 0 or 1e-4 <= abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:.3e}" if abs(value) >= 1e6 or abs(value) < 1e-4 else f"{value:.1f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
