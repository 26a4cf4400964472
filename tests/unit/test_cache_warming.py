"""When bundles are loaded: while they pay, and as much as is allowed."""

from __future__ import annotations

import math
import random
import threading
from collections import deque

import pytest

from perfloop.cache.bundles import Trail
from perfloop.cache.loader_cost import LoaderCost
from perfloop.cache.warming import Warming, WarmingPolicy
from perfloop.cache.warming_gate import Gate, GatePolicy, wilson_lower_bound
from perfloop.errors import InvalidValue

MEMBERS = 20_000


class Outside:
    """A cache that keeps nothing that was used, and drops what nobody asked for within 40 misses."""

    def __init__(self, *, call_s: float = 1e-3, row_s: float = 1e-5) -> None:
        self.warming: Warming[int] = Warming(WarmingPolicy(), random.Random(5).random)
        self.trail: Trail[int] = Trail()
        self.ahead: dict[int, None] = {}
        self.call_s, self.row_s = call_s, row_s
        self.calls = 0

    def ask(self, member: int, *, busy: bool = False) -> None:
        if member in self.ahead:
            del self.ahead[member]
            self.warming.used(self.trail, member)
            return
        self.calls += 1
        bundle = [
            one for one in self.warming.missed(self.trail, (member,), busy=busy) if one not in self.ahead
        ]
        self.ahead.update(dict.fromkeys(bundle))
        rows = 1 + len(bundle)
        self.warming.loaded(needed=1, extra=len(bundle), elapsed_s=self.call_s + self.row_s * rows)
        while len(self.ahead) > 40:
            del self.ahead[next(iter(self.ahead))]
            self.warming.dropped()

    def sessions(self, count: int, *, busy: bool = False) -> None:
        """Runs of five members that always follow one another."""
        draw = random.Random(7)
        for _ in range(count):
            start = 5 * draw.randrange(200)
            for member in range(start, start + 5):
                self.ask(member, busy=busy)


def test_what_follows_comes_with_the_first_of_a_session() -> None:
    outside = Outside()
    outside.sessions(2000)
    before = outside.calls
    outside.sessions(1000)

    assert outside.calls - before < 0.4 * 5000


def test_bundles_that_are_rarely_used_are_held_back_but_for_probing() -> None:
    outside = Outside()
    draw = random.Random(1)
    for _ in range(20_000):  # after each of 500 members come 3 others by chance: a third is right
        member = draw.randrange(500)
        outside.ask(member)
        outside.ask(1000 + 3 * member + draw.randrange(3))
        outside.ask(10_000 + draw.randrange(MEMBERS))
    found = outside.warming.statistics()

    assert not found.is_open
    assert found.wasted <= 200 + 0.15 * (found.missed + found.used)
    assert found.loaded_ahead < 0.2 * found.missed


def test_a_gate_that_is_closed_opens_again_when_bundles_become_true() -> None:
    gate = Gate(GatePolicy(), random.Random(2).random)
    for _ in range(300):
        gate.wasted()
    gate.decide(0.0)
    closed = gate.is_open
    for _ in range(20_000):
        gate.needed()
        if gate.lets_through():
            gate.used()
        if gate.is_due:
            gate.decide(0.0)

    assert not closed
    assert gate.is_open


def test_a_closed_gate_probes_one_miss_in_fifty() -> None:
    gate = Gate(GatePolicy(), random.Random(2).random)
    for _ in range(150):
        gate.wasted()
        gate.late()
    gate.decide(0.0)
    let_through = sum(gate.lets_through() for _ in range(20_000))

    assert not gate.is_open
    assert 300 <= let_through <= 500


def test_fewer_outcomes_than_can_tell_close_nothing() -> None:
    gate = Gate(GatePolicy(), random.Random(2).random)
    for _ in range(199):
        gate.late()
    gate.decide(0.0)

    assert gate.is_open


def test_wasted_rows_never_exceed_their_share_of_what_had_to_be_loaded() -> None:
    draw = random.Random(4)
    gate = Gate(GatePolicy(), draw.random)
    needed = used = wasted = 0
    for _ in range(50_000):
        gate.needed()
        needed += 1
        if gate.lets_through():
            if draw.random() < 0.7:  # precise enough, and yet too many
                gate.used()
                used += 1
            else:
                gate.wasted()
                wasted += 1
        if gate.is_due:
            gate.decide(0.0)

    assert wasted <= 201 + 0.15 * (needed + used)
    assert wasted > 0.13 * (needed + used)


def test_nothing_is_loaded_ahead_while_the_database_is_busy() -> None:
    outside = Outside()
    outside.sessions(1000, busy=True)

    assert 0 == outside.warming.statistics().loaded_ahead


def test_rows_that_cost_as_much_as_calls_close_the_gate() -> None:
    """With 90 of 100 used and rows at 0.95 of a load the database does more work than without."""
    dear, cheap = (Gate(GatePolicy(), random.Random(2).random) for _ in range(2))
    for gate, break_even in ((dear, 0.95), (cheap, 0.05)):
        for _ in range(20):
            for _ in range(9):
                gate.used()
            gate.wasted()
            for _ in range(9):
                gate.used()
            gate.late()
        gate.decide(break_even)

    assert (False, True) == (dear.is_open, cheap.is_open)


def test_a_row_is_priced_by_batches_of_different_sizes() -> None:
    cost, draw = LoaderCost(), random.Random(6)
    for _ in range(3000):
        extra = draw.randrange(8)
        elapsed_s = (2e-3 + 1e-4 * (1 + extra)) * draw.uniform(0.8, 1.2)
        cost.loaded(needed=1, rows=1 + extra, elapsed_s=elapsed_s)

    assert pytest.approx(1e-4, rel=0.3) == cost.row_s
    assert pytest.approx(2.1e-3, rel=0.1) == cost.load_s
    assert pytest.approx(1e-4 / 2.1e-3, rel=0.4) == cost.break_even_ratio


def test_a_call_for_many_is_shared_by_those_who_were_missed() -> None:
    cost = LoaderCost()
    for rows in (10, 20) * 50:
        cost.loaded(needed=10, rows=rows, elapsed_s=1e-3 + 1e-5 * rows)

    assert pytest.approx(1e-3 / 10 + 1e-5, rel=0.05) == cost.load_s


def test_the_gain_is_measured_by_members_that_are_never_warmed() -> None:
    outside = Outside()
    outside.sessions(12_000)
    found = outside.warming.statistics()
    asked = 5 * 12_000

    assert found.misses_ratio is not None
    assert found.gain_s is not None
    assert found.gain_low_s is not None
    assert found.gain_high_s is not None
    # Of five members one has to be missed; of the held-back ones each is missed whenever it is asked for.
    assert found.misses_ratio.low < found.missed / asked < found.misses_ratio.high
    true_gain_s = (asked - outside.calls) * 1.01e-3 - found.loaded_ahead * 1e-5
    assert found.gain_low_s < true_gain_s < found.gain_high_s
    assert found.gain_low_s > 0


def test_a_held_back_member_is_missed_as_if_there_were_no_warming() -> None:
    outside = Outside()
    outside.sessions(3000)
    bundles = [outside.warming.missed(Trail(), (member,)) for member in range(0, 1000, 5) for _ in range(3)]
    loaded_ahead = {member for bundle in bundles for member in bundle}
    withheld = {member for member in range(1000) if member % 5} - loaded_ahead

    assert 0.02 * 800 <= len(withheld) <= 0.1 * 800


def test_bundles_that_bring_nothing_claim_nothing() -> None:
    """Every row is dropped before use: the interval holds that there is no gain."""
    warming: Warming[int] = Warming(WarmingPolicy(), random.Random(8).random)
    draw = random.Random(9)
    waiting: deque[int] = deque()
    for _ in range(20_000):
        member = draw.randrange(2000)
        waiting.extend(warming.missed(Trail(), (member,)))
        while waiting:
            waiting.popleft()
            warming.dropped()
    found = warming.statistics()

    assert found.misses_ratio is not None
    assert found.misses_ratio.low < 1.0 < found.misses_ratio.high


def test_a_batch_that_was_missed_brings_what_follows_its_members_and_none_of_them() -> None:
    outside = Outside()
    outside.sessions(2000)
    bundle = outside.warming.missed(Trail(), (0, 1, 5, 6))

    assert set(bundle) <= {2, 3, 4, 7, 8, 9}
    assert len(bundle) >= 4


def test_a_late_row_is_no_precise_one() -> None:
    warming: Warming[int] = Warming(WarmingPolicy(), random.Random(1).random)
    for member in range(300):
        warming.used(None, member, late=member % 2 == 0)
    found = warming.statistics()

    assert (150, 150, 0.5) == (found.used, found.late, found.precision_ratio)
    assert not found.is_open


def test_threads_lose_no_count() -> None:
    warming: Warming[int] = Warming(WarmingPolicy(), random.Random(1).random)

    def work(first: int) -> None:
        trail: Trail[int] = Trail()
        for number in range(2000):
            for _ in warming.missed(trail, (first + number % 100,)):
                warming.dropped()
            warming.used(None, number)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = warming.statistics()

    assert (8000, 8000) == (found.missed, found.used)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (5, 10), (130, 200), (200, 200)])
def test_wilsons_lower_bound_is_where_the_normal_test_just_rejects(successes: int, trials: int) -> None:
    low = wilson_lower_bound(successes, trials)
    reach = 1.6448536269514722 * math.sqrt(low * (1 - low) / trials)

    assert pytest.approx(successes / trials, abs=1e-9) == low + reach


def test_a_warming_without_held_back_members_is_refused() -> None:
    with pytest.raises(InvalidValue, match="not measured"):
        WarmingPolicy(held_back_ratio=0.0)
    with pytest.raises(InvalidValue):
        GatePolicy(probe_ratio=2.0)
    with pytest.raises(InvalidValue):
        GatePolicy(min_outcomes=0)
