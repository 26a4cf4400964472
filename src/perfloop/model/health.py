"""What the server says about its own health: who waits, what is held back, what nears its end."""

from __future__ import annotations

from perfloop.model.target import TableName
from perfloop.model.value import Value


class TransactionAge(Value, frozen=True, kw_only=True):
    """How many transactions and multixacts ago the oldest row of a database was frozen at the latest."""

    database: str
    transactions: int
    multixacts: int


class Sequence(Value, frozen=True, kw_only=True):
    """A sequence, with the narrowest integer column that it fills."""

    schema: str
    name: str
    last_value: int | None
    """None where it was never used, or may not be read."""
    start: int
    minimum: int
    maximum: int
    increment: int
    cycles: bool
    column: str | None = None
    """As table.column."""
    column_bytes: int | None = None
    """Width of the column's integer type, 2, 4 or 8; None where it is of another type."""

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


class Session(Value, frozen=True, kw_only=True):
    """A client session that waits for a lock, keeps another waiting, or has been at it for long.

    Texts are None where the role may not see them. Durations are None where nothing of the kind runs.
    """

    pid: int
    user: str | None = None
    application: str | None = None
    database: str | None = None
    state: str | None = None
    query: str | None = None
    """The statement that runs, or ran last; its first 200 characters."""
    transaction_s: float | None = None
    state_s: float | None = None
    """How long it has been in its state."""
    query_s: float | None = None
    """How long its statement has been running; None where none runs."""
    waits_s: float | None = None
    """How long it has been waiting for a lock."""
    blocked_by: tuple[int, ...] = ()
    """Pids; 0 stands for a prepared transaction."""
    waits_for: str | None = None
    """The relation, or the kind of lock."""
    horizon: int | None = None
    """Transactions begun since its snapshot: it keeps dead rows as young as that."""


class PreparedTransaction(Value, frozen=True, kw_only=True):
    """A transaction that two-phase commit left prepared: it holds its locks over restarts."""

    name: str
    owner: str
    database: str
    age_s: float
    transactions: int


class ReplicationSlot(Value, frozen=True, kw_only=True):
    """A replication slot. Counts are None where it holds nothing of the kind."""

    name: str
    kind: str
    """physical or logical."""
    is_active: bool
    wal_status: str | None
    """reserved, extended, unreserved or lost."""
    held_wal_bytes: int | None
    safe_wal_bytes: int | None = None
    """What may still be written before the slot loses WAL; None where there is no limit."""
    horizon: int | None = None
    """Transactions since the oldest that it keeps rows for, of any kind of table."""


class Standby(Value, frozen=True, kw_only=True):
    """A connection that receives WAL from this server."""

    name: str
    state: str | None
    sync_state: str | None
    lag_bytes: int | None
    """Not yet replayed there."""
    lag_s: float | None
    """None where nothing is on its way."""
    horizon: int | None = None
    """Transactions since the oldest snapshot on the standby, where it sends feedback."""


class Recovery(Value, frozen=True, kw_only=True):
    """How far behind this server is, being a standby itself."""

    lag_bytes: int | None
    """Received and not yet replayed."""
    lag_s: float | None
    """Since the last transaction that it replayed; grows on an idle primary too."""


class VacuumProgress(Value, frozen=True, kw_only=True):
    """A VACUUM that runs now, by hand or by autovacuum."""

    table: str
    phase: str
    ran_s: float | None
    done_ratio: float
    """Of the heap's blocks, scanned."""
    index_passes: int
    is_for_wraparound: bool


class CheckpointCounters(Value, frozen=True, kw_only=True):
    """Checkpoints and who wrote the buffers, since the last reset."""

    timed: int
    requested: int
    write_s: float
    sync_s: float
    buffers_written: int
    """By checkpoints."""
    cleaned_buffers: int
    """By the background writer."""
    backend_buffers: int | None
    """By the sessions themselves, without bulk writes; None where the server does not tell apart."""
    counted_for_s: float | None


class WalCounters(Value, frozen=True, kw_only=True):
    """pg_stat_wal since its last reset."""

    size_bytes: int
    full_page_images: int
    buffers_full: int
    """How often WAL had to be written out because wal_buffers was full."""
    counted_for_s: float | None


class UnvalidatedConstraint(Value, frozen=True, kw_only=True):
    """A constraint that was never checked against the rows that were there before it."""

    name: str
    table: TableName
    kind: str
    """check, foreign key or not-null."""
    definition: str


class Health(Value, frozen=True, kw_only=True):
    """Empty where a probe had no rights, or nothing of the kind exists; `limitations` tells which."""

    is_standby: bool = False
    ages: tuple[TransactionAge, ...] = ()
    """Of all databases that accept connections, the oldest first."""
    sequences: tuple[Sequence, ...] = ()
    sessions: tuple[Session, ...] = ()
    prepared: tuple[PreparedTransaction, ...] = ()
    slots: tuple[ReplicationSlot, ...] = ()
    standbys: tuple[Standby, ...] = ()
    recovery: Recovery | None = None
    vacuums: tuple[VacuumProgress, ...] = ()
    checkpoints: CheckpointCounters | None = None
    wal: WalCounters | None = None
    unvalidated: tuple[UnvalidatedConstraint, ...] = ()
