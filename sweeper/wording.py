"""Wording of messages."""


def plural(number: int, noun: str) -> str:
    """A count with its noun: `1 trial`, `2 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
