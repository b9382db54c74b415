"""Which parameters of a grid matter: analysis of variance of the points' means.

Terms are parameters and pairs of them.  A term's sum of squares is of Type II (F. Yates, 1934):
what it adds to all terms that do not contain it, so points may be missing.  The variance of a mean
is estimated from the tunings and trials of its point (`estimate_means`) and differs from point to
point.  So the sum of squares is compared with its expectation under these variances, by the F
approximation of G. E. P. Box (1954), with the degrees of freedom that E. Brunner, H. Dette and A.
Munk (1997) derive from F. E. Satterthwaite's (1946).  With equal variances it is the textbook F.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.stats.components import Estimate, FloatArray

Term = tuple[str, ...]
"""The parameters in a term: one, or two."""

_LEFT_OVER = 4
"""Minimum residual degrees of freedom to use the residual of points tuned once as the error."""
_DRAWS = 1000
"""Samples of the parametric bootstrap."""
_NOTHING = 1e-20
"""A smaller share of the sum of squares is rounding error."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the variance of a trial of a random point; their sum is 1."""

    share: FloatArray
    """Shape (parts,): each term, what terms explain only jointly (if points are missing), the
    residual of points, tuning, seed; a part that cannot be separated is in the one before it."""
    low: FloatArray
    """Ends of the 95 % interval of each."""
    high: FloatArray


@dataclass(frozen=True, slots=True)
class Tested:
    """A term's test; NaN if there is none."""

    freedom: float
    error_freedom: float
    statistic: float
    """F."""
    p_value: float
    """Before it is adjusted for the other tests."""


@dataclass(frozen=True, slots=True)
class Marginal:
    """The mean at a level of a term, averaged over the levels of all other parameters."""

    term: Term
    levels: tuple[int, ...]
    mean: float
    low: float
    """Half width of its interval, simultaneous over all levels of terms with as many parameters."""
    high: float


@dataclass(frozen=True, slots=True)
class Noise:
    """The variances of the points' means."""

    variance: FloatArray
    """Variance of each point's mean, shape (points,), as the next two."""
    own: FloatArray
    """1 / degrees of freedom of what was estimated from a point alone."""
    shared: FloatArray
    """1 / degrees of freedom of what was estimated from all points together."""

    def freedom(self, weights: FloatArray) -> float:
        """Degrees of freedom of a weighted sum of the variances (Satterthwaite)."""
        parts = weights * self.variance
        total = float(parts.sum())
        if not total > 0:
            return math.nan
        parts = parts / total
        inverse = float((parts**2 * self.own).sum() + (parts * np.sqrt(self.shared)).sum() ** 2)
        return max(1.0, 1 / inverse) if inverse > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Analysis:
    """The result of the analysis of variance."""

    terms: tuple[Term, ...]
    tests: tuple[Tested, ...]
    """The test of each term, and of the residual of points."""
    left_freedom: int
    """Residual degrees of freedom of points after all terms; 0: none are left."""
    shares: Shares
    marginals: tuple[Marginal, ...]
    error: str
    """The error that terms are compared with: "tunings", "trials" or "left" (the residual)."""
    pairs: bool
    """Whether pairs are terms of their own; otherwise they are in the residual."""
    aliased: tuple[str, ...]
    """Parameters that vary only together with others."""


def analyse(
    means: Sequence[Estimate],
    levels: Mapping[str, NDArray[np.int64]],
    confidence: float = 0.95,
    *,
    is_tuned: bool = True,
) -> Analysis | None:
    """The analysis of variance of the points' means; None: there are too few.

    Args:
        means: means of the points.
        levels: for each parameter the index of each point's value, shape (points,), 0, 1, …; two
            values or more.
        confidence: confidence level of the intervals.
        is_tuned: whether points are tuned.  Trials of a single tuning have that tuning in common;
            those of a program have nothing in common, and are what its terms are compared with.
    """
    y = np.array([one.mean for one in means])
    design = _Design(levels)
    within = np.array([one.variance for one in means])
    tuned = any(one.tunings > 1 for one in means)
    known = bool(np.isfinite(within).all() and within.sum() > _NOTHING * float((y**2).sum()))
    from_left = not tuned and (is_tuned or not known)
    pairs = design.pairs_are_told()
    left = design.left(pairs=pairs)
    enough = _LEFT_OVER if known else 1
    if from_left and left < _LEFT_OVER and design.left(pairs=False) >= enough:
        pairs = False  # pairs are the only error to compare with
        left = design.left(pairs=False)
    if from_left and left >= enough:
        error = "left"
    elif known:
        error = "tunings" if tuned else "trials"
    else:
        return None
    terms = design.terms(pairs=pairs)
    projections = [design.projection(term, terms) for term in terms]
    ranks = [round(float(np.trace(one))) for one in projections]
    aliased = tuple(term[0] for term, rank in zip(terms, ranks, strict=True) if rank == 0)
    kept = [place for place, rank in enumerate(ranks) if rank > 0]
    terms, projections = [terms[place] for place in kept], [projections[place] for place in kept]
    rest = design.rest(pairs=pairs)
    whole = np.eye(len(y)) - 1 / len(y)
    trials = Noise(
        within if known else np.zeros_like(y),
        np.array([one.own for one in means]),
        np.array([one.shared for one in means]),
    )
    noise = trials
    if error == "left":
        square = float(y @ rest @ y) / left
        if not square > _NOTHING * float((y**2).sum()):
            return None
        noise = Noise(np.full(len(y), square), np.zeros(len(y)), np.full(len(y), 1 / left))
    tests = [_test(y, one, noise) for one in projections]
    untested = left == 0 or error == "left"
    tests.append(Tested(left, *[math.nan] * 3) if untested else _test(y, rest, noise))
    return Analysis(
        tuple(terms),
        tuple(tests),
        left,
        _shares(y, means, projections, whole - rest, noise, trials, confidence),
        tuple(design.marginals(y, noise, terms, confidence)),
        error,
        pairs,
        aliased,
    )


class _Design:
    """The design matrix: points as rows, effects as columns."""

    def __init__(self, levels: Mapping[str, NDArray[np.int64]]) -> None:
        self.levels = {name: np.asarray(places) for name, places in levels.items()}
        self.counts = {name: int(places.max()) + 1 for name, places in self.levels.items()}
        self.points = len(next(iter(self.levels.values())))

    def terms(self, *, pairs: bool) -> list[Term]:
        """Each parameter, and each pair of them."""
        names = list(self.levels)
        return [*((name,) for name in names), *(itertools.combinations(names, 2) if pairs else ())]

    def columns(self, term: Term) -> FloatArray:
        """Indicator columns, one per combination of levels; shape (points, columns)."""
        columns = np.ones((self.points, 1))
        for name in term:
            one = np.eye(self.counts[name])[self.levels[name]]
            columns = (columns[:, :, None] * one[:, None, :]).reshape(len(columns), -1)
        return columns

    def space(self, terms: Sequence[Term]) -> FloatArray:
        """The projection, shape (points, points), on the span of the terms and a constant."""
        columns = np.hstack([np.ones((self.points, 1)), *map(self.columns, terms)])
        left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
        base = left[:, sizes > 1e-9 * sizes[0]]
        return np.asarray(base @ base.T)

    def projection(self, term: Term, terms: Sequence[Term]) -> FloatArray:
        """The projection on what `term` adds to all terms that do not contain it."""
        others = [one for one in terms if not set(term) <= set(one)]
        return self.space([*others, term]) - self.space(others)

    def rest(self, *, pairs: bool) -> FloatArray:
        """What no term says."""
        return np.eye(self.points) - self.space(self.terms(pairs=pairs))

    def left(self, *, pairs: bool) -> int:
        """Residual degrees of freedom."""
        return round(float(np.trace(self.rest(pairs=pairs))))

    def pairs_are_told(self) -> bool:
        """Whether there are enough points to separate every pair from all others."""
        terms = self.terms(pairs=True)
        if len(self.levels) < 2 or len(terms) > self.points:
            return False
        return all(np.trace(self.projection(term, terms)) > 0.5 for term in terms if len(term) == 2)

    def marginals(
        self, y: FloatArray, noise: Noise, terms: Sequence[Term], confidence: float
    ) -> list[Marginal]:
        """The mean of each level of each term, with its interval.

        From the model with all parameters and the term itself, with equal weights for all levels of
        the other parameters, as if no point was missing.
        """
        from scipy.special import stdtrit

        found = []
        for size in (1, 2):
            rows = []
            for term in (one for one in terms if len(one) == size):
                model = [*self.terms(pairs=False), *([term] if size == 2 else [])]
                rows += [(term, *one) for one in self._contrasts(term, model)]
            for term, levels, contrast in rows:
                mean = float(contrast @ y)
                error = math.sqrt(float((contrast**2 * noise.variance).sum()))
                freedom = noise.freedom(contrast**2)
                half = float(stdtrit(freedom, 1 - (1 - confidence) / 2 / len(rows))) * error
                found.append(Marginal(term, levels, mean, mean - half, mean + half))
        return found

    def _contrasts(
        self, term: Term, model: Sequence[Term]
    ) -> list[tuple[tuple[int, ...], FloatArray]]:
        columns = np.hstack([np.ones((self.points, 1)), *map(self.columns, model)])
        inverse = np.linalg.pinv(columns, rcond=1e-9)
        found = []
        for levels in itertools.product(*(range(self.counts[name]) for name in term)):
            row = [np.ones(1)]
            for one in model:
                parts = np.ones(1)
                for name in one:
                    count = self.counts[name]
                    fixed = name in term
                    level = np.eye(count)[levels[term.index(name)]] if fixed else np.ones(count)
                    parts = np.outer(parts, level if fixed else level / count).ravel()
                row.append(parts)
            wanted = np.concatenate(row)
            contrast = wanted @ inverse
            if np.allclose(contrast @ columns, wanted, atol=1e-7):  # the points determine it
                found.append((levels, contrast))
        return found


def _test(y: FloatArray, projection: FloatArray, noise: Noise) -> Tested:
    """The F approximation for y' P y, whose expectation is tr(P V) if the term has no effect."""
    from scipy.special import fdtrc

    diagonal = np.diag(projection)
    expected = float((diagonal * noise.variance).sum())
    if not expected > 0:
        return Tested(round(float(diagonal.sum())), *[math.nan] * 3)
    scaled = projection * noise.variance
    freedom = expected**2 / float(np.sum(scaled * scaled.T))
    error_freedom = noise.freedom(diagonal)
    statistic = float(y @ projection @ y) / expected
    p_value = float(fdtrc(freedom, min(error_freedom, 1e9), max(statistic, 0.0)))
    return Tested(freedom, error_freedom, statistic, p_value)


def _shares(
    y: FloatArray,
    means: Sequence[Estimate],
    projections: Sequence[FloatArray],
    model: FloatArray,
    noise: Noise,
    trials: Noise,
    confidence: float,
) -> Shares:
    """Shares with intervals by a parametric bootstrap.

    A term's part is its sum of squares less its expectation from errors alone.  A bootstrap sample
    adds errors to the observed means once more, so there the expectation is subtracted twice.

    Args:
        y: the points' means.
        means: the estimates behind them.
        projections: one per term.
        model: the projection on all terms together.
        noise: the error that terms are compared with.
        trials: the variances of the means from tunings and trials; 0 if not known.
        confidence: confidence level of the intervals.
    """
    count = len(y)
    whole = np.eye(count) - 1 / count
    tuned = any(one.tunings > 1 for one in means)
    known = bool(trials.variance.any())
    variance = float(trials.variance.mean())
    within = float(np.mean([one.within for one in means])) if known else 0.0
    inside = float(np.mean([one.within / one.n for one in means])) if known else 0.0
    tunings = float(np.mean([one.tunings for one in means]))

    def parts(values: FloatArray, scale: FloatArray, inner: FloatArray, again: int) -> FloatArray:
        """Variances, shape (draws, parts), of means in shape (draws, points)."""

        def squares(projection: FloatArray, errors: FloatArray) -> FloatArray:
            found = np.sum((values @ projection) * values, axis=1)
            return np.asarray(found - float(np.diag(projection) @ errors) * scale) / count

        raw = [squares(one, noise.variance * (1 + again)) for one in projections]
        total = squares(whole, trials.variance + noise.variance * again)
        said = squares(model, noise.variance * (1 + again))
        both, rest = (
            np.where(one > 1e-9 * np.abs(total), one, 0)
            for one in (said - np.sum(raw, axis=0), total - np.maximum(said, 0))
        )
        tuning = np.maximum(variance * scale - inside * inner, 0) * tunings * tuned
        return np.column_stack(
            [*(np.maximum(one, 0) for one in raw), both, rest, tuning, within * inner]
        )

    random = np.random.default_rng(0)
    scale = _chisquare(random, noise.freedom(np.ones(count)))
    inner = _chisquare(random, sum(one.n - one.tunings for one in means))
    errors = random.standard_normal((_DRAWS, count)) * np.sqrt(noise.variance)
    draws = parts(y + errors * np.sqrt(scale)[:, None], scale, inner, 1)
    share = _of_one(parts(y[None], np.ones(1), np.ones(1), 0))[0]
    left = draws[draws.sum(axis=1) > 0]  # a sample without any variance has no shares
    if not len(left):
        return Shares(share, share, share)
    low, high = np.quantile(_of_one(left), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Shares(share, np.minimum(low, share), np.maximum(high, share))


def _chisquare(random: np.random.Generator, freedom: float) -> FloatArray:
    """Random factors by which estimated variances are off; shape (draws,)."""
    if not (freedom > 0 and math.isfinite(freedom)):
        return np.ones(_DRAWS)
    return random.chisquare(freedom, _DRAWS) / freedom


def _of_one(parts: FloatArray) -> FloatArray:
    total = parts.sum(axis=1, keepdims=True)
    return np.asarray(parts / np.where(total > 0, total, math.nan))
