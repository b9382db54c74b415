"""Objectives whose calls can be counted."""

from __future__ import annotations


def step(x):
    return x + 1


def objective(x):
    return sum(step(x) for _ in range(x))


def raises_at_the_end(x):
    for count in range(x):
        yield {"value": step(count)}
    raise ValueError("the end")
