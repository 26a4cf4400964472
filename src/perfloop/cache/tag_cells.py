"""One cell for each tag that a kept entry carries: the number of the tag's last invalidation.

Pure; the tier that owns it holds its lock around every call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

IDLE_LIMIT: Final = 10_000
"""Cells that are kept although no entry carries their tag, for loads that were under way."""


class TagCell:
    """Shared by the entries that carry the tag, so that one write invalidates all of them."""

    __slots__ = ("members", "number", "tag")

    def __init__(self, tag: str, number: int) -> None:
        self.tag = tag
        self.number = number
        self.members = 0


class TagCells:
    """All cells of one tier.

    A cell whose last member goes is dropped unless a load is under way that was born before the cell's
    number: that load may bring the tag and must be refused. Such idle cells are limited; beyond the limit
    the oldest is dropped and the floor raised to its number. A birth below the floor is refused for tags
    without a cell: a load is repeated, nothing stale is kept.
    """

    __slots__ = ("_cells", "_floor", "_idle", "_idle_limit")

    def __init__(self, idle_limit: int = IDLE_LIMIT) -> None:
        self._cells: dict[str, TagCell] = {}
        self._idle: deque[TagCell] = deque()
        self._floor = 0
        self._idle_limit = idle_limit

    def __len__(self) -> int:
        return len(self._cells)

    def allow(self, tags: Iterable[str], birth: int) -> bool:
        """Whether none of the tags was invalidated after `birth`."""
        cells = self._cells
        for tag in tags:
            cell = cells.get(tag)
            if (self._floor if cell is None else cell.number) > birth:
                return False
        return True

    def join(self, tags: Iterable[str]) -> tuple[TagCell, ...]:
        """The cells of these tags, each with one member more."""
        cells = self._cells
        joined = []
        for tag in dict.fromkeys(tags):
            cell = cells.get(tag)
            if cell is None:
                cell = cells[tag] = TagCell(tag, self._floor)
            cell.members += 1
            joined.append(cell)
        return tuple(joined)

    def leave(self, cells: tuple[TagCell, ...], oldest_birth: int | None) -> None:
        """One member less in each; `oldest_birth` is that of the oldest load under way."""
        for cell in cells:
            cell.members -= 1
            if cell.members == 0:
                self._idle_or_drop(cell, oldest_birth)

    def invalidate(self, tag: str, number: int, oldest_birth: int | None) -> bool:
        """Give the tag its new number; False where no entry carries it."""
        cell = self._cells.get(tag)
        if cell is not None:
            cell.number = number
            return cell.members > 0
        if oldest_birth is not None:
            cell = self._cells[tag] = TagCell(tag, number)
            self._idle_or_drop(cell, oldest_birth)
        return False

    def tidy(self, oldest_birth: int | None) -> None:
        """Drop the idle cells that no load under way can need any more."""
        idle = self._idle
        while idle and (oldest_birth is None or idle[0].number <= oldest_birth):
            self._drop_oldest_idle()

    def _idle_or_drop(self, cell: TagCell, oldest_birth: int | None) -> None:
        if oldest_birth is None or cell.number <= oldest_birth:
            del self._cells[cell.tag]
            return
        self._idle.append(cell)
        while len(self._idle) > self._idle_limit:
            self._floor = max(self._floor, self._drop_oldest_idle())

    def _drop_oldest_idle(self) -> int:
        cell = self._idle.popleft()
        if cell.members == 0 and self._cells.get(cell.tag) is cell:
            del self._cells[cell.tag]
        return cell.number
