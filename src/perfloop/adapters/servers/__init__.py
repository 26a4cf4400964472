"""Servers of our own: found, started, and ended without a trace."""

from perfloop.adapters.servers.binaries import (
    Origin,
    PostgresBinaries,
    RedisBinary,
    find_postgres,
    find_redis,
    installed_postgres,
    installed_redis,
)
from perfloop.adapters.servers.folders import sweep_stale_servers
from perfloop.adapters.servers.postgres import PostgresServer, ServerStatistics
from perfloop.adapters.servers.redis import RedisServer

__all__ = [
    "Origin",
    "PostgresBinaries",
    "PostgresServer",
    "RedisBinary",
    "RedisServer",
    "ServerStatistics",
    "find_postgres",
    "find_redis",
    "installed_postgres",
    "installed_redis",
    "sweep_stale_servers",
]
