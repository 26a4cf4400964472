"""What a supervisor asks of whoever starts its workers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Protocol

from perfloop.model.value import Value


class WorkerOrder(Value, frozen=True, kw_only=True):
    """One worker to be started."""

    name: str
    target: str
    """`module:function`, which is called with the name, the channel's file descriptor, and the arguments."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str]
    folder: str | None = None
    """None takes the supervisor's."""


class WorkerExit(Value, frozen=True, kw_only=True):
    """A worker that has ended."""

    pid: int
    code: int
    """Its exit code; the negative number of the signal that ended it."""
    cpu_s: float
    """Of the user and the system, its children included."""
    peak_rss_bytes: int


class Launcher(Protocol):
    """Starts workers and tells of their ends; one event loop uses it.

    It is made with `on_exit`, which is called in the event loop once for every worker that was started.
    """

    async def open(self) -> None:
        """Be ready to start workers.

        Raises:
            LaunchFailed: It cannot.
        """

    async def start(self, order: WorkerOrder, *, channel: socket.socket, stdout: int, stderr: int) -> int:
        """Start a worker; its process id. The descriptors are duplicated: the caller closes its own.

        Raises:
            LaunchFailed: It cannot be started.
        """

    async def close(self) -> None:
        """End, and with it all workers that still run."""


OnExit = Callable[[WorkerExit], None]
