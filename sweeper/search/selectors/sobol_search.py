"""`SobolSearch`: points drawn quasi-randomly."""

from __future__ import annotations

from sweeper.search.checks import check_count
from sweeper.search.domain import Domain, check_domain
from sweeper.search.listed import Listed


class SobolSearch(Listed):
    """Points of a domain at the places of a scrambled Sobol sequence; no two are alike.

    They fill the domain more evenly than random points do, most so for a power of two of them
    (`scipy.stats.qmc.Sobol` names the papers).  With the same domain and seed, asking for more
    points only adds points, so that a sweep can be extended.

    Args:
        domain: What to draw from, finite or not.
        points: Number of points.
        trials: Number of trials per point.
        seed: Random seed of the scrambling.

    Raises:
        UsageError: the domain has not as many points, its constraints refuse nearly all, or a
            number breaks its rule.
    """

    name = "sobol"

    def __init__(self, domain: Domain, points: int, trials: int, *, seed: int = 0) -> None:
        check_count("trials", trials)
        drawn = check_domain(domain).sample(points, seed, sobol=True)
        super().__init__((point, trials) for point in drawn)
