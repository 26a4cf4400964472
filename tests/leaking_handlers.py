"""What the workers of the tests on memory and load do."""

from __future__ import annotations

import gc
import time
from typing import Any

_kept: list[Any] = []


def leak(size_bytes: int) -> int:
    """Keep so many bytes for ever."""
    _kept.append(bytearray(size_bytes))
    return len(_kept)


def cycle(size_bytes: int) -> int:
    """Leave so many bytes in a cycle that only a collection finds."""
    gc.disable()
    one: list[Any] = [bytearray(size_bytes)]
    one.append(one)
    return 1


def fragment(size_bytes: int) -> int:
    """Give back all but little of a peak, so that malloc keeps the rest."""
    peak = [bytearray(2000) for _ in range(size_bytes // 2000)]
    _kept.extend(peak[::300])
    return len(_kept)


def work(seconds: float) -> None:
    """Take so long."""
    time.sleep(seconds)
