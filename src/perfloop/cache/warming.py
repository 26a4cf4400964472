"""Predictive warming of one key template: which members to load in the batch of one that was missed.

`Warming` joins the learner (`bundles`), the gate that holds it back where it does not pay (`warming_gate`)
and the measurement of what it gains (`held_back`, `loader_cost`). It decides only; the caller loads. Nothing
is called on a hit, except at the first use of an entry that came in a bundle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic

from perfloop.cache.bundles import BundlePolicy, Bundles, Member, Trail
from perfloop.cache.held_back import HeldBack
from perfloop.cache.loader_cost import LoaderCost
from perfloop.cache.warming_gate import Gate, GatePolicy
from perfloop.metrics.fork import restart_in_child
from perfloop.model.value import Value, require
from perfloop.stats.interval import RatioInterval

_EVENTS_BEFORE_STRAY: Final = 200
_LEAST_LINKED_RATIO: Final = 0.1
"""Of the misses, that follow another in their context; below it contexts tell nothing."""


class WarmingPolicy(Value, frozen=True, kw_only=True):
    """The parameters of warming; `held_back_ratio` of the members are never warmed, to measure by."""

    bundles: BundlePolicy = BundlePolicy()
    gate: GatePolicy = GatePolicy()
    held_back_ratio: float = 0.05

    def __post_init__(self) -> None:
        require(
            0.01 <= self.held_back_ratio <= 0.5,
            f"held_back_ratio is {self.held_back_ratio}; it lies between 0.01 and 0.5, "
            "since a gain that is not measured is not claimed",
        )


class WarmingStatistics(Value, frozen=True, kw_only=True):
    """What became of one template's bundles, since the start.

    `misses_ratio` is misses with warming over misses without, by the members that are held back; None while
    it cannot be told. `gain_s` is the loader's time that was saved, less that of rows loaded ahead, with the
    ends of its interval; it counts the time while the gate was open.
    """

    is_open: bool
    missed: int
    loaded_ahead: int
    used: int
    wasted: int
    late: int
    misses_ratio: RatioInterval | None
    gain_s: float | None
    gain_low_s: float | None
    gain_high_s: float | None
    load_s: float
    row_s: float
    members_known: int
    size_bytes: int

    @property
    def precision_ratio(self) -> float | None:
        """Used in time, of all rows loaded ahead whose end is known; None before the first."""
        ended = self.used + self.wasted + self.late
        return self.used / ended if ended else None


class Warming(Generic[Member]):
    """Warms one template; safe for threads. `draw` yields numbers from 0 up to 1."""

    def __init__(self, policy: WarmingPolicy, draw: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._max_followers = policy.bundles.max_followers
        self._bundles: Bundles[Member] = Bundles(policy.bundles)
        self._gate = Gate(policy.gate, draw)
        self._held_back = HeldBack(policy.held_back_ratio, salt=int(draw() * 2**53))
        self._cost = LoaderCost()
        self._stray: Trail[Member] = Trail()
        self._events = 0
        self._linked = 0
        self._missed = 0
        self._loaded_ahead = 0
        self._used = 0
        self._wasted = 0
        self._late = 0
        restart_in_child(self)

    def restart(self) -> None:
        """In a forked child: whoever held the lock is not there."""
        self._lock = threading.Lock()

    def missed(
        self, trail: Trail[Member] | None, members: Sequence[Member], *, busy: bool = False
    ) -> tuple[Member, ...]:
        """Members that are in no tier and are about to be loaded; what to load in the same batch.

        The caller leaves out what it has already. Contexts without a trail share one. `busy` says that the
        database has no room for further rows.
        """
        with self._lock:
            self._missed += len(members)
            for member in members:
                self._gate.needed()
                if self._gate.is_open:
                    self._held_back.missed(member)
            chains = [self._bundles.missed(self._followed(trail), member) for member in members]
            if busy or not any(chains) or not self._gate.lets_through():
                return ()
            return self._bundle(members, chains)

    def loaded(self, *, needed: int, extra: int, elapsed_s: float) -> None:
        """A batch has come, with `needed` members that were missed and `extra` rows of bundles."""
        with self._lock:
            self._loaded_ahead += extra
            self._cost.loaded(needed=needed, rows=needed + extra, elapsed_s=elapsed_s)

    def used(self, trail: Trail[Member] | None, member: Member, *, late: bool = False) -> None:
        """A member that came in a bundle is asked for, for the first time; `late`: while on its way."""
        with self._lock:
            self._bundles.used(self._followed(trail), member)
            if late:
                self._late += 1
                self._gate.late()
            else:
                self._used += 1
                self._gate.used()
            self._judge()

    def dropped(self) -> None:
        """A member that came in a bundle left the cache before anybody asked for it."""
        with self._lock:
            self._wasted += 1
            self._gate.wasted()
            self._judge()

    def statistics(self) -> WarmingStatistics:
        with self._lock:
            ratio = self._held_back.misses_ratio()
            return WarmingStatistics(
                is_open=self._gate.is_open,
                missed=self._missed,
                loaded_ahead=self._loaded_ahead,
                used=self._used,
                wasted=self._wasted,
                late=self._late,
                misses_ratio=ratio,
                gain_s=self._gain_s(ratio.estimate) if ratio else None,
                gain_low_s=self._gain_s(ratio.high) if ratio else None,
                gain_high_s=self._gain_s(ratio.low) if ratio else None,
                load_s=self._cost.load_s,
                row_s=self._cost.row_s,
                members_known=len(self._bundles),
                size_bytes=self._bundles.size_bytes,
            )

    def _followed(self, trail: Trail[Member] | None) -> Trail[Member]:
        """The context's own trail; one for all where most contexts end with their first miss."""
        self._events += 1
        if trail is None:
            return self._stray
        if trail.last is not None:
            self._linked += 1
        if self._events < _EVENTS_BEFORE_STRAY or self._linked >= _LEAST_LINKED_RATIO * self._events:
            return trail
        trail.last = self._stray.last
        return self._stray

    def _judge(self) -> None:
        if self._gate.is_due:
            self._gate.decide(self._cost.break_even_ratio)

    def _bundle(self, members: Sequence[Member], chains: Sequence[Sequence[Member]]) -> tuple[Member, ...]:
        """The chains of what was missed last come first: what follows them is due next."""
        bundle: dict[Member, None] = {}
        for chain in reversed(chains):
            for follower in chain:
                if follower not in members and not self._held_back.holds(follower):
                    bundle[follower] = None
        return tuple(bundle)[: self._max_followers]

    def _gain_s(self, misses_ratio: float) -> float:
        saved = self._held_back.warmed_misses() * (1 / misses_ratio - 1)
        return saved * self._cost.load_s - self._loaded_ahead * self._cost.row_s
