"""Time from nothing to the first answer, for every installed server.

Cold is the first start on a machine: no template yet, so initdb runs. Warm is every later one.

    python benchmarks/server_start.py --runs 9
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import psycopg

from perfloop.adapters.servers import (
    PostgresBinaries,
    PostgresServer,
    RedisBinary,
    RedisServer,
    installed_postgres,
    installed_redis,
)
from perfloop.adapters.servers.cachefolder import CACHE_VARIABLE

COLD_TARGET_S = 0.7
WARM_TARGET_S = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where the servers live (default: the temporary folder)")
    options = parser.parse_args()
    print(f"{'server':<34} {'start':<5} {'min':>7} {'median':>7} {'max':>7}  target")
    for binaries in installed_postgres():
        name = f"PostgreSQL {binaries.version} ({binaries.origin})"
        cold = [cold_start_s(binaries, options.folder) for _ in range(options.runs)]
        show(name, "cold", cold, COLD_TARGET_S)
        postgres_start_s(binaries, options.folder)
        warm = [postgres_start_s(binaries, options.folder) for _ in range(options.runs)]
        show(name, "warm", warm, WARM_TARGET_S)
    for binary in installed_redis():
        name = f"{binary.flavour.capitalize()} {binary.version} ({binary.origin})"
        show(name, "", [redis_start_s(binary, options.folder) for _ in range(options.runs)], WARM_TARGET_S)


def cold_start_s(binaries: PostgresBinaries, folder: Path | None) -> float:
    with tempfile.TemporaryDirectory() as cache:
        os.environ[CACHE_VARIABLE] = f"{cache}/perfloop"
        try:
            return postgres_start_s(binaries, folder)
        finally:
            del os.environ[CACHE_VARIABLE]


def postgres_start_s(binaries: PostgresBinaries, folder: Path | None) -> float:
    settings = {"shared_preload_libraries": "pg_stat_statements"}
    began_s = time.perf_counter()
    with (
        PostgresServer(binaries, settings=settings, parent=folder) as server,
        psycopg.connect(server.dsn()) as connection,
    ):
        connection.execute("SELECT 1")
        return time.perf_counter() - began_s


def redis_start_s(binary: RedisBinary, folder: Path | None) -> float:
    """It is open once it has answered a PING."""
    began_s = time.perf_counter()
    with RedisServer(binary, parent=folder):
        return time.perf_counter() - began_s


def show(name: str, start: str, seconds: list[float], target_s: float) -> None:
    median_s = statistics.median(seconds)
    verdict = "met" if median_s <= target_s else "missed"
    figures = " ".join(f"{one:>7.3f}" for one in (min(seconds), median_s, max(seconds)))
    print(f"{name:<34} {start:<5} {figures}  {target_s:g} s {verdict}")


if __name__ == "__main__":
    main()
