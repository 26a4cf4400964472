"""Code as users of the cache write it: `make check` has mypy read it; nobody runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_type

import psycopg

from perfloop.cache import (
    AsyncQueryCache,
    AsyncTieredCache,
    CacheEvent,
    Loaded,
    QueryCache,
    Row,
    TieredCache,
    WebSession,
    session_of,
)


@dataclass
class User:
    name: str


cache = TieredCache()
async_cache = AsyncTieredCache()


def load_user() -> User:
    return User("Ada")


def load_rate() -> Loaded[float]:
    return Loaded(value=1.1, ttl_s=10)


def load_either() -> float | Loaded[float]:
    return 1.1


async def load_user_later() -> User:
    return User("Ada")


async def load_rate_later() -> Loaded[float]:
    return Loaded(value=1.1, ttl_s=10)


def load_users(keys: Sequence[str]) -> dict[str, User]:
    return {key: User(key) for key in keys}


async def load_rates_later(keys: Sequence[str]) -> Mapping[str, Loaded[float]]:
    return {key: Loaded(value=1.1) for key in keys}


@cache.cached("user:{user_id}", ttl_s=60, tags=("user-{user_id}",))
def user(user_id: int, *, fresh: bool = False) -> User:
    return User(str(user_id))


@cache.cached("rate:{currency}", ttl_s=60)
def rate(currency: str) -> Loaded[float]:
    return Loaded(value=1.1)


@cache.cached_many("product:{}", ttl_s=60)
def products(ids: Sequence[int]) -> dict[int, str]:
    return {number: str(number) for number in ids}


@async_cache.cached("user:{user_id}", ttl_s=60)
async def user_later(user_id: int) -> User | None:
    return None


@async_cache.cached_many("rate:{}", ttl_s=60)
async def rates_later(currencies: Sequence[str]) -> Mapping[str, Loaded[float]]:
    return {each: Loaded(value=1.1) for each in currencies}


class Shop:
    id = 1

    @cache.cached("shop:{self.id}:{day}", ttl_s=60)
    def sales(self, day: int) -> Loaded[int]:
        return Loaded(value=day)


def threads() -> User | None:
    assert_type(cache.get_or_load("u", load_user, ttl_s=60), User)
    assert_type(cache.get_or_load("r", load_rate), float)
    assert_type(cache.get_or_load("e", load_either), float)
    assert_type(cache.load_many(["u"], load_users, ttl_s=60), dict[str, User])
    assert_type(user(7, fresh=True), User)
    assert_type(user.refresh(7), User)
    assert_type(user.key(7), str)
    user.invalidate(user_id=7)
    user("7")  # type: ignore[arg-type]  # arguments are checked as those of the function itself
    assert_type(rate("EUR"), float)
    assert_type(products(7), str | None)
    assert_type(products.many([7]), dict[int, str])
    assert_type(Shop().sales(1), int)
    assert_type(Shop().sales.refresh(1), int)
    assert_type(cache.get("r", 0, kind=float), float | int | None)
    assert_type(cache.get_many(["u"], kind=User), dict[str, User | None])
    assert_type(cache.get("u"), Any)
    return cache.get("u", kind=User)


async def tasks() -> User | None:
    async with AsyncTieredCache(on_event=hear) as own:
        assert_type(await own.get_or_load("u", load_user_later, ttl_s=60), User)
        assert_type(await own.get_or_load("r", load_rate_later, ttl_s=60), float)
        assert_type(await own.load_many(["r"], load_rates_later, ttl_s=60), dict[str, float])
    assert_type(await user_later(7), User | None)
    assert_type(await rates_later("EUR"), float | None)
    assert_type(await rates_later.many(["EUR"]), dict[str, float])
    return await async_cache.get("u", kind=User)


def hear(event: CacheEvent) -> None:
    str(event)


def emails(connection: psycopg.Connection) -> list[str]:
    rows = QueryCache(cache).fetch_all(connection, "SELECT id, email FROM users", ttl_s=60)
    assert_type(rows, tuple[Row, ...])
    for number, email in rows:
        str((number, email))
    return [row.email for row in rows]


async def first_email(connection: psycopg.AsyncConnection) -> str:
    (row, *_) = await AsyncQueryCache(async_cache).fetch_all(connection, "SELECT email FROM users", ttl_s=60)
    return str(row[0])


def login(scope: dict[str, Any]) -> None:
    session = session_of(scope)
    assert_type(session, WebSession)
    session.rotate("7")
    session["cart"] = []
