"""The whole loop on the example service at full size: the acceptance test of the package, of five minutes.

`make test` runs the loop on smaller services (test_cli_optimize, test_benchmark_feedshop).

What is planted is found and mended, what only looks wrong is left as it was, the gain is confirmed, and the
target is changed by apply alone, which undo takes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from benchmarks.feedshop_score import score_planted, score_traps
from examples.feedshop.load import checksum, load
from examples.feedshop.planted import PLANTED, Planted
from examples.feedshop.traffic import run_traffic
from psycopg.conninfo import make_conninfo

from perfloop import Journal, Silence, StudyOptions, apply_study, optimize, undo_study
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.model.advice import AlterSetting, AnalyzeTable, CreateIndex, DropIndex, RewriteQuery
from perfloop.model.outcome import Study, StudyState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off"}
TRAFFIC_S = 6.0

# Where one change makes another needless, the study may keep either: ANALYZE and an index on content_key mend
# the same statement, either of two equal indexes may go, and work_mem counts for little beside JIT.
OVERLAPPING = {"import-without-analyze", "small-work-mem", "eager-jit", "same-index-twice"}
KINDS = {
    "create-index": CreateIndex,
    "drop-index": DropIndex,
    "analyze": AnalyzeTable,
    "alter-setting": AlterSetting,
    "rewrite-query": RewriteQuery,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A target, its study, and what the target looked like before and after the study."""

    dsn: str
    journal: Journal
    study: Study
    before: tuple[str, int]
    after: tuple[str, int]

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=True)


@pytest.fixture(scope="module")
def loop(
    postgres_binaries: PostgresBinaries,
    catalogue_digest: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Loop]:
    state = tmp_path_factory.mktemp("state")
    with (
        PostgresServer(postgres_binaries, settings=SETTINGS) as server,
        Journal(state / "journal") as journal,
    ):
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE feedshop")
        dsn = server.dsn("feedshop")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        load(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_stat_statements_reset()")
        run_traffic(dsn, seconds=TRAFFIC_S)
        # What the test reads is no part of the service's workload.
        uncounted = make_conninfo(dsn, options="-c pg_stat_statements.track=none")
        before = catalogue_digest(uncounted), checksum(uncounted)
        study = optimize(dsn, StudyOptions(), journal, Silence())
        after = catalogue_digest(uncounted), checksum(uncounted)
        yield Loop(dsn=dsn, journal=journal, study=study, before=before, after=after)


def test_the_study_came_to_its_end_and_left_the_target_as_it_was(loop: Loop) -> None:
    assert StudyState.FINISHED == loop.study.state
    assert loop.before == loop.after


def test_every_planted_problem_is_found(loop: Loop) -> None:
    missed = [each.id for each in score_planted(loop.study, {}) if each.possible and not each.found]

    assert [] == missed


def test_every_planted_problem_is_mended_or_the_record_says_why_not(loop: Loop) -> None:
    scores = [each for each in score_planted(loop.study, {}) if each.possible]
    unmended = [each.id for each in scores if not each.fixed]

    assert [] == [name for name in unmended if name not in OVERLAPPING], verdicts(loop.study)
    assert [] == [name for name in unmended if not reasons(loop.study, planted(name))], verdicts(loop.study)


def test_every_trap_that_was_walked_into_is_left_again(loop: Loop) -> None:
    scores = score_traps(loop.study)

    assert [] == [each.id for each in scores if each.outcome == "kept"], verdicts(loop.study)
    assert any(each.outcome == "reverted" for each in scores)


def test_the_confirmed_gain_is_what_was_promised(loop: Loop) -> None:
    assert loop.study.confirmation is not None
    mean_time = loop.study.confirmation.effect("mean_s")
    throughput = loop.study.confirmation.effect("throughput_per_s")

    assert mean_time is not None
    assert throughput is not None
    assert mean_time.ratio <= 0.4
    assert throughput.ratio >= 2.5


def test_apply_brings_the_changes_and_undo_takes_them_back(
    loop: Loop, catalogue_digest: Callable[..., str]
) -> None:
    """An invalid index is dropped for good: it is of no use to anybody."""
    before = catalogue_digest(loop.dsn, valid_only=True)

    apply_study(loop.study, loop.connect, loop.journal, report=print)
    with loop.connect() as connection:
        indexes = {row[0] for row in connection.execute("SELECT indexname FROM pg_indexes").fetchall()}
    undo_study(loop.study.study_id, loop.connect, loop.journal, report=print)

    kept = [trial.proposal.change for trial in loop.study.kept()]
    assert {each.name for each in kept if isinstance(each, CreateIndex)} <= indexes
    assert set() == {each.name for each in kept if isinstance(each, DropIndex)} & indexes
    assert before == catalogue_digest(loop.dsn, valid_only=True)


def planted(name: str) -> Planted:
    return next(each for each in PLANTED if each.id == name)


def reasons(study: Study, problem: Planted) -> list[str]:
    """What the record says of the changes that would have mended it."""
    kind = KINDS[problem.change]
    place = problem.location.removesuffix("_above_cost")
    tried = (*study.trials, *study.rechecks)
    about = [each for each in tried if isinstance(each.proposal.change, kind)]
    return [each.reason for each in about if place in each.proposal.change.title]


def verdicts(study: Study) -> str:
    """For whoever has to find out what went wrong."""
    records = (*study.trials, *study.rechecks)
    return "\n".join(f"{each.verdict.value} {each.proposal.change.title}: {each.reason}" for each in records)
