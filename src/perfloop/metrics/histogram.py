"""A histogram whose hot path is one call into C.

`observe` is the bound `append` of a buffer: no Python frame, no lock. The price is paid at the drain, 6 to
10 ns per value: the buffer is cut off and counted into exponential buckets with numpy. Each of the two steps
of the cut is atomic under the GIL; a free-threaded interpreter would need one buffer per thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from threading import RLock
from time import perf_counter
from typing import Final

import numpy as np

from perfloop.metrics.buckets import EMPTY, Buckets, merge, tally
from perfloop.metrics.timer import Timer

BUFFER_LIMIT: Final = 1 << 23
"""Values (8 bytes each) a drain takes over at most; what is beyond is dropped, and counted in `dropped`."""
CROWDED: Final = 4096
"""Values from which on a drain is worth its 20 us of fixed cost: 5 ns for each."""


class Histogram:
    """Counts values into buckets 1.09 % wide; made by a Registry, which also restarts it in a forked child.

    `observe(value)` takes an int or a float of any kind: NaN, zero, negative and infinite values have slots
    of their own. Convert other numbers (Fraction, Decimal) with `float` first: their conversion may run
    Python code in the middle of the append. Keep `observe` in a local name where the last 8 ns count.

    Reading drains. Where nobody reads, a Drainer keeps the buffer short.
    """

    __slots__ = ("_buckets", "_buffer", "_draining", "_lock", "drain_s", "dropped", "observe")

    def __init__(self) -> None:
        self._buffer = array("d")
        self.observe: Callable[[float], None] = self._buffer.append
        self.restart()

    def restart(self) -> None:
        """Start from zero; in a forked child only, where no other thread can be observing."""
        # The buffer stays the same object: callers hold its bound append.
        del self._buffer[:]
        self._buckets = EMPTY
        # Reentrant, with a flag: a signal handler that reads while its own thread drains must neither wait
        # for itself nor count the chunk in hand twice. It sees the state before that drain.
        self._lock = RLock()
        self._draining = False
        self.dropped = 0
        self.drain_s = 0.0

    @property
    def buffered(self) -> int:
        """Values observed since the last drain."""
        return len(self._buffer)

    def relieve(self) -> None:
        """Drain if the buffer is long enough for that to be cheap."""
        if len(self._buffer) >= CROWDED:
            self.drain()

    def drain(self) -> None:
        """Move what is buffered into the buckets. One thread at a time; observing goes on meanwhile."""
        with self._lock:
            if self._draining or not self._buffer:
                return
            self._draining = True
            try:
                self._drain()
            finally:
                self._draining = False

    def _drain(self) -> None:
        started_s = perf_counter()
        buffer = self._buffer
        held = len(buffer)
        if held > BUFFER_LIMIT:
            del buffer[BUFFER_LIMIT:held]
            self.dropped += held - BUFFER_LIMIT
            held = BUFFER_LIMIT
        # The slice is a copy: numpy on the live buffer would make every append fail with BufferError.
        chunk = buffer[:held]
        del buffer[:held]
        self._buckets = merge(self._buckets, tally(np.frombuffer(chunk)))
        self.drain_s += perf_counter() - started_s

    def snapshot(self) -> Buckets:
        """All values observed so far, as a value that no longer changes."""
        self.drain()
        return self._buckets

    @property
    def count(self) -> int:
        """How many values were observed, NaN included."""
        return self.snapshot().count

    @property
    def sum(self) -> float:
        """The sum of the finite values."""
        return self.snapshot().total

    def quantile(self, q: float) -> float:
        """The value below which the share q of the values lies, within 0.54 %; NaN when there is none.

        Raises:
            InvalidInput: q is outside 0..1.
        """
        return self.snapshot().quantile(q)

    def time(self) -> Timer:
        """A timer that observes seconds here, as a decorator or for one `with` at a time."""
        return Timer(self.observe)
