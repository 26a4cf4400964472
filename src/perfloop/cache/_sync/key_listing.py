# Generated from perfloop/cache/_async/key_listing.py by tools/make_sync.py; edit that one.
"""A restart that begins with the keys that the last process served most."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from perfloop.cache._sync.batch import Batch, Group
from perfloop.cache.key_list import (
    FoundKeys,
    KeyList,
    KeyListGain,
    KeyListPolicy,
    KeyListStatistics,
    MemberReader,
    rest_s,
)
from perfloop.cache.key_list_file import read_keys, write_keys
from perfloop.cache.key_ranks import KeyRanks, load_order
from perfloop.cache.memory import MemoryTier
from perfloop.cache.waiting import JOIN_S, Crew, Signal
from perfloop.errors import PerfloopError

_LEAST_REQUESTS: Final = 1000
"""That the comparison with held-back keys lasts, if the list is shorter."""
_SLICE: Final = 2000
"""Entries that are looked at in one go; others may run in between."""

_log = logging.getLogger("perfloop.cache")


class KeyListing:
    """Writes the list of one cache's keys while it is open, and loads an older one at the start.

    Only keys of templates with a batch loader: for others nothing says how to load them.
    """

    def __init__(
        self,
        path: str | Path,
        policy: KeyListPolicy,
        memory: MemoryTier,
        batch: Batch,
        *,
        capacity: int | None,
        rand: Callable[[], float],
    ) -> None:
        self._path = Path(path)
        self._policy = policy
        self._memory = memory
        self._batch = batch
        self._capacity = capacity
        self._held = 0
        self._gain = KeyListGain(policy, salt=int(rand() * 2**53))
        self._ranks = KeyRanks(max_keys=policy.max_keys)
        self._templates: list[tuple[MemberReader, Group]] = []
        self._crew: Crew | None = None
        self._closing, self._ended = Signal(), Signal()
        self._listed = self._restored = self._rows = 0
        self._begun = self._looked = 0
        self._note = ""
        self._compared: KeyListStatistics | None = None

    def add(self, members: MemberReader, group: Group) -> None:
        """A template whose keys may be listed."""
        self._templates.append((members, group))

    def open(self, crew: Crew) -> None:
        """Begin to load what an earlier process left, and to look at the tier from time to time."""
        self._begun = self._looked = self._memory.requests
        self._ranks = KeyRanks(max_keys=self._policy.max_keys)
        read: list[FoundKeys] = []
        crew.aside(lambda: read.append(self._read()))
        self._closing, self._ended = Signal(), Signal()
        self._crew = crew
        crew.spawn(self._restore, read[0].found.keys)
        crew.spawn(self._look_on, crew)

    def _read(self) -> FoundKeys:
        read = read_keys(self._path, self._policy)
        self._note = read.note
        self._listed = len(read.found.keys)
        self._held = read.found.held
        self._ranks.resume(zip(read.found.keys, read.found.points, strict=False))
        if read.note:
            _log.info("%s", read.note)
        return read

    def close(self) -> None:
        """Write the list for the last time."""
        crew, self._crew = self._crew, None
        if crew is None:
            return
        self._closing.give()
        if self._ended.wait(JOIN_S):  # two looks at once would count in one table
            self._look(crew)

    def restart(self) -> None:
        """In a forked child: the list is its parent's, which writes it at its own end."""
        self._crew = None

    def missed(self, key: str) -> None:
        """The memory tier has no value for a key that was asked for."""
        if self._compared is None and self._listed:
            requests = self._memory.requests - self._begun
            if requests > max(self._listed, _LEAST_REQUESTS):
                self._compared = self._gain.statistics(requests)
            else:
                self._gain.missed(key)

    def statistics(self) -> KeyListStatistics:
        compared = self._compared or self._gain.statistics(self._memory.requests - self._begun)
        return KeyListStatistics(
            listed=self._listed,
            from_remote=self._restored - self._rows,
            from_loaders=self._rows,
            requests=compared.requests if self._listed else 0,
            hit_ratio=compared.hit_ratio if self._listed else None,
            hit_ratio_without=compared.hit_ratio_without,
            misses_ratio=compared.misses_ratio,
            note=self._note,
        )

    def _restore(self, keys: Sequence[str]) -> None:
        wanted = [key for key in keys if not self._gain.holds(key)]
        room = self._capacity or self._held or len(keys)
        for members, group in self._batches(load_order(wanted, room)):
            begun_s, rows = time.monotonic(), self._rows
            try:
                self._batch.load_ahead(members, self._counting(group))
            except Exception as error:  # noqa: BLE001 - a loader's own error, and nobody waits for it here
                self._note = f"stopped loading the listed keys, since a loader failed: {error!r}"
                _log.warning("%s", self._note)
                return
            self._restored += len(members)
            rest = rest_s(self._policy, rows=self._rows - rows, elapsed_s=time.monotonic() - begun_s)
            if self._closing.wait(rest if self._rows > rows else 0.0):
                return
        self._held = 0

    def _batches(self, keys: Sequence[str]) -> Iterator[tuple[dict[str, Any], Group]]:
        """In about the order of the keys; each of one template."""
        batches: list[dict[str, Any]] = [{} for _ in self._templates]
        for key in keys:
            for (members, group), batch in zip(self._templates, batches, strict=False):
                member = members.read(key)
                if member is not None and not self._memory.has(key):
                    batch[key] = member
                if len(batch) >= self._policy.batch_rows:
                    yield dict(batch), group
                    batch.clear()
        for (_, group), batch in zip(self._templates, batches, strict=False):
            if batch:
                yield batch, group

    def _counting(self, group: Group) -> Group:
        def load(members: Sequence[Any]) -> Any:
            self._rows += len(members)
            return group.loader(members)

        return Group(load, group.policy, group.tags, group.kind)

    def _look_on(self, crew: Crew) -> None:
        try:
            while not self._closing.wait(self._policy.every_s):
                self._look(crew)
        finally:
            self._ended.give()

    def _look(self, crew: Crew) -> None:
        requests, held = self._memory.requests, self._memory.entries()
        # Where bytes bound the tier, what it holds now says how many entries that is; unless it still fills.
        room = self._capacity or max(len(held), self._held, 1)
        self._ranks.fade(max(0, requests - self._looked) / (self._policy.half_life_capacities * room))
        self._looked = requests
        prefixes = tuple(members.before for members, _ in self._templates)
        entries = iter(held)
        while part := list(islice(entries, _SLICE)):
            self._ranks.add((entry.key, entry.visits) for entry in part if entry.key.startswith(prefixes))
            self._closing.wait(0.0)
        crew.aside(lambda: self._write(room))

    def _write(self, held: int) -> None:
        ranked = self._ranks.ranked()
        keys, points = tuple(key for key, _ in ranked), tuple(points for _, points in ranked)
        try:
            write_keys(self._path, KeyList(keys=keys, points=points, held=held, saved_unix_s=time.time()))
        except (OSError, UnicodeEncodeError, PerfloopError) as error:
            self._note = f"the list of keys was not written: {error}"
            _log.warning("%s", self._note)
