"""Takes what a generator objective yields."""

from __future__ import annotations

import contextlib
from types import GeneratorType
from typing import Any

from sweeper.code.failures import describe
from sweeper.errors import SweeperError
from sweeper.program.trial.trial import BudgetUsed, Trial


def iterate(iterations: GeneratorType[Any, Any, Any], trial: Trial, *, record: bool) -> str:
    """Take what it yields until it ends or its budget is used up.

    Args:
        iterations: The generator.
        trial: Keeps what it yields.
        record: Whether an exception after its first iteration only ends it.

    Returns:
        The traceback of that exception; empty: there was none.

    Raises:
        ValueError: it yields nothing.
    """
    raised = ""
    with contextlib.closing(iterations):
        try:
            _take(iterations, trial)
        except _IterationError as error:
            cause = error.args[0]
            if not (record and trial.history):
                raise cause from None
            raised = describe(cause).detail
        if not trial.history:
            raise ValueError("the objective has yielded nothing: expected a dict of named numbers")
        if not raised and trial.should_stop and _may_save(iterations, trial):
            _let_save(iterations, trial)
    return raised


class _IterationError(Exception):
    """An exception of the objective's own, in one of its iterations."""


def _take(iterations: GeneratorType[Any, Any, Any], trial: Trial) -> None:
    while not trial.should_stop:
        try:
            values = next(iterations)
        except StopIteration:
            return
        except SweeperError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the objective raises
            raise _IterationError(error) from None
        trial.keep(values)


def _may_save(iterations: GeneratorType[Any, Any, Any], trial: Trial) -> bool:
    """Whether the objective has saved, or names `save`: no other is run on in vain."""
    return trial.has_saved or "save" in iterations.gi_code.co_names


def _let_save(iterations: GeneratorType[Any, Any, Any], trial: Trial) -> None:
    """Run the objective on to its next save: it comes after what was yielded last.

    So a larger budget goes on from the end of this one.  Whatever follows the save, or an exception
    before it, is no part of this trial.
    """
    trial.let_save()
    with contextlib.suppress(StopIteration, BudgetUsed, Exception):
        next(iterations)
