"""The names of the stages of tuning, and the codes that they have in seeds."""

from __future__ import annotations

from sweeper.records import CHECK, CHOOSE_MODE, DESCRIBE, TRIAL, is_trial

LR_RANGE, BATCH_RANGE = "lr_range", "batch_range"
BATCH_CHOICE, LR_RESCAN = "batch_choice", "lr_rescan"
LADDER = "ladder"

FINGERPRINT = "fingerprint"
"""Not a stage: a fingerprint is taken with the first replica of the first `ladder` or `lr_range`,
or with `describe` if nothing is tuned."""

STAGE_CODES = {
    CHECK: 0,
    LR_RANGE: 1,
    BATCH_RANGE: 2,
    BATCH_CHOICE: 3,
    LR_RESCAN: 4,
    TRIAL: 5,
    CHOOSE_MODE: 6,
    FINGERPRINT: 7,
    LADDER: 8,
    DESCRIBE: 9,
    "weight_decay": 10,
    "momentum": 11,
}
"""Part of every seed: never change one."""


def split_stage(stage: str) -> tuple[str, int]:
    """A stage's base name and attempt: `"lr_range.2"` is `("lr_range", 2)`.

    Trials are one stage whatever their budget, so that they share their random streams; what they
    began from is added to these elsewhere.
    """
    if is_trial(stage):
        return TRIAL, 0
    base, _, attempt = stage.partition(".")
    return base, int(attempt or 0)
