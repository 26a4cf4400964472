"""Which of the proposals are tried, where there are more of them than trials.

What the search chose was weighed against the whole Workload, and the rest was not: a setting or a drop that
somebody may as well leave out must not take the place of an index that a statement lacks. What no lab can
show takes none, since it is not tried.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfloop.model.advice import Proposal
from perfloop.model.value import Value
from perfloop.tune.beyond_lab import why_beyond_lab

_LEAST_SECOND_CHOICES = 4


class Group(Value, frozen=True, kw_only=True):
    """Proposals of one kind, those first that are worth most."""

    proposals: tuple[Proposal, ...]
    is_chosen: bool = False
    """By the search: they keep two thirds of the seats against all others."""
    is_second: bool = False
    """Choices in case that others fail: where seats are short, all but a few go first, and untold."""


class Seated(Value, frozen=True, kw_only=True):
    """What is left, in the order of the groups, and a sentence on each that is not."""

    proposals: tuple[Proposal, ...]
    cut: tuple[str, ...]


def seat(groups: Sequence[Group], *, most: int) -> Seated:
    """At most so many of what a lab can try, and all of the rest.

    Then goes what the group ranks last that holds most seats, those apart that are kept for it.
    """
    tried = [[each for each in group.proposals if why_beyond_lab(each.change) is None] for group in groups]
    for group, seats in zip(groups, tried, strict=True):
        if group.is_second:
            others = sum(len(each) for each in tried) - len(seats)
            del seats[max(_LEAST_SECOND_CHOICES, most - others) :]
    kept = [-(-2 * most // 3) if group.is_chosen else 0 for group in groups]
    cut = []
    while sum(len(seats) for seats in tried) > most:
        place = max(range(len(groups)), key=lambda each: (len(tried[each]) - kept[each], each))
        title = tried[place].pop().change.title
        cut.append(f"{title} is not tried, since others come first; allow more trials")
    proposals = (
        each
        for group, seats in zip(groups, tried, strict=True)
        for each in group.proposals
        if each in seats or why_beyond_lab(each.change) is not None
    )
    return Seated(proposals=tuple(proposals), cut=tuple(cut))
