"""What the cache and its shared tier tell each other. Payloads are bytes: `perfloop.cache.codec` makes them.

Times are lengths in seconds, measured by the server that holds the entry: no two clocks are compared.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from perfloop.model.value import Value, require

EVERYTHING = "*"
"""A tag that every entry carries without naming it: invalidating it clears the tier in one step."""


class RemoteEntry(Value, frozen=True, kw_only=True):
    """A value that the tier holds and that nothing has invalidated. Its age may be past its life."""

    payload: bytes
    birth: int
    """The number at which it was known to be valid; every later one of a tag of it makes it invalid."""
    age_s: float
    """Since it was stored; never below zero."""
    ttl_s: float
    """It is fresh while its age is below this,"""
    stale_for_s: float = 0.0
    """then stale for so long: to be served while one caller refreshes it,"""
    fail_safe_for_s: float = 0.0
    """then kept for so long, to be served only when its loader fails."""
    tags: tuple[str, ...] = ()


class Lease(Value, frozen=True, kw_only=True):
    """The right to load one key, alone among all processes, until it ends or is broken."""

    key: str
    token: str
    birth: int
    """The last number given out before the load begins: whatever is invalidated later refuses the store."""


class Fetched(Value, frozen=True, kw_only=True):
    """What the tier says of one key.

    =============================== ========================================================
    entry is fresh, no lease        a hit
    entry and a lease               serve it if fresh or stale; the caller is the one to refresh
    entry and `held_for_s`          serve it if fresh or stale; another refreshes it
    a lease                         a miss; the caller is the one to load (a kept entry: fail-safe)
    `held_for_s`                    a miss; another loads: wait for LoadsFinished or KeysChanged
    none of the three               a miss; no lease was asked for, or the server has no room for one
    =============================== ========================================================
    """

    entry: RemoteEntry | None = None
    lease: Lease | None = None
    held_for_s: float | None = None
    """How long another's lease lasts at most; then one of those who ask again gets the next."""


class Write(Value, frozen=True, kw_only=True):
    """What is to be stored for a key.

    With a lease it is the outcome of a load, and refused where the lease was broken or a tag invalidated.
    Without one it is a plain `set`: it breaks leases, and other processes hear KeysChanged. A payload of None
    gives the lease back without a value, so that waiters need not sit out its time.
    """

    key: str
    payload: bytes | None
    ttl_s: float = 0.0
    stale_for_s: float = 0.0
    fail_safe_for_s: float = 0.0
    tags: tuple[str, ...] = ()
    lease: Lease | None = None
    renews: bool = False
    """Of a load: it takes the place of what others have, and they hear KeysChanged as of a `set`."""

    def __post_init__(self) -> None:
        require(self.payload is not None or self.lease is not None, "only a lease can be given back")
        require(self.payload is None or self.ttl_s > 0, "ttl_s must be above zero")
        require(self.stale_for_s >= 0, "stale_for_s must not be below zero")
        require(self.fail_safe_for_s >= 0, "fail_safe_for_s must not be below zero")
        require(self.lease is None or self.lease.key == self.key, "the lease is of another key")

    @property
    def kept_for_s(self) -> float:
        """The whole time that the tier holds it."""
        return self.ttl_s + self.stale_for_s + self.fail_safe_for_s


class StoreOutcome(StrEnum):
    """What became of a write."""

    STORED = "stored"
    FENCED = "fenced"
    """The lease was broken or ran out, or a tag was invalidated since: the value may be stale already."""
    FULL = "full"
    """The server has no memory for it."""
    RELEASED = "released"
    """The lease was given back without a value."""


class KeysChanged(Value, frozen=True, kw_only=True, tag="keys_changed"):
    """Another process set, renewed or invalidated these keys; the store of a load is no such change."""

    keys: tuple[str, ...]


class TagsChanged(Value, frozen=True, kw_only=True, tag="tags_changed"):
    """Another process invalidated these tags."""

    tags: tuple[str, ...]


class LoadsFinished(Value, frozen=True, kw_only=True, tag="loads_finished"):
    """Leases on these keys ended, with a value or without; fetch again. Sent where somebody waits, to all."""

    keys: tuple[str, ...]


class Gap(Value, frozen=True, kw_only=True, tag="gap"):
    """News may have been lost, or everything was cleared: what was fetched before has to be fetched again."""

    is_over: bool
    """False while nothing can be heard, and then a tier-1 entry is no longer known to be valid."""


News: TypeAlias = KeysChanged | TagsChanged | LoadsFinished | Gap
