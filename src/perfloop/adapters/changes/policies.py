"""How often the outbox and the slot are looked at, and how much they may keep."""

from __future__ import annotations

from math import inf
from typing import Final

from perfloop.model.value import Value, require

MOST_SILENT_S: Final = 2_000_000
"""PostgreSQL counts its time limits in milliseconds, in 32 bits."""


class OutboxPolicy(Value, frozen=True, kw_only=True):
    """When the outbox is looked at and cleaned.

    The pause grows by a quarter, from the shortest to the longest, while nothing comes. Under load it is four
    times what the last look took, so that looking never takes more than a fifth of the time.
    """

    shortest_pause_s: float = 0.005
    longest_pause_s: float = 0.05
    store_every_s: float = 1.0
    silent_for_s: float = 30.0
    """The server ends a session that has not asked for so long, and another process takes over."""

    keep_for_s: float = 30.0
    """Events stay for so long, for readers without a name."""

    forget_after_s: float = 3600.0
    """A named reader holds back the cleaning for so long after it was last seen."""

    def __post_init__(self) -> None:
        require(
            0 < self.shortest_pause_s <= self.longest_pause_s < self.silent_for_s <= MOST_SILENT_S,
            f"pauses must grow from above 0 to below silent_for_s, which is at most {MOST_SILENT_S}; "
            f"not {self.shortest_pause_s}, {self.longest_pause_s}, {self.silent_for_s}",
        )
        require(0 <= self.store_every_s < inf, f"store_every_s must be from 0 on, not {self.store_every_s}")
        require(0 < self.keep_for_s < inf, f"keep_for_s must be above 0, not {self.keep_for_s}")
        require(0 < self.forget_after_s < inf, f"forget_after_s must be above 0, not {self.forget_after_s}")


class SlotPolicy(Value, frozen=True, kw_only=True):
    """How much log a slot may keep, and how long a server may be silent."""

    max_bytes: int = 2**30
    """Above, `statistics().is_over_limit` says so."""

    drop_over_limit: bool = False
    """Then also drop the slot, invalidate everything and begin anew."""

    guard_every_s: float = 1.0
    hung_after_s: float = 10.0

    def __post_init__(self) -> None:
        require(self.max_bytes > 0, f"max_bytes must be above 0, not {self.max_bytes}")
        require(0 < self.guard_every_s < inf, f"guard_every_s must be above 0, not {self.guard_every_s}")
        require(0 < self.hung_after_s < inf, f"hung_after_s must be above 0, not {self.hung_after_s}")
