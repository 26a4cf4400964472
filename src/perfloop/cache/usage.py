"""How a cache is used, template by template, as frozen values that outlive the process.

A template is what a decorated function says, `"user:{user_id}"`, or what is derived from the shape of a key
that was given as it is: `"user:7"` becomes `"user:{}"`. What the fields rest on:

- Counted without error: hits, misses, loads and their time, and what left the cache and how. (On builds of
  Python without the GIL, hits may fall short where threads meet.)
- Of a sample of the keys: `compared` and `changed`, and the capacity estimates.
- Of a sample of the hits: the hot keys. Each says by how much it may be too high.
- Of a sample of the entries: bytes, where entries bound the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from perfloop.cache.ghosts import CapacityEstimate
from perfloop.errors import InvalidInput
from perfloop.model.value import Value, require

USAGE_VERSION: Final = 1
OTHER: Final = "other"
"""The template of all keys for which there was no room for one of their own."""
HIT_S: Final = 0.5e-6
"""What a hit costs the caller, and a miss in addition to its loader: benchmarks/cache_usage.py."""
MISS_S: Final = 25e-6


class UsagePolicy(Value, frozen=True, kw_only=True):
    """What is kept to tell how a cache is used."""

    max_templates: int = 200
    """Of keys that were given as they are, and of decorated functions; the rest is `OTHER`."""
    max_hot_keys: int = 10
    """Told in the profile, by their names; 0 keeps none, where keys are nobody's business."""
    estimates_capacity: bool = True
    """Keep ghosts of a sample of the keys, to tell what other capacities would do."""

    def __post_init__(self) -> None:
        require(self.max_templates >= 1, f"max_templates is {self.max_templates}; it is at least 1")
        require(self.max_hot_keys >= 0, f"max_hot_keys is {self.max_hot_keys}; it is 0 or more")


class TemplateUsage(Value, frozen=True, kw_only=True):
    """The keys of one template since the cache was made. Seconds are sums."""

    template: str
    is_derived: bool = False
    """From the shape of its keys: no decorated function has it."""
    hits: int = 0
    """Requests that got a fresh value of this process."""
    stale_hits: int = 0
    """Requests that got a value past its life."""
    remote_hits: int = 0
    """Requests that this process could not serve, and the shared tier could."""
    misses: int = 0
    """Requests that neither could serve: they waited for a loader, or got nothing."""
    loads: int = 0
    """Calls of loaders that returned; a batch is one."""
    loaded_keys: int = 0
    """What these were called for; a batch counts each."""
    load_s: float = 0.0
    """What these calls took together."""
    ttl_s: float | None = None
    """Of what was stored last; None where only an invalidation ends it, or nothing was stored."""
    refreshes_behind: bool = False
    """Whether the terms of what was stored last let an old value be served while a new one is loaded."""
    entries: int = 0
    """Kept now."""
    size_bytes: int = 0
    """Of these with their keys and tags; an estimate where entries bound the cache."""
    evictions: int = 0
    evicted_unread: int = 0
    """Those that nobody had asked for a second time: one-hit wonders."""
    evicted_age_s: float = 0.0
    """Ages of what was evicted, summed."""
    expirations: int = 0
    """Entries that had no use any more and went; those that were loaded anew in time are `renewals`."""
    expired_unread: int = 0
    renewals: int = 0
    """Entries in whose place a later value came."""
    invalidated: int = 0
    """Entries that went since their key or a tag of them was invalidated."""
    invalidated_unread: int = 0
    invalidated_age_s: float = 0.0
    """Ages of these when they went, summed."""
    compared: int = 0
    """Loads of a sampled key after its life, or ahead of its end, held against the value before."""
    changed: int = 0
    """Those that brought another value."""
    compared_age_s: float = 0.0
    """Times between the two loads of each, summed."""

    @property
    def requests(self) -> int:
        return self.hits + self.stale_hits + self.remote_hits + self.misses

    @property
    def hit_ratio(self) -> float | None:
        """The share of the requests that waited for no loader; None before the first."""
        return 1 - self.misses / self.requests if self.requests else None

    @property
    def load_mean_s(self) -> float | None:
        """What loading one key takes, its share of a batch; None before the first load."""
        return self.load_s / self.loaded_keys if self.loaded_keys else None

    @property
    def saved_s(self) -> float | None:
        """Loader time that hits spared, minus what the cache cost in this process; below 0 it is a loss."""
        mean_s = self.load_mean_s
        if mean_s is None:
            return None
        served = self.requests - self.misses
        return served * mean_s - self.hits * HIT_S - (self.requests - self.hits) * MISS_S

    @property
    def left(self) -> int:
        """Entries that are not kept any more, those that a later value replaced aside."""
        return self.evictions + self.expirations + self.invalidated

    @property
    def left_unread(self) -> int:
        """Those of them that nobody had asked for again: loaded and kept for nothing."""
        return self.evicted_unread + self.expired_unread + self.invalidated_unread


class HotKey(Value, frozen=True, kw_only=True):
    """A key that has a large part of all hits, as sampled."""

    key: str
    template: str
    hits: int
    """An estimate; rather too many than too few."""
    excess_hits: int
    """Up to so many of these may be those of other keys; chance of the sample comes on top."""
    samples: int
    """What the estimate rests on: its relative deviation by chance is about 1 / sqrt(samples),
    and more where its hits come in bursts."""


class UsageProfile(Value, frozen=True, kw_only=True):
    """How one cache of one process was used, or, merged, that of several processes."""

    version: int = USAGE_VERSION
    cache: str
    """Its prefix."""
    processes: int = 1
    observed_s: float
    """Since the cache was made; summed over processes."""
    saved_unix_s: float
    """When it was taken, in seconds since the epoch; the latest of all processes."""
    capacity: int
    """Of one process, in entries or bytes."""
    by_bytes: bool
    has_shared_tier: bool
    templates: tuple[TemplateUsage, ...] = ()
    """The most asked for first."""
    hot_keys: tuple[HotKey, ...] = ()
    """The hottest first."""
    capacity_estimates: tuple[CapacityEstimate, ...] = ()
    """Half, once, twice, four times the capacity; empty without ghosts or before the first request."""

    @property
    def requests(self) -> int:
        return sum(each.requests for each in self.templates)

    @property
    def saved_s(self) -> float:
        """Loader time that hits spared, minus what the cache cost."""
        return sum(each.saved_s or 0.0 for each in self.templates)


def added(one: TemplateUsage, other: TemplateUsage) -> TemplateUsage:
    """Two as one: of two caches, or of two templates that are one; the terms are those of `other`."""
    counts = {
        name: getattr(one, name) + getattr(other, name)
        for name in TemplateUsage.__struct_fields__
        if name not in ("template", "is_derived", "ttl_s", "refreshes_behind")
    }
    return msgspec.structs.replace(
        other,
        is_derived=one.is_derived and other.is_derived,
        ttl_s=one.ttl_s if other.ttl_s is None else other.ttl_s,
        refreshes_behind=one.refreshes_behind or other.refreshes_behind,
        **counts,
    )


def merged(profiles: Sequence[UsageProfile]) -> UsageProfile:
    """The profiles of several processes as one. Entries and bytes are sums: each process keeps its own.

    Raises:
        InvalidInput: there is none, or they are of caches with different prefixes.
    """
    if not profiles or len({profile.cache for profile in profiles}) > 1:
        names = ", ".join(sorted({profile.cache for profile in profiles})) or "none"
        raise InvalidInput(f"profiles of one cache are merged, and these are of {names}; give those of one")
    templates: dict[str, TemplateUsage] = {}
    for usage in (each for profile in profiles for each in profile.templates):
        known = templates.get(usage.template)
        templates[usage.template] = usage if known is None else added(known, usage)
    largest = max(profiles, key=lambda profile: profile.requests)
    return msgspec.structs.replace(
        largest,
        processes=sum(profile.processes for profile in profiles),
        observed_s=sum(profile.observed_s for profile in profiles),
        saved_unix_s=max(profile.saved_unix_s for profile in profiles),
        templates=tuple(sorted(templates.values(), key=lambda usage: usage.requests, reverse=True)),
        hot_keys=_hot_keys(each for profile in profiles for each in profile.hot_keys),
        capacity_estimates=_estimates(profiles),
    )


def _hot_keys(keys: Iterable[HotKey]) -> tuple[HotKey, ...]:
    found: dict[str, HotKey] = {}
    for each in keys:
        known = found.get(each.key)
        found[each.key] = (
            each
            if known is None
            else msgspec.structs.replace(
                each,
                hits=known.hits + each.hits,
                excess_hits=known.excess_hits + each.excess_hits,
                samples=known.samples + each.samples,
            )
        )
    return tuple(sorted(found.values(), key=lambda each: each.hits, reverse=True))


def _estimates(profiles: Sequence[UsageProfile]) -> tuple[CapacityEstimate, ...]:
    """Means, by requests; each process keeps its own entries."""
    told = [profile for profile in profiles if profile.capacity_estimates]
    requests = sum(profile.requests for profile in told)
    if not requests:
        return ()
    means = []
    for at_ratio in zip(*(profile.capacity_estimates for profile in told), strict=False):
        weighed = [(each, profile.requests / requests) for each, profile in zip(at_ratio, told, strict=True)]
        means.append(
            msgspec.structs.replace(
                at_ratio[0],
                hit_ratio=sum(each.hit_ratio * weight for each, weight in weighed),
                gain_points=sum(each.gain_points * weight for each, weight in weighed),
                sampled_misses=sum(each.sampled_misses for each in at_ratio),
            )
        )
    return tuple(means)
