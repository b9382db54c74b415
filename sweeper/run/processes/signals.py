"""Signals to stop, as a file descriptor that can be waited for."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """Context manager that notes the first signal to stop; a second one has its usual effect.

    Outside the main thread, where Python allows no signal handlers, it notes nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The signal that arrived, if any."""
        self._woken, self._waker = os.pipe()
        self._before: dict[int, Any] = {}

    def fileno(self) -> int:
        """A file descriptor that is readable once a signal has arrived."""
        return self._woken

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in _STOPPING:
                number = getattr(signal, name, None)
                # An ignored signal (nohup) stays ignored.
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        os.close(self._woken)
        os.close(self._waker)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        os.write(self._waker, b"!")
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
