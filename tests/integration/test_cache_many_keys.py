"""Ten million keys that never come back, through a cache that holds a hundredth of them."""

from __future__ import annotations

import pytest
from benchmarks.cache_memory import BOUNDS, GROWTH, stream


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("bound", BOUNDS)
def test_memory_is_bounded_whatever_number_of_keys_goes_by(bound: str) -> None:
    found = stream(bound, 10_000_000)

    assert found.growth < GROWTH
    assert found.statistics.tags < 2 * found.statistics.entries
    assert found.statistics.ghosts <= found.statistics.entries
    assert 0 == found.statistics.flights
