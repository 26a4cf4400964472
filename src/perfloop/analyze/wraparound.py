"""How far transaction ids are from running out: at 2^31 unfrozen ones the server takes no more writes."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.vacuum import horizon_holders
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.health import TransactionAge
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Table
from perfloop.model.units import count_text

LIMIT = 2**31
FAILSAFE_AGE = 1_600_000_000
"""vacuum_failsafe_age's default: from here VACUUM drops everything else. Peers speak at 10 million left."""
OVERDUE_RATIO = 1.5
"""Of autovacuum_freeze_max_age, from which on autovacuum starts by itself: it should be through by then."""
CERTAIN_AGE = 1_000_000_000
"""Half of all there are: too old, however large autovacuum_freeze_max_age was made."""
TABLES_NAMED = 3


def wraparound(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Databases whose oldest row should have been frozen long ago, by transactions or by multixacts."""
    return tuple(
        finding
        for age in snapshot.health.ages
        for finding in (
            *_overdue(snapshot, age, "transaction", age.transactions),
            *_overdue(snapshot, age, "multixact", age.multixacts),
        )
    )


def _overdue(snapshot: Snapshot, age: TransactionAge, kind: str, count: int) -> Iterator[Finding]:
    setting = "autovacuum_freeze_max_age" if kind == "transaction" else "autovacuum_multixact_freeze_max_age"
    live = snapshot.setting(setting)
    start = int(live.value) if live is not None else 200_000_000
    if count < min(OVERDUE_RATIO * start, max(start, CERTAIN_AGE), FAILSAFE_AGE):
        return
    yield Finding(
        check="wraparound",
        severity=Severity.HIGH if count >= FAILSAFE_AGE else Severity.MEDIUM,
        title=(
            f"Database {age.database} has {count_text(LIMIT - count)} {kind}s left before it takes no more"
            f" writes: its oldest row is {count_text(count)} old, and autovacuum does not keep up"
        ),
        location=f"{age.database}: {kind}s",
        evidence=(
            Evidence(label=setting, value=count_text(start)),
            *_oldest_tables(snapshot, age, kind),
            *(Evidence(label="held back by", value=each.text) for each in horizon_holders(snapshot)[:1]),
        ),
        would_try=(
            "nothing in a lab: end what holds vacuum back, then VACUUM (FREEZE, VERBOSE) the oldest tables,"
            f" connected to {age.database}"
        ),
    )


def _oldest_tables(snapshot: Snapshot, age: TransactionAge, kind: str) -> Iterator[Evidence]:
    if age.database != snapshot.database:
        return

    def old(table: Table) -> int:
        return (table.transaction_age if kind == "transaction" else table.multixact_age) or 0

    for table in sorted(snapshot.tables, key=lambda each: (-old(each), each.name))[:TABLES_NAMED]:
        yield Evidence(label=f"{table.name}", value=f"{count_text(old(table))} {kind}s old")
