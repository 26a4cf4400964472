"""How a supervisor and its zygote talk: marshalled values over a stream, with file descriptors beside them.

marshal is what costs no import, and both ends are one version of Python, started one by the other.
"""

from __future__ import annotations

import marshal
import socket
from collections.abc import Sequence
from typing import Any, Final

_LENGTH: Final = 4
_MOST_FDS: Final = 16


def send(end: socket.socket, value: Any, fds: Sequence[int] = ()) -> None:
    """Send a value of plain types, and duplicates of descriptors."""
    body = marshal.dumps(value)
    parts = len(body).to_bytes(_LENGTH, "little") + body
    sent = socket.send_fds(end, [parts], list(fds)) if fds else end.send(parts)
    if sent < len(parts):
        end.sendall(parts[sent:])


def receive(end: socket.socket) -> tuple[Any, list[int]] | None:
    """The next value with its descriptors; None where the other end is gone."""
    try:
        head, fds, _, _ = socket.recv_fds(end, _LENGTH, _MOST_FDS)
    except ConnectionResetError:
        return None
    if not head:
        return None
    head += _exactly(end, _LENGTH - len(head))
    body = _exactly(end, int.from_bytes(head, "little"))
    return marshal.loads(body), list(fds)


def _exactly(end: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = end.recv(size - len(parts))
        if not part:
            raise EOFError("the other end went away in the middle of a message")
        parts += part
    return parts
