"""What the shared tier has not confirmed is not served in an outage, once it was asked and had nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perfloop.cache import InMemoryServer
from perfloop.model.remote import Gap


class LoaderDown(Exception):
    """A loader's own error."""


def fail(*_: object) -> Any:
    raise LoaderDown


CALLS: dict[str, Callable[[Any], Any]] = {
    "get_or_load": lambda cache: cache.get_or_load("k", fail, ttl_s=60),
    "load_many": lambda cache: cache.load_many(["k"], fail, ttl_s=60),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_load_that_failed_leaves_nothing_that_an_outage_would_serve(kind: Any, call: Any) -> None:
    server = InMemoryServer()
    with kind.cache(server) as cache, kind.cache(server) as other:
        cache.set("k", "old", ttl_s=60)
        server.withhold_news()
        other.delete("k")
        server._withheld = []
        server._tell(Gap(is_over=False))  # as where the connection for news is cut, and the other is not
        server.deliver_news()
        with pytest.raises(LoaderDown):
            call(cache)
        server.go_away()

        assert cache.get("k", "nothing") == "nothing"
