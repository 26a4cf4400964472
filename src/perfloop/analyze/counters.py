"""What a database counts: temporary files, deadlocks, rollbacks, new connections, damage."""

from __future__ import annotations

from perfloop.analyze.spills import is_one_off, loaded_bytes
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.health import UnvalidatedConstraint
from perfloop.model.snapshot import Activity, Snapshot
from perfloop.model.units import bytes_text, count_text, seconds_text, setting_bytes, share_text

DAY_S = 86_400.0
UNKNOWN_COUNTING_S = 30 * DAY_S
"""Counters that were never reset do not say since when they run; taken for a month, so as not to cry wolf."""
TEMP_BYTES = 100 * 1024**2
TEMP_BYTES_PER_S = 10 * 1024**2 / 3600
MUCH_TEMP_BYTES_PER_S = 1024**3 / 3600
DEADLOCKS_PER_DAY = 1.0
MANY_DEADLOCKS_PER_DAY = 24.0
ROLLBACK_RATIO = 0.10
JUDGED_TRANSACTIONS = 1_000
NEW_CONNECTIONS_PER_S = 1.0
MANY_NEW_CONNECTIONS_PER_S = 10.0
SHORT_SESSION_S = 600.0
"""postgresqltuner advises a pooler where connections are younger than 10 minutes on average."""
JUDGED_COUNTING_S = 60.0


def temporary_files(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Sorts and hashes that work_mem did not hold; plans show only those of the workload."""
    activity = snapshot.activity
    temp_bytes = activity.temp_bytes - loaded_bytes(snapshot)
    rate = temp_bytes / max(1.0, _counted_s(activity))
    if temp_bytes < TEMP_BYTES or rate < TEMP_BYTES_PER_S:
        return ()
    spillers = [each for each in snapshot.statements if each.temp_blocks > 0 and not is_one_off(each)]
    spillers = sorted(spillers, key=lambda each: (-each.temp_blocks, each.statement.query_id))[:3]
    work_mem = setting_bytes(snapshot.setting("work_mem"))
    return (
        Finding(
            check="temporary-files",
            severity=Severity.MEDIUM if rate >= MUCH_TEMP_BYTES_PER_S else Severity.LOW,
            title=(
                f"Queries wrote {bytes_text(temp_bytes)} into temporary files"
                + ("" if activity.counted_for_s is None else f", {bytes_text(rate * 3600)} an hour")
            ),
            location="temporary files",
            evidence=(
                Evidence(label="files", value=count_text(activity.temp_files)),
                Evidence(label="work_mem", value="unknown" if work_mem is None else bytes_text(work_mem)),
                *(
                    Evidence(label=each.statement.label, value=f"{count_text(each.temp_blocks)} blocks")
                    for each in spillers
                ),
            ),
            would_try="work_mem for the statements that spill; log_temp_files names the others",
            query_ids=tuple(each.statement.query_id for each in spillers),
        ),
    )


def deadlocks(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Transactions that the server had to end because they waited for one another."""
    activity = snapshot.activity
    per_day = activity.deadlocks / max(1.0, _counted_s(activity) / DAY_S)
    if per_day < DEADLOCKS_PER_DAY:
        return ()
    return (
        Finding(
            check="deadlocks",
            severity=Severity.MEDIUM if per_day >= MANY_DEADLOCKS_PER_DAY else Severity.LOW,
            title=f"{_times(activity.deadlocks, 'transaction')} ended in a deadlock since the last reset",
            location="deadlocks",
            evidence=_counted_for(activity),
            would_try=(
                "nothing in the database: lock rows in one order everywhere (ORDER BY … FOR UPDATE), and keep"
                " transactions short; the server's log has the statements"
            ),
        ),
    )


def rollbacks(snapshot: Snapshot) -> tuple[Finding, ...]:
    """A service that rolls back a large part of its transactions works for nothing, or has errors."""
    activity = snapshot.activity
    ended = activity.commits + activity.rollbacks
    ratio = activity.rollbacks / max(1, ended)
    if ended < JUDGED_TRANSACTIONS or ratio < ROLLBACK_RATIO:
        return ()
    return (
        Finding(
            check="rollbacks",
            severity=Severity.LOW,
            title=f"{share_text(ratio)} of the transactions were rolled back",
            location="rollbacks",
            evidence=(
                Evidence(label="rolled back", value=f"{activity.rollbacks:,} of {ended:,}"),
                *_counted_for(activity),
            ),
            would_try=(
                "nothing in the database: see its log for errors; a pool that rolls back when it takes a"
                " connection back counts here too"
            ),
        ),
    )


def connection_churn(snapshot: Snapshot, *, least_s: float = JUDGED_COUNTING_S) -> tuple[Finding, ...]:
    """Connections opened for a moment: each costs a process, and milliseconds before the first query."""
    activity = snapshot.activity
    counted_s = activity.counted_for_s or 0.0
    if activity.sessions == 0 or counted_s < least_s:
        return ()
    rate, length_s = activity.sessions / counted_s, activity.session_s / activity.sessions
    if rate < NEW_CONNECTIONS_PER_S or length_s >= SHORT_SESSION_S:
        return ()
    return (
        Finding(
            check="connection-churn",
            severity=Severity.MEDIUM if rate >= MANY_NEW_CONNECTIONS_PER_S else Severity.LOW,
            title=f"Services open {rate:.1f} connections a second and keep each {seconds_text(length_s)}",
            location="new connections",
            evidence=(
                Evidence(label="connections opened", value=count_text(activity.sessions)),
                *_counted_for(activity),
            ),
            would_try="a connection pool, in the service or before the server",
        ),
    )


def checksum_failures(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Pages that came back from the disk other than they were written."""
    failures = snapshot.activity.checksum_failures or 0
    if failures == 0:
        return ()
    return (
        Finding(
            check="checksum-failures",
            severity=Severity.HIGH,
            title=f"{_times(failures, 'page')} of this database failed the checksum: data are damaged",
            location="checksums",
            evidence=_counted_for(snapshot.activity),
            would_try="nothing: bring the backups to safety, check disk and memory, restore what is damaged",
        ),
    )


def unvalidated_constraints(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Constraints that hold for new rows only: the planner does not rely on them, and nobody should."""
    return tuple(_unvalidated(each) for each in snapshot.health.unvalidated)


def _unvalidated(constraint: UnvalidatedConstraint) -> Finding:
    return Finding(
        check="unvalidated-constraint",
        severity=Severity.LOW,
        title=(
            f"{constraint.kind.capitalize()} constraint {constraint.name} on {constraint.table}"
            " was never checked against the rows that were there before it"
        ),
        location=f"{constraint.table}: {constraint.name}",
        evidence=(Evidence(label="definition", value=constraint.definition),),
        would_try=(
            f"nothing in a lab: ALTER TABLE {constraint.table} VALIDATE CONSTRAINT {constraint.name},"
            " which reads the table and blocks no writes"
        ),
    )


def _counted_for(activity: Activity) -> tuple[Evidence, ...]:
    age_s = activity.counted_for_s
    return (Evidence(label="counted for", value="unknown" if age_s is None else seconds_text(age_s)),)


def _counted_s(activity: Activity) -> float:
    return UNKNOWN_COUNTING_S if activity.counted_for_s is None else activity.counted_for_s


def _times(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"
