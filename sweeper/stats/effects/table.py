"""The result of `effects`: shares of variance and means, in words and as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.errors import plural
from sweeper.stats.comparison import number

if TYPE_CHECKING:
    import pandas as pd

MATTERS, NOT_TOLD = "matters", "not told"


@dataclass(frozen=True, slots=True)
class Effect:
    """A part of the variance: a parameter, a pair, or what is left."""

    name: str
    kind: str
    """"parameter", "pair", "shared" (explained only jointly, if points are missing), "left" (what
    they do not explain of points), "tuning", "seed"."""
    share: float
    """Share of the variance of a trial of a random point; the shares sum to 1."""
    low: float
    """Ends of its interval, not simultaneous."""
    high: float
    freedom: float = math.nan
    """Degrees of freedom of its test: numerator and denominator; NaN: no test."""
    error_freedom: float = math.nan
    statistic: float = math.nan
    """F."""
    p_value: float = math.nan
    """Adjusted for all tests together."""

    @property
    def verdict(self) -> str:
        """Whether it matters; "" if there is no test."""
        if math.isnan(self.p_value):
            return ""
        return MATTERS if self.p_value <= 0.05 else NOT_TOLD


@dataclass(frozen=True, slots=True)
class LevelMean:
    """The mean at a value of a parameter, or of a pair, over all values of the others."""

    effect: str
    name: str
    """As tables print it: `hidden=8`, or `hidden=8 nonlinearity=Tanh`."""
    mean: float
    low: float
    """Half width of its interval: for a grid simultaneous over all parameters, or over all pairs;
    for a forest not simultaneous."""
    high: float
    best: bool
    """Whether it is the best of its effect: the highest performance, or the lowest loss."""


@dataclass(frozen=True, slots=True)
class Effects:
    """Which parameters matter, and how much; `str()` gives it in words."""

    metric: str
    method: str
    """"anova", "forest", or "" if there is too little data."""
    basis: str
    """The data and method behind it."""
    effects: tuple[Effect, ...]
    levels: tuple[LevelMean, ...]
    caveats: tuple[str, ...] = ()
    """What is left out, and why."""

    def __str__(self) -> str:
        lines = [self.basis]
        if self.effects:
            rows = [self._head(), *map(self._row, self.effects)]
            widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
            for row in rows:
                cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
                lines.append(f"  {'  '.join(cells)}".rstrip())
        shown = self._shown_levels()
        if shown:
            lines.append(self._about_levels())
        rest: dict[str, int] = {}
        for level, star in shown:
            rest[level.effect] = rest.get(level.effect, 0) + 1
            if rest[level.effect] <= MOST_SHOWN or star:
                lines.append(f"  {'★' if star else ' '} {level.name}: {_ends(level)}")
        lines += [
            f"    and {plural(count - MOST_SHOWN, 'more value')} of {name}"
            for name, count in rest.items()
            if count > MOST_SHOWN
        ]
        return "\n".join([*lines, *self.caveats])

    def to_markdown(self) -> str:
        """Two tables in Markdown: the shares, and the means at each value."""
        head = self._head()
        table = [head, ["---"] * len(head), *map(self._row, self.effects)] if self.effects else []
        lines = [self.basis.rstrip(":"), "", *map(_markdown, table)]
        shown = self._shown_levels()
        if shown:
            lines += ["", self._about_levels().rstrip(":"), ""]
            rows = [[f"{level.name}{' ★' * star}", _ends(level)] for level, star in shown]
            lines += map(_markdown, [["value", "mean"], ["---"] * 2, *rows])
        lines += [f"\n{line}" for line in self.caveats]
        return "\n".join(lines).rstrip() + "\n"

    def to_dataframe(self, *, levels: bool = False) -> pd.DataFrame:
        """One row per part of the variance, or per level's mean.

        Needs pandas (`pip install 'sweeper[analysis]'`).
        """
        import pandas as pd

        if levels:
            names = ["effect", "name", "mean", "low", "high", "best"]
            return pd.DataFrame(
                [[getattr(row, name) for name in names] for row in self.levels], columns=names
            )
        names = ["name", "kind", "share", "low", "high", "freedom", "error_freedom", "statistic"]
        names += ["p_value", "verdict"]
        return pd.DataFrame(
            [[getattr(row, name) for name in names] for row in self.effects], columns=names
        )

    def _head(self) -> list[str]:
        head = ["effect", "share of variance", "interval"]
        return [*head, "F", "adjusted p", "verdict"] if self.method == "anova" else head

    def _row(self, effect: Effect) -> list[str]:
        interval = f"{100 * effect.low:.1f} to {100 * effect.high:.1f} %"
        row = [effect.name, f"{100 * effect.share:.1f} %", interval]
        if self.method != "anova":
            return row
        if math.isnan(effect.p_value):
            return [*row, "", "", ""]
        freedom = f"{effect.freedom:.3g}, {effect.error_freedom:.3g}"
        p_value = f"{effect.p_value:.2g}" if effect.p_value >= 1e-4 else "< 0.0001"
        return [*row, f"{effect.statistic:.2f} ({freedom})", p_value, effect.verdict]

    def _shown_levels(self) -> list[tuple[LevelMean, bool]]:
        """Levels of parameters, and of pairs that matter; the best of an effect has a star."""
        matters = {one.name for one in self.effects if one.verdict == MATTERS}
        shown = matters | {one.name for one in self.effects if one.kind == "parameter"}
        return [
            (level, level.best and level.effect in matters)
            for level in self.levels
            if level.effect in shown
        ]

    def _about_levels(self) -> str:
        if self.method == "forest":
            return "Means predicted by the forest, over all values of the others (95 % each):"
        return "Means over all values of the others (95 % for all parameters together):"


MOST_SHOWN = 10
"""Maximum number of names or levels in words; the rest is counted."""


def _ends(level: LevelMean) -> str:
    if math.isnan(level.low):
        return number(level.mean)
    return f"{number(level.mean)} ({number(level.low)} to {number(level.high)})"


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
