"""All checks, and their findings in the order in which they matter.

A Check is a pure function of the Snapshot. To add one: write the function in the module of
its family and enter it in CHECKS, or in SMELLS if it looks at one plan at a time. An error in a
Check is a defect and is raised, not hidden.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from perfloop.analyze.bloat import index_bloat, table_bloat
from perfloop.analyze.checkpoints import backend_writes, requested_checkpoints
from perfloop.analyze.configuration import pending_restart, small_shared_buffers, unsafe_settings
from perfloop.analyze.counters import (
    checksum_failures,
    connection_churn,
    deadlocks,
    rollbacks,
    temporary_files,
    unvalidated_constraints,
)
from perfloop.analyze.foreign_keys import foreign_keys_without_index
from perfloop.analyze.host import host_pressure
from perfloop.analyze.hot_updates import hot_updates
from perfloop.analyze.index_upkeep import duplicate_indexes, invalid_indexes, unused_indexes
from perfloop.analyze.jit import counted_jit_overhead
from perfloop.analyze.jobs import job_failures, job_queue_grows, job_queue_late, jobs_stuck
from perfloop.analyze.locks import (
    blocked_sessions,
    idle_in_transaction,
    long_statements,
    prepared_transactions,
)
from perfloop.analyze.lookups import lookups_per_row
from perfloop.analyze.missing_indexes import tables_read_whole
from perfloop.analyze.plan_cache import generic_plan_trap
from perfloop.analyze.planner_statistics import stale_statistics
from perfloop.analyze.reading import findings_of_smell, read_plans
from perfloop.analyze.redis import (
    redis_clients,
    redis_evictions,
    redis_fragmentation,
    redis_hit_ratio,
    redis_lasting_keys,
    redis_latency,
    redis_memory,
    redis_persistence,
    redis_policy,
    redis_slow_commands,
)
from perfloop.analyze.replication import replication_lag, replication_slots
from perfloop.analyze.sequences import sequences_near_end
from perfloop.analyze.server import cache_hit_ratio, connections, memory_sum
from perfloop.analyze.smells import SMELLS
from perfloop.analyze.spills import counted_spills
from perfloop.analyze.vacuum import long_vacuums, vacuum_held_back, vacuum_lag
from perfloop.analyze.wraparound import wraparound
from perfloop.model.advice import Finding
from perfloop.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A pure function from a Snapshot to Findings; `name` is the Findings' `check`."""

    name: str
    purpose: str
    """One line for people: what it looks for."""
    run: Callable[[Snapshot], tuple[Finding, ...]]


CHECKS: tuple[Check, ...] = (
    Check(
        name="missing-index",
        purpose="tables that are mostly read whole, where no statement was counted",
        run=tables_read_whole,
    ),
    Check(name="unused-index", purpose="indexes that no query uses", run=unused_indexes),
    Check(name="duplicate-index", purpose="indexes that another makes redundant", run=duplicate_indexes),
    Check(name="invalid-index", purpose="indexes left behind by a failed build", run=invalid_indexes),
    Check(
        name="foreign-key-without-index",
        purpose="foreign keys that make deletes scan a table",
        run=foreign_keys_without_index,
    ),
    Check(name="stale-statistics", purpose="tables never analysed, or long ago", run=stale_statistics),
    Check(name="hot-updates", purpose="updates that write every index of their table", run=hot_updates),
    Check(
        name="generic-plan",
        purpose="prepared statements whose one plan fits some values badly",
        run=generic_plan_trap,
    ),
    Check(name="n-plus-one", purpose="look-ups repeated for each row of a list", run=lookups_per_row),
    Check(name="sort-hash-spill", purpose="statements that write temporary files", run=counted_spills),
    Check(name="jit-overhead", purpose="compiling that takes longer than it saves", run=counted_jit_overhead),
    Check(name="cache-hit-ratio", purpose="blocks that shared_buffers does not hold", run=cache_hit_ratio),
    Check(name="memory-sum", purpose="memory that the settings promise but is not there", run=memory_sum),
    Check(name="connections", purpose="connections near the limit or idle in transactions", run=connections),
    Check(name="table-bloat", purpose="tables larger than their rows need", run=table_bloat),
    Check(name="index-bloat", purpose="b-trees larger than their entries need", run=index_bloat),
    Check(name="wraparound", purpose="transaction ids and multixacts that run out", run=wraparound),
    Check(name="vacuum-lag", purpose="dead rows and new rows that no vacuum has seen", run=vacuum_lag),
    Check(name="vacuum-held-back", purpose="what keeps vacuum from removing dead rows", run=vacuum_held_back),
    Check(name="long-vacuum", purpose="vacuums that run for hours", run=long_vacuums),
    Check(name="sequence-end", purpose="sequences and serial columns near their end", run=sequences_near_end),
    Check(name="blocked-sessions", purpose="queues for a lock, and who heads them", run=blocked_sessions),
    Check(
        name="idle-in-transaction", purpose="sessions that left a transaction open", run=idle_in_transaction
    ),
    Check(name="long-statement", purpose="statements that run for minutes", run=long_statements),
    Check(
        name="prepared-transactions",
        purpose="transactions left behind by two-phase commit",
        run=prepared_transactions,
    ),
    Check(name="replication-slot", purpose="slots that keep or lose WAL", run=replication_slots),
    Check(name="replication-lag", purpose="standbys that fall behind", run=replication_lag),
    Check(
        name="requested-checkpoints",
        purpose="checkpoints that max_wal_size forces too early",
        run=requested_checkpoints,
    ),
    Check(name="backend-writes", purpose="sessions that write out buffers themselves", run=backend_writes),
    Check(
        name="temporary-files", purpose="sorts and hashes that work_mem does not hold", run=temporary_files
    ),
    Check(name="deadlocks", purpose="transactions that waited for one another", run=deadlocks),
    Check(name="rollbacks", purpose="transactions rolled back", run=rollbacks),
    Check(name="connection-churn", purpose="connections opened for a moment", run=connection_churn),
    Check(name="checksum-failures", purpose="damaged pages", run=checksum_failures),
    Check(
        name="unvalidated-constraint",
        purpose="constraints that old rows may break",
        run=unvalidated_constraints,
    ),
    Check(
        name="unsafe-setting", purpose="settings that endanger data or let tables grow", run=unsafe_settings
    ),
    Check(name="pending-restart", purpose="settings that wait for a restart", run=pending_restart),
    Check(
        name="small-shared-buffers", purpose="the default cache on a large machine", run=small_shared_buffers
    ),
    Check(name="redis-hit-ratio", purpose="a cache that seldom has what is wanted", run=redis_hit_ratio),
    Check(name="redis-evictions", purpose="keys thrown out for room", run=redis_evictions),
    Check(name="redis-memory", purpose="a Redis near its limit, or without one", run=redis_memory),
    Check(name="redis-policy", purpose="a full cache that refuses writes", run=redis_policy),
    Check(name="redis-lasting-keys", purpose="keys that never expire in a cache", run=redis_lasting_keys),
    Check(
        name="redis-fragmentation", purpose="memory taken and not used, or swapped", run=redis_fragmentation
    ),
    Check(name="redis-slow-commands", purpose="commands that stop Redis", run=redis_slow_commands),
    Check(name="redis-clients", purpose="connections to Redis near its limit", run=redis_clients),
    Check(
        name="redis-persistence", purpose="snapshots and logs that cannot be written", run=redis_persistence
    ),
    Check(name="redis-latency", purpose="forks and other events that stop Redis", run=redis_latency),
    Check(name="job-queue-grows", purpose="queues that fill faster than they empty", run=job_queue_grows),
    Check(name="job-queue-late", purpose="jobs that have been due for long", run=job_queue_late),
    Check(name="job-failures", purpose="jobs that end badly", run=job_failures),
    Check(name="job-stuck", purpose="jobs that dead workers left behind", run=jobs_stuck),
    Check(name="host-pressure", purpose="processors or memory used up", run=host_pressure),
)


def analyze(snapshot: Snapshot) -> tuple[Finding, ...]:
    """The Findings of all checks and smells, the most severe first, then by time, then by space."""
    readings = read_plans(snapshot)
    found = [finding for check in CHECKS for finding in check.run(snapshot)]
    found += (finding for smell in SMELLS for finding in findings_of_smell(snapshot, smell, readings))
    return tuple(sorted(_joined(found), key=_order))


def _joined(findings: list[Finding]) -> Iterator[Finding]:
    """One Finding per identity: what counters say of a thing and what plans say of it belong together.

    The words are those of the Finding with the larger share of the time; of equal ones, of the first.
    """
    groups: dict[str, list[Finding]] = defaultdict(list)
    for each in findings:
        groups[each.identity].append(each)
    for group in groups.values():
        first = max(group, key=lambda each: each.time_share or 0.0)
        ordered = (first, *(each for each in group if each is not first))
        labelled = {fact.label: fact for each in reversed(ordered) for fact in each.evidence}
        yield replace(
            first,
            severity=min((each.severity for each in group), key=lambda each: each.rank),
            evidence=tuple(labelled[label] for label in _labels(ordered)),
            query_ids=tuple(dict.fromkeys(query_id for each in ordered for query_id in each.query_ids)),
        )


def _labels(findings: Iterable[Finding]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fact.label for each in findings for fact in each.evidence))


def _order(finding: Finding) -> tuple[int, float, int, str]:
    return (
        finding.severity.rank,
        -(finding.time_share or 0.0),
        -(finding.space_bytes or 0),
        finding.identity,
    )
