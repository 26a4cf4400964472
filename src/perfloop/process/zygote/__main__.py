"""The zygote's own code: `python -m perfloop.process.zygote FD`, where FD is its end of a socket pair."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from typing import Any

from perfloop.process.zygote import child, ending, spawned, wire
from perfloop.process.zygote.forking import Forker, keep_only
from perfloop.process.zygote.preload import preload
from perfloop.process.zygote.spare import Parked


def main() -> None:
    """Preload, say how that went, and fork until the supervisor is gone; in a fork, do what it is for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child.die_with_parent(os.getppid())
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(False)
    keep_only(control.fileno())
    received, said = wire.Receiver(control), wire.Sender(control)
    first = _first(control, received)
    if first is None:
        return
    sys.path[:] = [*first["path"], *(each for each in sys.path if each not in first["path"])]
    loaded = preload(first["preload"], lambda name: said.send(("loading", name)))
    child.outlive_parent()
    with Forker(control, received, said) as forker:
        said.send(("preloaded", [tuple(each) for each in loaded]))
        forked = forker.serve()
        if forked is None:
            os._exit(0)
    _become(forked.wait() if isinstance(forked, Parked) else forked)


def _first(control: socket.socket, received: wire.Receiver) -> Any:
    """The first word; None where the supervisor has gone without one."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        poll.poll()
        words = received.receive()
        if words is None:
            return None
        if words:
            return words[0][0]


def _become(forked: child.Forked) -> None:
    """Be what was ordered, and never return."""
    order, (channel, stdout, stderr) = forked.order, forked.fds
    child.shed(order["name"], forked.parent, forked.signals)
    child.place(order, forked.environment, stdout, stderr)
    if order["command"]:
        os.environ[child.CHANNEL] = str(channel)
        child.execute(order["command"], channel)
    if order["is_afresh"]:
        command = spawned.command(channel, order["target"], order["name"], order["arguments"], sys.path)
        child.execute(command, channel)
    ending.run_and_end(order["target"], order["name"], channel, order["arguments"])


if __name__ == "__main__":
    main()
