"""What a comparison says: pairs of points with their verdicts, in words and as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.stats.components import FloatArray

if TYPE_CHECKING:
    import pandas as pd

By = Literal["best", "all"]


VERDICTS = {1: "better", 0: "not told apart", -1: "worse"}


MOST_SHOWN = 10
"""Comparisons in words; the rest is counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A point's trials in one metric, as they are compared."""

    name: str
    params: Any
    trials: FloatArray
    """Shape (trials,), as the next two."""
    tunings: NDArray[np.int64]
    numbers: NDArray[np.int64]
    flag: str = ""
    """Why its tuning is not to be trusted; such a point is not compared."""


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """Two points and the verdict."""

    first: str
    second: str
    first_params: Any
    second_params: Any
    difference: float
    """mean(first) - mean(second), in units of the metric."""
    low: float
    """Ends of its interval, simultaneous over all that is said; NaN where no variation was seen."""
    high: float
    p_value: float
    """Adjusted for all that is said together."""
    verdict: str
    """Of `first`: "better", "worse" or "not told apart"."""
    more_trials: int | None
    """So many more of each would tell in 80 % of cases, if the difference is what it seems."""
    more_tunings: int | None
    """So many more of each, with as many trials each as now, where more trials would not tell."""

    @property
    def advice(self) -> str:
        """What would tell; "" where it is told."""
        if self.verdict != VERDICTS[0]:
            return ""
        if math.isnan(self.p_value):
            return "no variation was seen in the trials of either: more trials would help"
        if self.more_trials is not None:
            return f"about {plural(self.more_trials, 'more trial')} each would tell"
        if self.more_tunings is not None:
            return f"about {plural(self.more_tunings, 'more tuning')} each would tell"
        return "too close for any reasonable number of trials"


@dataclass(frozen=True, slots=True)
class Leader:
    """What the best point reached."""

    name: str
    mean: float
    low: float
    """Ends of the interval for its true mean that count that it was chosen; NaN: too few trials."""
    high: float
    rivals: int
    """Points that it is not told apart from."""

    def __str__(self) -> str:
        reached = f"★ {self.name} reached {self.mean:.4f}"
        if math.isnan(self.low):
            return f"{reached}: too few trials to say between which ends its true mean is"
        ends = f"its true mean is between {number(self.low)} and {number(self.high)}"
        if not self.rivals:
            return f"{reached}; {ends}"
        return f"{reached}, as the luckiest of {self.rivals + 1} not told apart; {ends}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What can be said of the points' differences; `str()` says it in words."""

    metric: str
    confidence: float
    """With which nothing false is said in all rows together."""
    rows: tuple[ComparedPair, ...]
    leader: Leader | None
    """None where points are compared with one that was not chosen by the data."""
    basis: str
    """On what it rests: tunings, trials, samples."""
    caveats: tuple[str, ...] = ()
    """What is not compared, and why."""

    def __str__(self) -> str:
        return "\n".join(self.lines(len(self.rows)))

    def lines(self, most: int = MOST_SHOWN) -> list[str]:
        """The verdict in words, a line a pair; after `most` pairs the rest is counted."""
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
        """A table in Markdown, and below it what it rests on."""
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
        """One row a pair.  Needs pandas (`pip install 'sweeper[analysis]'`)."""
        import pandas as pd

        names = ("first", "second", "difference", "low", "high", "p_value", "verdict")
        more = ("more_trials", "more_tunings")
        return pd.DataFrame(
            [[getattr(row, name) for name in (*names, *more)] for row in self.rows],
            columns=[*names, *more],
        )

    def _sentence(self, row: ComparedPair) -> str:
        # A loss is better the lower it is: by how much one is better is said without its sign.
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


def plural(number: int, noun: str) -> str:
    """A number of things: `1 trial`, `2 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def number(value: float) -> str:
    """A number as tables have it, in four decimals where that says something."""
    """Four decimals, or four digits where a loss is large or small."""
    if value == 0 or 1e-4 <= abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:.3e}" if abs(value) >= 1e6 or abs(value) < 1e-4 else f"{value:.1f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
