"""Policies that could not work are refused where they are made."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from perfloop.cache.invalidation import ListenerPolicy, OutboxPolicy, SlotPolicy
from perfloop.errors import InvalidValue


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        (ListenerPolicy, {"first_retry_s": 0}),
        (ListenerPolicy, {"first_retry_s": 2, "longest_retry_s": 1}),
        (ListenerPolicy, {"longest_retry_s": inf}),
        (ListenerPolicy, {"takeover_s": 0}),
        (ListenerPolicy, {"takeover_s": nan}),
        (ListenerPolicy, {"hung_after_s": 0}),
        (ListenerPolicy, {"tags_at_once": 0}),
        (OutboxPolicy, {"shortest_pause_s": 0}),
        (OutboxPolicy, {"longest_pause_s": 40}),
        (OutboxPolicy, {"silent_for_s": 3_000_000}),
        (OutboxPolicy, {"store_every_s": -1}),
        (OutboxPolicy, {"keep_for_s": -5}),
        (OutboxPolicy, {"keep_for_s": nan}),
        (OutboxPolicy, {"forget_after_s": 0}),
        (SlotPolicy, {"max_bytes": 0}),
        (SlotPolicy, {"guard_every_s": -1}),
        (SlotPolicy, {"hung_after_s": 0}),
    ],
)
def test_a_policy_that_cannot_work_is_refused(policy: Any, fields: dict[str, float]) -> None:
    name = next(iter(fields)).split("_")[0]
    with pytest.raises(InvalidValue, match=name if name not in ("first", "longest", "shortest") else "grow"):
        policy(**fields)
