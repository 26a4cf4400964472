"""A clock for tests, which stands still until it is told to go on."""

from __future__ import annotations

from perfloop.errors import InvalidInput


class FakeClock:
    """Seconds that a test moves; for the `clock` of caches, of `InMemoryServer` and of sessions.

    The lives of values follow it, and how long loads are said to take. What is waited for does not: the time
    limits of loaders, of Redis, and of other processes' loads, and the pauses of a list of keys. A breaker
    needs both, the wait and a clock that has gone on.

    >>> clock = FakeClock()
    >>> clock.advance(61)
    >>> clock() - FakeClock()()
    61.0
    """

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            InvalidInput: It would go back.
        """
        if seconds < 0:
            raise InvalidInput(f"a clock cannot go back by {-seconds} s; make another one")
        self.now_s += seconds
