"""Error messages for users: wrong command lines, and errors in the user's own code."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

_HERE = str(Path(__file__).parents[1])
"""The folder of the package."""


def explain_writing(error: Exception) -> str:
    """A wrong command line, explained by typer in one line."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sweeper"
    message = getattr(error, "format_message", error.__str__)()
    return f"{' '.join(message.split())} (see {command} --help)"


def own_traceback(error: BaseException) -> str:
    """The traceback, from the first frame on that is not in sweeper."""
    found = error.__traceback__
    while found is not None and _is_ours(found) and found.tb_next is not None:
        found = found.tb_next
    return "".join(traceback.format_exception(type(error), error, found))


def _is_ours(found: TracebackType) -> bool:
    return found.tb_frame.f_code.co_filename.startswith(_HERE)


def place_of(cause: BaseException | None) -> str:
    """Where in the user's own code `cause` was raised, as a remark."""
    libraries = (_HERE, "<", *(sysconfig.get_path(name) for name in ("stdlib", "purelib")))
    if cause is None:
        return ""
    # An error raised in another process carries its location with it.
    frames = getattr(cause, "frames", None) or traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
