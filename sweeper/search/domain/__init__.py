"""Domains: sets of points to try or to draw from, with an algebra.

`domain.py` has `Domain`, `nodes.py` the expression behind one, `axes.py` the values of a parameter,
`distributions.py` the distributions, `sampling.py` random and quasi-random points, `writing.py` the
text of an expression.  Pure.
"""

from sweeper.records import Alias
from sweeper.search.domain.distributions import (
    Choice,
    Constant,
    Distribution,
    IntUniform,
    LogIntUniform,
    LogUniform,
    Normal,
    Uniform,
)
from sweeper.search.domain.domain import Domain, Option, check_domain
from sweeper.search.domain.updates import UpdatedDomain

__all__ = [
    "Alias",
    "Choice",
    "Constant",
    "Distribution",
    "Domain",
    "IntUniform",
    "LogIntUniform",
    "LogUniform",
    "Normal",
    "Option",
    "Uniform",
    "UpdatedDomain",
    "check_domain",
]
