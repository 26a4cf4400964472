# Generated from perfloop/adapters/remote/_async/listener.py by tools/make_sync.py; edit that one.
"""Hears what other processes do: on a connection of its own, which is opened again whenever it breaks."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from perfloop.adapters.remote.address import Address
from perfloop.adapters.remote.connection import CONNECT_S, Connection
from perfloop.adapters.remote.faults import fault_of
from perfloop.adapters.remote.messages import read_news
from perfloop.adapters.remote.resp import ServerError, pack
from perfloop.adapters.remote.wire import End
from perfloop.errors import TargetUnreachable
from perfloop.metrics.fork import restart_in_child
from perfloop.model.remote import Gap, News

HEARTBEAT_S: Final = 0.5
"""Of silence, before the server is asked whether it is there; as much again, and it is not."""
FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 1.0


class Listener:
    """Messages come by pub/sub, in the order of what they tell; a flush of the server by client tracking.

    Args:
        address: Of the server.
        prefix: Of keys and channel.
        origin: Says what this process calls itself; what it did is not told to it.
    """

    def __init__(self, address: Address, prefix: str, origin: Callable[[], bytes]) -> None:
        self._address = address
        self._prefix = prefix
        self._origin = origin
        self._end = End()
        self._connection: Connection | None = None
        restart_in_child(self)

    def begin(self) -> None:
        """Be ready to run, also after it was closed."""
        self._end = End()

    def restart(self) -> None:
        """In a forked child: the connection is the parent's, and whoever listened does so only there."""
        if self._connection is not None:
            self._connection.drop()
        self._connection = None
        self.begin()

    def close(self) -> None:
        self._end.give()
        if self._connection is not None:
            self._connection.close()

    def run(self, hear: Callable[[News], None]) -> None:
        """Listen until closed.

        Raises:
            MissingRights: The user may not subscribe.
        """
        pause_s = FIRST_PAUSE_S
        is_gap_told = False
        while not self._end.is_given:
            try:
                self._connection = connection = Connection.open(self._address, CONNECT_S)
                self._subscribe(connection)
                pause_s, is_gap_told = FIRST_PAUSE_S, False
                hear(Gap(is_over=True))
                self._pass_on(connection, hear)
            except TargetUnreachable:
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            finally:
                if self._connection is not None:
                    self._connection.close()
            if not is_gap_told and not self._end.is_given:
                hear(Gap(is_over=False))
                is_gap_told = True
            self._end.wait(pause_s * random.uniform(0.5, 1.0))  # many processes lose one server at once

    def _subscribe(self, connection: Connection) -> None:
        """Where the server refuses version 3 of the protocol, or tracking, a flush is not heard of."""
        login = self._address.login()
        for reply in connection.ask(b"".join(login), len(login)):
            self._check(reply)
        (hello,) = connection.ask(pack("HELLO", 3), 1)
        if not isinstance(hello, ServerError):
            prefix = f"{self._prefix}none"  # no key is called so: only what concerns all keys is of interest
            connection.ask(pack("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix), 1)
        connection.send(pack("SUBSCRIBE", f"{self._prefix}news"))
        self._check(connection.hear(CONNECT_S))

    def _pass_on(self, connection: Connection, hear: Callable[[News], None]) -> None:
        is_asked = False
        while not self._end.is_given:
            reply = connection.hear(HEARTBEAT_S)
            if reply is not None:
                is_asked = False
                news = read_news(reply, self._origin())
                if news is not None:
                    hear(news)
            elif is_asked:
                raise TargetUnreachable(f"Redis at {self._address} does not answer")
            else:
                is_asked = True
                connection.send(pack("PING"))

    def _check(self, reply: object) -> None:
        if reply is None:
            raise TargetUnreachable(f"Redis at {self._address} does not answer")
        if isinstance(reply, ServerError):
            raise fault_of(reply, self._address, self._prefix)
