"""Caches of both kinds, for tests that are written once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.cache_kinds import KINDS, FakeClock


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Iterator[Any]:
    kind = request.param()
    yield kind
    kind.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
