"""Reads what running caches wrote down of their use, and what to make of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from perfloop.cache.usage_files import read_usage
from perfloop.tune.cache_advice_values import UsageAdvice


def read_usages(paths: Iterable[Path]) -> tuple[UsageAdvice, ...]:
    """The profiles in these files.

    Raises:
        InvalidInput: One is no profile, or of another version.
        OSError: One cannot be read.
    """
    return tuple(UsageAdvice(profile=read_usage(path)) for path in paths)
