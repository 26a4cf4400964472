"""A Parcel: what a worker takes from its stage's queue at once, and what is left of it after a call. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from perfloop.process.pipeline.marks import RetryPolicy


@dataclass(slots=True, eq=False)
class Parcel:
    """Items for one call."""

    items: list[Any]
    came_at_s: float
    """When the oldest of them came into the queue."""
    ticket: int = 0
    """Its place, where order is kept."""
    attempt: int = 0
    """How often these items failed."""
    is_late: bool = False
    """Whether it had to wait for a worker, and no worker for it."""
    outputs: list[Any] = field(default_factory=list)
    """Of earlier items of the same ticket."""
    rest: list[list[Any]] = field(default_factory=list)
    """Later items of the same ticket, each list a call of its own."""

    def held(self, *, is_last: bool) -> int:
        """What is lost with it; outputs of the last stage go nowhere, so that none of them is."""
        outputs = 0 if is_last else len(self.outputs)
        return outputs + len(self.items) + sum(len(items) for items in self.rest)


@dataclass(slots=True)
class Outcome:
    """What came of one call."""

    outputs: list[Any] = field(default_factory=list)
    failures: list[tuple[int, BaseException]] = field(default_factory=list)
    """Positions of the items that failed, with their errors; position 0 where the call failed as a whole."""
    is_whole: bool = False
    """Whether a failure is one of all items together."""
    left: int | None = None
    """Position of the first item that was not called, as the time was up."""
    took_s: float = 0.0
    """Within the functions, where they ran."""


@dataclass(slots=True)
class Settled:
    """What becomes of a Parcel after a call."""

    outputs: list[Any] | None
    """To pass on; None while the ticket is not through."""
    again: list[tuple[Parcel, float]] = field(default_factory=list)
    """To be tried again, each after a pause in seconds."""
    back: list[Any] = field(default_factory=list)
    """Not called yet; for whoever takes next."""
    given_up: list[tuple[Any, BaseException]] = field(default_factory=list)
    attempts: int = 1
    """Of each item given up."""
    through: int = 0
    """Items done or given up."""
    retried: int = 0
    """Items that are tried again."""


def settle(
    parcel: Parcel, outcome: Outcome, policy: RetryPolicy, chance: float, *, is_ordered: bool
) -> Settled:
    """Part what is done from what is tried again and what is given up.

    A call of many that failed as a whole is halved once its retries are used up, until single items fail: one
    bad row does not take its batch with it. Where order is kept, all of a ticket stays with its Parcel.
    """
    if not outcome.failures and outcome.left is None and not parcel.rest and not parcel.outputs:
        return Settled(outcome.outputs, through=len(parcel.items))
    part = _settle_in_order if is_ordered else _settle_apart
    return part(parcel, outcome, policy, chance)


def _settle_apart(parcel: Parcel, outcome: Outcome, policy: RetryPolicy, chance: float) -> Settled:
    attempt = parcel.attempt + 1
    failed = (
        parcel.items if outcome.is_whole else [parcel.items[position] for position, _ in outcome.failures]
    )
    called = len(parcel.items) if outcome.left is None else outcome.left
    settled = Settled(outcome.outputs, back=parcel.items[called:], attempts=attempt, through=called)
    if not outcome.failures:
        return settled
    settled.through -= len(failed)
    if attempt <= policy.retries:
        again = Parcel(failed, parcel.came_at_s, attempt=attempt)
        settled.again.append((again, policy.pause_s(attempt, chance)))
        settled.retried = len(failed)
    elif outcome.is_whole and len(failed) > 1:
        settled.again += [(Parcel(half, parcel.came_at_s, attempt=attempt), 0.0) for half in _halves(failed)]
        settled.retried = len(failed)
    else:
        errors = [error for _, error in outcome.failures]
        settled.given_up += zip(failed, errors, strict=True)
        settled.through = called
    return settled


def _settle_in_order(parcel: Parcel, outcome: Outcome, policy: RetryPolicy, chance: float) -> Settled:
    """The call ended at its first failure, so that what was done is a beginning of the items."""
    settled = Settled(None, through=len(parcel.items))
    left, attempt, pause_s = parcel.rest, 0, 0.0
    if outcome.left is not None:
        settled.through = outcome.left
        left = [parcel.items[outcome.left :], *left]
    elif outcome.failures:
        position, error = outcome.failures[0]
        items = parcel.items[position:]
        attempt = settled.attempts = parcel.attempt + 1 if position == 0 else 1
        settled.through = position
        settled.retried = len(items) if outcome.is_whole else 1
        if attempt <= policy.retries:
            left, pause_s = [items, *left], policy.pause_s(attempt, chance)
        elif outcome.is_whole and len(items) > 1:
            left = [*_halves(items), *left]
        else:
            settled.given_up.append((items[0], error))
            settled.through, settled.retried = position + 1, 0
            left, attempt = ([items[1:], *left] if items[1:] else left), 0
    outputs = parcel.outputs + outcome.outputs
    if not left:
        settled.outputs = outputs
        return settled
    again = Parcel(left[0], parcel.came_at_s, parcel.ticket, attempt, outputs=outputs, rest=left[1:])
    settled.again.append((again, pause_s))
    return settled


def _halves(items: list[Any]) -> tuple[list[Any], list[Any]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]
