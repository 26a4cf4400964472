"""Which transactions one look at a database saw: PostgreSQL's own pg_snapshot, read from its text.

A row carries the number of the transaction that wrote it. Between two looks exactly those transactions
came to light that began after the first, or were open in it, and have been committed since. A reader that
remembers its last look therefore loses nothing and repeats nothing, however long a transaction stays
open; counting by a serial column would pass over whatever is committed late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from perfloop.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTransactions:
    """What one look saw: transactions below `xmax`, except those that were open."""

    xmin: int
    """No transaction below was open."""

    xmax: int
    """No transaction from here on had begun."""

    open: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `xmin:xmax:open,open`.

        Raises:
            InvalidInput: It is no snapshot.
        """
        try:
            xmin, xmax, listed = text.split(":")
            return cls(
                xmin=int(xmin),
                xmax=int(xmax),
                open=frozenset(int(each) for each in listed.split(",") if each),
            )
        except ValueError:
            raise InvalidInput(f"{text!r} is no pg_snapshot; expected xmin:xmax:xid,xid") from None

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(str(each) for each in sorted(self.open))}"

    def sees_short(self, xid: int) -> bool:
        """Whether a transaction had ended, of whose number only the lower 32 bits are known.

        It is taken for one of the two thousand million before or after this look, as PostgreSQL does itself.
        """
        distance = (xid - self.xmax) % 2**32
        if distance < 2**31:
            return False
        return self.xmax + distance - 2**32 not in self.open
