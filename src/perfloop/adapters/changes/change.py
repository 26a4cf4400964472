"""What every source of changes tells, and what is asked of a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Final, Protocol

from perfloop.errors import InvalidInput

Row = Mapping[str, str | None]
"""Watched columns of one row by name, each as PostgreSQL writes it in text; None is NULL."""

PUBLIC: Final = "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """What was committed in one table."""

    table: str | None
    """As `table_name` writes it; None means that any watched table may have changed."""

    rows: tuple[Row, ...] | None
    """Old and new values of the rows; None means that it is not known which rows changed."""


EVERYTHING: Final = TableChange(table=None, rows=None)
"""Told where changes may have been missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedTable:
    """A table and the columns whose values are told when its rows change; none means its primary key."""

    table: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLag:
    """How far a source is behind what was committed, as it last knew."""

    oldest_at_s: float | None = None
    """When the oldest unconfirmed change was committed, on the monotonic clock; None without one."""

    current_at_s: float | None = None
    """All that was committed before this moment of the monotonic clock is confirmed."""

    kept_bytes: int = 0
    """What the database keeps on disk for this source."""

    is_over_limit: bool = False
    """Whether that is more than the source's policy allows."""


class ChangeSource(Protocol):
    """One reader of committed changes; it is used by one thread, but for `abort` and `lag`."""

    def open(self) -> bool:
        """Connect and begin; False while another process reads for all. May be called again at any time."""

    def read(self, stopping: Event) -> Iterator[TableChange]:
        """Wait a little, then tell what was committed since; iterate to the end.

        The next call confirms what this one told. What is not confirmed is told again, to whoever opens the
        source next. Returns early once `stopping` is set.
        """

    def close(self) -> None:
        """Disconnect, without confirming."""

    def abort(self) -> None:
        """Make a call that waits for a server in another thread fail at once."""

    def lag(self) -> SourceLag: ...

    @property
    def name(self) -> str:
        """Tells it apart from all other sources of this process; a label of metrics."""

    @property
    def reads_for_all(self) -> bool:
        """Whether one process hears of a change, and the others of it alone."""

    def watched(self) -> Sequence[WatchedTable]:
        """The tables it tells of, with the columns that it tells; as the last `open` found them."""

    @property
    def install_command(self) -> str:
        """What lets it tell of more."""


def table_name(schema: str, relation: str) -> str:
    """The name that tags and mappings use: without the schema where that is public."""
    return relation if schema == PUBLIC else f"{schema}.{relation}"


def split_name(table: str) -> tuple[str, str]:
    """Schema and relation of a name as `table_name` writes it; upper case counts.

    Raises:
        InvalidInput: It is empty or has more than one dot.
    """
    schema, _, relation = table.rpartition(".")
    if not relation or "." in schema or table.startswith("."):
        raise InvalidInput(f"{table!r} is no table's name; write it as orders or sales.orders")
    return schema or PUBLIC, relation


def read_watched(text: str) -> WatchedTable:
    """Read `orders`, `orders:id` or `sales.orders:id,customer_id`.

    Raises:
        InvalidInput: The name or a column is empty, or a column comes twice.
    """
    table, colon, listed = text.partition(":")
    columns = tuple(column.strip() for column in listed.split(",")) if colon else ()
    if not all(columns) or len(set(columns)) < len(columns):
        raise InvalidInput(f"{text!r} cannot be read; write it as orders:id or sales.orders:id,customer_id")
    return WatchedTable(table=table_name(*split_name(table.strip())), columns=columns)
