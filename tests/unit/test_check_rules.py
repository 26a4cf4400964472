"""Each rule is held to a real server, by a test that plants its problem and by one with a near miss.

Tests say so of themselves, by the markers `finds` and `spares`. Their modules are loaded, not run.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

from perfloop.analyze.checks import CHECKS
from perfloop.analyze.smells import SMELLS

ROOT = Path(__file__).parents[2]
INTEGRATION = ROOT / "tests/integration"
HOLDING = ("test_analyze_*.py", "test_baseline_compare.py", "test_health_*.py", "test_smells_*.py")

REGISTERED = {each.name for each in (*CHECKS, *SMELLS)}
AGAINST_A_BASELINE = {
    "gone-statement",
    "index-added",
    "index-dropped",
    "more-work",
    "new-statement",
    "plan-flip",
    "setting-changed",
    "slower-statement",
    "table-grown",
}
"""What `analyze --baseline` says; one rule finds them all."""

CATALOGUE = {
    "a row count that the planner got wrong": ["row-misestimate"],
    "a sequential scan that throws most rows away": ["missing-index"],
    "an index scan that throws most rows away": ["index-scan-discard"],
    "a lossy bitmap, a recheck that removes rows": ["index-recheck"],
    "an index-only scan that visits the table": ["heap-fetches"],
    "a sort on disk": ["sort-hash-spill"],
    "a hash join on disk": ["sort-hash-spill"],
    "a hash aggregate on disk": ["sort-hash-spill"],
    "other rows in temporary files": ["sort-hash-spill"],
    "a nested loop that runs often": ["nested-loop-lookups"],
    "a join that forms pairs to throw them away": ["join-product"],
    "a correlated subquery": ["correlated-subplan"],
    "a NOT IN that is not hashed": ["not-in-subquery"],
    "a CTE that fences conditions out": ["cte-fence"],
    "a deep OFFSET": ["deep-offset"],
    "a function around a column": ["function-on-column"],
    "a cast that nobody wrote": ["implicit-cast"],
    "a pattern that begins with a wildcard": ["leading-wildcard"],
    "a filter on a document or an array": ["filter-without-gin", "missing-index"],
    "an OR across columns": ["or-across-columns"],
    "the wrong index for ORDER BY and LIMIT": ["wrong-index-for-limit"],
    "a sort that an index would spare": ["avoidable-sort"],
    "single indexes that are intersected": ["bitmap-and"],
    "statistics that are missing or stale": ["stale-statistics"],
    "a block for every row": ["blocks-per-row"],
    "waiting for blocks": ["cache-misses"],
    "compiling that takes longer than it saves": ["jit-overhead"],
    "planning that takes longer than running": ["planning-time"],
    "workers that did not come": ["workers-missing"],
    "workers that were of no use": ["parallel-useless"],
    "partitions read in vain": ["partitions-unpruned"],
    "triggers and checks of foreign keys": ["trigger-time", "foreign-key-without-index"],
    "writes that are multiplied": ["write-amplification", "hot-updates"],
    "waiting for a lock": ["lock-wait"],
    "wide rows": ["wide-rows"],
    "an exact count": ["exact-count"],
    "a DISTINCT that hides what a join multiplied": ["distinct-after-join"],
    "random order": ["random-order"],
    "a long list of values": ["long-value-list"],
    "a filter on the outer side of an outer join": ["outer-join-filtered"],
    "a generic plan that fits some values badly": ["generic-plan"],
    "a Memoize that remembers in vain": ["memoize-thrash"],
    "rows fetched from elsewhere in vain": ["foreign-scan-discard"],
    "a statement for each row of another": ["n-plus-one"],
    "a plan that flipped": ["plan-flip"],
}
"""The problems that plans and statements have, and which rules tell of each."""


@cache
def held() -> dict[str, frozenset[str]]:
    """The names of checks by marker."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in (path for pattern in HOLDING for path in sorted(INTEGRATION.glob(pattern))):
        spec = importlib.util.spec_from_file_location(f"held_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        for _, test in inspect.getmembers(module, inspect.isfunction):
            for mark in getattr(test, "pytestmark", ()):
                found[mark.name].update(mark.args if mark.name in ("finds", "spares") else ())
    return {name: frozenset(checks) for name, checks in found.items()}


def test_every_rule_finds_what_is_planted_on_a_real_server() -> None:
    assert set() == (REGISTERED | AGAINST_A_BASELINE) - held()["finds"]


def test_every_rule_spares_a_near_miss_on_a_real_server() -> None:
    assert set() == (REGISTERED | AGAINST_A_BASELINE) - held()["spares"]


def test_tests_are_marked_with_rules_that_there_are() -> None:
    assert set() == (held()["finds"] | held()["spares"]) - REGISTERED - AGAINST_A_BASELINE


def test_each_problem_of_the_catalogue_has_its_rule() -> None:
    assert 45 == len(CATALOGUE)
    assert set() == {name for names in CATALOGUE.values() for name in names} - held()["finds"]


def test_each_rule_on_plans_stands_in_the_catalogue() -> None:
    named = {name for names in CATALOGUE.values() for name in names}

    assert set() == {each.name for each in SMELLS} - named


def test_the_page_of_checks_has_a_row_for_each_rule() -> None:
    page = (ROOT / "docs/reference/checks.md").read_text(encoding="utf-8")

    assert sorted(REGISTERED | AGAINST_A_BASELINE) == sorted(
        re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    )
