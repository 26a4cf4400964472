"""How tests wait for what is to come. The deadline bounds a hang, on however slow a host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

DEADLINE_S = 30.0


def run(work: Awaitable[Any]) -> Any:
    """What comes of it, in an event loop of its own."""

    async def within() -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await work

    return asyncio.run(within())


async def until(holds: Callable[[], object], told: Callable[[], object] = str) -> None:
    """Wait until this holds; `told` is what to say where it never does."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, told()
        await asyncio.sleep(0.005)


def wait_until(holds: Callable[[], object], told: Callable[[], object] = str) -> None:
    """The same, without an event loop."""
    asyncio.run(until(holds, told))
