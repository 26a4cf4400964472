from __future__ import annotations

import pytest
from tools.make_sync import to_sync


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("async def f() -> None:\n    await g()\n", "def f() -> None:\n    g()\n"),
        ("async with a as b, c:\n    pass\n", "with a as b, c:\n    pass\n"),
        ("x = (await f())[0]\n", "x = (f())[0]\n"),
        ("class AsyncCache(_AsyncBase): ...\n", "class Cache(_Base): ...\n"),
        ("L = Callable[[], Awaitable[dict[str, int]]]\n", "L = Callable[[], dict[str, int]]\n"),
        ("def __aenter__(self): ...\n", "def __enter__(self): ...\n"),
        ("import redis.asyncio\n", "import redis\n"),
        (
            "from perfloop.cache._async.link import AsyncLink\n",
            "from perfloop.cache._sync.link import Link\n",
        ),
        ('"""Use `async with` and await it: `AsyncCache`."""\n', '"""Use `with` and it: `Cache`."""\n'),
        ("asyncio = 'Asynchronous'\n", "asyncio = 'Asynchronous'\n"),
    ],
)
def test_what_is_async_goes_and_the_rest_stays(source: str, expected: str) -> None:
    assert expected == to_sync(source)
