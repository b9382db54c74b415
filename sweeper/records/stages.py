"""The stored names: of stages, of execution modes, and the release of the numerics."""

from __future__ import annotations

import hashlib
from functools import lru_cache

NUMERICS = 3
"""The release of the numerics: raised by every change of a bit of a result.  1: matmul kernels as
MKL chooses them, losses of a set weighed by samples, logits of labels compared with 0.5.
2: a parameter that `model` takes goes to no other function."""

TRIAL = "trial"
"""The stage name of trials of the workload's own length; with a budget: see `trial_stage`."""

CHECK = "check"
"""The stage that checks the problem, once, on the first point: its failure is the problem's."""

DESCRIBE = "describe"
"""The stage that finds what a plan must know of a point beforehand: nothing is trained."""

CHOOSE_MODE = "way"
"""The stage that chooses the execution mode of a point's trials: nothing is trained."""

UNTRAINED = (CHECK, DESCRIBE, CHOOSE_MODE)
"""The stages that train nothing."""

REFUSED = "refused"
"""What `FailureReport` has as the stage of a point whose parameters do not fit."""

EAGER, PACKED, COMPILED = "plain", "flat", "compiled"
"""The execution modes: one by one by torch itself, in packs, or in packs by a compiled step.  The
stored values are the names of earlier releases."""


def trial_stage(budget: int | None, lineage: str = "") -> str:
    """The stage name of trials with a budget: `"trial"` for None, `"trial@3"` for 3.

    The lineage of trials that begin from others follows: `"trial@3+1-0123456789abcdef"`.
    """
    stage = TRIAL if budget is None else f"{TRIAL}@{budget}"
    return f"{stage}+{lineage}" if lineage else stage


@lru_cache(maxsize=256)
def is_trial(stage: str) -> bool:
    """Whether a stage is one of trials; every other stage is a stage of tuning."""
    return stage == TRIAL or stage.startswith((f"{TRIAL}@", f"{TRIAL}+"))


@lru_cache(maxsize=256)
def budget_of(stage: str) -> int | None:
    """The budget of a stage of trials; None: the workload's own length."""
    _, at, budget = stage.partition("+")[0].partition("@")
    return int(budget) if at else None


def lineage_of(stage: str) -> str:
    """The lineage of a stage of trials; empty: they begin from nothing."""
    return stage.partition("+")[2]


def file_suffix(stage: str) -> str:
    """What names of files of a stage's trials end with: empty for those of `"trial"`."""
    return stage.removeprefix(TRIAL)


def descend(signature: str, stage: str, number: int) -> str:
    """The lineage of trials that begin from this one: their generation, and a digest of it.

    The stage has the lineage of the parent itself, so the digest is one of the whole chain.
    """
    text = f"{signature}\n{stage}\n{number}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{generation_of(lineage_of(stage)) + 1}-{digest}"


def generation_of(lineage: str) -> int:
    """How many trials lie before those of this lineage, one begun from the other."""
    return int(lineage.partition("-")[0]) if lineage else 0
