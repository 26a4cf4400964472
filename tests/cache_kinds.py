"""One test source for both kinds of cache: the async one is driven from a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from perfloop.cache import (
    AsyncInMemoryRemote,
    AsyncTieredCache,
    FakeClock,
    InMemoryRemote,
    InMemoryServer,
    TieredCache,
)

__all__ = ["KINDS", "FakeClock", "Gate", "until", "waiters"]

WITHIN_S = 10.0


def until(condition: Callable[[], object], within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.001)


def waiters(cache: Any, key: str) -> int:
    """How many wait for the load of a key; nothing public tells when a caller has begun to wait."""
    flight = cache._memory._flights.find(key)
    return 0 if flight is None or flight.future is None else flight.future.waiters


class Gate:
    """A loader that says when it has begun, and returns when it is let."""

    def __init__(self, *values: object) -> None:
        self._values = list(values)
        self.begun = threading.Semaphore(0)
        self._let = threading.Semaphore(0)
        self.calls = 0

    def __call__(self) -> Any:
        value = self._values[min(self.calls, len(self._values) - 1)]
        self.calls += 1
        self.begun.release()
        assert self._let.acquire(timeout=WITHIN_S)
        return value

    def wait_begun(self) -> None:
        assert self.begun.acquire(timeout=WITHIN_S)

    def let(self) -> None:
        self._let.release()


class SyncKind:
    """Caches for threads, as they are."""

    name = "sync"

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(64)

    @contextlib.contextmanager
    def cache(self, server: InMemoryServer | None = None, **options: Any) -> Iterator[Any]:
        if server is not None:
            options["remote"] = InMemoryRemote(server)
        with TieredCache(**options) as cache:
            yield cache

    def start(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        return self._pool.submit(function, *args, **kwargs)

    def close(self) -> None:
        self._pool.shutdown()


class AsyncKind:
    """Caches for asyncio behind faces without it; loaders stay plain functions, and may block."""

    name = "async"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(64))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._pool = ThreadPoolExecutor(64)

    @contextlib.contextmanager
    def cache(self, server: InMemoryServer | None = None, **options: Any) -> Iterator[Any]:
        if server is not None:
            options["remote"] = AsyncInMemoryRemote(server)
        cache = AsyncTieredCache(**options)
        self.run(cache.__aenter__())
        try:
            yield _Driven(self, cache)
        finally:
            self.run(cache.close())

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(3 * WITHIN_S)

    def awaiting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            return await self._loop.run_in_executor(None, functools.partial(function, *args, **kwargs))

        return run

    def start(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        return self._pool.submit(function, *args, **kwargs)

    def close(self) -> None:
        self._pool.shutdown()
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Driven:
    def __init__(self, kind: AsyncKind, cache: AsyncTieredCache) -> None:
        self._kind = kind
        self._cache = cache
        self._link = cache._link
        self._memory = cache._memory
        self.statistics = cache.statistics
        self.usage = cache.usage

    def get_or_load(self, key: str, loader: Callable[[], Any], **terms: Any) -> Any:
        return self._kind.run(self._cache.get_or_load(key, self._kind.awaiting(_named(loader)), **terms))

    def load_many(self, keys: Any, loader: Callable[..., Any], **terms: Any) -> Any:
        return self._kind.run(self._cache.load_many(keys, self._kind.awaiting(_named(loader)), **terms))

    def cached(self, *args: Any, **terms: Any) -> Callable[[Callable[..., Any]], Any]:
        return lambda function: _DrivenFunction(
            self._kind, self._cache.cached(*args, **terms)(self._kind.awaiting(function))
        )

    def cached_many(self, *args: Any, **terms: Any) -> Callable[[Callable[..., Any]], Any]:
        return lambda function: _DrivenFunction(
            self._kind, self._cache.cached_many(*args, **terms)(self._kind.awaiting(function))
        )

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cache, name)
        return lambda *args, **kwargs: self._kind.run(method(*args, **kwargs))


class _DrivenFunction:
    def __init__(self, kind: AsyncKind, cached: Any) -> None:
        self._kind = kind
        self._cached = cached
        self.key = cached.key

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._kind.run(self._cached(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cached, name)
        return lambda *args, **kwargs: self._kind.run(method(*args, **kwargs))


def _named(loader: Callable[..., Any]) -> Callable[..., Any]:
    return loader if hasattr(loader, "__name__") else lambda *args: loader(*args)


KINDS = (SyncKind, AsyncKind)
