"""Real request streams to hold caches against; they are too large for the repository.

They lie in the folder that PERFLOOP_TRACES names, by default ../shared/data/cache-traces beside the working
copy. orm-busy, orm-night, web07, web12: CC BY 4.0, headissue GmbH, Jens Wilke (from Caffeine's simulator
resources). nasa-http: NASA-HTTP of 1995-08-01, Internet Traffic Archive, freely redistributable.
"""

from __future__ import annotations

import csv
import lzma
import os
import random
import sys
from array import array
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

from perfloop.errors import InvalidInput

TRACES: Final = ("orm-busy", "orm-night", "web07", "web12", "nasa")


_SERVED: Final = ("200", "304")


class WebRequest(NamedTuple):
    """One line of the nasa trace, which alone has a clock and tells its clients apart."""

    time_s: int
    client: int
    url: str


def traces_folder() -> Path:
    """Where the traces are said to be; it need not exist."""
    given = os.environ.get("PERFLOOP_TRACES")
    return Path(given) if given else Path(__file__).parents[2] / "shared" / "data" / "cache-traces"


def trace(name: str, limit: int | None = None) -> Sequence[str]:
    """The keys of a trace in the order of the requests, as strings; one object for each distinct key.

    Raises:
        InvalidInput: there is no such trace in the folder.
    """
    if name == "nasa":
        return [request.url for request in web_requests()[:limit]]
    return _headissue(name, limit)


def web_requests() -> Sequence[WebRequest]:
    """The nasa trace with its clock and its clients, without what was moved or not found.

    Raises:
        InvalidInput: there is no such file in the folder.
    """
    with lzma.open(_found("nasa_19950801.csv.xz"), "rt", encoding="utf-8") as file:
        return [
            WebRequest(int(row["time"]), int(row["host_id"]), sys.intern(row["url"]))
            for row in csv.DictReader(file)
            if row["status"] in _SERVED
        ]


def zipf(exponent: float, *, keys: int = 100_000, requests: int = 1_000_000, seed: int = 7) -> Sequence[str]:
    """A stream without structure: each request draws from the same Zipf distribution."""
    rng = random.Random(seed)
    cumulated = list(accumulate(1 / rank**exponent for rank in range(1, keys + 1)))
    names = [f"key:{rank}" for rank in range(keys)]
    total = cumulated[-1]
    return [names[bisect(cumulated, rng.random() * total)] for _ in range(requests)]


def _headissue(name: str, limit: int | None) -> list[str]:
    """One big-endian int32 a request; its digits are the key."""
    with lzma.open(_found(f"{name}.trace.xz")) as file:
        content = file.read(-1 if limit is None else 4 * limit)
    numbers = array("i", content)
    if sys.byteorder == "little":
        numbers.byteswap()
    names = {number: f"object:{number}" for number in set(numbers)}
    return [names[number] for number in numbers]


def _found(file: str) -> Path:
    whole = traces_folder() / file
    if not whole.exists():
        raise InvalidInput(f"no trace {whole}; set PERFLOOP_TRACES to the folder with the traces")
    return whole
