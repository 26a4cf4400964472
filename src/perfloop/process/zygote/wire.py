"""How a supervisor and its zygote talk: marshalled values over a stream, with file descriptors beside them.

marshal is what costs no import, and both ends are one version of Python, started one by the other. Neither
end ever waits for the other to read: each of them has something else to do meanwhile, and two that wait for
one another would wait for ever.
"""

from __future__ import annotations

import marshal
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

_LENGTH: Final = 4
_HEAD: Final = _LENGTH + 1
"""The length of the body, and how many descriptors come with it."""
_MOST_FDS: Final = 16
_CHUNK: Final = 1 << 16
_CLOSE_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def packed(value: Any, fds: int = 0) -> bytes:
    """A value of plain types as it is sent."""
    body = marshal.dumps(value)
    return len(body).to_bytes(_LENGTH, "little") + bytes([fds]) + body


class Sender:
    """Sends over a socket that does not block, and keeps what does not fit into it yet.

    Args:
        end: The socket, which is somebody else's to close.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._left: deque[tuple[bytes, list[int]]] = deque()

    @property
    def is_behind(self) -> bool:
        """Whether something is still to be sent: `flush` when the socket can be written to."""
        return bool(self._left)

    def send(self, value: Any, fds: Sequence[int] = ()) -> None:
        """Send a value, and duplicates of descriptors; they may be closed after this.

        Raises:
            OSError: The other end is gone.
        """
        self._left.append((packed(value, len(fds)), [os.dup(each) for each in fds]))
        self.flush()

    def flush(self) -> None:
        """Send what can be sent now.

        Raises:
            OSError: The other end is gone.
        """
        while self._left:
            parts, fds = self._left.popleft()
            try:
                sent = socket.send_fds(self._end, [parts], fds) if fds else self._end.send(parts)
            except BlockingIOError:
                self._left.appendleft((parts, fds))
                return
            except OSError:
                _close_all(fds)
                raise
            _close_all(fds)
            if sent < len(parts):
                self._left.appendleft((parts[sent:], []))

    def close(self) -> None:
        """Give up what was not sent."""
        while self._left:
            _close_all(self._left.pop()[1])


class Receiver:
    """Takes apart what comes over a socket that does not block.

    Args:
        end: The socket, which is somebody else's to close.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._bytes = bytearray()
        self._fds: deque[list[int]] = deque()

    def receive(self) -> list[tuple[Any, list[int]]] | None:
        """The values that are here, with their descriptors; None where the other end is gone.

        Of descriptors none are there where this process may have no more of them.
        """
        try:
            parts, fds, flags, _ = socket.recv_fds(self._end, _CHUNK, _MOST_FDS, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not parts:
            return None
        self._bytes += parts
        if fds or flags & socket.MSG_CTRUNC:
            self._fds.append(list(fds))
        return list(iter(self._next, None))

    def _next(self) -> tuple[Any, list[int]] | None:
        if len(self._bytes) < _HEAD:
            return None
        size, count = int.from_bytes(self._bytes[:_LENGTH], "little"), self._bytes[_LENGTH]
        if len(self._bytes) < _HEAD + size:
            return None
        value = marshal.loads(self._bytes[_HEAD : _HEAD + size])
        del self._bytes[: _HEAD + size]
        fds = self._fds.popleft() if count else []
        if len(fds) < count:
            _close_all(fds)
            fds = []
        return value, fds


def _close_all(fds: Sequence[int]) -> None:
    for each in fds:
        os.close(each)
