"""Every exception that sweeper raises on purpose, in one tree.

    SweeperError
    ├── UsageError             what was asked for cannot be done as written (also a ValueError)
    │   ├── ProblemError       the problem module: what was found, what is expected
    │   ├── SettingsError      a field of the settings: its name, value and rule
    │   ├── ParamError         a parameter value that cannot be stored
    │   └── FolderError        the folder: another sweep's, in use, or not a sweep at all
    │       └── ChangedCodeError   the problem's code has changed
    ├── SelectorError          the user's selector raised, or broke its protocol
    ├── StalledError           nothing runs, nothing can start, and the selector is not done
    ├── DiskError              the disk refused: full, failing, read-only or gone (also an OSError)
    ├── StoppedError           too much failed to go on; finished work is on disk
    ├── StillRunningError      a sweep that was asked to stop has not done so (also a TimeoutError)
    └── BackendError           workers could not be started

    KeyboardInterrupt
    └── SweepInterrupted       Ctrl-C or SIGTERM; finished work is on disk.  Not in the tree,
                               so that `except Exception` does not catch it

A message names the value, the rule and the choices.  A training that fails raises nothing: a
failure is an outcome (see `sweeper.records.Failure`).
"""

from __future__ import annotations

from collections.abc import Iterable


class SweeperError(Exception):
    """The root of sweeper's exceptions."""


class UsageError(SweeperError, ValueError):
    """What was asked for cannot be done as written."""


class ProblemError(UsageError):
    """The problem module lacks something, or its parts do not work together."""


class SettingsError(UsageError):
    """A field of the settings breaks its rule."""


class ParamError(UsageError):
    """A parameter value that cannot be stored and read back."""


class FolderError(UsageError):
    """The folder belongs to another sweep, is in use, or holds no sweep."""


class ChangedCodeError(FolderError):
    """The problem's code has changed, and it is not known whether results still hold."""


class SelectorError(SweeperError):
    """The selector raised, or answered something that its protocol does not allow."""


class StalledError(SweeperError):
    """Nothing runs, nothing can start, and the selector says that it is not done."""


class DiskError(SweeperError, OSError):
    """The disk is full, failing or read-only, or the folder is gone; finished work is kept."""


class StoppedError(SweeperError):
    """The sweep stopped by itself, since too much failed; finished work is kept."""


class StillRunningError(SweeperError, TimeoutError):
    """A sweep that was asked to stop has not done so in the time that it was given."""


class BackendError(SweeperError):
    """Workers could not be started."""


class SweepInterrupted(KeyboardInterrupt):
    """The sweep was told to stop; finished work is on disk."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """A remark that names the most similar known name, if one is similar."""
    import difflib  # needed for messages alone

    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def plural(number: int, noun: str) -> str:
    """A count with its noun: `1 trial`, `2 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
