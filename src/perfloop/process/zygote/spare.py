"""A fork that waits to be made a worker: to replace one that died is then to hand over its descriptors.

It was forked as a worker is, so that its random numbers are its own, it has shed what was the zygote's, and
has copied the pages that a worker's start writes to. Until its order comes it counts for nothing and listens
to nobody; it ends with the zygote.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Final, NamedTuple

from perfloop.process.zygote import child, wire
from perfloop.process.zygote.preload import rehearse

_NAME: Final = "spare"


class Spare(NamedTuple):
    """The zygote's side of it."""

    pid: int
    end: socket.socket

    def hand(self, order: dict[str, Any], fds: list[int]) -> bool:
        """Make a worker of it; False where it is not there any more, or the order is too long for it."""
        whole = wire.packed(order, len(fds))
        try:
            return socket.send_fds(self.end, [whole], fds) == len(whole)
        except OSError:
            return False
        finally:
            self.end.close()


class Parked(NamedTuple):
    """What the fork itself has."""

    end: socket.socket
    signals: dict[int, Any]
    """That are to be reset."""
    parent: int

    def wait(self) -> child.Forked:
        """What it is to be, once it is ordered; ends with the zygote."""
        child.shed(_NAME, self.parent, self.signals)
        rehearse()
        own = dict(os.environ)
        received = wire.Receiver(self.end)
        while True:
            words = received.receive()
            if words is None:
                os._exit(0)
            if words:
                self.end.close()
                order, fds = words[0]
                if not fds:
                    child.refuse(child.CANNOT_BEGIN, "a spare worker has too many files open")
                changes = child.changed_environment(order["environment"], own)
                return child.Forked(order, fds, changes, self.signals, self.parent)
