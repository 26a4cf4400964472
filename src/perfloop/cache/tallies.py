"""Who counts what: one tally for all keys, or one for each template of a cache whose usage is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from perfloop.cache.changes import Changes
from perfloop.cache.entry import Entry, entry_bytes
from perfloop.cache.hot_keys import Heavy, HotKeys
from perfloop.cache.key_shapes import KeyShapes
from perfloop.cache.object_size import object_bytes
from perfloop.cache.policy import CachePolicy
from perfloop.cache.tally import Tally
from perfloop.cache.usage import OTHER, UsagePolicy
from perfloop.metrics.counter import Counter

MEAN_GAP: Final = 128
"""Hits of a template between two that are told with their keys, on average."""
_MAX_KNOWN: Final = 4096
_MEASURED: Final = 32
"""Of so many entries of a template that are stored one is measured."""


class Tallies(Protocol):
    """What the memory tier counts with."""

    @property
    def with_ghosts(self) -> bool:
        """Whether it is to be estimated what other capacities would do."""

    @property
    def compares(self) -> bool:
        """Whether it wants digests; if not, the last three below are of no use."""

    def of(self, key: str) -> Tally:
        """The tally that a key belongs to."""

    def every(self) -> Iterable[Tally]:
        """All there are."""

    def sampled(self, entry: Entry) -> None:
        """A hit for which the tally's iterator had no step left: count it, and begin another."""

    def digest(self, entry: Entry) -> int | None:
        """Of an entry that was loaded and is about to be stored; without the tier's lock."""

    def loaded(self, entry: Entry, digest: int | None) -> None:
        """It was stored; with the tier's lock, as is the next."""

    def forget(self, key: str) -> None:
        """The next value of this key says nothing about how long values last."""

    def restart(self, *, is_emptied: bool) -> None:
        """In a forked child, whose tier has lost its entries where a thread was changing it."""


class OneTally:
    """Nobody asks by template."""

    with_ghosts = False
    compares = False

    def __init__(self) -> None:
        self._tally = Tally()

    def of(self, key: str) -> Tally:
        return self._tally

    def every(self) -> Iterable[Tally]:
        return (self._tally,)

    def sampled(self, entry: Entry) -> None:
        """It has steps for some thousand years."""

    def digest(self, entry: Entry) -> int | None:
        return None

    def loaded(self, entry: Entry, digest: int | None) -> None:
        """Nothing is compared."""

    def forget(self, key: str) -> None:
        """Nothing is kept."""

    def restart(self, *, is_emptied: bool) -> None:
        """Nobody asks it for what is kept."""


class TemplateTally(Tally):
    """What is counted of one template beside what the memory tier knows."""

    __slots__ = (
        "changed",
        "compared",
        "compared_age_s",
        "load_s",
        "loaded_keys",
        "loads",
        "measured",
        "measured_bytes",
        "policy",
        "remote_hits",
        "stale_hits",
        "unchecked_hits",
    )

    def __init__(self, template: str, length: int) -> None:
        super().__init__(template, length)
        self.stale_hits = Counter()
        self.remote_hits = Counter()
        self.unchecked_hits = Counter()
        self.loads = Counter()
        self.loaded_keys = Counter()
        self.load_s = Counter()
        self.policy: CachePolicy | None = None
        self.compared = self.changed = 0
        self.compared_age_s = 0.0
        self.measured = self.measured_bytes = 0


class TemplateTallies:
    """One tally a template.

    Args:
        policy: how much is kept.
        by_bytes: whether the entries' costs are bytes, so that none has to be measured.
        rand: from [0, 1), for the gaps between samples.
    """

    def __init__(self, policy: UsagePolicy, *, by_bytes: bool, rand: Callable[[], float]) -> None:
        self.policy = policy
        self.with_ghosts = policy.estimates_capacity
        self.compares = True
        self.by_bytes = by_bytes
        self.shapes = KeyShapes()
        self._rand = rand
        self._tallies: dict[str, TemplateTally] = {}
        self._known: dict[str, TemplateTally] = {}
        self._changes = Changes()
        self._hot_keys = HotKeys()
        self._lock = threading.Lock()

    def restart(self, *, is_emptied: bool) -> None:
        self._lock = threading.Lock()
        for tally in self._tallies.values():
            if is_emptied:
                tally.empty()

    def declare(self, template: str) -> None:
        """A function is decorated with it."""
        with self._lock:
            self.shapes.declare(template)
            self._known.clear()

    def of(self, key: str) -> TemplateTally:
        tally = self._known.get(key)
        if tally is None:
            with self._lock:
                tally = self._found(key)
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[key] = tally
        return tally

    def _found(self, key: str) -> TemplateTally:
        template = self.shapes.template(key)
        tally = None if template is None else self._tallies.get(template)
        if tally is not None:
            return tally
        if template is None or (
            len(self._tallies) >= self.policy.max_templates and not self.shapes.is_declared(template)
        ):
            template = OTHER
        return self._tallies.setdefault(template, TemplateTally(template, self._gap()))

    def every(self) -> list[TemplateTally]:
        with self._lock:
            return list(self._tallies.values())

    def sampled(self, entry: Entry) -> None:
        tally = entry.tally
        if not self._lock.acquire(blocking=False):
            tally.unsampled.inc()  # a hit never waits, whoever comes back to the cache from wherever
            return
        try:
            hits = tally.begin_again(self._gap())
            if hits and self.policy.max_hot_keys:
                self._hot_keys.add(entry.key, tally.template, hits)
        finally:
            self._lock.release()
        for _ in tally.hits:
            break
        else:
            tally.unsampled.inc()

    def hot_keys(self) -> list[Heavy]:
        """The hottest first."""
        with self._lock:
            return self._hot_keys.heaviest(self.policy.max_hot_keys)

    def digest(self, entry: Entry) -> int | None:
        tally = self.of(entry.key)
        if not self.by_bytes and (tally.entries + tally.renewals) % _MEASURED == 0:
            size_bytes = entry_bytes(entry.key, object_bytes(entry.value), ())
            with self._lock:
                tally.measured += 1
                tally.measured_bytes += size_bytes
        return self._changes.digest(entry.key, entry.value)

    def loaded(self, entry: Entry, digest: int | None) -> None:
        tally = self.of(entry.key)
        tally.policy = entry.policy
        comparison = self._changes.loaded(entry.key, digest, entry.loaded_s)
        if comparison is not None:
            tally.compared += 1
            tally.changed += comparison.is_changed
            tally.compared_age_s += comparison.apart_s

    def forget(self, key: str) -> None:
        self._changes.forget(key)

    def _gap(self) -> int:
        """Far enough that hits in a row are not sampled twice, and never in step with a loop."""
        return MEAN_GAP // 2 + int(self._rand() * MEAN_GAP)
