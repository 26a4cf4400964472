"""Advice on caching as JSON."""

from __future__ import annotations

import msgspec

from perfloop.model.value import to_json
from perfloop.tune.cache_advice_values import CacheAdvice, UsageAdvice

CACHE_ADVICE_FORMAT = "perfloop-cache-advice-1"


def cache_advice_json(advice: CacheAdvice | None, usage: tuple[UsageAdvice, ...]) -> str:
    """What was found, as JSON.

    Top-level keys, which are never renamed or removed under the same format: format
    ("perfloop-cache-advice-1"), database, the `CacheAdvice` or null, and usage, a list of `UsageAdvice`, all
    with their fields' own names.
    """
    document = {"format": CACHE_ADVICE_FORMAT, "database": advice, "usage": usage}
    return msgspec.json.format(to_json(document), indent=2).decode() + "\n"
