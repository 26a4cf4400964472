"""How far behind a listener says that it is, where no look was made yet and where another process reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import isnan
from threading import Event

from perfloop.adapters.changes.source import SourceLag
from perfloop.cache.invalidation import ChangeListener, ListenerPolicy, TagMap
from perfloop.errors import TargetUnreachable
from perfloop.metrics import Registry
from perfloop.model.changes import TableChange, WatchedTable

DEADLINE_S = 30.0
QUICK = ListenerPolicy(first_retry_s=0.005, longest_retry_s=0.005, takeover_s=0.005)


class Source:
    """A source whose server and election the test decides."""

    install_command = "install"
    reads_for_all = True

    def __init__(self, name: str = "outbox of here") -> None:
        self.name = name
        self.is_away = False
        self.is_elected = True
        self.current_at_s: float | None = None

    def open(self) -> bool:
        if self.is_away:
            raise TargetUnreachable("the server is away")
        return self.is_elected

    def read(self, stopping: Event) -> Iterator[TableChange]:
        if self.is_away:
            raise TargetUnreachable("the server is away")
        stopping.wait(0.005)
        yield from ()

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def lag(self) -> SourceLag:
        return SourceLag(current_at_s=self.current_at_s)

    def watched(self) -> tuple[WatchedTable, ...]:
        return ()


class Deaf:
    def invalidate_tag(self, *tags: str) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def eventually(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end_s, "not within the deadline"
        time.sleep(0.002)


def listening(source: Source, clock: Clock, registry: Registry) -> ChangeListener:
    return ChangeListener(source, TagMap(), Deaf(), policy=QUICK, registry=registry, clock=clock)


def behind_s(registry: Registry, source: str = "outbox of here") -> float:
    return registry.gauge("perfloop_cache_invalidation_behind_seconds", labels=["source"])[source].value


def test_a_server_away_since_the_beginning_leaves_the_cache_ever_further_behind() -> None:
    source, clock, registry = Source(), Clock(), Registry()
    source.is_away = True
    with listening(source, clock, registry) as listener:
        clock.now_s += 60
        eventually(lambda: behind_s(registry) == 60)

        assert listener.statistics().behind_s is None


def test_a_process_that_lost_its_election_is_not_behind_and_begins_anew_when_it_reads_again() -> None:
    source, clock, registry = Source(), Clock(), Registry()
    source.current_at_s = clock.now_s
    with listening(source, clock, registry) as listener:
        clock.now_s += 2
        eventually(lambda: behind_s(registry) == 2)
        source.is_elected, source.is_away = False, True
        eventually(lambda: listener.statistics().faults)
        source.is_away = False
        eventually(lambda: isnan(behind_s(registry)))
        clock.now_s += 600
        waiting_s = listener.statistics().behind_s
        source.is_elected = True
        eventually(lambda: listener.statistics().is_reading)
        clock.now_s += 3
        eventually(lambda: behind_s(registry) == 3)
        source.current_at_s = clock.now_s
        eventually(lambda: listener.statistics().behind_s == 0)

    assert waiting_s is None


def test_two_listeners_have_series_of_their_own_which_closing_ends() -> None:
    clock, registry = Clock(), Registry()
    first, second = Source("outbox of a"), Source("outbox of b")
    listeners = [listening(source, clock, registry) for source in (first, second)]
    before = registry.prometheus_text()
    with listeners[0], listeners[1]:
        clock.now_s += 5
        second.current_at_s = 1001.0
        first.current_at_s = 1004.0
        eventually(lambda: (1, 4) == (behind_s(registry, "outbox of a"), behind_s(registry, "outbox of b")))

    assert "invalidation" not in before
    assert isnan(behind_s(registry, "outbox of a"))
