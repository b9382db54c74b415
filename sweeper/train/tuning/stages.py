"""The stages of tuning: their names."""

from __future__ import annotations

from sweeper.records import CHECK, TRIAL, WAY

LR_RANGE, BATCH_RANGE = "lr_range", "batch_range"
BATCH_CHOICE, LR_RESCAN = "batch_choice", "lr_rescan"
LADDER = "ladder"

FINGERPRINT = "fingerprint"
"""No stage of its own: it is taken beside the first replica of the first `ladder` or `lr_range`."""

PLAIN, FLAT, COMPILED = "plain", "flat", "compiled"
"""The ways in which a point's trials are trained: one by one, in packs, or in packs by a step that
was compiled."""

STAGE_CODES = {
    CHECK: 0,
    LR_RANGE: 1,
    BATCH_RANGE: 2,
    BATCH_CHOICE: 3,
    LR_RESCAN: 4,
    TRIAL: 5,
    WAY: 6,
    FINGERPRINT: 7,
    LADDER: 8,
}
"""Part of every seed: never change one."""


def split_stage(stage: str) -> tuple[str, int]:
    """A stage's base name and attempt: `"lr_range.2"` is `("lr_range", 2)`."""
    base, _, attempt = stage.partition(".")
    return base, int(attempt or 0)
