"""Contract suites for selectors and backends, also for those of other packages.

Each is a function that raises an `AssertionError` which says what does not hold; no test framework
is needed.  Do not run them with Python's `-O`, which removes assertions.

    from sweeper.testing import check_selector

    def test_climber():
        check_selector(lambda: Climber(start=3))
"""

from sweeper.testing.backends import check_backend
from sweeper.testing.selectors import check_selector

__all__ = ["check_backend", "check_selector"]
