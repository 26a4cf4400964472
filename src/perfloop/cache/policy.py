"""How long a value may be served, and what is due when: decisions only, time and chance are arguments.

A value's life starts when it was loaded, and is shortened by a random part, so that values that were loaded
together do not end together. What is left of it, `left_s`, decides; it is negative after the end::

    load ────── FRESH ────── DUE ─── end ────── STALE ────── SPARE ────── EXPIRED
                                      |<- stale_for_s ->|<- fail_safe_for_s ->|
"""

from __future__ import annotations

import enum
import math
import sys
from typing import Final

from perfloop.model.value import Value, require

LONGEST_DRAW: Final = -math.log(sys.float_info.epsilon / 2)
"""`-ln(rand)` is never above this for a `rand` of 53 bits: the most loads by which XFetch can be early."""


class Freshness(enum.Enum):
    """What may be done with an entry."""

    FRESH = "fresh"
    DUE = "due"
    """Fresh, and a new value should be loaded in the background now."""
    STALE = "stale"
    """Past its life; may be served while a new value is loaded in the background."""
    SPARE = "spare"
    """To be served only if the loader fails."""
    EXPIRED = "expired"
    """Not there, invalidated, or past all use."""
    UNCHECKED = "unchecked"
    """From before a gap in the news from other processes: ask the remote tier before it is served."""


class CachePolicy(Value, frozen=True, kw_only=True):
    """The frozen parameters of one kind of entry. All times in seconds.

    >>> CachePolicy(ttl_s=60, stale_for_s=300, fail_safe_for_s=600).retention_s
    960
    """

    ttl_s: float
    """Life of a value, above 0; `math.inf` for one that only an invalidation ends."""
    stale_for_s: float = 0.0
    """How long after its life it may be served at once while a new value is loaded in the background."""
    fail_safe_for_s: float = 0.0
    """How long after that it still stands in for a loader that fails or exceeds `soft_timeout_s`."""
    negative_ttl_s: float | None = None
    """Life of a None that the loader returned. None: as any other value; 0: a None is not kept."""
    jitter_ratio: float = 0.05
    """Share of the life, in [0, 1), up to which it is shortened at random; no life is ever lengthened."""
    refresh_ahead_ratio: float | None = None
    """Share of the life, in (0, 1), after which a request also starts a load in the background."""
    xfetch_beta: float | None = None
    """Above 0, usually 1: refresh ahead by chance, earlier for values that take longer to load."""
    soft_timeout_s: float | None = None
    """Wait for a loader this long where a stale or spare value is at hand; the load then goes on behind."""
    hard_timeout_s: float | None = None
    """Wait for a loader this long in any case, then raise."""

    def __post_init__(self) -> None:
        require(self.ttl_s > 0, f"ttl_s is {self.ttl_s}; it must be above 0")
        _require_length("stale_for_s", self.stale_for_s)
        _require_length("fail_safe_for_s", self.fail_safe_for_s)
        _require_length("negative_ttl_s", self.negative_ttl_s)
        require(0 <= self.jitter_ratio < 1, f"jitter_ratio is {self.jitter_ratio}; it must lie in [0, 1)")
        ahead = self.refresh_ahead_ratio
        require(ahead is None or 0 < ahead < 1, f"refresh_ahead_ratio is {ahead}; it must lie in (0, 1)")
        for name in ("xfetch_beta", "soft_timeout_s", "hard_timeout_s"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} is {value}; it must be above 0, or None for none")
        soft_s, hard_s = self.soft_timeout_s, self.hard_timeout_s
        require(
            soft_s is None or self.fail_safe_for_s > 0,
            "soft_timeout_s serves old values, and none is kept; give fail_safe_for_s",
        )
        require(
            soft_s is None or hard_s is None or soft_s < hard_s,
            f"soft_timeout_s is {soft_s}, and hard_timeout_s {hard_s}; the soft one has to be shorter",
        )

    @property
    def kept_after_s(self) -> float:
        """How long a value has any use after its life."""
        return self.stale_for_s + self.fail_safe_for_s

    @property
    def retention_s(self) -> float:
        """How long a value has any use, from its load."""
        return self.ttl_s + self.kept_after_s


def _require_length(name: str, value_s: float | None) -> None:
    require(value_s is None or value_s >= 0, f"{name} is {value_s}; it must be 0 or more")


def drawn_life_s(policy: CachePolicy, rand: float, *, negative: bool = False) -> float:
    """The life of a value loaded now, with a `rand` from [0, 1); 0 for a None that is not to be kept."""
    ttl_s = policy.ttl_s
    if negative and policy.negative_ttl_s is not None:
        ttl_s = policy.negative_ttl_s
    return ttl_s * (1.0 - policy.jitter_ratio * rand)


def quiet_s(policy: CachePolicy, life_s: float, load_s: float) -> float:
    """How long after its load a value is fresh for sure and nothing can be due.

    A hit within this time needs no other decision: XFetch's chance before it is exactly nought, since a
    random number of 53 bits cannot be small enough.
    """
    quiet = life_s
    if policy.refresh_ahead_ratio is not None:
        quiet = min(quiet, life_s * policy.refresh_ahead_ratio)
    if policy.xfetch_beta is not None:
        quiet = min(quiet, life_s - policy.xfetch_beta * load_s * LONGEST_DRAW)
    return max(quiet, 0.0)


def freshness(policy: CachePolicy, *, life_s: float, left_s: float, load_s: float, rand: float) -> Freshness:
    """What may be done with a value that has `left_s` of its `life_s` left and took `load_s` to load.

    Args:
        policy: the rules.
        life_s: as it was drawn at the load.
        left_s: negative after the end.
        load_s: what the last load took; only XFetch asks for it.
        rand: from [0, 1), a new one for each request.
    """
    if left_s > 0:
        return Freshness.DUE if _is_due(policy, life_s, left_s, load_s, rand) else Freshness.FRESH
    if -left_s < policy.stale_for_s:
        return Freshness.STALE
    return Freshness.SPARE if -left_s < policy.kept_after_s else Freshness.EXPIRED


def _is_due(policy: CachePolicy, life_s: float, left_s: float, load_s: float, rand: float) -> bool:
    ahead = policy.refresh_ahead_ratio
    if ahead is not None and left_s <= life_s * (1.0 - ahead) and life_s != math.inf:
        return True
    return policy.xfetch_beta is not None and fetches_early(policy.xfetch_beta, load_s, left_s, rand)


def fetches_early(beta: float, load_s: float, left_s: float, rand: float) -> bool:
    """XFetch: whether this request should load anew although `left_s` of the life is left.

    Source: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
    Assumes that requests come independently and that the next load takes about as long as the last one. No
    lock and no talk between processes; on average it is early by the order of one load.

    >>> [fetches_early(1.0, load_s=2.0, left_s=left_s, rand=0.5) for left_s in (1.0, 9.0)]
    [True, False]
    """
    return -beta * load_s * math.log(rand or sys.float_info.epsilon / 2) >= left_s
