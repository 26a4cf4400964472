"""What a channel did, in numbers."""

from __future__ import annotations

from perfloop.model.value import Value


class ChannelStatistics(Value, frozen=True, kw_only=True):
    """One end of a channel since it was made."""

    sent: int
    """Messages, those that were sent again included."""
    frames: int
    """That they went in."""
    unacknowledged: int
    """Messages under way now."""
    unacknowledged_bytes: int
    waiting: int
    """Messages in the frame that is being filled."""
    received: int
    acknowledged: int
    """Of those received."""
