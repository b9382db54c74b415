"""How long what is left of a sweep will take."""

from __future__ import annotations


def seconds_left(
    *,
    trials_left: int,
    trials_ended: int,
    trial_seconds: float,
    untuned: int,
    tuned: int,
    tuning_seconds: float,
    slots: int,
) -> float | None:
    """The remaining work at the observed speeds, divided by the number of slots.

    `trial_seconds` and `tuning_seconds` are what all trials that have ended, and all tuning so far,
    took together.  None while too little is known.
    """
    if (trials_left and not trials_ended) or (untuned and not tuned):
        return None
    trials = trials_left * trial_seconds / trials_ended if trials_left else 0.0
    tuning = untuned * tuning_seconds / tuned if untuned else 0.0
    return (trials + tuning) / slots
