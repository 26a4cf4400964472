"""Sessions in each other's way: who waits for whom, and what has been open for too long.

Thresholds are arguments, so that a test need not wait for minutes; everybody else leaves them alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.health import Session
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import seconds_text

BLOCKED_S = 5.0
LONG_BLOCKED_S = 60.0
MANY_BLOCKED = 5
IDLE_IN_TRANSACTION_S = 300.0
LONG_IDLE_IN_TRANSACTION_S = 3600.0
STATEMENT_S = 300.0
LONG_STATEMENT_S = 3600.0
PREPARED_S = 300.0
LONG_PREPARED_S = 3600.0
PREPARED_TRANSACTION = 0
"""The pid under which pg_blocking_pids() names a prepared transaction."""

_MAINTENANCE = ("vacuum", "analyze", "create index", "create unique index", "reindex", "cluster", "refresh")


def blocked_sessions(snapshot: Snapshot, *, least_s: float = BLOCKED_S) -> tuple[Finding, ...]:
    """Those at the head of a queue for a lock, with the queue behind them."""
    sessions = {each.pid: each for each in snapshot.health.sessions}
    queues: dict[int, list[Session]] = {}
    for waiter in snapshot.health.sessions:
        for head in _heads(waiter, sessions):
            queues.setdefault(head, []).append(waiter)
    return tuple(
        _blocked(sessions.get(head), head, queue)
        for head, queue in queues.items()
        if max(each.waits_s or 0.0 for each in queue) >= least_s
    )


def _heads(waiter: Session, sessions: Mapping[int, Session]) -> set[int]:
    """Who waits for nobody, at the end of each chain of waiting; a ring (a deadlock) has none."""
    heads, seen, following = set(), {waiter.pid}, list(waiter.blocked_by)
    while following:
        pid = following.pop()
        if pid in seen:
            continue
        seen.add(pid)
        behind = sessions[pid].blocked_by if pid in sessions else ()
        following.extend(behind)
        if not behind:
            heads.add(pid)
    return heads


def _blocked(head: Session | None, pid: int, queue: list[Session]) -> Finding:
    longest = max(queue, key=lambda each: each.waits_s or 0.0)
    waits_s = longest.waits_s or 0.0
    is_severe = waits_s >= LONG_BLOCKED_S or len(queue) >= MANY_BLOCKED
    who = _who(head, pid)
    sessions = "1 session waits" if len(queue) == 1 else f"{len(queue)} sessions wait"
    return Finding(
        check="blocked-sessions",
        severity=Severity.HIGH if is_severe else Severity.MEDIUM,
        title=f"{sessions} for a lock ({longest.waits_for}), for up to {seconds_text(waits_s)}, behind {who}",
        location=f"lock on {longest.waits_for}, behind {(head and head.user) or 'another'}",
        evidence=(
            *(_evidence(head) if head is not None else ()),
            Evidence(label="waiting", value=_query(longest)),
        ),
        would_try=f"nothing in a lab: {_way_out(head, pid)}; log_lock_waits tells of the next time",
    )


def _who(head: Session | None, pid: int) -> str:
    if pid == PREPARED_TRANSACTION:
        return "a prepared transaction"
    if head is None:
        return f"process {pid}"
    application = f" ({head.application})" if head.application else ""
    state = head.state or "state hidden"
    state_s = "" if head.state_s is None else f" for {seconds_text(head.state_s)}"
    return f"session {pid} of {head.user or 'the server'}{application}, {state}{state_s}"


def _way_out(head: Session | None, pid: int) -> str:
    if pid == PREPARED_TRANSACTION:
        return "COMMIT PREPARED or ROLLBACK PREPARED what stands in pg_prepared_xacts"
    if head is not None and (head.state or "").startswith("idle in transaction"):
        return (
            f"let the service end its transaction before it does anything else;"
            f" SELECT pg_terminate_backend({pid}) frees the queue"
        )
    return f"SELECT pg_cancel_backend({pid}) frees the queue; DDL goes with a short lock_timeout and a retry"


def _evidence(session: Session) -> Iterator[Evidence]:
    yield Evidence(label="its statement", value=_query(session))
    if session.transaction_s is not None:
        yield Evidence(label="its transaction", value=f"{seconds_text(session.transaction_s)} old")


def _query(session: Session) -> str:
    return " ".join(session.query.split()) if session.query else "hidden"


def idle_in_transaction(snapshot: Snapshot, *, least_s: float = IDLE_IN_TRANSACTION_S) -> tuple[Finding, ...]:
    """Sessions that left a transaction open and do nothing."""
    return tuple(
        Finding(
            check="idle-in-transaction",
            severity=(
                Severity.HIGH if (each.state_s or 0.0) >= LONG_IDLE_IN_TRANSACTION_S else Severity.MEDIUM
            ),
            title=(
                f"Session {each.pid} of {each.user} has been idle in a transaction for"
                f" {seconds_text(each.state_s or 0.0)}"
            ),
            location=f"idle in transaction: {each.application or each.user}, {each.pid}",
            evidence=(
                *((Evidence(label="application", value=each.application),) if each.application else ()),
                Evidence(label="last statement", value=_query(each)),
            ),
            would_try=(
                "nothing in a lab: end transactions before waiting for anything else;"
                " idle_in_transaction_session_timeout ends those that are forgotten"
            ),
        )
        for each in snapshot.health.sessions
        if (each.state or "").startswith("idle in transaction") and (each.state_s or 0.0) >= least_s
    )


def long_statements(snapshot: Snapshot, *, least_s: float = STATEMENT_S) -> tuple[Finding, ...]:
    """Statements that have been running for minutes, but for maintenance and those that wait for a lock."""
    return tuple(
        Finding(
            check="long-statement",
            severity=Severity.MEDIUM if (each.query_s or 0.0) >= LONG_STATEMENT_S else Severity.LOW,
            title=(
                f"A statement of {each.user} has been running for {seconds_text(each.query_s or 0.0)}:"
                " as long, vacuum keeps what dies"
            ),
            location=f"long statement: {each.application or each.user}, {each.pid}",
            evidence=(
                Evidence(label="session", value=str(each.pid)),
                *((Evidence(label="application", value=each.application),) if each.application else ()),
                Evidence(label="statement", value=_query(each)),
            ),
            would_try=(
                "its plan, if it is one of the workload; else a statement_timeout for the role, or a standby"
            ),
        )
        for each in snapshot.health.sessions
        if each.waits_s is None and (each.query_s or 0.0) >= least_s and not _is_maintenance(each)
    )


def _is_maintenance(session: Session) -> bool:
    return _query(session).lower().startswith(_MAINTENANCE)


def prepared_transactions(snapshot: Snapshot, *, least_s: float = PREPARED_S) -> tuple[Finding, ...]:
    """Transactions that two-phase commit left behind: their locks outlive even a restart."""
    return tuple(
        Finding(
            check="prepared-transactions",
            severity=Severity.HIGH if each.age_s >= LONG_PREPARED_S else Severity.MEDIUM,
            title=(
                f"Transaction '{each.name}' was prepared {seconds_text(each.age_s)} ago and never ended:"
                " it keeps its locks, and dead rows"
            ),
            location=f"prepared transaction {each.name}",
            evidence=(
                Evidence(label="owner", value=each.owner),
                Evidence(label="database", value=each.database),
            ),
            would_try=(
                f"nothing in a lab: COMMIT PREPARED or ROLLBACK PREPARED '{each.name}', as its coordinator"
                " decided"
            ),
        )
        for each in snapshot.health.prepared
        if each.age_s >= least_s
    )
