"""The tier's calls as bytes: Lua scripts with their arguments, replies, and the news on the channel."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from perfloop.adapters.remote.resp import Push, Reply, as_bytes, as_text, pack
from perfloop.model.remote import (
    Fetched,
    Gap,
    KeysChanged,
    Lease,
    LoadsFinished,
    News,
    RemoteEntry,
    StoreOutcome,
    TagsChanged,
    Write,
)

KEYS_A_CALL: Final = 256
"""Of one run of a script, which the server finishes before it does anything else: a few milliseconds."""

_LONGEST_MS: Final = 10**13
_HEAD: Final = struct.Struct(">HQQQQH")
_TIMES: Final = struct.Struct(">QQQH")
_BIRTH_BYTES: Final = 10
_OUTCOMES: Final = (StoreOutcome.STORED, StoreOutcome.FENCED, StoreOutcome.FULL, StoreOutcome.RELEASED)


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script, with what all of them share in front of it."""

    source: bytes
    sha: bytes

    def call(self, clock: bytes, words: Sequence[bytes]) -> bytes:
        """Run it by its hash, which the server may have forgotten."""
        return pack(b"EVALSHA", self.sha, b"1", clock, *words)

    def call_whole(self, clock: bytes, words: Sequence[bytes]) -> bytes:
        """Run it by its text, which the server then remembers."""
        return pack(b"EVAL", self.source, b"1", clock, *words)


@cache
def load_script(name: str) -> Script:
    """The script of that name beside this module."""
    folder = resources.files(__package__ or "")
    source = folder.joinpath("common.lua").read_bytes() + folder.joinpath(f"{name}.lua").read_bytes()
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


def to_ms(length_s: float) -> int:
    """At least one, since none is no length for Redis; at most what its clock can count to."""
    return max(1, round(min(length_s * 1000, _LONGEST_MS)))


def chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many as one run of a script may take."""
    for start in range(0, len(keys), KEYS_A_CALL):
        yield keys[start : start + KEYS_A_CALL]


def fetch_words(
    prefix: bytes, keys: Sequence[str], lease_s: float | None, early_s: float, token: bytes
) -> list[bytes]:
    """The arguments of fetch.lua."""
    lease_ms = b"0" if lease_s is None else b"%d" % to_ms(lease_s)
    early_ms = b"%d" % to_ms(early_s) if early_s > 0 else b"0"
    return [prefix, lease_ms, early_ms, token, *map(as_bytes, keys)]


def read_fetched(keys: Sequence[str], reply: Reply, token: str) -> Iterator[tuple[str, Fetched]]:
    """What fetch.lua answers, by key."""
    assert isinstance(reply, list)
    answers = iter(reply)
    for key, raw, age_ms, state in zip(keys, answers, answers, answers, strict=True):
        assert isinstance(age_ms, int)
        assert isinstance(state, int)
        entry = _entry(raw, age_ms) if isinstance(raw, bytes) else None
        if state == 0:
            yield key, Fetched(entry=entry)
        elif state > 0:
            yield key, Fetched(entry=entry, held_for_s=state / 1000)
        else:
            yield key, Fetched(entry=entry, lease=Lease(key=key, token=token, birth=-state))


def _entry(raw: bytes, age_ms: int) -> RemoteEntry | None:
    _, birth, ttl_ms, stale_ms, fail_safe_ms, count = _HEAD.unpack_from(raw)
    at = _HEAD.size
    tags = []
    for _ in range(count):
        end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
        try:
            tags.append(as_text(raw[at + 2 : end]))
        except UnicodeDecodeError:
            return None
        at = end
    return RemoteEntry(
        payload=raw[at:],
        birth=birth,
        age_s=age_ms / 1000,
        ttl_s=ttl_ms / 1000,
        stale_for_s=stale_ms / 1000,
        fail_safe_for_s=fail_safe_ms / 1000,
        tags=tuple(tags),
    )


def store_words(write: Write) -> list[bytes]:
    """The arguments of store.lua for one write."""
    token, birth = (
        (b"", b"0") if write.lease is None else (write.lease.token.encode(), b"%d" % write.lease.birth)
    )
    tags = [as_bytes(tag) for tag in write.tags]
    rest, kept_ms = b"", 0
    if write.payload is not None:
        times = to_ms(write.ttl_s), round(write.stale_for_s * 1000), round(write.fail_safe_for_s * 1000)
        kept_ms = sum(times)
        named = (len(tag).to_bytes(2, "big") + tag for tag in tags)
        rest = b"".join((_TIMES.pack(*times, len(tags)), *named, write.payload))
    renews = b"1" if write.renews else b""
    return [as_bytes(write.key), token, birth, renews, b"%d" % kept_ms, b"%d" % len(tags), *tags, rest]


def read_outcomes(reply: Reply) -> list[StoreOutcome]:
    """What store.lua answers."""
    assert isinstance(reply, list)
    return [_OUTCOMES[code] for code in reply if isinstance(code, int)]


def read_news(reply: Reply, origin: bytes) -> News | None:
    """What the listener's connection says; None where it concerns nobody, or was done by `origin` itself."""
    match reply:
        case [b"message", bytes(), bytes(message)]:
            return _news(message, origin)
        case [b"invalidate", None] if isinstance(reply, Push):
            return Gap(is_over=True)  # FLUSHALL or FLUSHDB
        case _:
            return None


def _news(message: bytes, origin: bytes) -> News | None:
    at = 3 + int.from_bytes(message[1:3], "big")
    if message[3:at] == origin:
        return None
    names = []
    while at < len(message):
        end = at + 4 + int.from_bytes(message[at : at + 4], "big")
        try:
            names.append(as_text(message[at + 4 : end]))
        except UnicodeDecodeError:
            return Gap(is_over=True)  # of a stranger: whatever it concerns is not known
        at = end
    match message[:1]:
        case b"k":
            return KeysChanged(keys=tuple(names))
        case b"t":
            return TagsChanged(tags=tuple(names))
        case b"f":
            return LoadsFinished(keys=tuple(names))
        case _:
            return Gap(is_over=True)  # everything was invalidated, or a later version says something new
