"""What is asked of a source of changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event
from typing import Protocol

from perfloop.model.changes import TableChange, WatchedTable
from perfloop.model.value import Value


class SourceLag(Value, frozen=True, kw_only=True):
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
