"""Whether the system has just killed for want of memory, which an exit code does not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_NOTICED_S: Final = 1.0
"""In which the ends of all that one shortage has killed are heard of."""


class MemoryKills:
    """The kernel's count of such kills among this process's own, looked at as ends are heard of.

    Args:
        count: Reads it; None where the kernel does not count.
        clock: Seconds, never going back.
    """

    def __init__(self, count: Callable[[], int | None], *, clock: Callable[[], float]) -> None:
        self._count = count
        self._clock = clock
        self._last: int | None = None
        self._noticed_s = float("-inf")

    def look(self) -> bool:
        """Whether there were any just now; the first look only begins to count."""
        found = self._count()
        if found is not None and self._last is not None and found > self._last:
            self._noticed_s = self._clock()
        self._last = found
        return self._clock() - self._noticed_s < _NOTICED_S
