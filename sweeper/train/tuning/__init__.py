"""Tuning of points: decisions in pure functions, without torch."""
