"""Reads what running caches wrote down of their use, and what to make of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from perfloop.cache.usage import UsageProfile
from perfloop.cache.usage_files import read_usage
from perfloop.cache.usage_findings import usage_findings
from perfloop.tune.cache_advice_values import UsageAdvice


def read_usages(paths: Iterable[Path]) -> tuple[UsageAdvice, ...]:
    """The profiles in these files.

    Raises:
        InvalidInput: One is no profile, or of another version.
        OSError: One cannot be read.
    """
    return tuple(_advice(read_usage(path)) for path in paths)


def _advice(profile: UsageProfile) -> UsageAdvice:
    findings = usage_findings(profile)
    return UsageAdvice(
        profile=profile, findings=tuple(f"{each.title}: try {each.would_try}" for each in findings)
    )
