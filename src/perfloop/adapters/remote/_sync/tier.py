# Generated from perfloop/adapters/remote/_async/tier.py by tools/make_sync.py; edit that one.
"""The shared tier on one Redis or Valkey server: a Lua call for each of its acts."""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self

from perfloop.adapters.remote._sync.listener import Listener
from perfloop.adapters.remote.address import Address
from perfloop.adapters.remote.connection import Connection
from perfloop.adapters.remote.faults import fault_of
from perfloop.adapters.remote.messages import (
    KEYS_A_CALL,
    Script,
    chunks,
    fetch_words,
    load_script,
    read_fetched,
    read_outcomes,
    store_words,
)
from perfloop.adapters.remote.resp import Reply, ServerError, as_bytes
from perfloop.adapters.remote.wire import Wire
from perfloop.errors import InvalidInput
from perfloop.model.remote import Fetched, News, StoreOutcome, Write

TIMEOUT_S: Final = 0.04
"""Without any progress; then the cache takes the server for gone, and serves from memory."""


class RedisTier:
    """Redis 6.2 or later, or Valkey, as the tier that processes share. It is no cluster client.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://…` or `unix:///path`.
        prefix: Keeps several caches on one server apart; letters, digits and `_.:-`.
        timeout_s: How long the server may make no progress.

    Raises:
        InvalidInput: The URL or the prefix cannot be used.
    """

    def __init__(self, url: str, *, prefix: str = "perfloop", timeout_s: float = TIMEOUT_S) -> None:
        if not re.fullmatch(r"[\w.:-]+", prefix, re.ASCII):
            raise InvalidInput(f"the prefix {prefix!r} cannot be used; it takes letters, digits and _.:-")
        self._address = Address.parse(url)
        self.scope = prefix
        """What keeps its keys apart from other caches' keys."""
        self._prefix = f"{{{prefix}}}:"
        self._raw_prefix = self._prefix.encode()
        self._clock = self._raw_prefix + b"clock"
        self._name = secrets.token_hex(8)
        self._tokens = itertools.count(1)
        self._wire = Wire(self._address, timeout_s, self._greet)
        self._listener = Listener(self._address, self._prefix, lambda: self._origin)

    def __enter__(self) -> Self:
        self._wire.begin()
        self._listener.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._wire.close()

    @property
    def _origin(self) -> bytes:
        """This process, even where it was forked: its own news is not told to it."""
        return f"{self._name}-{os.getpid()}".encode()

    def fetch(
        self, keys: Sequence[str], *, lease_s: float | None = None, early_s: float = 0.0, token: str = ""
    ) -> Mapping[str, Fetched]:
        """See `perfloop.cache.remote`, where the contract is."""
        token = token or f"{self._name}-{os.getpid()}-{next(self._tokens)}"
        parts = [keys] if len(keys) <= KEYS_A_CALL else list(chunks(keys))
        words = [fetch_words(self._raw_prefix, part, lease_s, early_s, token.encode()) for part in parts]
        fetched: dict[str, Fetched] = {}
        for part, reply in zip(parts, self._ask(load_script("fetch"), words), strict=True):
            fetched.update(read_fetched(part, reply, token))
        return fetched

    def store(self, writes: Sequence[Write]) -> Sequence[StoreOutcome]:
        """See `perfloop.cache.remote`, where the contract is."""
        head = [self._raw_prefix, self._origin]
        calls = []
        for start in range(0, len(writes), KEYS_A_CALL):
            words = list(head)
            for write in writes[start : start + KEYS_A_CALL]:
                words += store_words(write)
            calls.append(words)
        outcomes: list[StoreOutcome] = []
        for reply in self._ask(load_script("store"), calls):
            outcomes += read_outcomes(reply)
        return outcomes

    def invalidate(self, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        """See `perfloop.cache.remote`, where the contract is."""
        head = [self._raw_prefix, self._origin]
        calls = [[*head, b"%d" % len(part), *map(as_bytes, part)] for part in chunks(keys)]
        calls += [[*head, b"0", *map(as_bytes, part)] for part in chunks(tags)]
        self._ask(load_script("invalidate"), calls)

    def listen(self, hear: Callable[[News], None]) -> None:
        """See `perfloop.cache.remote`, where the contract is."""
        self._listener.run(hear)

    def _ask(self, script: Script, calls: Sequence[Sequence[bytes]]) -> list[Reply]:
        if not calls:
            return []
        request = b"".join([script.call(self._clock, words) for words in calls])
        replies = self._wire.ask(request, len(calls))
        for index, reply in enumerate(replies):
            if isinstance(reply, ServerError):
                if reply.startswith("NOSCRIPT"):
                    (reply,) = self._wire.ask(script.call_whole(self._clock, calls[index]), 1)
                    replies[index] = reply
                self._check(reply)
        return replies

    def _greet(self, connection: Connection) -> None:
        """Log in, and make sure that the server is in the state in which it was left."""
        login = self._address.login()
        greeting = load_script("greet").call_whole(self._clock, [self._raw_prefix])
        for commands in (login, [greeting]):
            for reply in connection.ask(b"".join(commands), len(commands)):
                self._check(reply)

    def _check(self, reply: Reply) -> None:
        if isinstance(reply, ServerError):
            raise fault_of(reply, self._address, self._prefix)
