"""Makes hostile input of real input: bytes and JSON documents, changed a few times each."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

Place = tuple[Any, Any]
"""A container, and a key or position in it."""

LONGEST = 60_000
"""Bytes of an input; long enough for any depth to be too deep."""

_PIECES = (
    b"'", b'"', b"$$", b"$a$", b"/*", b"*/", b"--", b"(", b")", b"[", b"]", b"{", b"}", b";", b":",
    b"::", b":=", b"\\", b"\\\n", b"\0", b"\r\n", b"\t", b"\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3",
    b"\x80", b"\xf0\x9f", b"$1", b"$0", b"$99999999999999999999", b"$1 = ", b"NULL", b"1e999", b"-1",
    b"0x1F", b"1_000", b"E'\\", b"U&'", b"IN (", b"ARRAY[", b" OR ", b" AND ", b" NOT ", b"CASE WHEN ",
    b" UNION ALL ", b"SELECT ", b"WITH x AS (", b"INSERT INTO ", b"VALUES ", b"::int", b"->>'a'",
    b" LIKE '%", b"DO $$", b"COPY t FROM stdin;", b"\\gset", b"\\set x random(1, :y)", b"LOG:  ",
    b"DETAIL:  ", b"duration: 1.5 ms  ", b"statement: ", b"execute a/b: ", b"plan:\n", b"Query Text: ",
    b'{"Query Text": ', b"Parameters: $1 = '", b"...'", b"\x1f\x8b", b"\xe2\x80\xa8", b"\x0b", b"\x85",
    b"\xc2\x85", b"\xef\xbc\x91", b"infinity", b"NaN", b"postgresql://", b"%41%", b"@",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**70), 0.5, 1e308, -1e308, "", "x", "1", "Infinity", "((",
    "a.b", [], {}, [[]], [None], [1, "a"], {"a": 1}, [{"Node Type": "x"}], {"Plan": {}}, "$1", '"',
    "(a = 1)", "\0", "ü" * 300,
)  # fmt: skip
_KINDS = (
    "Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "BitmapAnd", "BitmapOr",
    "Bitmap Index Scan", "Nested Loop", "Hash Join", "Hash", "Merge Join", "Sort", "Incremental Sort",
    "Limit", "Aggregate", "Append", "Merge Append", "Gather", "Gather Merge", "Materialize", "Memoize",
    "CTE Scan", "Subquery Scan", "ModifyTable", "Result", "SetOp", "Unique", "WindowAgg", "LockRows",
    "Function Scan", "Values Scan", "Foreign Scan", "Unknown",
)  # fmt: skip


def mutated(corpus: Sequence[bytes], rng: Random) -> bytes:
    """One input of the corpus, changed one to six times; now and then two of them joined."""
    text = rng.choice(corpus)
    for _ in range(rng.randint(1, 6)):
        text = _changed(text, corpus, rng)
    return text[:LONGEST]


def mutated_document(corpus: Sequence[bytes], rng: Random) -> bytes:
    """A JSON document of the corpus with some of its values changed, moved or nested."""
    whole = rng.choice(corpus)
    document = json.loads(whole)
    for _ in range(rng.randint(1, 4)):
        places = list(_places(document))
        if places:
            container, key = rng.choice(places)
            rng.choice(_CHANGES)(container, key, places, rng)
    try:
        return json.dumps(document).encode()
    except RecursionError:
        return whole


def _changed(text: bytes, corpus: Sequence[bytes], rng: Random) -> bytes:
    start = rng.randint(0, len(text))
    end = min(len(text), start + rng.choice((0, 1, 2, 8, 40, 400)))
    match rng.randrange(7):
        case 0:
            return text[:start] + text[end:]
        case 1:
            return text[:start] + rng.choice(_PIECES) + text[start:]
        case 2:
            return text[:start] + rng.choice(_PIECES) + text[end:]
        case 3:
            times = rng.choice((2, 3, 30, 1000, 20_000))
            return (text[:end] + (text[start:end] or rng.choice(_PIECES)) * times + text[end:])[:LONGEST]
        case 4:
            other = rng.choice(corpus)
            cut = rng.randint(0, len(other))
            return text[:start] + other[cut : cut + 2000] + text[end:]
        case 5:
            return text[:start] + bytes((rng.randrange(256),)) + text[start + 1 :]
    return text[:start]


def _places(document: Any) -> Iterator[Place]:
    """(container, key) of every value below."""
    waiting = [document]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            yield container, key
            if isinstance(container[key], dict | list):
                waiting.append(container[key])


def _odd_value(container: Any, key: Any, places: list[Place], rng: Random) -> None:
    container[key] = copy.deepcopy(rng.choice(_VALUES))


def _from_elsewhere(container: Any, key: Any, places: list[Place], rng: Random) -> None:
    other, other_key = rng.choice(places)
    container[key] = copy.deepcopy(other[other_key])


def _left_out(container: Any, key: Any, places: list[Place], rng: Random) -> None:
    del container[key]


def _other_kind(container: Any, key: Any, places: list[Place], rng: Random) -> None:
    nodes = [each for each, name in places if name == "Node Type"]
    if nodes:
        rng.choice(nodes)["Node Type"] = rng.choice(_KINDS)


def _other_number(container: Any, key: Any, places: list[Place], rng: Random) -> None:
    numbers = [(each, name) for each, name in places if isinstance(each[name], int | float)]
    if numbers:
        each, name = rng.choice(numbers)
        each[name] = rng.choice((0, 1, -1, 10**12, 0.001, 1e300))


def _deeper(container: Any, key: Any, places: list[Place], rng: Random) -> None:
    for _ in range(rng.choice((1, 5, 120))):
        container[key] = {"Node Type": "Append", "Plans": [container[key]]}


_CHANGES = (_odd_value, _from_elsewhere, _left_out, _other_kind, _other_number, _deeper)
