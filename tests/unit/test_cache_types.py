"""A value that only its type makes what it was, asked for with the type and without, in either order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from tests.cache_kinds import Gate, until, waiters

from perfloop.cache import CachePolicy, InMemoryServer
from perfloop.cache.codec import Codec, needs_kind


@dataclass(frozen=True)
class User:
    id: int


class Two(NamedTuple):
    one: Any
    other: Any


def load_user() -> User:
    return User(7)


def load_users(keys: list[str]) -> dict[str, User]:
    return {key: User(7) for key in keys}


@pytest.fixture
def two(kind: Any) -> Iterator[Two]:
    """The first has stored a user, with its type."""
    server = InMemoryServer()
    policy = CachePolicy(ttl_s=60)
    with kind.cache(server, policy=policy) as one, kind.cache(server, policy=policy) as other:
        one.get_or_load("u", load_user)
        yield Two(one, other)


def test_who_gave_no_type_spoils_it_for_nobody(two: Two) -> None:
    seen = [two.other.get("u"), two.other.get_many(["u"])["u"], two.other.get_or_load("u", lambda: None)]

    assert [{"id": 7}] * 3 == seen
    assert User(7) == two.other.get_or_load("u", load_user)
    assert User(7) == two.other.get("u"), "what was read with its type is kept"


def test_a_batch_and_a_function_get_the_type_after_a_get_without(two: Two) -> None:
    two.other.get("u")
    function = two.other.cached("{key}")(lambda key: None)
    seen = function("u")

    assert {"id": 7} == seen
    assert {"u": User(7)} == two.other.load_many(["u"], load_users)


def test_who_asked_for_a_type_takes_nothing_of_a_load_without(kind: Any, two: Two) -> None:
    two.one.delete("u")
    gate = Gate(User(7))
    leader = kind.start(two.one.get_or_load, "u", gate, kind=User)
    gate.wait_begun()
    bare = kind.start(two.other.get_or_load, "u", lambda: None)
    until(lambda: waiters(two.other, "u") == 1)
    typed = kind.start(two.other.get_or_load, "u", load_user)
    until(lambda: waiters(two.other, "u") == 2)
    gate.let()

    assert (User(7), {"id": 7}, User(7)) == (leader.result(), bare.result(), typed.result())


def test_a_plain_value_is_kept_whoever_reads_it(kind: Any) -> None:
    server = InMemoryServer()
    with kind.cache(server) as one, kind.cache(server) as other:
        one.set("n", {"a": [1]}, ttl_s=60, kind=dict[str, list[int]])
        seen = [other.get("n"), other.get("n")]

        assert [{"a": [1]}] * 2 == seen
        assert 1 == other.statistics().memory.hits


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (None, False),
        (int, False),
        (str | None, False),
        (dict[str, list[float]], False),
        (User, True),
        (list[User], True),
        (User | None, True),
        (tuple[int, ...], True),
    ],
)
def test_bytes_say_whether_they_need_a_type(kind: Any, expected: bool) -> None:
    values = {
        int: 1,
        User: User(7),
        list[User]: [User(7)],
        User | None: User(7),
        tuple[int, ...]: (1,),
        dict[str, list[float]]: {"a": [0.5]},
    }
    payload = Codec().encode("k", values.get(kind), kind)

    assert expected == needs_kind(payload)
