"""Each kind of lab proves what is planted, reverts what is not, and leaves its arms equal."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.explain import explain
from perfloop.adapters.host import read_host
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.errors import ChangeFailed
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    Change,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    Proposal,
    SetTableOptions,
)
from perfloop.model.outcome import LabKind, TrialRecord, Verdict
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import IndexKey, TableName
from perfloop.model.workload import Operation, Statement, StatementKind, Workload
from perfloop.tune.decision import STANDARD_KEEP_POLICY
from perfloop.tune.lab.arms import Arms
from perfloop.tune.lab.lab import Lab
from perfloop.tune.lab.servers import OwnServer
from perfloop.tune.lab.settings import lab_settings
from perfloop.tune.measure import count
from perfloop.tune.samples import Count
from perfloop.tune.trial import MOST_TIMING_S, run_trial

SLICE_S = 0.02
BURN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"

# The server's autovacuum must not mend what is planted.
TARGET_SQL = """
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int, note text) WITH (autovacuum_enabled = off);
INSERT INTO orders SELECT g, g % 1000, g % 77, md5(g::text) FROM generate_series(1, 30000) g;
CREATE INDEX orders_note ON orders (note);
CREATE INDEX orders_id_too ON orders (id);
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE);
INSERT INTO parents SELECT generate_series(1, 500);
INSERT INTO children SELECT g, g % 500 + 1 FROM generate_series(1, 20000) g;
ANALYZE;
CREATE TABLE events (id int, kind text, place int) WITH (autovacuum_enabled = off);
CREATE INDEX events_kind ON events (kind);
CREATE INDEX events_id ON events (id);
INSERT INTO events SELECT g, 'rare', g % 10 FROM generate_series(1, 100) g;
ANALYZE events;
INSERT INTO events SELECT g, 'common', g % 10 FROM generate_series(101, 20000) g;
CREATE INDEX orders_broken ON orders (amount);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_broken'::regclass;
CREATE SEQUENCE ticks;
ALTER DATABASE shop SET work_mem = '64kB';
"""
ORDERS, EVENTS = TableName(schema="public", name="orders"), TableName(schema="public", name="events")
CHILDREN = TableName(schema="public", name="children")
ON_CUSTOMER = CreateIndex(table=ORDERS, name="orders_customer", keys=(IndexKey(text="customer"),))
ON_AMOUNT = CreateIndex(table=ORDERS, name="orders_amount", keys=(IndexKey(text="amount"),))
ON_PARENT = CreateIndex(table=CHILDREN, name="children_parent", keys=(IndexKey(text="parent"),))
PROBE = CreateIndex(
    table=TableName(schema="public", name="parents"), name="probe", keys=(IndexKey(text="id"),)
)
DROP_NOTE = DropIndex(
    table=ORDERS,
    name="orders_note",
    definition="CREATE INDEX orders_note ON public.orders USING btree (note)",
)
ROOM = SetTableOptions(table=EVENTS, options=("fillfactor=90",))
LARGER_WORK_MEM = AlterSetting(name="work_mem", value="64MB")
MORE_BUFFERS = AlterSetting(name="shared_buffers", value="64MB")

BY_CUSTOMER = "SELECT sum(amount) FROM orders WHERE customer = 7"
BY_NOTE = "SELECT id FROM orders WHERE note = md5('77')"
SORTED = "SELECT count(*) FROM (SELECT note FROM orders ORDER BY note, amount DESC OFFSET 0) AS o"
# Hashed where work_mem has room for it; else each row goes through the whole list.
EXCLUDED = "SELECT count(*) FROM orders WHERE id <= 60 AND -id NOT IN (SELECT id FROM children)"
SET_BY_CUSTOMER = "UPDATE orders SET amount = amount + 1 WHERE customer = 7"
SET_BY_NOTE = "UPDATE orders SET amount = amount + 1 WHERE note = md5('77')"
DELETE_PARENT = "DELETE FROM parents WHERE id BETWEEN 10 AND 20"
COMMON = "SELECT id FROM events WHERE kind = 'common' ORDER BY id LIMIT 5"
SCATTERED = (
    "SELECT count(n) FROM generate_series(0, 3000) AS g, "
    "LATERAL (SELECT note FROM orders WHERE id = (g * 7919) % 30000 + 1 OFFSET 0) AS o (n)"
)


def operation(text: str, *more: str) -> Operation:
    kind = StatementKind.READ if text.startswith("SELECT") else StatementKind.WRITE
    statement = Statement(query_id=str(abs(hash(text))), text=text, kind=kind, name=text[:30])
    return Operation(statement=statement, calls_share=1.0, instances=(text, *more))


@pytest.fixture(scope="module")
def target(each_postgres_binaries: PostgresBinaries) -> Iterator[str]:
    """A database with every fault, on a server of its own."""
    settings = {"fsync": "off", "shared_buffers": "16MB", "shared_preload_libraries": "pg_stat_statements"}
    with PostgresServer(each_postgres_binaries, settings=settings) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        dsn = make_conninfo(server.dsn(), dbname="shop")
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in TARGET_SQL.split(";\n"):
                connection.execute(statement)
        yield dsn


@pytest.fixture(scope="module")
def snapshot(target: str) -> Snapshot:
    with psycopg.connect(target, autocommit=True) as connection:
        # Counters of a session are flushed when it ends, and staleness is read from them.
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            taken = take_snapshot(
                connection, taken_at_s=time.time(), host=read_host(runs_server=True, window_s=0.01)
            )
            if (table := taken.table(EVENTS)) and table.modified_since_analyze:
                return taken
    raise AssertionError("the server never counted the rows of the target")


@pytest.fixture(scope="module")
def lab(target: str, snapshot: Snapshot, each_postgres_binaries: PostgresBinaries) -> Iterator[Lab]:
    """One lab for all tests of this module; each leaves the stack as it found it."""
    settings = {**lab_settings(snapshot), "shared_buffers": "1MB", "shared_preload_libraries": ""}
    with Lab(
        OwnServer(each_postgres_binaries, settings),
        settings=settings,
        snapshot=snapshot,
        target_dsn=target,
        binaries=each_postgres_binaries,
        tell=lambda sentence: None,
    ) as opened:
        yield opened


def counted(lab: Lab, operations: tuple[Operation, ...]) -> dict[str, Count]:
    with lab.control_arm() as arm:
        return {each.statement.query_id: count(arm, each) for each in operations}


def judged(
    arms: Arms,
    change: Change,
    operations: tuple[Operation, ...],
    baseline: dict[str, Count],
    rare: tuple[Operation, ...] = (),
    most_timing_s: float = MOST_TIMING_S,
) -> TrialRecord:
    return run_trial(
        Proposal(change=change, reason="a test"),
        arms,
        Workload(origin="test", operations=operations, rare=rare),
        baseline,
        STANDARD_KEEP_POLICY,
        seed=5,
        slice_s=SLICE_S,
        most_timing_s=most_timing_s,
    ).record


def tried(lab: Lab, change: Change, *texts: str) -> TrialRecord:
    """Try a change in the lab and leave nothing of it."""
    return tried_on(lab, change, *(operation(text) for text in texts))


def tried_on(
    lab: Lab, change: Change, *operations: Operation, rare: tuple[Operation, ...] = ()
) -> TrialRecord:
    baseline = counted(lab, operations)
    with lab.arms(change) as arms:
        record = judged(arms, change, operations, baseline, rare)
    lab.revert(change, diverged=any(each.statement.kind is StatementKind.WRITE for each in operations))
    return record


DIGEST = """
SELECT c.relname, c.reltuples, pg_relation_size(c.oid, 'main') FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> 'probe'
UNION ALL
SELECT pg_get_indexdef(indexrelid), indisvalid::int, 0 FROM pg_index
WHERE indrelid::regclass::text IN ('orders', 'events', 'children') AND indexrelid::regclass::text <> 'probe'
UNION ALL
SELECT tablename || '.' || attname, null_frac, hashtext(coalesce(histogram_bounds::text, '') || n_distinct)
FROM pg_stats WHERE schemaname = 'public'
UNION ALL
SELECT pg_get_statisticsobjdef(oid), 0, 0 FROM pg_statistic_ext
ORDER BY 1
"""


def digests(lab: Lab) -> tuple[list[Any], list[Any]]:
    """What each arm holds: tables and indexes with their sizes, statistics, estimates of rows."""
    with lab.arms(PROBE) as arms:
        both = tuple(arm.connection.execute(DIGEST).fetchall() for arm in arms.both)
    lab.revert(PROBE, diverged=False)
    return both[0], both[1]


def names(digest: list[Any]) -> set[str]:
    return {row[0] for row in digest}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(LARGER_WORK_MEM, EXCLUDED, id="sessions"),
        pytest.param(ON_CUSTOMER, BY_CUSTOMER, id="an index"),
        pytest.param(AnalyzeTable(table=EVENTS), COMMON, id="statistics"),
        pytest.param(MORE_BUFFERS, SCATTERED, id="instances"),
    ],
)
def test_a_planted_gain_is_proven(lab: Lab, change: Change, text: str) -> None:
    record = tried(lab, change, text)

    assert Verdict.KEEP == record.verdict, record.reason
    assert record.cpu is not None
    assert record.cpu.high < 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(AlterSetting(name="cursor_tuple_fraction", value="0.2"), id="sessions"),
        pytest.param(ON_AMOUNT, id="an index"),
        pytest.param(DROP_NOTE, id="a drop"),
        pytest.param(
            CreateStatistics(table=ORDERS, name="s", columns=("customer", "amount")), id="statistics"
        ),
    ],
)
def test_a_planted_nothing_is_reverted(lab: Lab, change: Change) -> None:
    record = tried(lab, change, BY_CUSTOMER, BY_NOTE)

    assert Verdict.REVERT == record.verdict, record.reason


def test_what_would_take_longer_than_a_trial_may_ends_unclear_without_a_pair(lab: Lab) -> None:
    operations = (operation(SORTED),)
    baseline = counted(lab, operations)
    with lab.arms(LARGER_WORK_MEM) as arms:
        record = judged(arms, LARGER_WORK_MEM, operations, baseline, most_timing_s=0.01)
    lab.revert(LARGER_WORK_MEM, diverged=False)

    assert Verdict.UNCLEAR == record.verdict
    assert record.reason.startswith("too slow to time: 10 pairs would take ")
    assert record.cpu is None


@pytest.mark.slow
def test_a_planted_nothing_is_not_kept_by_a_second_instance(lab: Lab) -> None:
    """There everything is timed, since such settings act on no plan; on a loud host it may end unclear."""
    record = tried(lab, AlterSetting(name="shared_buffers", value="1032kB"), BY_CUSTOMER, BY_NOTE)

    assert Verdict.KEEP != record.verdict, record.reason


def test_room_on_the_pages_halves_the_wal_of_updates_that_change_no_indexed_column(lab: Lab) -> None:
    updates = [f"UPDATE events SET place = 77 WHERE id = {number}" for number in (7, 9_000, 15_000)]

    record = tried_on(lab, ROOM, operation(*updates))

    assert Verdict.REVERT != record.verdict, record.reason
    assert record.treatment_work.wal_bytes < record.control_work.wal_bytes / 2


def test_room_on_the_pages_does_not_halve_that_of_updates_that_change_an_indexed_column(lab: Lab) -> None:
    record = tried_on(lab, ROOM, operation("UPDATE events SET kind = 'new' WHERE id = 7"))

    # Of the time nothing is said: a place on the same page is found a little sooner even without HOT.
    assert record.treatment_work.wal_bytes >= record.control_work.wal_bytes / 2


def test_an_index_that_nobody_uses_may_go(lab: Lab) -> None:
    record = tried(lab, DROP_NOTE, BY_CUSTOMER, "INSERT INTO orders VALUES (0, 1, 1, 'new')")

    assert Verdict.KEEP == record.verdict, record.reason
    assert record.cpu is None


def test_an_index_that_only_a_rare_statement_uses_stays(lab: Lab) -> None:
    record = tried_on(lab, DROP_NOTE, operation(BY_CUSTOMER), rare=(operation(SCATTERED), operation(BY_NOTE)))

    assert Verdict.REVERT == record.verdict, record.reason
    assert "called too rarely to be timed, costs" in record.reason


def test_a_rare_statement_that_the_change_does_not_harm_is_no_obstacle(lab: Lab) -> None:
    rare = (operation(SCATTERED), operation("SELECT 1 / 0 FROM orders WHERE note = 'none'"))

    record = tried_on(lab, DROP_NOTE, operation(BY_CUSTOMER), rare=rare)

    assert Verdict.KEEP == record.verdict, record.reason


def test_an_index_that_only_a_write_uses_stays(lab: Lab) -> None:
    """An UPDATE finds its rows by it, which counts for more than that it has less to maintain."""
    record = tried(lab, DROP_NOTE, SET_BY_NOTE)

    assert Verdict.REVERT == record.verdict, record.reason
    assert record.cpu is not None


def test_an_index_that_only_a_write_needs_is_kept(lab: Lab) -> None:
    record = tried(lab, ON_CUSTOMER, SET_BY_CUSTOMER)

    assert Verdict.KEEP == record.verdict, record.reason


def test_an_index_that_a_cascade_needs_is_kept(lab: Lab) -> None:
    """Neither the plan nor the blocks of a DELETE show what its foreign keys do."""
    record = tried(lab, ON_PARENT, DELETE_PARENT)

    assert Verdict.KEEP == record.verdict, record.reason


def test_a_change_that_helps_many_instances_and_hurts_the_dear_one_is_judged_by_the_sum(lab: Lab) -> None:
    """The index makes two of three instances faster, and lets the planner take a worse plan for the third."""
    cheap = "SELECT count(*) FROM orders WHERE customer = 7"
    dear = "SELECT sum(length(repeat(note, 60))) FROM orders WHERE customer >= 0 AND amount < 10"
    either = operation(cheap, cheap.replace("7", "8"), dear)

    record = tried_on(lab, ON_CUSTOMER, either)

    assert record.cpu is not None
    assert record.cpu.ratio > 0.5


def test_a_statement_that_fails_in_the_treatment_only_reverts(lab: Lab) -> None:
    record = tried(lab, AlterSetting(name="backslash_quote", value="off"), BY_NOTE, r"SELECT E'\''")

    assert Verdict.REVERT == record.verdict
    assert "fails with it" in record.reason


def test_a_statement_that_fails_in_some_pairs_reverts(lab: Lab) -> None:
    """Sequences are not rolled back, so that this one fails from the fourth call in the treatment on."""
    text = (
        f"SELECT 1 / CASE WHEN current_setting('work_mem') = '64MB' AND n > 0 AND nextval('ticks') > 3 "
        f"THEN 0 ELSE 1 END FROM ({SORTED}) AS sorted (n)"
    )

    record = tried(lab, LARGER_WORK_MEM, text)

    assert Verdict.REVERT == record.verdict
    assert "fails with it in some pairs" in record.reason


def test_a_statement_that_does_not_end_is_ended(lab: Lab) -> None:
    with lab.control_arm() as arm:
        started_s = time.monotonic()
        ended = count(arm, operation("SELECT pg_sleep(30)"), limit_s=0.2)
        (after,) = arm.connection.execute("SHOW statement_timeout").fetchone() or ("",)

    assert ended.error is not None
    assert "it was ended" in ended.error
    assert time.monotonic() - started_s < 10
    assert "0" == after


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(CreateIndex(table=ORDERS, name="n", keys=(IndexKey(text="nothing"),)), id="an index"),
        pytest.param(AlterSetting(name="work_mem", value="-7"), id="a session's setting"),
        pytest.param(AlterSetting(name="shared_buffers", value="900TB"), id="a server's setting"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(lab: Lab, change: Change) -> None:
    with pytest.raises(ChangeFailed, match="cannot be made in the lab"), lab.arms(change):
        pass

    stack, trial = digests(lab)
    assert stack == trial


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (ON_CUSTOMER, SET_BY_CUSTOMER),
        (DROP_NOTE, BY_NOTE),
        (AnalyzeTable(table=EVENTS), COMMON),
        (CreateStatistics(table=EVENTS, name="s", columns=("kind", "place")), COMMON),
        (LARGER_WORK_MEM, SET_BY_CUSTOMER),
        pytest.param(MORE_BUFFERS, SET_BY_CUSTOMER, marks=pytest.mark.slow),
    ],
    ids=["index", "drop", "analyze", "statistics", "session", "instance"],
)
def test_both_arms_are_equal_after_keep_and_after_revert_and_after_withdrawal(
    lab: Lab, change: Change, text: str
) -> None:
    before, _ = digests(lab)

    def write(arms: Arms) -> None:
        for arm in arms.both:
            count(arm, operation(text))

    diverged = not text.startswith("SELECT")
    with lab.arms(change) as arms:
        write(arms)
    lab.revert(change, diverged=diverged)
    after_revert = digests(lab)
    with lab.arms(change) as arms:
        write(arms)
    lab.keep(change, diverged=diverged)
    after_keep = digests(lab)
    with lab.arms_without(change) as arms:
        write(arms)
    lab.restore()
    after_restore = digests(lab)
    with lab.arms_without(change) as arms:
        write(arms)
    lab.withdraw(change)
    after_withdrawal = digests(lab)

    for stack, trial in (after_revert, after_keep, after_restore, after_withdrawal):
        assert stack == trial
    assert names(before) == names(after_revert[0])
    assert names(after_keep[0]) == names(after_restore[0])
    if not isinstance(change, AlterSetting):
        assert change == AnalyzeTable(table=EVENTS) or names(before) != names(after_keep[0])
    assert names(before) == names(after_withdrawal[0])


def test_a_kept_setting_is_in_the_arms_of_later_trials_until_it_is_withdrawn(lab: Lab) -> None:
    shown: list[list[str]] = []

    def show(opened: Arms) -> None:
        row = (arm.connection.execute("SHOW shared_buffers").fetchone() for arm in opened.both)
        shown.append([each[0] for each in row if each])

    with lab.arms(MORE_BUFFERS) as arms:
        show(arms)
    lab.keep(MORE_BUFFERS, diverged=False)
    with lab.arms(ON_AMOUNT) as arms:
        show(arms)
    lab.revert(ON_AMOUNT, diverged=False)
    with lab.arms_without(MORE_BUFFERS) as arms:
        show(arms)
    lab.withdraw(MORE_BUFFERS)
    with lab.arms(ON_AMOUNT) as arms:
        show(arms)
    lab.revert(ON_AMOUNT, diverged=False)

    assert [["1MB", "64MB"], ["64MB", "64MB"], ["1MB", "64MB"], ["1MB", "1MB"]] == shown


def test_the_lab_plans_as_the_target_does(lab: Lab, target: str) -> None:
    """Stale statistics let it sort what it could have read in order; an invalid index helps nobody."""
    texts = (COMMON, "SELECT count(*) FROM orders WHERE amount = 5", BY_NOTE)

    with psycopg.connect(target, autocommit=True) as connection, lab.control_arm() as arm:
        connection.execute("SET max_parallel_workers_per_gather = 0")
        there = [explain(connection, text) for text in texts]
        here = [explain(arm.connection, text) for text in texts]

    assert [plan.shape for plan in there] == [plan.shape for plan in here]
    # By a page more or less, which the server's own vacuum may add to the target.
    assert there[1].root.children[0].planned_rows == pytest.approx(
        here[1].root.children[0].planned_rows, rel=0.01
    )


def test_stale_row_counts_survive_the_clearing_of_dead_rows(lab: Lab, target: str) -> None:
    """Until then the rows that writes leave make the file longer, and by its pages the estimate larger."""

    def estimate(connection: psycopg.Connection) -> float:
        return explain(connection, "SELECT FROM events").root.planned_rows

    with psycopg.connect(target, autocommit=True) as connection:
        there = estimate(connection)
    with lab.control_arm() as arm, arm.connection.transaction(force_rollback=True):
        arm.connection.execute("UPDATE events SET place = place WHERE id > 19000")
    digests(lab)
    with lab.control_arm() as arm:
        here = estimate(arm.connection)

    assert there == here


def test_only_what_could_not_be_carried_is_noted(lab: Lab) -> None:
    assert () == lab.notes


@contextmanager
def burners() -> Iterator[None]:
    with ExitStack() as running:
        for _ in range(3):
            process = subprocess.Popen([sys.executable, "-c", BURN])
            running.callback(process.wait)
            running.callback(process.terminate)
        yield


def test_a_crowded_host_is_told(lab: Lab) -> None:
    with burners():
        record = tried(lab, LARGER_WORK_MEM, SORTED)

    assert record.host is not None
    assert record.host.crowded


def test_both_backends_share_a_processor_while_a_pair_runs(lab: Lab) -> None:

    operations = (operation(SORTED),)
    baseline = counted(lab, operations)
    with lab.arms(LARGER_WORK_MEM) as arms:
        judged(arms, LARGER_WORK_MEM, operations, baseline)
        places = [os.sched_getaffinity(arm.connection.info.backend_pid) for arm in arms.both]
    lab.revert(LARGER_WORK_MEM, diverged=False)

    assert places[0] == places[1]
    assert 1 == len(places[0])


def test_the_kind_of_lab_is_the_cheapest_that_is_valid(lab: Lab) -> None:
    kinds = [lab.kind_for(change) for change in (LARGER_WORK_MEM, ON_AMOUNT, MORE_BUFFERS)]

    assert [LabKind.SESSIONS, LabKind.DATABASES, LabKind.INSTANCES] == kinds
