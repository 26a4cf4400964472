"""The cache: values by key in two tiers, with tags, one load for all who ask, and a fence around it.

The names below are loaded when they are first used, as in `perfloop`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfloop.cache._async.cache import AsyncTieredCache
    from perfloop.cache._async.queries import AsyncQueryCache
    from perfloop.cache._async.sessions import AsyncSessions
    from perfloop.cache._sync.cache import TieredCache
    from perfloop.cache._sync.queries import QueryCache
    from perfloop.cache._sync.sessions import Sessions
    from perfloop.cache.breaker import BreakerPolicy, BreakerState
    from perfloop.cache.events import CacheEvent
    from perfloop.cache.in_memory_remote import AsyncInMemoryRemote, InMemoryRemote, InMemoryServer
    from perfloop.cache.key_list import KeyListPolicy, KeyListStatistics
    from perfloop.cache.loaded import Loaded
    from perfloop.cache.policy import CachePolicy
    from perfloop.cache.remote import AsyncRemoteTier, RemoteTier
    from perfloop.cache.rows import Row
    from perfloop.cache.session_middleware import AsgiSessions, WsgiSessions, session_of
    from perfloop.cache.sessions import SessionPolicy, WebSession
    from perfloop.cache.statistics import CacheStatistics
    from perfloop.cache.warming import WarmingPolicy, WarmingStatistics

__all__ = [
    "AsgiSessions",
    "AsyncInMemoryRemote",
    "AsyncQueryCache",
    "AsyncRemoteTier",
    "AsyncSessions",
    "AsyncTieredCache",
    "BreakerPolicy",
    "BreakerState",
    "CacheEvent",
    "CachePolicy",
    "CacheStatistics",
    "InMemoryRemote",
    "InMemoryServer",
    "KeyListPolicy",
    "KeyListStatistics",
    "Loaded",
    "QueryCache",
    "RemoteTier",
    "Row",
    "SessionPolicy",
    "Sessions",
    "TieredCache",
    "WarmingPolicy",
    "WarmingStatistics",
    "WebSession",
    "WsgiSessions",
    "session_of",
]

_HOMES = {
    "AsgiSessions": "perfloop.cache.session_middleware",
    "AsyncInMemoryRemote": "perfloop.cache.in_memory_remote",
    "AsyncQueryCache": "perfloop.cache._async.queries",
    "AsyncRemoteTier": "perfloop.cache.remote",
    "AsyncSessions": "perfloop.cache._async.sessions",
    "AsyncTieredCache": "perfloop.cache._async.cache",
    "BreakerPolicy": "perfloop.cache.breaker",
    "BreakerState": "perfloop.cache.breaker",
    "CacheEvent": "perfloop.cache.events",
    "CachePolicy": "perfloop.cache.policy",
    "CacheStatistics": "perfloop.cache.statistics",
    "InMemoryRemote": "perfloop.cache.in_memory_remote",
    "InMemoryServer": "perfloop.cache.in_memory_remote",
    "Loaded": "perfloop.cache.loaded",
    "QueryCache": "perfloop.cache._sync.queries",
    "RemoteTier": "perfloop.cache.remote",
    "Row": "perfloop.cache.rows",
    "KeyListPolicy": "perfloop.cache.key_list",
    "KeyListStatistics": "perfloop.cache.key_list",
    "SessionPolicy": "perfloop.cache.sessions",
    "Sessions": "perfloop.cache._sync.sessions",
    "TieredCache": "perfloop.cache._sync.cache",
    "WarmingPolicy": "perfloop.cache.warming",
    "WarmingStatistics": "perfloop.cache.warming",
    "WebSession": "perfloop.cache.sessions",
    "WsgiSessions": "perfloop.cache.session_middleware",
    "session_of": "perfloop.cache.session_middleware",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
