"""The seams: what computes a limit or a size from Windows. Laws know no clock; time is in the Windows."""

from __future__ import annotations

from typing import Protocol

from perfloop.control.adjustment import Adjustment, AdjustmentLog
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.window import Window


class ConcurrencyLaw(Protocol):
    """Computes how many calls may be under way at once."""

    log: AdjustmentLog
    policy: AdjustmentPolicy
    """When it wants its Windows: whoever makes them keeps to `interval_s` and `calls`."""

    @property
    def limit(self) -> int:
        """What the Limiter has to enforce now."""
        ...

    @property
    def is_settled(self) -> bool:
        """Whether the search is over, so that another number may have its turn."""
        ...

    def update(self, window: Window) -> Adjustment | None:
        """Take the Window that follows the last one; the Adjustment, if the limit moved."""
        ...


class BatchLaw(Protocol):
    """Computes how many items go into one call."""

    log: AdjustmentLog

    @property
    def size(self) -> int:
        """The most that a call may carry."""
        ...

    @property
    def is_settled(self) -> bool:
        """Whether the search is over, so that another number may have its turn."""
        ...

    def size_of_call(self, number: int) -> int:
        """The size for the call of this number, from 0; below `size` now and then, to learn from."""
        ...

    def update(self, window: Window) -> Adjustment | None:
        """Take the Window that follows the last one; the Adjustment, if the size moved."""
        ...
