"""What a PostgreSQL target is made of: tables, indexes, settings, and what its build can do."""

from __future__ import annotations

from perfloop.model.value import Value


class TableName(Value, frozen=True, kw_only=True, order=True):
    """A table's qualified name, unquoted."""

    schema: str
    name: str

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


class ColumnStatistics(Value, frozen=True, kw_only=True):
    """One row of pg_stats. Values are in the server's text form.

    `distinct` follows the catalogue: at or above 0 a count, below 0 minus the share of the rows.
    """

    null_ratio: float
    distinct: float
    width_bytes: int
    common_values: tuple[str, ...] = ()
    common_ratios: tuple[float, ...] = ()
    histogram: tuple[str, ...] = ()
    correlation: float | None = None

    def distinct_count(self, rows: float) -> float:
        """Number of distinct values in a table of so many `rows`, at least 1."""
        return max(1.0, self.distinct if self.distinct >= 0 else -self.distinct * rows)


class Column(Value, frozen=True, kw_only=True):
    """A column with its type as format_type() writes it."""

    name: str
    type_name: str
    not_null: bool
    statistics: ColumnStatistics | None = None
    alignment_bytes: int = 1
    """The address at which a value starts is a multiple of it."""


class IndexKey(Value, frozen=True, kw_only=True):
    """One key of an index: a column, or an expression in the server's text form."""

    text: str
    is_expression: bool = False
    descending: bool = False
    nulls_first: bool | None = None
    """None means the default of the direction: last when ascending, first when descending."""
    operator_class: str | None = None
    """None means the type's default."""
    collation: str | None = None
    """None means the column's own; an index of another collation cannot stand in for this one."""


class Index(Value, frozen=True, kw_only=True):
    """An index as the catalogue and pg_stat_user_indexes show it."""

    table: TableName
    name: str
    method: str
    keys: tuple[IndexKey, ...]
    included: tuple[str, ...] = ()
    predicate: str | None = None
    is_unique: bool = False
    is_primary: bool = False
    is_valid: bool = True
    is_ready: bool = True
    """Whether writes maintain it, as they do an invalid one whose build failed only at its last step."""
    backs_constraint: bool = False
    is_replica_identity: bool = False
    is_attached: bool = False
    """Whether it is a part of a partitioned index, and so cannot be dropped by itself."""
    definition: str
    """The whole CREATE INDEX, from pg_get_indexdef()."""
    size_bytes: int
    scans: int
    rows: float | None = None
    """Entries, by the planner's estimate; None where nobody has counted."""
    options: tuple[str, ...] = ()
    """Storage parameters, as name=value."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The text of the keys, in order."""
        return tuple(key.text for key in self.keys)


class ForeignKey(Value, frozen=True, kw_only=True):
    """A foreign key from `columns` of `table` to `referenced`."""

    name: str
    table: TableName
    columns: tuple[str, ...]
    referenced: TableName
    referenced_columns: tuple[str, ...]


class ExtendedStatistics(Value, frozen=True, kw_only=True):
    """A CREATE STATISTICS object on plain columns; `kinds` are ndistinct, dependencies, mcv."""

    name: str
    table: TableName
    columns: tuple[str, ...]
    kinds: tuple[str, ...]


class Table(Value, frozen=True, kw_only=True):
    """A table with its counters since the last reset of the statistics.

    `rows` is the planner's estimate (reltuples), -1 where the table was never analysed.
    """

    name: TableName
    rows: float
    size_bytes: int
    """The heap with its free space map, without indexes and TOAST."""
    columns: tuple[Column, ...]
    live_rows: int
    dead_rows: int
    modified_since_analyze: int
    analyzed_ago_s: float | None
    """None where neither ANALYZE nor autovacuum ever analysed it."""
    sequential_scans: int
    sequential_rows: int
    index_scans: int
    inserts: int
    updates: int
    hot_updates: int
    deletes: int
    options: tuple[str, ...] = ()
    """Storage parameters, as name=value."""
    is_partitioned: bool = False
    partition_of: TableName | None = None
    """The partitioned table at the root of the tree that it is a part of, at any depth."""
    planned_rows: float | None = None
    """What the planner takes `rows` to be now: scaled with the pages since, below 0 where it guesses."""
    vacuumed_ago_s: float | None = None
    """None where neither VACUUM nor autovacuum ever did it, as far as the counters reach."""
    inserts_since_vacuum: int = 0
    transaction_age: int | None = None
    """Transactions since its oldest row, or that of its TOAST table, was frozen; None without storage."""
    multixact_age: int | None = None

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


class Setting(Value, frozen=True, kw_only=True):
    """One row of pg_settings: values are text, in the setting's own `unit`."""

    name: str
    value: str
    unit: str | None
    context: str
    """user, superuser, sighup, postmaster, backend, superuser-backend or internal."""
    kind: str
    """bool, enum, integer, real or string."""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    source: str = "default"
    boot_value: str | None = None
    pending_restart: bool = False


class Fingerprint(Value, frozen=True, kw_only=True):
    """What must match for a verdict to be carried from one server to another."""

    server_version: int
    """server_version_num, as 150018."""
    server_text: str
    block_bytes: int
    data_checksums: bool
    jit_available: bool
    wal_compressions: tuple[str, ...]
    io_methods: tuple[str, ...]
    """Empty before PostgreSQL 18."""
    extensions: tuple[str, ...]
    """Available extensions, by name."""

    @property
    def major(self) -> int:
        return self.server_version // 10_000

    def lacks(self, other: Fingerprint) -> tuple[str, ...]:
        """The build features of `other` that this server does not have, as words for people."""
        missing = []
        if other.jit_available and not self.jit_available:
            missing.append("jit")
        if set(other.wal_compressions) - set(self.wal_compressions):
            missing.append("wal_compression")
        if set(other.io_methods) - set(self.io_methods):
            missing.append("io_method")
        return tuple(missing)
