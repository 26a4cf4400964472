"""Whether vacuum keeps up: dead rows over autovacuum's own threshold, what holds it back, what runs long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.health import Health, VacuumProgress
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Table
from perfloop.model.units import count_text, seconds_text, share_text
from perfloop.model.value import Value

LAG_FACTOR = 2.0
"""Autovacuum comes by once a minute: a table just over its threshold is not neglected yet."""
DEAD_ROWS = 1_000
MANY_DEAD_ROWS = 100_000
INSERTED_ROWS = 100_000
"""Rows that no vacuum has seen, from which index-only scans and freezing pay for one."""
HELD_TRANSACTIONS = 1_000_000
MANY_HELD_TRANSACTIONS = 50_000_000
HELD_S = 3600.0
"""A transaction of this age holds dead rows of an hour, however few transactions there were since."""
LONG_VACUUM_S = 6 * 3600.0

_OFF = frozenset({"false", "off", "no", "0"})


class HorizonHolder(Value, frozen=True, kw_only=True):
    """What keeps vacuum from removing the rows that died since."""

    location: str
    text: str
    remedy: str
    transactions: int
    age_s: float | None = None


def vacuum_lag(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Tables with more dead rows, or more rows that no vacuum has seen, than autovacuum should let stand."""
    return tuple(
        finding
        for table in snapshot.tables
        if not table.is_partitioned
        for finding in (*_dead_rows(snapshot, table), *_unseen_inserts(snapshot, table))
    )


def _dead_rows(snapshot: Snapshot, table: Table) -> Iterator[Finding]:
    threshold = _threshold(snapshot, table, "autovacuum_vacuum", 50, 0.2)
    ceiling = _number(_options(table), snapshot, "autovacuum_vacuum_max_threshold", -1)
    if ceiling >= 0:
        threshold = min(threshold, ceiling)
    factor = 1.0 if is_autovacuum_off(snapshot, table) else LAG_FACTOR
    if table.dead_rows < max(DEAD_ROWS, factor * threshold):
        return
    share = table.dead_rows / max(1, table.dead_rows + table.live_rows)
    yield Finding(
        check="vacuum-lag",
        severity=Severity.MEDIUM if table.dead_rows >= MANY_DEAD_ROWS else Severity.LOW,
        title=(
            f"{table.name} has {count_text(table.dead_rows)} dead rows, {share_text(share)} of all:"
            f" {_neglect(table)}"
        ),
        location=str(table.name),
        evidence=(
            Evidence(label="autovacuum's threshold", value=f"{count_text(threshold)} dead rows"),
            *_vacuum_evidence(snapshot, table),
        ),
        would_try=_remedy(snapshot, table, "autovacuum_vacuum_scale_factor"),
    )


def _unseen_inserts(snapshot: Snapshot, table: Table) -> Iterator[Finding]:
    threshold = _threshold(snapshot, table, "autovacuum_vacuum_insert", 1000, 0.2)
    is_neglected = is_autovacuum_off(snapshot, table) or table.inserts_since_vacuum >= LAG_FACTOR * threshold
    if table.inserts_since_vacuum < max(INSERTED_ROWS, threshold) or threshold < 0 or not is_neglected:
        return
    if table.vacuumed_ago_s is not None and not is_autovacuum_off(snapshot, table):
        return
    yield Finding(
        check="vacuum-lag",
        severity=Severity.LOW,
        title=(
            f"{table.name} took {count_text(table.inserts_since_vacuum)} rows that no vacuum has seen:"
            " index-only scans of them read the table too"
        ),
        location=f"{table.name}: inserts",
        evidence=_vacuum_evidence(snapshot, table),
        would_try=_remedy(snapshot, table, "autovacuum_vacuum_insert_scale_factor"),
    )


def _neglect(table: Table) -> str:
    if table.vacuumed_ago_s is None:
        return "no vacuum has come by since the counters started"
    return f"the last vacuum was {seconds_text(table.vacuumed_ago_s)} ago"


def _vacuum_evidence(snapshot: Snapshot, table: Table) -> tuple[Evidence, ...]:
    ago = "never" if table.vacuumed_ago_s is None else f"{seconds_text(table.vacuumed_ago_s)} ago"
    return (
        Evidence(label="last vacuum", value=ago),
        Evidence(label="live rows", value=count_text(table.live_rows)),
        *(Evidence(label="table option", value=each) for each in table.options if "autovacuum" in each),
        *(Evidence(label="held back by", value=each.text) for each in horizon_holders(snapshot)[:1]),
    )


def _remedy(snapshot: Snapshot, table: Table, factor: str) -> str:
    if _options(table).get("autovacuum_enabled", "true") in _OFF:
        return f"VACUUM (ANALYZE) {table.name}, and ALTER TABLE {table.name} RESET (autovacuum_enabled)"
    if is_autovacuum_off(snapshot, table):
        return f"nothing in a lab: VACUUM (ANALYZE) {table.name}, and switch autovacuum on"
    return f"VACUUM {table.name}, then ALTER TABLE {table.name} SET ({factor} = 0.02) if it comes back"


def _threshold(snapshot: Snapshot, table: Table, prefix: str, base: float, scale: float) -> float:
    options = _options(table)
    rows = max(0.0, table.rows)
    fixed = _number(options, snapshot, f"{prefix}_threshold", base)
    if fixed < 0:  # -1 switches vacuuming after inserts off
        return fixed
    return fixed + _number(options, snapshot, f"{prefix}_scale_factor", scale) * rows


def _number(options: Mapping[str, str], snapshot: Snapshot, name: str, otherwise: float) -> float:
    setting = snapshot.setting(name)
    return float(options.get(name, otherwise if setting is None else setting.value))


def _options(table: Table) -> dict[str, str]:
    return dict(option.split("=", 1) for option in table.options if "=" in option)


def is_autovacuum_off(snapshot: Snapshot, table: Table) -> bool:
    """Whether it is switched off, for this table or for all."""
    setting = snapshot.setting("autovacuum")
    return _options(table).get("autovacuum_enabled", "true") in _OFF or (
        setting is not None and setting.value == "off"
    )


def horizon_holders(snapshot: Snapshot) -> tuple[HorizonHolder, ...]:
    """What keeps dead rows from being removed, the oldest first."""
    health = snapshot.health
    found = (*_sessions(health), *_prepared(health), *_slots(health), *_standbys(health))
    return tuple(sorted(found, key=lambda each: (-each.transactions, each.location)))


def _sessions(health: Health) -> Iterator[HorizonHolder]:
    for each in health.sessions:
        if each.horizon is not None:
            who = f"session {each.pid} of {each.user}" + (
                f" ({each.application})" if each.application else ""
            )
            age = "" if each.transaction_s is None else f", open for {seconds_text(each.transaction_s)}"
            yield HorizonHolder(
                location=f"session of {each.user}",
                text=f"{who}, {each.state or 'state hidden'}{age}",
                remedy=f"end its transaction, or SELECT pg_terminate_backend({each.pid})",
                transactions=each.horizon,
                age_s=each.transaction_s,
            )


def _prepared(health: Health) -> Iterator[HorizonHolder]:
    for each in health.prepared:
        yield HorizonHolder(
            location=f"prepared transaction {each.name}",
            text=f"prepared transaction '{each.name}' of {each.owner}, {seconds_text(each.age_s)} old",
            remedy=f"COMMIT PREPARED or ROLLBACK PREPARED '{each.name}' in database {each.database}",
            transactions=each.transactions,
            age_s=each.age_s,
        )


def _slots(health: Health) -> Iterator[HorizonHolder]:
    for each in health.slots:
        if each.horizon is not None:
            state = "active" if each.is_active else "inactive"
            yield HorizonHolder(
                location=f"replication slot {each.name}",
                text=f"{each.kind} replication slot {each.name}, {state}",
                remedy=f"let its receiver catch up, or SELECT pg_drop_replication_slot('{each.name}')",
                transactions=each.horizon,
            )


def _standbys(health: Health) -> Iterator[HorizonHolder]:
    for each in health.standbys:
        if each.horizon is not None:
            yield HorizonHolder(
                location=f"standby {each.name}",
                text=f"a query on standby {each.name}, by hot_standby_feedback",
                remedy="end the query there, or limit max_standby_streaming_delay without the feedback",
                transactions=each.horizon,
            )


def vacuum_held_back(snapshot: Snapshot) -> tuple[Finding, ...]:
    """The holder of the oldest snapshot, once it is old enough to make tables grow."""
    dead = sum(table.dead_rows for table in snapshot.tables)
    too_old = [
        each
        for each in horizon_holders(snapshot)
        if each.transactions >= HELD_TRANSACTIONS
        or ((each.age_s or 0.0) >= HELD_S and dead >= DEAD_ROWS and each.transactions > 0)
    ]
    return tuple(_held_back(each, dead) for each in too_old[:3])


def _held_back(holder: HorizonHolder, dead: int) -> Finding:
    return Finding(
        check="vacuum-held-back",
        severity=Severity.HIGH if holder.transactions >= MANY_HELD_TRANSACTIONS else Severity.MEDIUM,
        title=f"Vacuum keeps all that died in {count_text(holder.transactions)} transactions: {holder.text}",
        location=holder.location,
        evidence=(Evidence(label="dead rows in this database", value=count_text(dead)),),
        would_try=f"nothing in a lab: {holder.remedy}",
    )


def long_vacuums(snapshot: Snapshot, *, least_s: float = LONG_VACUUM_S) -> tuple[Finding, ...]:
    """VACUUMs that have been running for hours, or go through the indexes again and again."""
    return tuple(
        _long_vacuum(each)
        for each in snapshot.health.vacuums
        if (each.ran_s or 0.0) >= least_s or each.index_passes > 1
    )


def _long_vacuum(vacuum: VacuumProgress) -> Finding:
    took = "" if vacuum.ran_s is None else f" for {seconds_text(vacuum.ran_s)}"
    is_repeated = vacuum.index_passes > 1
    return Finding(
        check="long-vacuum",
        severity=Severity.MEDIUM if vacuum.is_for_wraparound else Severity.LOW,
        title=f"VACUUM of {vacuum.table} has been running{took}: {vacuum.phase}",
        location=vacuum.table,
        evidence=(
            Evidence(label="heap scanned", value=share_text(vacuum.done_ratio)),
            Evidence(label="passes over its indexes", value=str(vacuum.index_passes)),
            *((Evidence(label="reason", value="to prevent wraparound"),) if vacuum.is_for_wraparound else ()),
        ),
        would_try=(
            "nothing in a lab: a larger autovacuum_work_mem, so that one pass over the indexes is enough"
            if is_repeated
            else "nothing in a lab: a larger autovacuum_vacuum_cost_limit; it starts anew if it is ended"
        ),
    )
