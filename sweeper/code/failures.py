"""Turns exceptions in a worker into failures of replicas."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path
from types import TracebackType
from typing import Literal

from sweeper.errors import ChangedCodeError, DiskError, SweeperError
from sweeper.records import Failure


def describe(error: BaseException) -> Failure:
    """An exception as a failure: its last line, and the traceback."""
    message = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, SweeperError):  # its message is written for users
        message = str(error)
    while (trace := error.__traceback__) is not None and _is_ours(trace):
        error = error.with_traceback(trace.tb_next)
    return Failure(_kind(error, message), message, "".join(traceback.format_exception(error)))


def _kind(error: BaseException, message: str) -> Literal["memory", "disk", "exception", "changed"]:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, DiskError) or number in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    # torch says it in words.
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _NO_MEMORY in message:
        return "memory"
    return "changed" if isinstance(error, ChangedCodeError) else "exception"


_NO_MEMORY = "can't allocate memory"


def _is_ours(trace: TracebackType) -> bool:
    """Whether a frame is this package's own on the way to user code, which helps no user."""
    return trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE)


_PACKAGE = str(Path(__file__).parents[1]) + os.sep
