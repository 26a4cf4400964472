"""Numbers that stay as they were given: the law of a user who knows better."""

from __future__ import annotations

from perfloop.control.adjustment import Adjustment, AdjustmentLog
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.window import Window
from perfloop.model.value import require


class Fixed:
    """A limit that never moves."""

    __slots__ = ("limit", "log", "policy")

    def __init__(self, limit: int) -> None:
        require(limit >= 1, f"a limit of {limit} lets nothing through; the least is 1")
        self.limit = limit
        self.log = AdjustmentLog()
        self.policy = AdjustmentPolicy()

    @property
    def is_settled(self) -> bool:
        return True

    def update(self, window: Window) -> Adjustment | None:
        return None


class FixedSize:
    """A batch size that never moves."""

    __slots__ = ("log", "size")

    def __init__(self, size: int) -> None:
        require(size >= 1, f"a batch of {size} carries nothing; the least is 1")
        self.size = size
        self.log = AdjustmentLog()

    @property
    def is_settled(self) -> bool:
        return True

    def size_of_call(self, number: int) -> int:
        return self.size

    def update(self, window: Window) -> Adjustment | None:
        return None
