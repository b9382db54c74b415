"""What other validation samples would change: their part of the variance of a difference.

Trials and samples are crossed: all trials of both points are measured on the same samples.  Whether
a trial gets a sample right is the two-way crossed random-effects model, "multi-reader multi-case"
with trials as readers (N. A. Obuchowski and H. E. Rockette, 1995; for 0 and 1: B. D. Gallas, G. A.
Pennello and K. J. Myers, 2007; B. D. Gallas et al., 2009):

    right = the point's mean + luck of the trial + that of the sample + of this trial with it

Trials show the first and the last luck.  What they cannot show is that of the samples: some are
hard for every trial of a point.  Most are as hard for another point, which cancels where samples
are paired.  With d the mean of the trials of one point less that of the other, for each of n
samples, the part of a difference's variance is

    (mean square of d - mean square of trial × sample / trials, of both points) / n

since the last luck, averaged over the trials, is in d, too, and is counted among the trials.  Good
points differ in few samples, by chance in none at all.  So two samples are added: one that only the
first point gets right, and one that only the second does (D. G. Bonett and R. M. Price, 2012,
*Adjusted Wald confidence interval for a difference of binomial proportions based on paired data*).

Trials are taken as if of one tuning each, so that less is subtracted of what a tuning has with a
sample than might be.  If two points have other samples at the same places, the part is as large as
without pairing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from sweeper.stats.components import Estimate, FloatArray

_ADDED = 2
"""Samples that are added, of which only one point gets each right."""


@dataclass(frozen=True, slots=True)
class SamplesPart:
    """The part of a difference's variance that comes from the choice of the samples."""

    variance: float
    spread: float = 0.0
    """How well it is known: the root of the sum over the mean squares in it of (its part)² / (its
    degrees of freedom), which F. E. Satterthwaite (1946) sums; 0 for a bound, not an estimate."""


NO_PART = SamplesPart(0.0)


@dataclass(frozen=True, slots=True)
class Correctness:
    """What some trials of a point got right."""

    shares: FloatArray
    """For each sample the share of the trials that are right, shape (samples,)."""
    trials: int
    residual: float
    """Mean square of trial × sample; 0 with one trial, which does not show it."""

    @classmethod
    def of(cls, right: NDArray[Any]) -> Correctness:
        """From 0 or 1 of each trial and sample, shape (trials, samples); at least two samples."""
        trials, samples = right.shape
        shares = right.mean(axis=0)
        if trials < 2:
            return cls(shares, trials, 0.0)
        rest = right - shares - right.mean(axis=1, keepdims=True) + shares.mean()
        return cls(shares, trials, float((rest**2).sum()) / ((trials - 1) * (samples - 1)))


def paired_part(first: Correctness, second: Correctness) -> SamplesPart:
    """What samples add, from what trials of both points got right of the same ones."""
    n = len(first.shares)
    square = float((first.shares - second.shares).var(ddof=1))
    parts = [(square / n, n - 1)]
    parts += [
        (-one.residual / one.trials / n, (one.trials - 1) * (n - 1))
        for one in (first, second)
        if one.trials > 1
    ]
    variance = max(0.0, sum(part for part, _ in parts)) + _ADDED / n**2
    return SamplesPart(variance, math.sqrt(sum(part**2 / freedom for part, freedom in parts)))


def bound(first: float, second: float, samples: int) -> SamplesPart:
    """The most that samples add to the difference of two accuracies on the same `samples` ones.

    The samples that only one gets right are at most as many as both get wrong in total; for the
    unknown number the worst case is assumed.
    """
    wrong = (1 - first) + (1 - second)
    return SamplesPart(max(0.0, min(1.0, wrong) - (first - second) ** 2) / samples)


def over_samples(mean: Estimate, samples: int) -> Estimate:
    """The mean accuracy of a point with the variance that it has on new samples, too.

    The part of the samples is that of a single trial, which is the most that it can be.
    """
    variance = mean.variance + mean.mean * (1 - mean.mean) / samples
    if not variance > 0:
        return mean
    share = (mean.variance / variance) ** 2
    return replace(mean, variance=variance, own=share * mean.own, shared=share * mean.shared)
