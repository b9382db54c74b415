"""Contracts that other people's selectors and backends can run on their own.

Each is a function that raises an `AssertionError` which says what does not hold; nothing of a test
framework is needed.  Not for Python's `-O`, which leaves assertions out.
"""
