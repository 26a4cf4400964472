"""What warming brings on real request streams: bundles loaded with a miss, and a list of keys at a restart.

Each trace runs through the real memory tier at a fixed capacity, in three arms: nothing loaded ahead;
bundles (`perfloop.cache.warming`, with its gate and its held-back members, one learner a template); and, as
the negative control, the textbook kind: the likeliest next key of each request, loaded in the background
and there 20 requests later. A template is the type of the object in orm-*, and everything elsewhere.

Nothing is tuned here. The bundle's rule (0.3, 8 deep, support 2, 4 followers, 64) was given before; its
limits of memory, gate and held-back share are round numbers. The second half of each trace, which follows a
first half that was learned from, is shown by itself. Differences are paired by 50 blocks of the trace, with
a bootstrap interval over blocks. A call of the loader is taken to cost 1 ms and each row 10 µs.

    python -m benchmarks.cache_warming
    python -m benchmarks.cache_warming --limit 500000 --only orm-night@1250
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmarks.cache_traces import trace, zipf
from benchmarks.page import host_line, met, table
from perfloop.cache.ahead import AheadEntries
from perfloop.cache.bundles import BundlePolicy, Bundles, Trail
from perfloop.cache.key_ranks import KeyRanks, load_order
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import CachePolicy
from perfloop.cache.warming import Warming, WarmingPolicy, WarmingStatistics

CELLS = ("orm-busy@1250", "orm-busy@5000", "orm-night@1250", "orm-night@5000", "web07@1200", "web12@1200",
         "nasa@100", "zipf@10000")  # fmt: skip
RESTARTS = ("orm-busy@5000", "orm-night@5000", "web12@1200", "nasa@200", "zipf@10000")
MOST_MISSES = {"orm-busy@1250": 12.0, "orm-night@1250": 12.0}
NO_WORSE = {"web12@1200": 0.3, "nasa@100": 0.3, "zipf@10000": 0.3}
BLOCKS = 50
LATE_BY = 20
LOOKS = 50
_FOREVER = CachePolicy(ttl_s=math.inf, jitter_ratio=0.0)
_CALL_S, _ROW_S = 1e-3, 1e-5


@dataclass(slots=True)
class Outcome:
    """What one arm did on one trace; misses by block, the last block ending with the trace."""

    misses: list[int]
    requests: int
    ahead: int = 0
    used: int = 0
    late: int = 0
    statistics: list[WarmingStatistics] = field(default_factory=list)
    events: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def miss_percent(self) -> float:
        return 100 * sum(self.misses) / self.requests

    @property
    def second_half_percent(self) -> float:
        half = BLOCKS // 2
        return 100 * sum(self.misses[half:]) / (self.requests * (BLOCKS - half) / BLOCKS)

    @property
    def rows(self) -> int:
        return sum(self.misses) + self.ahead


class Replay:
    """One arm: a tier of its own, asked for every key of the trace in turn."""

    def __init__(self, capacity: int, template_of: Callable[[str], int]) -> None:
        self.tier = MemoryTier(capacity, clock=lambda: 0.0, rand=random.Random(1).random)
        self.template_of = template_of
        self.ahead = 0
        self.used = 0
        self.late = 0

    def run(self, keys: Sequence[str]) -> Outcome:
        get = self.tier.get
        size = math.ceil(len(keys) / BLOCKS)
        misses = []
        for start in range(0, len(keys), size):
            missed = 0
            for key in keys[start : start + size]:
                if get(key) is None:
                    missed += self.ask(key)
            misses.append(missed)
        return Outcome(misses, len(keys), self.ahead, self.used, self.late)

    def ask(self, key: str) -> bool:
        """Ask for what `get` did not give; whether it had to be loaded."""
        _, entry = self.tier.examine(key)
        if entry is not None:
            return False
        self.load(key)
        return True

    def load(self, key: str) -> None:
        self.put(key)

    def used_first(self, key: str) -> None:
        self.used += 1

    def put(self, key: str, *, ahead: bool = False) -> None:
        told = partial(self.used_first, key) if ahead else None
        self.tier.store(self.tier.begin(key).flight, None, policy=_FOREVER, ahead=told)


class WithBundles(Replay):
    """What follows a miss comes with it."""

    def __init__(self, capacity: int, template_of: Callable[[str], int]) -> None:
        super().__init__(capacity, template_of)
        self.warmings: dict[int, tuple[Warming[str], Trail[str], AheadEntries]] = {}
        self.events: list[tuple[str, bool]] = []

    def load(self, key: str) -> None:
        warming, trail, watched = self._of(key)
        for _ in range(watched.wasted(8)):
            warming.dropped()
        bundle = warming.missed(trail, (key,))
        self.put(key)
        extra = 0
        for follower in bundle:
            if self.tier.peek(follower) is None:
                self.put(follower, ahead=True)
                entry = self.tier.peek(follower)
                if entry is not None:
                    watched.add(entry)
                extra += 1
        self.ahead += extra
        warming.loaded(needed=1, extra=extra, elapsed_s=_CALL_S + _ROW_S * (1 + extra))
        self.events.append((key, False))

    def used_first(self, key: str) -> None:
        super().used_first(key)
        warming, trail, _ = self._of(key)
        warming.used(trail, key)
        self.events.append((key, True))

    def run(self, keys: Sequence[str]) -> Outcome:
        outcome = super().run(keys)
        outcome.statistics = [warming.statistics() for warming, _, _ in self.warmings.values()]
        outcome.events = self.events
        return outcome

    def _of(self, key: str) -> tuple[Warming[str], Trail[str], AheadEntries]:
        template = self.template_of(key)
        if template not in self.warmings:
            draw = random.Random(template).random
            self.warmings[template] = Warming(WarmingPolicy(), draw), Trail(), AheadEntries()
        return self.warmings[template]


class NextInBackground(Replay):
    """The negative control: learned from every request, one key ahead, there LATE_BY requests later."""

    def __init__(self, capacity: int, template_of: Callable[[str], int]) -> None:
        super().__init__(capacity, template_of)
        self.bundles: Bundles[str] = Bundles(BundlePolicy(max_followers=1))
        self.trails: dict[int, Trail[str]] = {}
        self.coming: deque[tuple[int, str]] = deque()
        self.on_its_way: set[str] = set()

    def run(self, keys: Sequence[str]) -> Outcome:
        size = math.ceil(len(keys) / BLOCKS)
        misses = [0] * math.ceil(len(keys) / size)
        for now, key in enumerate(keys):
            self._arrive(now)
            if self.tier.get(key) is None:
                self.late += key in self.on_its_way
                misses[now // size] += self.ask(key)
            trail = self.trails.setdefault(self.template_of(key), Trail())
            for follower in self.bundles.missed(trail, key):
                if follower not in self.on_its_way and self.tier.peek(follower) is None:
                    self.on_its_way.add(follower)
                    self.coming.append((now + LATE_BY, follower))
                    self.ahead += 1
        return Outcome(misses, len(keys), self.ahead, self.used, self.late)

    def _arrive(self, now: int) -> None:
        while self.coming and self.coming[0][0] <= now:
            _, key = self.coming.popleft()
            self.on_its_way.discard(key)
            if self.tier.peek(key) is None:
                self.put(key, ahead=True)


def templates(name: str, keys: Sequence[str]) -> Callable[[str], int]:
    """The type of an object of orm-*, which its key holds; elsewhere there is one template."""
    if not name.startswith("orm"):
        return lambda key: 0
    types = {key: int(key.split(":")[1]) >> 27 & 31 for key in set(keys)}
    return types.__getitem__


def difference(control: Outcome, treatment: Outcome) -> tuple[float, float, float]:
    """Points of misses that the treatment has less or more, with the ends of a 95 % bootstrap over blocks."""
    scale = 100 * len(control.misses) / control.requests
    per_block = scale * (np.array(treatment.misses) - np.array(control.misses))
    picks = np.random.default_rng(7).integers(len(per_block), size=(4000, len(per_block)))
    low, high = np.quantile(per_block[picks].mean(axis=1), (0.025, 0.975))
    return float(per_block.mean()), float(low), float(high)


def microseconds_a_miss(events: Sequence[tuple[str, bool]], template_of: Callable[[str], int]) -> float:
    """CPU of learning and deciding alone, first uses included, for each miss; after 50,000 events."""
    warming: Warming[str] = Warming(WarmingPolicy(), random.Random(1).random)
    trails: dict[int, Trail[str]] = {template_of(key): Trail() for key, _ in events}
    began = misses = 0.0
    for number, (key, was_used) in enumerate(events[:300_000]):
        if number == min(50_000, len(events) // 2):
            began, misses = time.process_time(), 0
        trail = trails[template_of(key)]
        if was_used:
            warming.used(trail, key)
        else:
            misses += 1
            warming.missed(trail, (key,))
            warming.loaded(needed=1, extra=1, elapsed_s=_CALL_S)
    return 1e6 * (time.process_time() - began) / max(misses, 1)


def claimed_saving_percent(outcome: Outcome) -> tuple[float, float]:
    """Misses that `.statistics()` claim were saved, and the lower end, of those that would have been."""
    known = [one for one in outcome.statistics if one.misses_ratio is not None]
    rest = sum(one.missed for one in outcome.statistics if one.misses_ratio is None)
    saved = low = 0.0
    for one in known:
        assert one.misses_ratio is not None
        without = one.missed / (0.95 * one.misses_ratio.estimate + 0.05)
        saved += without - one.missed
        low += one.missed / (0.95 * one.misses_ratio.high + 0.05) - one.missed
    without = sum(one.missed for one in known) + rest + saved
    return 100 * saved / without, 100 * low / without


def stream(cell: str, limit: int | None) -> tuple[str, int, Sequence[str]]:
    name, _, capacity = cell.partition("@")
    keys = zipf(0.99)[:limit] if name == "zipf" else trace(name, limit)
    return name, int(capacity), keys


def judge(cell: str, bundles: Outcome, points: tuple[float, float, float]) -> str:
    if cell in MOST_MISSES:
        return f"≤ {MOST_MISSES[cell]:g} %: {met(bundles.miss_percent <= MOST_MISSES[cell])}"
    if cell in NO_WORSE:
        return f"≤ +{NO_WORSE[cell]:g}: {met(points[0] <= NO_WORSE[cell])}"
    return "-"


def compare(cell: str, limit: int | None) -> tuple[list[str], list[str], bool]:
    """The rows of one cell for both tables, and whether its target is reached."""
    name, capacity, keys = stream(cell, limit)
    template_of = templates(name, keys)
    none = Replay(capacity, template_of).run(keys)
    bundles = WithBundles(capacity, template_of).run(keys)
    background = NextInBackground(capacity, template_of).run(keys)
    points, control = difference(none, bundles), difference(none, background)
    verdict = judge(cell, bundles, points)
    claimed, claimed_low = claimed_saving_percent(bundles)
    ended = sum(one.used + one.wasted + one.late for one in bundles.statistics)
    first = [
        cell,
        f"{none.miss_percent:.2f}",
        f"{bundles.miss_percent:.2f} ({bundles.second_half_percent:.2f})",
        f"{points[0]:+.2f} [{points[1]:+.2f}, {points[2]:+.2f}]",
        f"{background.miss_percent:.2f}",
        f"{control[0]:+.2f} [{control[1]:+.2f}, {control[2]:+.2f}]",
        verdict,
    ]
    second = [
        cell,
        f"{100 * bundles.rows / none.rows - 100:+.1f} %",
        f"{bundles.used / ended:.2f}" if ended else "-",
        f"{100 * (1 - sum(bundles.misses) / sum(none.misses)):.1f} %",
        f"{claimed:.1f} % (≥ {claimed_low:.1f})",
        f"{sum(one.size_bytes for one in bundles.statistics) / 2**20:.1f} MiB",
        f"{microseconds_a_miss(bundles.events, template_of):.1f} µs",
        f"{100 * background.rows / none.rows - 100:+.1f} %",
        f"{100 * background.late / max(background.ahead, 1):.0f} %",
    ]
    return first, second, "falls" not in verdict


def restarted(cell: str, limit: int | None) -> list[str]:
    """Hit % of the first `capacity` requests after a restart at half the trace."""
    _, capacity, keys = stream(cell, limit)
    half, asked = len(keys) // 2, keys[len(keys) // 2 : len(keys) // 2 + capacity]
    before, step = Replay(capacity, lambda key: 0), math.ceil(half / LOOKS)
    ranks = KeyRanks(max_keys=capacity)
    for start in range(0, half, step):
        part = keys[start : min(start + step, half)]
        before.run(part)
        ranks.fade(len(part) / (10 * capacity))
        held = (before.tier.peek(key) for key in dict.fromkeys(keys[:half]))
        ranks.add((entry.key, entry.visits) for entry in held if entry is not None)
    ranked = [key for key, _ in ranks.ranked()]
    quarter, whole = Replay(capacity, before.template_of), Replay(capacity, before.template_of)
    for key in load_order(ranked[: capacity // 4], capacity):
        quarter.put(key, ahead=True)
    for key in load_order(ranked, capacity):
        whole.put(key, ahead=True)
    arms = [Replay(capacity, before.template_of), quarter, whole, before]
    return [cell, *(f"{100 - arm.run(asked).miss_percent:.1f}" for arm in arms)]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", help="one trace@capacity")
    parser.add_argument("--limit", type=int, help="only the first so many requests of each trace")
    parser.add_argument("--skip-restart", action="store_true")
    options = parser.parse_args(arguments)

    print(host_line())
    rows = [compare(cell, options.limit) for cell in CELLS if options.only in (None, cell)]
    head = ["trace@capacity", "none, misses %", "bundles (second half)", "points [95 %]",
            f"next item, {LATE_BY} late", "points [95 %]", "must reach"]  # fmt: skip
    print(table(head, [first for first, _, _ in rows]))
    head = ["trace@capacity", "rows loaded", "precision", "misses saved", "as claimed", "table", "CPU a miss",
            "next item: rows", "late"]  # fmt: skip
    print("\n" + table(head, [second for _, second, _ in rows]))
    if not options.skip_restart:
        cells = [cell for cell in RESTARTS if options.only in (None, cell)]
        head = ["trace@capacity", "cold", "25 % of the keys", "key list", "never restarted"]
        print("\n" + table(head, [restarted(cell, options.limit) for cell in cells]))
    return 0 if all(is_met for _, _, is_met in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
