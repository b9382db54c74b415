"""How long what is left of a sweep will take."""

from __future__ import annotations


def seconds_left(
    *,
    slots_left: float,
    trials_ended: int,
    trial_seconds: float,
    untuned: int,
    tuned: int,
    tuning_seconds: float,
    slots: int,
) -> float | None:
    """The remaining work at the observed speeds, divided by the number of slots.

    `trial_seconds` and `tuning_seconds` are what all trials that have ended, and all tuning so far,
    took together; `slots_left` are the slots that each trial takes which is left, added up: as many
    as trials, where each takes one.  None while too little is known.
    """
    if (slots_left and not trials_ended) or (untuned and not tuned):
        return None
    trials = slots_left * trial_seconds / trials_ended if slots_left else 0.0
    tuning = untuned * tuning_seconds / tuned if untuned else 0.0
    return (trials + tuning) / slots
