"""All checks, and their findings in the order in which they matter.

A Check is a pure function of the Snapshot. To add one: write the function in the module of
its family and enter it in CHECKS, or in SMELLS if it looks at one plan at a time. An error in a
Check is a defect and is raised, not hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from perfloop.analyze.foreign_keys import foreign_keys_without_index
from perfloop.analyze.host import host_pressure
from perfloop.analyze.index_upkeep import duplicate_indexes, invalid_indexes, unused_indexes
from perfloop.analyze.jit import jit_overhead
from perfloop.analyze.missing_indexes import missing_indexes
from perfloop.analyze.planner_statistics import row_misestimates, stale_statistics
from perfloop.analyze.reading import findings_of_smell, read_plans
from perfloop.analyze.server import cache_hit_ratio, connections, memory_sum
from perfloop.analyze.smells import SMELLS
from perfloop.analyze.spills import sort_and_hash_spills
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
        purpose="scans that throw most rows away, inner sides read over and over, sorts under a LIMIT",
        run=missing_indexes,
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
    Check(name="row-misestimate", purpose="row counts the planner got wrong", run=row_misestimates),
    Check(name="sort-hash-spill", purpose="sorts and hashes on disk", run=sort_and_hash_spills),
    Check(name="jit-overhead", purpose="compiling that takes longer than it saves", run=jit_overhead),
    Check(name="cache-hit-ratio", purpose="blocks that shared_buffers does not hold", run=cache_hit_ratio),
    Check(name="memory-sum", purpose="memory that the settings promise but is not there", run=memory_sum),
    Check(name="connections", purpose="connections near the limit or idle in transactions", run=connections),
    Check(name="host-pressure", purpose="processors or memory used up", run=host_pressure),
)


def analyze(snapshot: Snapshot) -> tuple[Finding, ...]:
    """The Findings of all checks and smells, the most severe first, then by time, then by space."""
    readings = read_plans(snapshot)
    found = [finding for check in CHECKS for finding in check.run(snapshot)]
    found += (finding for smell in SMELLS for finding in findings_of_smell(snapshot, smell, readings))
    return tuple(sorted(found, key=_order))


def _order(finding: Finding) -> tuple[int, float, int, str]:
    return (
        finding.severity.rank,
        -(finding.time_share or 0.0),
        -(finding.space_bytes or 0),
        finding.identity,
    )
