"""What a supervisor asks of whoever starts its workers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Protocol

from perfloop.model.value import Value, require


class WorkerLimits(Value, frozen=True, kw_only=True):
    """What a worker, with all that it starts, is held to from its first moment."""

    nice: int = 0
    """Added to the supervisor's; below zero only where there is a right to it."""
    cpus: tuple[int, ...] = ()
    """Processors that it may run on, on Linux; none given means all."""
    rlimits: Mapping[str, int] = {}
    """By the names of the `resource` module without `RLIMIT_`: `{"AS": 2 << 30, "NOFILE": 4096}`."""


class WorkerOrder(Value, frozen=True, kw_only=True):
    """One worker to be started: a target or a command."""

    name: str
    target: str | None = None
    """`module:function`, which is called with the name, the channel's file descriptor, and the arguments."""
    arguments: tuple[str, ...] = ()
    """Of the target."""
    command: tuple[str, ...] = ()
    """A program and its arguments; the channel's file descriptor is in its variable PERFLOOP_CHANNEL."""
    environment: Mapping[str, str]
    """The whole of it. What Python reads when it starts (PYTHONPATH, PYTHONHASHSEED, …) counts for commands
    and spawned targets, and is the supervisor's own for forked ones."""
    folder: str | None = None
    """None takes the supervisor's."""
    limits: WorkerLimits = WorkerLimits()

    def __post_init__(self) -> None:
        require((self.target is None) == bool(self.command), "target, command: one of them, and not both")


class WorkerExit(Value, frozen=True, kw_only=True):
    """A worker that has ended."""

    pid: int
    code: int
    """Its exit code; the negative number of the signal that ended it."""
    cpu_s: float
    """Of the user and the system, its children included."""
    peak_rss_bytes: int
    is_out_of_memory: bool = False
    """Whether the system ended it for want of memory; the supervisor finds that out."""


class Launcher(Protocol):
    """Starts workers and tells of their ends; one event loop uses it.

    It is made with `on_exit`, which is called in the event loop once for every worker that was started,
    however it ended; for one that ends at once it may be called before `start` returns. A worker leads a
    session of its own, and what else is left in that when it ends is killed.
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
        """End, and with it all workers that still run: by SIGTERM, and after some seconds by SIGKILL."""


OnExit = Callable[[WorkerExit], None]
