"""Whether loading a key again brought another value, for a bounded sample of the keys. Pure.

Only a digest of the last value is kept, made of its msgpack; values that have none are not compared. Which
keys are watched is told by their hash, and fewer are as more come: Waldspurger, Park, Garthwaite, Ahmad,
"Efficient MRC Construction with SHARDS", FAST 2015, section 3.2 (the fixed-size variant).

An invalidation says that a value has changed, and an eviction leaves open whether one came in between: the
key is then forgotten, so that what is compared are lives that ended by time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from perfloop.cache.ghosts import HASHES, spatial_hash

MAX_WATCHED: Final = 4096
MAX_BYTES: Final = 65_536
"""Of a value that is compared: larger ones would cost their callers too much time."""
_TOO_LARGE: Final = 0


class Watched(NamedTuple):
    """The value that a key had last; a digest of 0 is that of a value too large to compare."""

    spot: int
    digest: int
    loaded_s: float


class Comparison(NamedTuple):
    """Two loads of one key, one after the other."""

    is_changed: bool
    apart_s: float


class Changes:
    """The watched keys of one cache."""

    def __init__(self, max_watched: int = MAX_WATCHED) -> None:
        self._max_watched = max_watched
        self._watched: dict[str, Watched] = {}
        self._threshold = HASHES
        self._encoder = msgspec.msgpack.Encoder(order="deterministic")

    def digest(self, key: str, value: object) -> int | None:
        """Of a value that was loaded; None where the key is not watched or the value cannot be compared."""
        known = self._watched.get(key)
        if known is None and spatial_hash(key) >= self._threshold:
            return None
        if known is not None and known.digest == _TOO_LARGE:
            return None
        try:
            payload = self._encoder.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
            return None
        return hash(payload) or 1 if len(payload) <= MAX_BYTES else _TOO_LARGE

    def loaded(self, key: str, digest: int | None, loaded_s: float) -> Comparison | None:
        """Keep a digest, and hold it against the one before."""
        if digest is None:
            return None
        known = self._watched.get(key)
        spot = spatial_hash(key) if known is None else known.spot
        self._watched[key] = Watched(spot, digest, loaded_s)
        if len(self._watched) > self._max_watched:
            self._watch_fewer()
        if known is None or digest == _TOO_LARGE or not loaded_s > known.loaded_s:
            return None  # the last also where a life has no end, so that nobody knows when it began
        return Comparison(digest != known.digest, loaded_s - known.loaded_s)

    def forget(self, key: str) -> None:
        """The next value of this key says nothing about the one before."""
        if key in self._watched and self._watched[key].digest != _TOO_LARGE:
            del self._watched[key]

    def _watch_fewer(self) -> None:
        self._threshold //= 2
        limit = self._threshold
        self._watched = {key: each for key, each in self._watched.items() if each.spot < limit}
