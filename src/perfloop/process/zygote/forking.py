"""The zygote at work: it forks a worker for each order, and tells of each that ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Final

from perfloop.process.zygote import wire
from perfloop.process.zygote.child import Forked, changed_environment, changed_signals
from perfloop.process.zygote.spare import Parked, Spare

GRACE_S: Final = 5.0
"""How long workers may take to end when the supervisor is gone."""
_TICK_S: Final = 0.005
_QUIET_MS: Final = 20
"""Without an order, after which a spare worker is forked: the workers that were ordered come before it."""
_TOO_MANY: Final = (
    "there are as many processes as `ulimit -u`, or pids.max of the control group, allows; raise it, or have"
    " fewer workers"
)


class Forker:
    """Serves one supervisor, over one socket, with one thread.

    Args:
        control: The socket.
        received: Of it.
        said: To it.
    """

    def __init__(self, control: socket.socket, received: wire.Receiver, said: wire.Sender) -> None:
        self._control = control
        self._received = received
        self._said = said
        self._awake, self._wake = socket.socketpair()
        self._pid = os.getpid()
        self._signals: dict[int, Any] = {}
        self._environment: dict[str, str] = {}
        """As it is; modules that were loaded may have changed it."""
        self._all_signals = signal.valid_signals()
        self._running: set[int] = set()
        self._spare: Spare | None = None
        self._needs_spare = False

    def __enter__(self) -> Forker:
        for end in (self._awake, self._wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _take_note)
        self._signals = changed_signals()
        self._environment = dict(os.environ)
        return self

    def __exit__(self, *_: object) -> None:
        """Of the fork alone: the zygote itself leaves by its end."""
        for end in (self._awake, self._wake, self._control):
            end.close()
        self._drop_spare()

    def serve(self) -> Forked | Parked | None:
        """Fork until the supervisor is gone; what this process is then, a fork or None for the zygote."""
        poll = select.poll()
        poll.register(self._awake, select.POLLIN)
        while True:
            poll.register(self._control, select.POLLIN | (select.POLLOUT if self._said.is_behind else 0))
            ready = dict(poll.poll(_QUIET_MS if self._needs_spare else None))
            if self._awake.fileno() in ready:
                self._awake.recv(4096)
                self._reap()
            events = ready.get(self._control.fileno(), 0)
            if events & select.POLLOUT:
                self._tell()
            received = self._received.receive() if events & ~select.POLLOUT else []
            if received is None:
                self._end_all()
                return None
            forked = self._fork_each(received) if ready else self._park()
            if forked is not None:
                return forked

    def _fork_each(self, orders: list[tuple[Any, list[int]]]) -> Forked | None:
        """Fork for each order; in a fork, what it is to be."""
        for place, (order, fds) in enumerate(orders):
            forked = self._fork(order, fds)
            if forked is not None:
                for _, others in orders[place + 1 :]:
                    _close_all(others)
                return forked
            _close_all(fds)
        return None

    def _fork(self, order: dict[str, Any], fds: list[int]) -> Forked | None:
        number = order["number"]
        if not fds:
            self._tell(("failed", number, "the zygote has too many files open; raise `ulimit -n`"))
            return None
        if order["target"] and not order["is_afresh"]:
            self._needs_spare = True
            if self._has_handed(order, fds):
                return None
        environment = changed_environment(order["environment"], self._environment)
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            why = _TOO_MANY if isinstance(error, BlockingIOError) else "have fewer workers"
            self._tell(("failed", number, f"it cannot be forked: {error.strerror}; {why}"))
            return None
        if pid == 0:
            return Forked(order, fds, environment, self._signals, self._pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._has_started(number, pid)
        return None

    def _has_started(self, number: int, pid: int) -> None:
        self._running.add(pid)
        self._tell(("started", number, pid))

    def _has_handed(self, order: dict[str, Any], fds: list[int]) -> bool:
        """Whether there was a spare worker for this order."""
        spare, self._spare = self._spare, None
        if spare is None or not spare.hand(order, fds):
            return False
        self._has_started(order["number"], spare.pid)
        return True

    def _park(self) -> Parked | None:
        """Fork a spare worker; in the fork, what it has."""
        self._needs_spare = False
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, self._all_signals)
        try:
            pid = os.fork()
        except OSError:  # it can be done without, and is tried again after the next order
            pid = -1
        if pid == 0:
            ours.close()
            return Parked(theirs, self._signals, self._pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        theirs.close()
        if pid > 0:
            ours.setblocking(False)
            self._spare = Spare(pid, ours)
        else:
            ours.close()
        return None

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.end.close()
            self._spare = None

    def _reap(self) -> None:
        """Tell of each worker that ended, once nothing is left of what it has started.

        Its group is killed before it is reaped: until then, no other process can have its number.
        """
        while self._running or self._spare is not None:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            if ended.si_pid in self._running:
                _kill_group(ended.si_pid)
            pid, status, usage = os.wait4(ended.si_pid, 0)
            if self._spare is not None and pid == self._spare.pid:
                self._drop_spare()
            if pid not in self._running:
                continue
            self._running.discard(pid)
            cpu_s, code = usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)
            self._tell(("exited", pid, code, cpu_s, usage.ru_maxrss))

    def _tell(self, *words: object) -> None:
        with suppress(OSError):  # the supervisor is gone, which the next round finds
            for word in words:
                self._said.send(word)
            self._said.flush()

    def _end_all(self) -> None:
        """Without a supervisor nobody is needed: ask, wait for the time of grace, and kill."""
        self._drop_spare()
        for pid in self._running:
            os.kill(pid, signal.SIGTERM)
        deadline_s = time.monotonic() + GRACE_S
        while self._running:
            if time.monotonic() > deadline_s:
                for pid in self._running:
                    _kill_group(pid)
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            time.sleep(_TICK_S)
        while self._said.is_behind and time.monotonic() < deadline_s + GRACE_S:
            self._tell()
            time.sleep(_TICK_S)


def _take_note(number: int, frame: object) -> None:
    """The wake-up descriptor has it already."""


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _close_all(fds: list[int]) -> None:
    for each in fds:
        os.close(each)


def keep_only(control: int) -> None:
    """Close what the supervisor had of others, read nothing of its input, and leave its output to workers."""
    os.closerange(3, control)
    os.closerange(control + 1, os.sysconf("SC_OPEN_MAX"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    os.set_inheritable(control, False)
    sys.stdout.flush()
