"""Event-driven invalidation: what is committed in PostgreSQL clears the cache's tags.

    from perfloop.cache.invalidation import ChangeListener, Outbox, TagMap

    tags = TagMap({"orders": ("order-{id}", "orders-of-{customer_id}", "orders")})
    with ChangeListener(Outbox(dsn, reader=None), tags, cache):
        ...

A listener is a thread, in a service for asyncio, too; a hook runs in the call that commits.
"""

from __future__ import annotations

from perfloop.adapters.changes.outbox_reader import Outbox
from perfloop.adapters.changes.policies import OutboxPolicy, SlotPolicy
from perfloop.adapters.changes.slot_reader import ReplicationSlot
from perfloop.adapters.changes.source import ChangeSource
from perfloop.cache.invalidation.commits import DjangoHook, SqlalchemyHook
from perfloop.cache.invalidation.freshness import InvalidationStatistics
from perfloop.cache.invalidation.invalidates import AsyncInvalidates, Invalidates
from perfloop.cache.invalidation.listener import AsyncChangeListener, ChangeListener
from perfloop.cache.invalidation.listening import ListenerPolicy
from perfloop.cache.invalidation.tags import TagMap
from perfloop.model.changes import ANY_TABLE, TableChange, WatchedTable

__all__ = [
    "ANY_TABLE",
    "AsyncChangeListener",
    "AsyncInvalidates",
    "ChangeListener",
    "ChangeSource",
    "DjangoHook",
    "Invalidates",
    "InvalidationStatistics",
    "ListenerPolicy",
    "Outbox",
    "OutboxPolicy",
    "ReplicationSlot",
    "SlotPolicy",
    "SqlalchemyHook",
    "TableChange",
    "TagMap",
    "WatchedTable",
]
