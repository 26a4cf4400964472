"""Reads what running caches wrote down of their use, and what to make of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from perfloop.cache.usage import UsageProfile, merged
from perfloop.cache.usage_files import read_usage
from perfloop.cache.usage_findings import usage_findings
from perfloop.tune.cache_advice_values import UsageAdvice


def read_usages(paths: Iterable[Path]) -> tuple[UsageAdvice, ...]:
    """The profiles in these files, those of processes that share a prefix as one.

    Raises:
        InvalidInput: One is no profile, or of another version.
        OSError: One cannot be read.
    """
    by_cache: dict[str, list[UsageProfile]] = {}
    for path in paths:
        profile = read_usage(path)
        by_cache.setdefault(profile.cache, []).append(profile)
    profiles = [merged(each) for each in by_cache.values()]
    return tuple(UsageAdvice(profile=each, findings=usage_findings(each)) for each in profiles)
