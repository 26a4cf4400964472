"""A kept value with its times, its tags' cells and its birth."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from perfloop.cache.policy import CachePolicy, drawn_life_s, quiet_s
from perfloop.cache.s3fifo import Node
from perfloop.cache.tag_cells import TagCell

if TYPE_CHECKING:
    from perfloop.cache.tally import Tally

ENTRY_BYTES: Final = 500
"""What an entry costs beside its key, value and tags, its share of the ghosts and of spare room included."""
TAG_BYTES: Final = 180
"""What a tag costs beside its text, if no other entry carries it."""


def entry_bytes(key: str, value_bytes: int, tags: Iterable[str]) -> int:
    """What an entry adds to the process, rather too much than too little: tags are taken to be its own.

    >>> entry_bytes("user:7", 1000, ()) > 1500
    True
    """
    own_bytes = ENTRY_BYTES + sys.getsizeof(key) + value_bytes
    return own_bytes + sum(TAG_BYTES + sys.getsizeof(tag) for tag in tags)


class Entry(Node):
    """One value of the memory tier. Read it; only the tier writes.

    Once it can be found, no field changes but the visits, `checked`, upwards, `attention_s`, which may always
    be too early, and those of the first use of what was loaded ahead: a thread that holds it sees one value
    with the times that belong to it.
    """

    __slots__ = (
        "ahead",
        "attention_s",
        "born",
        "cells",
        "checked",
        "fresh_until_s",
        "life_s",
        "load_s",
        "policy",
        "sampled",
        "tally",
        "value",
    )

    key: str
    ahead: Callable[[], None] | None
    """Loaded before anybody asked for it, and not asked for yet: what its first request is told to."""
    attention_s: float
    """Until this time of the tier's clock it is fresh and nothing is due; then `examine` decides."""
    born: int
    """The tier's number before its load began: later numbers of its tags make it invalid."""
    checked: int
    """No tag of it has a number between its birth and this one."""
    cells: tuple[TagCell, ...]
    fresh_until_s: float
    life_s: float
    load_s: float
    policy: CachePolicy
    sampled: bool
    """The ghost caches have to hear of requests: those are led to `examine`, unless it rests."""
    tally: Tally
    """What it is counted with."""
    value: object

    def __init__(self, key: str, value: object, policy: CachePolicy, tally: Tally) -> None:
        self.key = key  # as Node does: a call costs more than the assignments
        self.cost = 1
        self.visits = 0
        self.was_visited = False
        self.queue = None
        self.value = value
        self.tally = tally
        self.policy = policy
        self.ahead = None
        self.sampled = False

    def set_times(
        self, loaded_s: float, rand: float, *, load_s: float = 0.0, life_s: float | None = None
    ) -> None:
        """Start its life at `loaded_s`, one of `life_s` or as drawn with `rand`; before it can be found."""
        if life_s is None:
            life_s = drawn_life_s(self.policy, rand, negative=self.value is None)
        self.life_s = life_s
        self.load_s = load_s
        self.fresh_until_s = loaded_s + life_s
        self._set_attention(loaded_s)

    def await_use(self, ahead: Callable[[], None]) -> None:
        """It is loaded ahead: lead the first request to `examine`; after `set_times`."""
        self.ahead = ahead
        self.tell_hits()

    def begin_use(self) -> None:
        """The first request for it is there: it counts as the load that it spares, not as a visit."""
        self.ahead = None
        self.visits = 0
        self._set_attention(self.loaded_s)

    def tell_hits(self) -> None:
        """Lead all requests to `examine` from now on."""
        self.attention_s = -math.inf

    def rest(self) -> None:
        """Nobody needs to hear of its hits for now."""
        self._set_quiet(self.loaded_s)

    def _set_attention(self, loaded_s: float) -> None:
        if self.sampled:
            self.tell_hits()
        else:
            self._set_quiet(loaded_s)

    def _set_quiet(self, loaded_s: float) -> None:
        quiet = quiet_s(self.policy, self.life_s, self.load_s)
        # The same object where nothing is due ahead: it spares the memory of a number.
        self.attention_s = self.fresh_until_s if quiet == self.life_s else loaded_s + quiet

    @property
    def loaded_s(self) -> float:
        """When its life began, by the tier's clock; NaN where it has no end."""
        return self.fresh_until_s - self.life_s

    def age_s(self, now_s: float) -> float:
        """How long ago its life began; 0 where it has no end, as then no life is too long."""
        return 0.0 if self.life_s == math.inf else max(0.0, now_s - self.loaded_s)

    @property
    def tags(self) -> tuple[str, ...]:
        """In the order in which they were given."""
        return tuple(cell.tag for cell in self.cells)
