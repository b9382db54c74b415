"""Contract suites for selectors and backends, also for those of other packages.

Each is a function that raises an `AssertionError` which says what does not hold; no test framework
is needed.  Do not run them with Python's `-O`, which removes assertions.
"""
