"""The bounds of a channel."""

from __future__ import annotations

from perfloop.model.value import Value, require


class ChannelPolicy(Value, frozen=True, kw_only=True):
    """How much goes at once, and how much may be under way.

    Measured with dicts of 100 B to 100 kB: the gain of batches ends at 8 to 64 kB a frame; larger ones lose.
    """

    batch_bytes: int = 60 * 1024
    """A frame is sent when it holds this much; a larger message goes alone."""
    linger_s: float = 0.001
    """The longest that a message waits for others while earlier ones are not acknowledged yet; where none is
    under way, it goes at once. Whoever sends as fast as a hundred in this time has the clock looked at with
    every eighth message."""
    max_unacknowledged: int = 65_536
    """Messages under way; who sends more waits."""
    max_unacknowledged_bytes: int = 4 * 1024 * 1024
    """Their size; a larger message goes alone. With a quarter of it, who sends large messages waits more."""
    max_message_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        require(1 <= self.batch_bytes <= 65_535, "batch_bytes: from 1 to 65535, and larger frames are slower")
        require(self.linger_s >= 0, "linger_s: not below zero")
        require(self.max_unacknowledged >= 1, "max_unacknowledged: at least 1")
        require(self.max_unacknowledged_bytes >= 1, "max_unacknowledged_bytes: at least 1")
        require(1 <= self.max_message_bytes < 2**32, "max_message_bytes: from 1 to 4 GiB")
