"""What a call of a batch loader costs, and each row of it, from the times that were measured."""

from __future__ import annotations

from typing import Final

_FADE: Final = 0.998
"""Of each load's weight at the next one: the last 500 or so count."""


class LoaderCost:
    """What a call of the loader costs, and each row of it: a fading straight line through what was timed.

    Before rows of two different counts were seen a row is taken to be free, since a batch was asked for.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._rows = 0.0
        self._elapsed_s = 0.0
        self._rows_squared = 0.0
        self._rows_by_elapsed_s = 0.0
        self._needed = 0.0

    def loaded(self, *, needed: int, rows: int, elapsed_s: float) -> None:
        """A call for `needed` members that were missed, and `rows` with the bundle."""
        self._weight = self._weight * _FADE + 1
        self._rows = self._rows * _FADE + rows
        self._needed = self._needed * _FADE + needed
        self._elapsed_s = self._elapsed_s * _FADE + elapsed_s
        self._rows_squared = self._rows_squared * _FADE + rows * rows
        self._rows_by_elapsed_s = self._rows_by_elapsed_s * _FADE + rows * elapsed_s

    @property
    def row_s(self) -> float:
        """What one more row adds to a call; 0 or more."""
        spread = self._weight * self._rows_squared - self._rows**2
        if spread <= 1e-9 * max(1.0, self._rows**2):
            return 0.0
        slope = (self._weight * self._rows_by_elapsed_s - self._rows * self._elapsed_s) / spread
        return min(max(0.0, slope), self._elapsed_s / self._rows)

    @property
    def load_s(self) -> float:
        """What it costs to load a member that was missed: its row, and its part of the call."""
        if not self._needed:
            return 0.0
        call_s = (self._elapsed_s - self.row_s * self._rows) / self._weight
        return call_s * self._weight / self._needed + self.row_s

    @property
    def break_even_ratio(self) -> float:
        """The share of loaded-ahead rows that have to be used for the time to come out even."""
        return self.row_s / self.load_s if self.load_s else 0.0
