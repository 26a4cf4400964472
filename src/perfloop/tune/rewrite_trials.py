"""What a Study needs beside the usual trial to try rewritten statements.

They come last. What a server carries out has to prove itself on the statements as they are, since `apply`
brings it there whether or not people change the service's code: an index that only the old words use must not
be dropped because of the new ones. So a rewriting is kept only for what it gains beside all that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perfloop.model.advice import Change, Proposal, RewriteQuery
from perfloop.model.outcome import SameRows, TrialRecord, Verdict
from perfloop.model.snapshot import Snapshot
from perfloop.model.workload import Workload
from perfloop.tune.lab.lab import Lab
from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.proposals import Rewriting, propose_rewrites
from perfloop.tune.rewrites.rule import Rule
from perfloop.tune.same_rows import compare_rows, is_planned_alike, refusal
from perfloop.tune.samples import Count
from perfloop.tune.summary import counted_cpu_s

_SHARE = 4
"""Of all trials, one in so many is kept free for rewritings."""


@dataclass(slots=True)
class RewriteTrials:
    """The rewritings of a Study: those worth trying, and why others are not tried."""

    catalogue: Catalogue
    known: dict[RewriteQuery, Rewriting] = field(default_factory=dict)
    untried: tuple[str, ...] = ()

    @classmethod
    def find(
        cls,
        lab: Lab,
        workload: Workload,
        counts: Mapping[str, Count],
        snapshot: Snapshot,
        rules: Sequence[Rule],
    ) -> RewriteTrials:
        """Ask every rule about every statement that matters, and the lab's planner about what they say."""
        whole_s = counted_cpu_s(workload.operations, counts) or 1.0
        shares = {
            each.statement.query_id: counted_cpu_s([each], counts) / whole_s for each in workload.operations
        }
        found = cls(Catalogue.of(snapshot))
        with lab.control_arm() as arm:
            for each in propose_rewrites(workload.operations, shares, found.catalogue, rules):
                reason = refusal(arm.connection, each)
                if reason is not None:
                    found.untried += (f"{each.change.title}: not tried, since {reason}",)
                elif not is_planned_alike(arm.connection, each.wording):
                    found.known[each.change] = each
                    lab.wordings.learn(each.change, each.wording)
        found.untried = tuple(dict.fromkeys(found.untried))
        return found

    def seats(self, most: int) -> int:
        """How many of so many trials are kept free for rewritings."""
        return min(len(self.known), max(1, most // _SHARE))

    def among(self, proposals: Sequence[Proposal], most: int) -> tuple[Proposal, ...]:
        """The proposals, and rewritings up to so many together, in the order of trying."""
        ours = [each.proposal for each in self.known.values()]
        return (*proposals, *ours[: max(0, most - len(proposals))])

    def left_out(self, proposals: Sequence[Proposal]) -> tuple[str, ...]:
        """A sentence on each rewriting that is not among them."""
        changes = {each.change for each in proposals}
        return tuple(
            f"{each.title} is not tried, since others come first; allow more trials"
            for each in self.known
            if each not in changes
        )

    def compare(self, lab: Lab, change: Change, counts: Mapping[str, Count], seed: int) -> SameRows | None:
        """Whether the change keeps the rows of its statement; None for one that rewrites nothing."""
        if not isinstance(change, RewriteQuery):
            return None
        limit_s = counts[change.query_id].wall_s
        with lab.control_arm() as arm:
            return compare_rows(arm, self.known[change], self.catalogue, limit_s=limit_s, seed=seed)


def is_superseded(proposal: Proposal, trials: Sequence[TrialRecord]) -> bool:
    """Whether another rewriting of the same statement was kept already."""
    change = proposal.change
    return isinstance(change, RewriteQuery) and any(
        isinstance(each.proposal.change, RewriteQuery)
        and each.proposal.change.query_id == change.query_id
        and each.verdict is Verdict.KEEP
        for each in trials
    )
