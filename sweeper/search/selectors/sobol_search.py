"""`SobolSearch`: points drawn quasi-randomly."""

from __future__ import annotations

from sweeper.renamed import OF_RESEARCH, refuses_earlier
from sweeper.search.checks import check_count
from sweeper.search.domain import Domain, check_domain
from sweeper.search.shared.listed import Listed


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
        budget: How far each trial goes, in iterations of a program or learning-rate cycles of a
            problem; None: its whole length.

    Raises:
        UsageError: the domain has not as many points, its constraints refuse nearly all, or a
            number breaks its rule.
    """

    name = "sobol"

    @refuses_earlier(n_reps=OF_RESEARCH["n_reps"], n_configs="give points=")
    def __init__(
        self, domain: Domain, points: int, trials: int, *, seed: int = 0, budget: int | None = None
    ) -> None:
        check_count("trials", trials)
        drawn = check_domain(domain).sample(points, seed, sobol=True)
        super().__init__(((point, trials) for point in drawn), budget)
