"""A worker's own look at its memory: what is in use, by both of its allocators.

malloc tells its bytes. Python's allocator tells its blocks (objects up to 512 bytes) and not their size, so
the mean size is taken from its pages, when there are more blocks than ever: then the pages are as full as
they get. Later, with fewer blocks in the same pages, the pages would say that nothing became free.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from perfloop.adapters.process_memory import MemoryReader, OwnMemory
from perfloop.process.leaks.floors import MemorySample

_SMALLEST, _LARGEST = 16.0, 512.0
_USUAL: Final = 80.0
"""Bytes of a block, until its pages can tell."""
_FEW: Final = 10_000
"""Blocks, of which the pages tell too little."""


class BlockSize:
    """The mean size of Python's small objects."""

    def __init__(self) -> None:
        self.mean_bytes = _USUAL
        self._most = _FEW
        self._is_frozen = False

    def look(self, blocks: int, page_bytes: int) -> float:
        """The mean size, given how many blocks there are and the resident pages they are in."""
        if not self._is_frozen and blocks > self._most:
            self._most = blocks
            self.mean_bytes = min(max(page_bytes / blocks, _SMALLEST), _LARGEST)
        return self.mean_bytes

    def freeze(self) -> None:
        """After a trim, pages that malloc holds are not resident, and the rest tells nothing of blocks."""
        self._is_frozen = True


class Sampler:
    """Samples the process that it is made in, from then on.

    Args:
        clock: Seconds, never going back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = MemoryReader()
        self._clock = clock
        self._began_s = clock()
        self._size = BlockSize()

    def sample(self) -> MemorySample:
        """The memory now."""
        memory = self._reader.read()
        in_use = in_use_bytes(memory, self._size)
        return MemorySample(
            at_s=self._clock() - self._began_s,
            in_use_bytes=in_use,
            rss_bytes=memory.rss_bytes,
            # What a trim gave back malloc still counts as free, though it takes no memory any more.
            free_bytes=min(memory.malloc_free_bytes or 0, max(0, memory.anonymous_bytes - in_use)),
            descriptors=memory.descriptors,
            threads=memory.threads,
        )

    def trim(self) -> MemorySample:
        """Collect garbage, give back what is free, and look again."""
        self._reader.trim()
        self._size.freeze()
        return self.sample()

    def close(self) -> None:
        """Close what is read from."""
        self._reader.close()


def in_use_bytes(memory: OwnMemory, size: BlockSize) -> int:
    """What the program holds, by malloc and by Python's allocator."""
    if memory.malloc_in_use_bytes is None or memory.malloc_held_bytes is None:
        return memory.anonymous_bytes
    pages = max(0, memory.anonymous_bytes - memory.malloc_held_bytes)
    return memory.malloc_in_use_bytes + int(memory.blocks * size.look(memory.blocks, pages))
