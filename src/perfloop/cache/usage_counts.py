"""The usage of one cache while it runs, and its profile.

What a request was answered with above the memory tier is counted here, by template; hits of the memory tier
are not seen here at all (`tally`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from perfloop.cache.ghosts import CapacityEstimate
from perfloop.cache.loaded import Source
from perfloop.cache.tallies import TemplateTallies, TemplateTally
from perfloop.cache.usage import HotKey, TemplateUsage, UsagePolicy, UsageProfile, added


class UsageCounts:
    """What one cache counts by template.

    Args:
        policy: how much of it.
        cache: the cache's prefix.
        by_bytes: whether bytes bound its memory tier.
        clock: seconds, never going back.
        rand: from [0, 1).
    """

    def __init__(
        self,
        policy: UsagePolicy,
        *,
        cache: str,
        by_bytes: bool,
        clock: Callable[[], float],
        rand: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.tallies = TemplateTallies(policy, by_bytes=by_bytes, rand=rand)
        self._cache = cache
        self._by_bytes = by_bytes
        self._clock = clock
        self._begun_s = clock()

    def served(self, source: Source, key: str) -> None:
        """One request got a value that was not in the memory tier, or old."""
        tally = self.tallies.of(key)
        if source is Source.REMOTE:
            tally.remote_hits.inc()
        elif source is Source.UNCHECKED:
            tally.unchecked_hits.inc()
        elif source is Source.STALE:
            tally.stale_hits.inc()

    def loaded(self, load_s: float, keys: Sequence[str]) -> None:
        """A loader returned; a batch of several templates is shared among them by their keys."""
        for tally, count in Counter(map(self.tallies.of, keys)).items():
            tally.loads.inc()
            tally.loaded_keys.inc(count)
            tally.load_s.inc(load_s * count / len(keys))

    def templates(self) -> tuple[TemplateUsage, ...]:
        """All templates, the most asked for first; those that proved to be one are joined."""
        joined: dict[str, TemplateUsage] = {}
        for tally in self.tallies.every():
            usage = self._usage(tally)
            known = joined.get(usage.template)
            joined[usage.template] = usage if known is None else added(known, usage)
        return tuple(sorted(joined.values(), key=_requests, reverse=True))

    def profile(
        self,
        *,
        capacity: int,
        capacity_estimates: tuple[CapacityEstimate, ...],
        has_shared_tier: bool,
        saved_unix_s: float,
    ) -> UsageProfile:
        """All that is known by now, with what the cache's other parts know."""
        return UsageProfile(
            cache=self._cache,
            observed_s=self._clock() - self._begun_s,
            saved_unix_s=saved_unix_s,
            capacity=capacity,
            by_bytes=self._by_bytes,
            has_shared_tier=has_shared_tier,
            templates=self.templates(),
            hot_keys=tuple(
                HotKey(
                    key=heavy.key,
                    template=self.tallies.shapes.folded(heavy.group),
                    hits=heavy.weight,
                    excess_hits=heavy.excess,
                    samples=heavy.samples,
                )
                for heavy in self.tallies.hot_keys()
            ),
            capacity_estimates=capacity_estimates,
        )

    def _usage(self, tally: TemplateTally) -> TemplateUsage:
        shapes, policy = self.tallies.shapes, tally.policy
        refreshes_behind = policy is not None and (
            policy.stale_for_s > 0 or policy.refresh_ahead_ratio is not None or policy.xfetch_beta is not None
        )
        unchecked, stale = int(tally.unchecked_hits.value), int(tally.stale_hits.value)
        remote, hits = int(tally.remote_hits.value), tally.hit_count
        others = int(tally.misses.value + tally.stale.value)
        size_bytes = tally.cost if self._by_bytes else 0
        if tally.measured and not self._by_bytes:
            size_bytes = tally.entries * tally.measured_bytes // tally.measured
        return TemplateUsage(
            template=shapes.folded(tally.template),
            is_derived=not shapes.is_declared(tally.template),
            hits=hits + unchecked,
            stale_hits=stale,
            remote_hits=remote,
            # Those under way are misses for now.
            misses=max(0, others - stale - remote - unchecked),
            loads=int(tally.loads.value),
            loaded_keys=int(tally.loaded_keys.value),
            load_s=tally.load_s.value,
            ttl_s=None if policy is None or math.isinf(policy.ttl_s) else policy.ttl_s,
            refreshes_behind=refreshes_behind,
            size_bytes=size_bytes,
            **{name: getattr(tally, name) for name in _COPIED},
        )


_COPIED: Final = (
    "entries",
    "evictions",
    "evicted_unread",
    "evicted_age_s",
    "expirations",
    "expired_unread",
    "renewals",
    "invalidated",
    "invalidated_unread",
    "invalidated_age_s",
    "compared",
    "changed",
    "compared_age_s",
)


def _requests(usage: TemplateUsage) -> int:
    return usage.requests


def usage_counts(
    usage: bool | UsagePolicy,
    cache: str,
    *,
    by_bytes: bool,
    clock: Callable[[], float],
    rand: Callable[[], float],
) -> UsageCounts | None:
    """What counts by template, where that is asked for."""
    if usage is False:
        return None
    policy = UsagePolicy() if usage is True else usage
    return UsageCounts(policy, cache=cache, by_bytes=by_bytes, clock=clock, rand=rand)


def tallies_of(usage: UsageCounts | None) -> TemplateTallies | None:
    """What the memory tier counts with, where usage is told."""
    return None if usage is None else usage.tallies
