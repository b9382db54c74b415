"""Which parameters of a random search matter: functional analysis of variance over a forest.

F. Hutter, H. Hoos and K. Leyton-Brown (2014), *An efficient approach for assessing hyperparameter
importance*: a tree cuts the space into boxes, so that its mean over all other parameters, and from
it the share of each parameter and pair in the variance of its predictions, can be computed exactly.
Parameters are weighted as sampled: by the values of the points.

A forest also fits noise.  So only the variance that it predicts for points left out of a tree
counts as explained by parameters; the rest of the variance between points is reported as left.
Intervals come from a bootstrap over points.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import UsageError
from sweeper.stats.components import Estimate, FloatArray
from sweeper.stats.effects.anova import Marginal, Term

FEWEST = 10
"""Minimum number of points for a forest."""

_TREES = 128
_DRAWS = 60
_TREES_OF_A_DRAW = 24
_SHOWN = 5
"""Maximum number of levels shown for a numeric parameter."""


@dataclass(frozen=True, slots=True)
class Importance:
    """The result of the forest's analysis."""

    terms: tuple[Term, ...]
    explained: float
    """Share of the variance of points' means that it predicts for points left out of its trees; may
    be negative."""
    share: FloatArray
    """Shape (parts,): each term, residual of points, tuning, seed; their sum is 1."""
    low: FloatArray
    high: FloatArray
    marginals: tuple[Marginal, ...]


@dataclass(frozen=True, slots=True)
class _Space:
    """The parameters as trees see them."""

    levels: Mapping[str, NDArray[np.int64]]
    columns: tuple[tuple[str, FloatArray], ...]
    """For each input column of the trees its parameter, and the input of each of its values."""

    @property
    def terms(self) -> list[Term]:
        names = list(self.levels)
        return [*((name,) for name in names), *itertools.combinations(names, 2)]

    def matrix(self) -> FloatArray:
        """Shape (points, columns)."""
        return np.column_stack([values[self.levels[name]] for name, values in self.columns])

    def weights(self, counts: FloatArray) -> dict[str, FloatArray]:
        """The relative frequency of each value of each parameter."""
        return {
            name: np.bincount(places, counts) / counts.sum() for name, places in self.levels.items()
        }


def grow(
    means: Sequence[Estimate],
    levels: Mapping[str, NDArray[np.int64]],
    numbers: Mapping[str, Sequence[float] | None],
    confidence: float = 0.95,
) -> Importance:
    """Fit a forest to the points' means and decompose its variance.

    Args:
        means: means of the points.
        levels: for each parameter the index of each point's value, shape (points,), 0, 1, …
        numbers: for each parameter its values; None: they are not numbers.
        confidence: confidence level of the intervals.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    columns: list[tuple[str, FloatArray]] = []
    for name, places in levels.items():
        values = numbers[name]
        if values is None:
            columns += [(name, one) for one in np.eye(int(places.max()) + 1)]
        else:  # trees use only their order
            columns.append((name, np.arange(len(values), dtype=float)))
    space = _Space(levels, tuple(columns))
    seen, curves, explained = _take_apart(space, means, np.ones(len(means)), _TREES, 0)
    random = np.random.default_rng(0)
    draws, drawn_curves = [], []
    for draw in range(_DRAWS):
        counts = np.bincount(random.integers(len(means), size=len(means)), minlength=len(means))
        found, drawn, _ = _take_apart(
            space, means, counts.astype(float), _TREES_OF_A_DRAW, draw + 1
        )
        draws.append(found)
        drawn_curves.append(drawn)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(draws, tails, axis=0)
    marginals = []
    for name, curve in curves.items():
        bottom, top = np.quantile([one[name] for one in drawn_curves], tails, axis=0)
        count = len(curve)
        places = np.arange(count)
        if numbers[name] is not None and count > _SHOWN:
            places = np.unique(np.linspace(0, count - 1, _SHOWN).round().astype(int))
        for at in places.tolist():
            ends = min(bottom[at], curve[at]), max(top[at], curve[at])
            marginals.append(Marginal((name,), (at,), float(curve[at]), *map(float, ends)))
    return Importance(
        tuple(space.terms),
        explained,
        seen,
        np.minimum(low, seen),
        np.maximum(high, seen),
        tuple(marginals),
    )


def _take_apart(
    space: _Space, means: Sequence[Estimate], counts: FloatArray, trees: int, seed: int
) -> tuple[FloatArray, dict[str, FloatArray], float]:
    """The shares, the curve of each parameter, and the share predicted; `counts` weight points."""
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError as error:
        raise UsageError(
            "effects of a random search need scikit-learn: pip install 'sweeper[analysis]'"
        ) from error
    y = np.array([one.mean for one in means])
    x = space.matrix()
    forest = RandomForestRegressor(
        trees, min_samples_leaf=2, max_features=0.7, random_state=seed, n_jobs=1
    )
    forest.fit(x, y, sample_weight=counts)
    middle = float(np.average(y, weights=counts))
    variance = float(np.average((y - middle) ** 2, weights=counts))
    foretold = _foretold(forest, x, y)
    known = np.isfinite(foretold) & (counts > 0)
    off = np.average((y - foretold)[known] ** 2, weights=counts[known]) if known.any() else variance
    explained = 1 - float(off) / variance if variance > 0 else 0.0
    weights = space.weights(counts)
    parts = [_tree(one.tree_, space, weights) for one in forest.estimators_]
    fractions = np.mean([part for part, _ in parts], axis=0)
    curves = {name: np.mean([curve[name] for _, curve in parts], axis=0) for name in space.levels}
    errors = np.nan_to_num([one.variance for one in means])
    between = np.nan_to_num([one.between for one in means])
    within = np.nan_to_num([one.within for one in means])
    signal = max(0.0, variance - float(np.average(errors, weights=counts)))
    said = min(signal, max(0.0, explained) * variance)
    tuning, seed_share = (float(np.average(one, weights=counts)) for one in (between, within))
    found = np.array(
        [*(fractions * said), signal - float(fractions.sum()) * said, tuning, seed_share]
    )
    return found / found.sum() if found.sum() > 0 else found, curves, explained


def _foretold(forest: Any, x: FloatArray, y: FloatArray) -> FloatArray:
    """Out-of-bag predictions: of the trees not trained on a point; NaN: all were."""
    total, times = np.zeros(len(y)), np.zeros(len(y))
    for one, drawn in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        unseen = np.ones(len(y), dtype=bool)
        unseen[drawn] = False
        total[unseen] += one.predict(x[unseen]) if unseen.any() else 0
        times += unseen
    return np.where(times > 0, total / np.maximum(times, 1), np.nan)


def _tree(
    tree: Any, space: _Space, weights: Mapping[str, FloatArray]
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Each term's share of the variance of a tree's predictions, and each parameter's curve."""
    values, boxes = _leaves(tree, space)
    names = list(space.levels)
    masses = {name: boxes[name] @ weights[name] for name in names}
    volume = np.prod([masses[name] for name in names], axis=0)
    mean = float(values @ volume)
    total = float(values**2 @ volume) - mean**2
    curves, own = {}, {}
    for name in names:
        others = np.prod([np.ones(len(values)), *(masses[o] for o in names if o != name)], axis=0)
        curves[name] = (values * others) @ boxes[name]
        own[name] = float(weights[name] @ (curves[name] - mean) ** 2)
    found = [own[name] for name in names]
    for first, second in itertools.combinations(names, 2):
        rest = [masses[o] for o in names if o not in {first, second}]
        others = np.prod([np.ones(len(values)), *rest], axis=0)
        # Shape (values of first, values of second).
        surface = (boxes[first] * (values * others)[:, None]).T @ boxes[second] - mean
        both = float(weights[first] @ surface**2 @ weights[second])
        found.append(max(0.0, both - own[first] - own[second]))
    fractions = np.array(found)
    return fractions / total if total > 1e-12 * (mean**2 + total) else 0 * fractions, curves


def _leaves(tree: Any, space: _Space) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Each leaf's prediction, and for each parameter which of its values lead there, as 0 and 1."""
    values: list[float] = []
    boxes: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in space.levels}
    whole = {name: np.ones(int(places.max()) + 1, bool) for name, places in space.levels.items()}
    waiting = [(0, whole)]
    while waiting:
        node, box = waiting.pop()
        if tree.children_left[node] < 0:
            values.append(float(tree.value[node].ravel()[0]))
            for name, mask in box.items():
                boxes[name].append(mask)
            continue
        name, column = space.columns[tree.feature[node]]
        left = column <= tree.threshold[node]
        waiting.append((tree.children_left[node], {**box, name: box[name] & left}))
        waiting.append((tree.children_right[node], {**box, name: box[name] & ~left}))
    return np.array(values), {name: np.array(masks, float) for name, masks in boxes.items()}
