"""The sums from which a Window is made. Times are arguments; who calls holds a lock, or has one thread."""

from __future__ import annotations

from typing import Final

from perfloop.control.window import Window, relate, summarise

KEPT_CALLS: Final = 8192
"""Beyond this every other call of a Window goes into sums alone, so that memory is bounded whatever the rate.
"""
SATURATED_WAITS: Final = 0.5
"""Share of the calls that had to wait for a slot from which on the limit is said to hold work back."""
LONGEST_INTERVALS: Final = 50
"""After so many intervals a Window is due without the calls asked for: nothing ends any more."""


class Tally:
    """Counts calls as they begin and end, and hands out a Window for the time since the last one.

    `begin` and `end` are on the path of each call and do next to nothing. The time-weighted number under way,
    too, needs no sum a change: over a Window it is the times of its ends, less those of its beginnings, plus
    what was under way at its edges.
    """

    __slots__ = (
        "_begun",
        "_calls",
        "_ended",
        "_failures",
        "_in_flight_before",
        "_items",
        "_times_s",
        "_waits",
        "in_flight",
        "started_at_s",
    )

    def __init__(self, now_s: float) -> None:
        self.in_flight = 0
        self._reset(now_s)

    def begin(self, now_s: float) -> None:
        """A call got its slot."""
        self.in_flight += 1
        self._begun += 1
        self._times_s -= now_s

    def begin_after_waiting(self, now_s: float) -> None:
        """A call got its slot, which had been another's."""
        self._waits += 1
        self.begin(now_s)

    def end(self, begun_at_s: float, now_s: float, items: int) -> None:
        """The call that began at `begun_at_s` ended well."""
        self.in_flight -= 1
        self._times_s += now_s
        self._calls.append((now_s - begun_at_s, items))
        if len(self._calls) > KEPT_CALLS:
            self._thin()

    def fail(self, now_s: float) -> None:
        """A call ended otherwise."""
        self.in_flight -= 1
        self._times_s += now_s
        self._failures += 1

    def withdraw(self, begun_at_s: float) -> None:
        """The call that began at `begun_at_s` gave its slot back unused: it never was."""
        self.in_flight -= 1
        self._times_s += max(begun_at_s, self.started_at_s)
        self._begun -= begun_at_s >= self.started_at_s

    def is_due(self, now_s: float, interval_s: float, calls: int) -> bool:
        """Whether the Window is long enough and holds enough calls, or has waited for them too long."""
        elapsed_s = now_s - self.started_at_s
        is_full = self._ended + len(self._calls) + self._failures >= calls
        return elapsed_s >= interval_s and (is_full or elapsed_s >= LONGEST_INTERVALS * interval_s)

    def drain(self, now_s: float, limit: int, *, queue_length: int | None = None) -> Window:
        """The Window up to now, and begin the next one.

        With a `queue_length` the limit counts as saturated where something is queued; without one, where half
        of the calls had to wait for their slot. In both cases half of the slots must have been in use.
        """
        elapsed_s = now_s - self.started_at_s
        in_flight_s = self._times_s + self.in_flight * now_s - self._in_flight_before * self.started_at_s
        in_flight_mean = max(0.0, in_flight_s / elapsed_s) if elapsed_s > 0 else float(self.in_flight)
        is_waiting = queue_length > 0 if queue_length is not None else self._is_waited_for()
        latencies_s = [latency_s for latency_s, _ in self._calls]
        sizes = [items for _, items in self._calls]
        window = Window(
            started_at_s=self.started_at_s,
            ended_at_s=now_s,
            limit=limit,
            completions=self._ended + len(sizes),
            failures=self._failures,
            items=self._items + sum(sizes),
            in_flight_mean=in_flight_mean,
            latencies=summarise(latencies_s),
            sizes=relate(sizes, latencies_s),
            queue_length=queue_length,
            is_saturated=is_waiting and in_flight_mean >= limit / 2,
        )
        self._reset(now_s)
        return window

    def _is_waited_for(self) -> bool:
        return self._waits > 0 and self._waits >= SATURATED_WAITS * self._begun

    def _thin(self) -> None:
        dropped = self._calls[::2]
        del self._calls[::2]
        self._ended += len(dropped)
        self._items += sum(items for _, items in dropped)

    def _reset(self, now_s: float) -> None:
        self.started_at_s = now_s
        self._in_flight_before = self.in_flight
        self._times_s = 0.0
        self._begun = self._failures = self._waits = 0
        self._ended = self._items = 0
        self._calls: list[tuple[float, int]] = []
