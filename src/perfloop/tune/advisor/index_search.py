"""The index search from a Workload to a set of indexes, with all that the proposals are made from."""

from __future__ import annotations

from dataclasses import dataclass

from perfloop.model.snapshot import Snapshot
from perfloop.model.workload import Workload
from perfloop.tune.advisor.candidates import Candidates
from perfloop.tune.advisor.consider import Reading, read_workload
from perfloop.tune.advisor.costs import KnownCosts
from perfloop.tune.advisor.extend import Extend, SearchPolicy, SearchResult
from perfloop.tune.advisor.families import by_name
from perfloop.tune.advisor.objective import seconds_per_instance
from perfloop.tune.advisor.rehearsal import Rehearsal, choose_rehearsed
from perfloop.tune.advisor.what_if import WhatIf


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSearch:
    """A search that has ended: what it read, what it may still be asked, and what it chose."""

    reading: Reading
    candidates: Candidates
    known: KnownCosts
    extend: Extend
    result: SearchResult

    def size_bytes(self) -> int:
        """Of all chosen indexes."""
        return sum(self.known.size_bytes(index) for index in self.result.chosen)


def search_indexes(
    snapshot: Snapshot,
    workload: Workload,
    what_if: WhatIf,
    policy: SearchPolicy,
    *,
    rehearsal: Rehearsal | None = None,
) -> IndexSearch:
    """Choose indexes for the whole Workload; without a `rehearsal` nothing is run but a planner."""
    reading = read_workload(
        workload, snapshot, what_if, max_instances=policy.max_instances, weighing=policy.weighing
    )
    known = KnownCosts(what_if, max_questions=policy.max_questions)
    candidates = Candidates(
        (access for statement in reading.statements for access in statement.accesses),
        by_name(snapshot.tables),
        snapshot.indexes,
        snapshot.foreign_keys,
        extensions=snapshot.fingerprint.extensions,
        max_keys=policy.max_keys,
    )
    extend = Extend(
        reading.statements,
        candidates,
        {table.name: snapshot.indexes_of(table.name) for table in snapshot.tables},
        known,
        table_bytes=sum(table.size_bytes for table in snapshot.tables),
        policy=policy,
    )
    if rehearsal is None or not reading.statements:
        result = extend.run()
    else:
        seconds = seconds_per_instance(workload, snapshot)
        result = choose_rehearsed(extend, known, reading.statements, rehearsal, seconds)
    return IndexSearch(reading=reading, candidates=candidates, known=known, extend=extend, result=result)
