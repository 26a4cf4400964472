"""The cache: values by key in two tiers, with tags, one load for all who ask, and a fence around it.

The names below are loaded when they are first used, as in `perfloop`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfloop.cache._async.cache import AsyncTieredCache
    from perfloop.cache._async.decorated import AsyncCached, AsyncCachedMany
    from perfloop.cache._async.queries import AsyncQueryCache
    from perfloop.cache._async.sessions import AsyncSessions
    from perfloop.cache._sync.cache import TieredCache
    from perfloop.cache._sync.decorated import Cached, CachedMany
    from perfloop.cache._sync.queries import QueryCache
    from perfloop.cache._sync.sessions import Sessions
    from perfloop.cache.breaker import BreakerPolicy, BreakerState
    from perfloop.cache.bundles import BundlePolicy
    from perfloop.cache.codec import Serializer
    from perfloop.cache.events import (
        BreakerClosed,
        BreakerOpened,
        CacheEvent,
        LoadEnded,
        LoadFailed,
        Missed,
        StaleServed,
        StoreRefused,
    )
    from perfloop.cache.fake_clock import FakeClock
    from perfloop.cache.ghosts import CapacityEstimate
    from perfloop.cache.in_memory_remote import AsyncInMemoryRemote, InMemoryRemote, InMemoryServer
    from perfloop.cache.key_list import KeyListPolicy, KeyListStatistics
    from perfloop.cache.loaded import Loaded
    from perfloop.cache.memory_statistics import MemoryStatistics
    from perfloop.cache.observing import observe_cache
    from perfloop.cache.policy import CachePolicy
    from perfloop.cache.query_key import QueryStatistics
    from perfloop.cache.remote import (
        EVERYTHING,
        AsyncRemoteTier,
        Fetched,
        Gap,
        KeysChanged,
        Lease,
        LoadsFinished,
        News,
        RemoteEntry,
        RemoteTier,
        StoreOutcome,
        TagsChanged,
        Write,
    )
    from perfloop.cache.rows import Row
    from perfloop.cache.session_middleware import AsgiSessions, WsgiSessions, session_of
    from perfloop.cache.sessions import SessionPolicy, WebSession
    from perfloop.cache.statistics import CacheStatistics
    from perfloop.cache.usage import HotKey, TemplateUsage, UsagePolicy, UsageProfile
    from perfloop.cache.usage_files import read_usage, write_usage
    from perfloop.cache.warming import WarmingPolicy, WarmingStatistics
    from perfloop.cache.warming_gate import GatePolicy

__all__ = [
    "EVERYTHING",
    "AsgiSessions",
    "AsyncCached",
    "AsyncCachedMany",
    "AsyncInMemoryRemote",
    "AsyncQueryCache",
    "AsyncRemoteTier",
    "AsyncSessions",
    "AsyncTieredCache",
    "BreakerClosed",
    "BreakerOpened",
    "BreakerPolicy",
    "BreakerState",
    "BundlePolicy",
    "CacheEvent",
    "CachePolicy",
    "CacheStatistics",
    "Cached",
    "CachedMany",
    "CapacityEstimate",
    "FakeClock",
    "Fetched",
    "Gap",
    "GatePolicy",
    "HotKey",
    "InMemoryRemote",
    "InMemoryServer",
    "KeyListPolicy",
    "KeyListStatistics",
    "KeysChanged",
    "Lease",
    "LoadEnded",
    "LoadFailed",
    "Loaded",
    "LoadsFinished",
    "MemoryStatistics",
    "Missed",
    "News",
    "QueryCache",
    "QueryStatistics",
    "RemoteEntry",
    "RemoteTier",
    "Row",
    "Serializer",
    "SessionPolicy",
    "Sessions",
    "StaleServed",
    "StoreOutcome",
    "StoreRefused",
    "TagsChanged",
    "TemplateUsage",
    "TieredCache",
    "UsagePolicy",
    "UsageProfile",
    "WarmingPolicy",
    "WarmingStatistics",
    "WebSession",
    "Write",
    "WsgiSessions",
    "observe_cache",
    "read_usage",
    "session_of",
    "write_usage",
]

_HOMES = {
    "AsgiSessions": "perfloop.cache.session_middleware",
    "AsyncCached": "perfloop.cache._async.decorated",
    "AsyncCachedMany": "perfloop.cache._async.decorated",
    "AsyncInMemoryRemote": "perfloop.cache.in_memory_remote",
    "AsyncQueryCache": "perfloop.cache._async.queries",
    "AsyncRemoteTier": "perfloop.cache.remote",
    "AsyncSessions": "perfloop.cache._async.sessions",
    "AsyncTieredCache": "perfloop.cache._async.cache",
    "BreakerClosed": "perfloop.cache.events",
    "BreakerOpened": "perfloop.cache.events",
    "BreakerPolicy": "perfloop.cache.breaker",
    "BreakerState": "perfloop.cache.breaker",
    "BundlePolicy": "perfloop.cache.bundles",
    "CacheEvent": "perfloop.cache.events",
    "CachePolicy": "perfloop.cache.policy",
    "CacheStatistics": "perfloop.cache.statistics",
    "Cached": "perfloop.cache._sync.decorated",
    "CachedMany": "perfloop.cache._sync.decorated",
    "CapacityEstimate": "perfloop.cache.ghosts",
    "EVERYTHING": "perfloop.cache.remote",
    "FakeClock": "perfloop.cache.fake_clock",
    "Fetched": "perfloop.cache.remote",
    "Gap": "perfloop.cache.remote",
    "GatePolicy": "perfloop.cache.warming_gate",
    "HotKey": "perfloop.cache.usage",
    "InMemoryRemote": "perfloop.cache.in_memory_remote",
    "InMemoryServer": "perfloop.cache.in_memory_remote",
    "KeyListPolicy": "perfloop.cache.key_list",
    "KeyListStatistics": "perfloop.cache.key_list",
    "KeysChanged": "perfloop.cache.remote",
    "Lease": "perfloop.cache.remote",
    "LoadEnded": "perfloop.cache.events",
    "LoadFailed": "perfloop.cache.events",
    "Loaded": "perfloop.cache.loaded",
    "LoadsFinished": "perfloop.cache.remote",
    "MemoryStatistics": "perfloop.cache.memory_statistics",
    "Missed": "perfloop.cache.events",
    "News": "perfloop.cache.remote",
    "QueryCache": "perfloop.cache._sync.queries",
    "QueryStatistics": "perfloop.cache.query_key",
    "RemoteEntry": "perfloop.cache.remote",
    "RemoteTier": "perfloop.cache.remote",
    "Row": "perfloop.cache.rows",
    "Serializer": "perfloop.cache.codec",
    "SessionPolicy": "perfloop.cache.sessions",
    "Sessions": "perfloop.cache._sync.sessions",
    "StaleServed": "perfloop.cache.events",
    "StoreOutcome": "perfloop.cache.remote",
    "StoreRefused": "perfloop.cache.events",
    "TagsChanged": "perfloop.cache.remote",
    "TemplateUsage": "perfloop.cache.usage",
    "TieredCache": "perfloop.cache._sync.cache",
    "UsagePolicy": "perfloop.cache.usage",
    "UsageProfile": "perfloop.cache.usage",
    "WarmingPolicy": "perfloop.cache.warming",
    "WarmingStatistics": "perfloop.cache.warming",
    "WebSession": "perfloop.cache.sessions",
    "Write": "perfloop.cache.remote",
    "WsgiSessions": "perfloop.cache.session_middleware",
    "observe_cache": "perfloop.cache.observing",
    "read_usage": "perfloop.cache.usage_files",
    "session_of": "perfloop.cache.session_middleware",
    "write_usage": "perfloop.cache.usage_files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
