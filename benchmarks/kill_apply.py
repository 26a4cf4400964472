"""Kill apply at random points and look whether the target ever stays between before and after.

    python benchmarks/kill_apply.py --kills 50 --seed 1

Every round applies six changes in a process of its own, kills it with SIGKILL at a point drawn uniformly
over the time an apply takes, and recovers. In every third round recovery is killed as well, and run again.
Then indexes, settings files, stored settings and statistics objects must equal exactly what they were
before or after, and the Journal must say which.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psycopg

from perfloop.adapters.catalog import read_fingerprint
from perfloop.adapters.connection import connect
from perfloop.adapters.servers import PostgresServer, find_postgres
from perfloop.adapters.store import Journal
from perfloop.model.advice import (
    AlterSetting,
    Change,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    Proposal,
    SettingScope,
)
from perfloop.model.outcome import ActState, LabKind, Study, StudyState, TrialRecord, Verdict
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.apply import apply_study
from perfloop.tune.recover import RecoveryOutcome, recover
from perfloop.tune.undo import undo_study

ROWS = 300_000
ORDERS = TableName(schema="public", name="orders")
STATE_QUERIES = (
    """SELECT pg_get_indexdef(indexrelid), indisvalid, indisready, indislive FROM pg_index
       WHERE indrelid = 'orders'::regclass ORDER BY 1""",
    "SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting ORDER BY 1, 2",
    "SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext ORDER BY 1",
    "SELECT setting, pending_restart FROM pg_settings WHERE name = 'max_wal_size'",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What became of one kill."""

    killed_after_s: float
    acts_begun: int
    recovery: str
    fault: str | None


def connection_of(dsn: str) -> psycopg.Connection:
    return connect(dsn, read_only=False, statement_timeout_s=0)


def fill(dsn: str) -> None:
    with connection_of(dsn) as connection:
        connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY, customer int, status text, paid int)")
        connection.execute(
            "INSERT INTO orders SELECT g, mod(g, 5000), CASE WHEN mod(g, 50) = 0 THEN 'open' ELSE 'done' END,"
            " mod(g, 7) FROM generate_series(1, %s) g",
            [ROWS],
        )
        connection.execute("CREATE INDEX orders_paid ON orders (paid DESC) WHERE paid > 1")
        connection.execute("VACUUM ANALYZE orders")
        connection.execute("ALTER SYSTEM SET max_wal_size = '1111MB'")
        connection.execute("ALTER SYSTEM SET checkpoint_timeout = '6min'")
        connection.execute("ALTER DATABASE postgres SET work_mem = '5MB'")
        connection.execute("SELECT pg_reload_conf()")


def changes_for(connection: psycopg.Connection) -> tuple[Change, ...]:
    row = connection.execute("SELECT pg_get_indexdef('orders_paid'::regclass)").fetchone()
    assert row is not None
    return (
        CreateIndex(table=ORDERS, name="orders_customer", keys=(IndexKey(text="customer"),)),
        AlterSetting(name="max_wal_size", value="2GB", scope=SettingScope.SYSTEM),
        DropIndex(table=ORDERS, name="orders_paid", definition=row[0]),
        AlterSetting(name="work_mem", value="64MB"),
        CreateStatistics(table=ORDERS, name="orders_status_paid", columns=("status", "paid")),
        CreateIndex(
            table=ORDERS,
            name="orders_open",
            keys=(IndexKey(text="lower(status)", is_expression=True), IndexKey(text="id", descending=True)),
            predicate="status = 'open'",
        ),
    )


def study_of(dsn: str) -> Study:
    with connection_of(dsn) as connection:
        trials = tuple(
            TrialRecord(
                proposal=Proposal(change=change, reason="for the benchmark"),
                lab=LabKind.DATABASES,
                verdict=Verdict.KEEP,
                reason="for the benchmark",
            )
            for change in changes_for(connection)
        )
        return Study(
            study_id="killed",
            target=dsn,
            started_at_s=0.0,
            state=StudyState.FINISHED,
            seed=1,
            fingerprint=read_fingerprint(connection),
            trials=trials,
        )


def state_of(dsn: str, data_dir: Path) -> str:
    """Everything that the changes touch, as the server and its file show it."""
    lines = (data_dir / "postgresql.auto.conf").read_text().splitlines()
    facts = [repr(sorted(line for line in lines if line and not line.startswith("#")))]
    with connection_of(dsn) as connection:
        facts += [repr(connection.execute(query.encode()).fetchall()) for query in STATE_QUERIES]
    return "\n".join(facts)


def run_child(what: str, dsn: str, journal: Path) -> subprocess.Popen[str]:
    """Start this script as the process to be killed; returns once it is about to begin."""
    command = [sys.executable, __file__, "--child", what, "--dsn", dsn, "--journal", str(journal)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def child(what: str, dsn: str, journal_path: Path) -> None:
    with Journal(journal_path) as journal:
        print("ready", flush=True)
        if what == "apply":
            study = journal.study("killed")
            apply_study(study, lambda: connection_of(dsn), journal, report=print)
        else:
            recover(journal, connection_of, report=print)


def kill(child: subprocess.Popen[str], after_s: float) -> None:
    time.sleep(after_s)
    child.kill()
    child.communicate()


def timed(dsn: str, journal_path: Path) -> float:
    """How long an apply takes that nobody kills, in seconds."""
    process = run_child("apply", dsn, journal_path)
    began_s = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    return time.monotonic() - began_s


def play(
    number: int,
    after_s: float,
    random: Random,
    dsn: str,
    journal_path: Path,
    fault_of: Callable[[Journal], str | None],
) -> Round:
    kill(run_child("apply", dsn, journal_path), after_s)
    with Journal(journal_path) as journal:
        unfinished = journal.unfinished()
        begun = len(unfinished[0].acts) if unfinished else 0
    if number % 3 == 0:
        kill(run_child("recover", dsn, journal_path), random.uniform(0.0, 0.3))
    with Journal(journal_path) as journal:
        told = recover(journal, connection_of, report=lambda line: None)
        outcome = told[0].outcome.value if told else "nothing to do"
        return Round(killed_after_s=after_s, acts_begun=begun, recovery=outcome, fault=fault_of(journal))


def fault_finder(dsn: str, data_dir: Path, before: str, after: str) -> Callable[[Journal], str | None]:
    def fault_of(journal: Journal) -> str | None:
        """What is wrong with the target or the Journal, or None; leaves the target as it was before."""
        batches = journal.batches()
        state = state_of(dsn, data_dir)
        applied = [batch for batch in batches if batch.state is ActState.APPLIED]
        if state not in {before, after}:
            return f"the target is between:\n{state}"
        if journal.unfinished() or (state == after) is not bool(applied):
            return f"the journal says {[batch.state.value for batch in batches]}"
        if applied:
            undo_study("killed", lambda: connection_of(dsn), journal, report=lambda line: None)
        return None if state_of(dsn, data_dir) == before else "undo left a difference"

    return fault_of


def measure(kills: int, seed: int) -> int:
    random = Random(seed)
    with PostgresServer(find_postgres()) as server, tempfile.TemporaryDirectory() as folder:
        dsn, journal_path = server.dsn(), Path(folder) / "journal.sqlite3"
        fill(dsn)
        with Journal(journal_path) as journal:
            journal.save_study(study_of(dsn))
        before = state_of(dsn, server.data_dir)
        took_s = timed(dsn, journal_path)
        after = state_of(dsn, server.data_dir)
        fault_of = fault_finder(dsn, server.data_dir, before, after)
        with Journal(journal_path) as journal:
            fault = fault_of(journal)
        print(
            f"seed {seed}, an apply takes {took_s:.2f} s; undo without a kill: {fault or 'exact'}", flush=True
        )
        rounds = []
        for number in range(kills):
            rounds.append(play(number, random.uniform(0.0, took_s), random, dsn, journal_path, fault_of))
            if rounds[-1].fault:
                print(f"round {number}: {rounds[-1]}", flush=True)
                break
    tell(rounds)
    return 1 if fault or any(each.fault for each in rounds) else 0


def tell(rounds: list[Round]) -> None:
    print("changes begun  recovery said   rounds")
    for (begun, recovery), count in sorted(
        Counter((each.acts_begun, each.recovery) for each in rounds).items()
    ):
        print(f"{begun:>13}  {recovery:<14}  {count:>6}")
    finished = sum(each.recovery == RecoveryOutcome.FINISHED.value for each in rounds)
    faults = sum(each.fault is not None for each in rounds)
    print(f"{len(rounds)} kills: {finished} finished by recovery, {faults} between or mis-stated")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", choices=["apply", "recover"], help=argparse.SUPPRESS)
    parser.add_argument("--dsn", help=argparse.SUPPRESS)
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.dsn, options.journal)
        return 0
    return measure(options.kills, options.seed)


if __name__ == "__main__":
    sys.exit(main())
