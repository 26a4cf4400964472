"""A restart that begins with the keys that the last process served most."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from perfloop.cache._async.batch import AsyncBatch, Group
from perfloop.cache.key_list import (
    KeyList,
    KeyListGain,
    KeyListPolicy,
    KeyListStatistics,
    MemberReader,
    read_keys,
    rest_s,
    write_keys,
)
from perfloop.cache.key_ranks import KeyRanks, load_order
from perfloop.cache.memory import MemoryTier
from perfloop.cache.waiting import AsyncCrew, AsyncSignal
from perfloop.errors import PerfloopError

_LEAST_REQUESTS: Final = 1000
"""That the comparison with held-back keys lasts, if the list is shorter."""
_SLICE: Final = 2000
"""Entries that are looked at in one go; others may run in between."""

_log = logging.getLogger("perfloop.cache")


class AsyncKeyListing:
    """Writes the list of one cache's keys while it is open, and loads an older one at the start.

    Only keys of templates with a batch loader: for others nothing says how to load them.
    """

    def __init__(
        self,
        path: str | Path,
        policy: KeyListPolicy,
        memory: MemoryTier,
        batch: AsyncBatch,
        *,
        capacity: int,
        rand: Callable[[], float],
    ) -> None:
        self._path = Path(path)
        self._policy = policy
        self._memory = memory
        self._batch = batch
        self._capacity = capacity
        self._trial = KeyListGain(policy, salt=int(rand() * 2**53))
        self._ranks = KeyRanks(
            max_keys=policy.max_keys, half_life_requests=policy.half_life_capacities * capacity
        )
        self._templates: list[tuple[MemberReader, Group]] = []
        self._crew: AsyncCrew | None = None
        self._closing = AsyncSignal()
        self._listed = self._restored = self._rows = 0
        self._begun = self._looked = 0
        self._note = ""
        self._compared: KeyListStatistics | None = None

    def add(self, members: MemberReader, group: Group) -> None:
        """A template whose keys may be listed."""
        self._templates.append((members, group))

    def open(self, crew: AsyncCrew) -> None:
        """Begin to load what an earlier process left, and to look at the tier from time to time."""
        self._crew = crew
        self._closing = AsyncSignal()
        self._begun = self._looked = self._memory.requests
        read = read_keys(self._path, self._policy)
        self._note = read.note
        self._listed = len(read.found.keys)
        self._ranks.resume(zip(read.found.keys, read.found.points, strict=False))
        if read.note:
            _log.info("%s", read.note)
        crew.spawn(self._restore, read.found.keys)
        crew.spawn(self._look_on, crew)

    async def close(self) -> None:
        """Write the list for the last time."""
        if self._crew is not None and not self._closing.is_given:
            self._closing.give()
            await self._look(self._crew)

    def missed(self, key: str) -> None:
        """The memory tier has no value for a key that was asked for."""
        if self._compared is None and self._listed:
            requests = self._memory.requests - self._begun
            if requests > max(self._listed, _LEAST_REQUESTS):
                self._compared = self._trial.statistics(requests)
            else:
                self._trial.missed(key)

    def statistics(self) -> KeyListStatistics:
        compared = self._compared or self._trial.statistics(self._memory.requests - self._begun)
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

    async def _restore(self, keys: Sequence[str]) -> None:
        wanted = [key for key in keys if not self._trial.holds(key)]
        for members, group in self._batches(load_order(wanted, self._capacity)):
            begun_s, rows = time.monotonic(), self._rows
            try:
                await self._batch.load_ahead(members, self._counting(group))
            except Exception as error:  # noqa: BLE001 - a loader's own error, and nobody waits for it here
                self._note = f"stopped loading the listed keys, since a loader failed: {error!r}"
                _log.warning("%s", self._note)
                return
            self._restored += len(members)
            rest = rest_s(self._policy, rows=self._rows - rows, elapsed_s=time.monotonic() - begun_s)
            if await self._closing.wait(rest if self._rows > rows else 0.0):
                return

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
        async def load(members: Sequence[Any]) -> Any:
            self._rows += len(members)
            return await group.loader(members)

        return Group(load, group.policy, group.tags, group.kind)

    async def _look_on(self, crew: AsyncCrew) -> None:
        while not await self._closing.wait(self._policy.every_s):
            await self._look(crew)

    async def _look(self, crew: AsyncCrew) -> None:
        requests = self._memory.requests
        self._ranks.fade(max(0, requests - self._looked))
        self._looked = requests
        prefixes = tuple(members.before for members, _ in self._templates)
        entries = iter(self._memory.entries())
        while part := list(islice(entries, _SLICE)):
            self._ranks.add((entry.key, entry.visits) for entry in part if entry.key.startswith(prefixes))
            await self._closing.wait(0.0)
        await crew.aside(self._write)

    def _write(self) -> None:
        ranked = self._ranks.ranked()
        keys, points = tuple(key for key, _ in ranked), tuple(points for _, points in ranked)
        try:
            write_keys(self._path, KeyList(keys=keys, points=points, saved_unix_s=time.time()))
        except (OSError, UnicodeEncodeError, PerfloopError) as error:
            self._note = f"the list of keys was not written: {error}"
            _log.warning("%s", self._note)
