"""Pickled messages over a socket pair: the driver's end never blocks, the worker's end does."""

from __future__ import annotations

import pickle
import socket
from typing import Any

_LENGTH = 8
_CHUNK = 1 << 18


class Channel:
    """One end; a message is its length in eight bytes, then its pickle."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._received = bytearray()
        self._unsent = bytearray()

    def fileno(self) -> int:
        """The file descriptor, for `selectors`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    # -- the worker's end -------------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """Send after all pending messages, and wait until the socket has taken it.

        Raises:
            OSError: the other end is closed.
        """
        self.put(message)
        self._socket.sendall(self._unsent)
        self._unsent.clear()

    def receive(self) -> Any:
        """The next message; waits for it.

        Raises:
            EOFError: the other end is closed.
        """
        while (framed := self._next()) is None:
            self._read(0)
        return pickle.loads(framed)  # noqa: S301 - written by sweeper

    # -- the driver's end -------------------------------------------------------------------------

    def put(self, message: Any) -> None:
        """Have a message sent by `flush`."""
        self._unsent += _framed(message)

    def flush(self) -> bool:
        """Send what the socket takes without waiting; True where nothing is left.

        Raises:
            OSError: the other end is closed.
        """
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            del self._unsent[:sent]
        return True

    def take(self) -> tuple[list[Any], bool]:
        """The messages that have come, without waiting, and whether the other end is closed.

        What cannot be read as a message closes it as well.
        """
        closed = False
        try:
            while True:
                self._read(socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except (EOFError, OSError):
            closed = True
        messages = []
        try:
            while (framed := self._next()) is not None:
                messages.append(pickle.loads(framed))  # noqa: S301 - written by sweeper
        except Exception:  # noqa: BLE001 - unpickling raises whatever it likes
            closed = True
        return messages, closed

    def _read(self, flags: int) -> None:
        chunk = self._socket.recv(_CHUNK, flags)
        if not chunk:
            raise EOFError
        self._received += chunk

    def _next(self) -> bytes | None:
        received = self._received
        if len(received) < _LENGTH:
            return None
        end = _LENGTH + int.from_bytes(received[:_LENGTH], "little")
        if len(received) < end:
            return None
        framed = bytes(received[_LENGTH:end])
        del received[:end]
        return framed


def _framed(message: Any) -> bytes:
    pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(pickled).to_bytes(_LENGTH, "little") + pickled
