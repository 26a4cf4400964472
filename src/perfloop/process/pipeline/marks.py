"""What a stage and its user tell each other: what to leave out, what to try again, what was given up."""

from __future__ import annotations

import enum
from typing import Any, Final, Literal

from perfloop.model.value import Value, require


class Skip(enum.Enum):
    """The kind of SKIP."""

    SKIP = "skip"

    def __repr__(self) -> str:
        return "SKIP"


SKIP: Final[Literal[Skip.SKIP]] = Skip.SKIP
"""Returned by a stage's function for an item that goes no further."""


class RetryPolicy(Value, frozen=True, kw_only=True):
    """How often, and after which pauses, an item that failed is tried again."""

    retries: int = 3
    """After the first attempt."""
    first_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 30.0
    jitter_ratio: float = 0.2
    """Share of a pause that chance takes off, so that items that failed together come back apart."""

    def __post_init__(self) -> None:
        require(self.retries >= 0, f"retries is {self.retries}; it must not be below 0")
        require(self.first_s >= 0, f"first_s is {self.first_s}; it must not be below 0")
        require(self.factor >= 1, f"factor is {self.factor}; below 1 pauses become shorter")
        require(self.longest_s >= self.first_s, "longest_s must not be below first_s")
        require(0 <= self.jitter_ratio <= 1, f"jitter_ratio is {self.jitter_ratio}; it lies between 0 and 1")

    def pause_s(self, attempt: int, chance: float) -> float:
        """Before the attempt of this number, from 1; `chance` lies in [0, 1).

        >>> RetryPolicy(first_s=0.1, jitter_ratio=0).pause_s(3, 0.5)
        0.4
        """
        # The exponent is capped: 2.0 ** 1100 overflows, and any pause is the longest one long before.
        growth = self.factor ** min(attempt - 1, 64)
        return min(self.longest_s, self.first_s * growth) * (1 - self.jitter_ratio * chance)


NO_RETRIES: Final = RetryPolicy(retries=0)


class DeadLetter(Value, frozen=True, kw_only=True):
    """An item that was given up."""

    item: Any
    """As it came into the stage."""
    stage: str
    error: BaseException
    attempts: int
    """How often it was tried, from 1."""
