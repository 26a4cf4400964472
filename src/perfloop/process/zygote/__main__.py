"""The zygote's own code: `python -m perfloop.process.zygote FD`, where FD is its end of a socket pair."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from typing import Any, Final

from perfloop.process.zygote import child, wire
from perfloop.process.zygote.preload import preload, threads

GRACE_S: Final = 5.0
"""How long workers may take to end when the supervisor is gone."""


def main() -> None:
    """Preload, say how that went, and fork until the supervisor is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    awake, wake = socket.socketpair()
    for end in (awake, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = wire.receive(control)
    if first is None:
        return
    order, _ = first
    sys.path[:0] = [each for each in order["path"] if each not in sys.path]
    wire.send(control, ("preloaded", os.getpid(), preload(order["preload"]), threads()))
    _serve(control, awake, wake)


def _serve(control: socket.socket, awake: socket.socket, wake: socket.socket) -> None:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(awake, select.POLLIN)
    running: set[int] = set()
    while True:
        ready = {number for number, _ in poll.poll()}
        if awake.fileno() in ready:
            awake.recv(4096)
            _reap(control, running)
        if control.fileno() in ready:
            received = wire.receive(control)
            if received is None:
                _end(control, running)
                return
            order, fds = received
            running.add(_fork(order, fds, (control, awake, wake), control))


def _fork(order: Any, fds: list[int], ours: tuple[socket.socket, ...], control: socket.socket) -> int:
    """Start a worker; its process id, which the supervisor is told as well."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(order, fds, ours, parent)
    for each in fds:
        os.close(each)
    wire.send(control, ("started", order["name"], pid))
    return pid


def _become(order: Any, fds: list[int], ours: tuple[socket.socket, ...], parent: int) -> None:
    """The child's whole life; it never returns."""
    code = 1
    try:
        for end in ours:
            end.close()
        code = child.run(order, dict(zip(order["fds"], fds, strict=True)), parent)
    except SystemExit as end_of:
        code = end_of.code if isinstance(end_of.code, int) else int(end_of.code is not None)
    except BaseException:  # noqa: BLE001  # the end of a process: told where its supervisor reads, as Python does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap(control: socket.socket, running: set[int]) -> None:
    """Tell the supervisor of each worker that ended."""
    while running:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        running.discard(pid)
        cpu_s, code = usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)
        with suppress(ConnectionError):  # the supervisor is gone, which the next round finds
            wire.send(control, ("exited", pid, code, cpu_s, usage.ru_maxrss))


def _end(control: socket.socket, running: set[int]) -> None:
    """Without a supervisor nobody is needed: ask, wait for the time of grace, and kill."""
    for pid in running:
        os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + GRACE_S
    while running and time.monotonic() < deadline_s:
        _reap(control, running)
        time.sleep(0.005)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    while running:
        _reap(control, running)
        time.sleep(0.001)


if __name__ == "__main__":
    main()
