"""What tends to be missed after what: learned from the misses alone, so that a hit costs nothing.

Misses of one piece of work come in sequences that repeat: whoever loads an order loads its customer, then
her address. Each member remembers the members that were missed next, in the same execution context. The
bundle of a miss is the chain of most likely followers, as long as the product of their confidences stays
above a floor. It is loaded in the same batch as the member that was missed, so that it cannot come too late.

Learned from misses, not from accesses: what is in the cache anyway needs no prediction, and an access that
hits stays free. The first use of an entry that came in a bundle counts as a miss, because it would have been
one; without that, what was predicted well would be forgotten.

The table is bounded in bytes. The oldest record goes first, unless it was missed again since it was last
looked at: keys that a scan touches once leave before those that come back.

Assumes: members are hashable, equal members have equal hashes. Rejected, after replays of real traces:
learning from all accesses (three to ten points fewer hits), pairs within a window (no gain), `key + 1`
(right for one in a hundred), and loading in the background, which comes too late (docs/explain/warming.md).
Not safe for threads by itself; `warming.Warming` is.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from perfloop.model.value import Value, require

Member = TypeVar("Member", bound=Hashable)

_MOST_LIVES = 3
_RECORD_BYTES = 260
"""A record with its lists, its slot in the dictionary and its place in the queue, on 64-bit CPython."""


class BundlePolicy(Value, frozen=True, kw_only=True):
    """How far a bundle reaches, and how much may be remembered.

    `min_confidence` bounds the product of confidences along the chain; `min_support` is how often a
    follower must have been seen; counts of a record are halved when they sum to `halved_at` (at most 255),
    so that a record follows a change of habits.
    """

    min_confidence: float = 0.3
    max_followers: int = 8
    min_support: int = 2
    followers_remembered: int = 4
    halved_at: int = 64
    max_bytes: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        confidence = self.min_confidence
        require(0 < confidence <= 1, f"min_confidence is {confidence}; it lies above 0, up to 1")
        require(2 <= self.halved_at <= 255, f"halved_at is {self.halved_at}; it lies between 2 and 255")
        least = min(self.max_followers, self.min_support, self.followers_remembered, self.max_bytes)
        require(least >= 1, "the numbers of a BundlePolicy are at least 1; to learn nothing, do not warm")


class _Record(Generic[Member]):
    """A member and what was missed after it; the most frequent follower stands first."""

    __slots__ = ("counts", "followers", "lives", "member", "total")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.lives = 0
        self.total = 0
        self.followers: list[Member] = []
        self.counts = bytearray()


class Trail(Generic[Member]):
    """What one execution context (a request, a job) missed last; one for each template and context."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: _Record[Member] | None = None


class Bundles(Generic[Member]):
    """The learner of one template's bundles."""

    def __init__(self, policy: BundlePolicy) -> None:
        self._policy = policy
        self._records: dict[Member, _Record[Member]] = {}
        self._queue: deque[Member] = deque()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """The table's estimated size."""
        return self._size_bytes

    def __len__(self) -> int:
        return len(self._records)

    def missed(self, trail: Trail[Member], member: Member) -> Sequence[Member]:
        """Learn from a miss; the members to load with it, most likely next first."""
        return self._chain(self._learn(trail, member))

    def used(self, trail: Trail[Member], member: Member) -> None:
        """Learn from the first use of a member that came in a bundle."""
        self._learn(trail, member)

    def _learn(self, trail: Trail[Member], member: Member) -> _Record[Member]:
        record = self._records.get(member)
        if record is None:
            record = self._admit(member)
        elif record.lives < _MOST_LIVES:
            record.lives += 1
        before, trail.last = trail.last, record
        if before is not None and before is not record:
            self._count(before, record.member)
        return record

    def _count(self, record: _Record[Member], follower: Member) -> None:
        followers, counts = record.followers, record.counts
        record.total += 1
        if follower in followers:
            place = followers.index(follower)
            counts[place] += 1
            if place and counts[place] >= counts[0]:
                counts[0], counts[place] = counts[place], counts[0]
                followers[0], followers[place] = followers[place], followers[0]
        else:
            self._replace_weakest(record, follower)
        if record.total >= self._policy.halved_at:
            _halve(record)

    def _replace_weakest(self, record: _Record[Member], follower: Member) -> None:
        """Room for a new follower; the weakest goes once as many strangers came as it had been seen."""
        followers, counts = record.followers, record.counts
        if len(followers) < self._policy.followers_remembered:
            followers.append(follower)
            counts.append(1)
            return
        weakest = min(reversed(range(len(counts))), key=counts.__getitem__)  # of equals not the first
        if counts[weakest] > 1:
            counts[weakest] -= 1
        else:
            followers[weakest] = follower

    def _chain(self, record: _Record[Member]) -> Sequence[Member]:
        policy = self._policy
        start, confidence = record.member, 1.0
        chain: list[Member] = []
        while len(chain) < policy.max_followers:
            if not record.counts or record.counts[0] < policy.min_support:
                break
            confidence *= record.counts[0] / record.total
            follower = record.followers[0]
            if confidence < policy.min_confidence or follower == start or follower in chain:
                break
            chain.append(follower)
            following = self._records.get(follower)
            if following is None:
                break
            record = following
        return chain

    def _admit(self, member: Member) -> _Record[Member]:
        record = self._records[member] = _Record(member)
        self._queue.append(member)
        self._size_bytes += _RECORD_BYTES + sys.getsizeof(member)
        while self._size_bytes > self._policy.max_bytes and len(self._queue) > 1:
            self._forget_oldest()
        return record

    def _forget_oldest(self) -> None:
        member = self._queue.popleft()
        record = self._records[member]
        if record.lives:
            record.lives -= 1
            self._queue.append(member)
        else:
            del self._records[member]
            self._size_bytes -= _RECORD_BYTES + sys.getsizeof(member)


def _halve(record: _Record[Member]) -> None:
    record.total //= 2
    kept = [(follower, count // 2) for follower, count in zip(record.followers, record.counts, strict=True)]
    record.followers = [follower for follower, count in kept if count]
    record.counts = bytearray(count for _, count in kept if count)
