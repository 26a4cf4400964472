"""Many keys in one step: one fetch, one call of the loader, one store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from perfloop.cache._async.landing import NOTHING, AsyncLanding
from perfloop.cache._async.link import AsyncLink
from perfloop.cache._async.loading import SERVED, AsyncLoading
from perfloop.cache._async.storing import AsyncStoring
from perfloop.cache.bundles import Trail
from perfloop.cache.flights import Boarding
from perfloop.cache.loaded import Request
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import CachePolicy, Freshness
from perfloop.cache.remote import Lease
from perfloop.cache.warmed import Warmed

Members = Mapping[str, Any]
"""What the loader knows each key by."""


class Group:
    """What the keys of a batch have in common."""

    __slots__ = ("kind", "loader", "policy", "tags", "warmed")

    def __init__(
        self,
        loader: Callable[[Sequence[Any]], Awaitable[Mapping[Any, Any]]],
        policy: CachePolicy,
        tags: Callable[[Any], Iterable[str]],
        kind: Any,
        warmed: Warmed[Any] | None = None,
    ) -> None:
        self.loader = loader
        self.policy = policy
        self.tags = tags
        self.kind = kind
        self.warmed = warmed

    def request(self, key: str, member: Any) -> Request:
        """The same load for one key alone."""

        async def load_one() -> Any:
            return (await self.loader([member])).get(member)

        return Request(key, load_one, self.policy, tuple(self.tags(member)), self.kind)


class _Seat:
    """One key of a batch that is being loaded."""

    __slots__ = ("boarding", "landing", "lease", "request")

    def __init__(self, request: Request, boarding: Boarding, landing: AsyncLanding) -> None:
        self.request = request
        self.boarding = boarding
        self.landing = landing
        self.lease: Lease | None = None


class AsyncBatch:
    """Batches of one cache. A key that others load already is waited for, not loaded again."""

    def __init__(
        self, memory: MemoryTier, link: AsyncLink | None, loading: AsyncLoading, storing: AsyncStoring
    ) -> None:
        self._memory = memory
        self._link = link
        self._loading = loading
        self._storing = storing

    async def load(self, members: Members, group: Group) -> dict[str, Any]:
        """The values of all keys for which there is one; None means that there is none."""
        if self._link is not None:
            self._link.require_open()
        values: dict[str, Any] = {}
        spares: dict[str, Any] = {}
        due: dict[str, Any] = {}
        for key, member in members.items():
            entry = self._memory.get(key)
            if entry is not None:
                values[key] = entry.value
                continue
            found, value = self._examine(key)
            if found in SERVED:
                values[key] = value
                if found is not Freshness.FRESH:
                    due[key] = member
            else:
                spares[key] = value if found is Freshness.SPARE else NOTHING
                self._loading.tell_missed(key)
        if due:
            self._loading.crew.spawn(self._refresh, due, group)
        if spares:
            missing = {key: members[key] for key in spares}
            values.update(await self._obtain(missing, group, spares, is_background=False))
        return {key: values[key] for key in members if values[key] is not None}

    async def load_ahead(self, members: Members, group: Group) -> None:
        """Load what nobody has asked for yet."""
        await self._obtain(members, group, {}, is_background=True)

    def _examine(self, key: str) -> tuple[Freshness, Any]:
        link = self._link
        found, entry = self._memory.examine(key, trusting=link is not None and link.is_away)
        if found is Freshness.STALE:
            self._loading.tell_stale(key)
        return found, NOTHING if entry is None else entry.value

    async def _refresh(self, members: Members, group: Group) -> None:
        fresh = {key: member for key, member in members.items() if self._loading.claim_refresh(key)}
        try:
            if fresh:
                await self._obtain(fresh, group, {}, is_background=True)
        except Exception:  # noqa: BLE001 - nobody waits for it, and those who load have told of the error
            return
        finally:
            self._loading.end_refresh(fresh)

    async def _obtain(
        self, members: Members, group: Group, spares: Mapping[str, Any], *, is_background: bool
    ) -> dict[str, Any]:
        seats = self._seats(members, group, is_background=is_background)
        led = [seat for seat in seats if seat.boarding.leads]
        # Of this context, since the load may run in another.
        trail = None if group.warmed is None or is_background else group.warmed.trail()
        if led and (group.policy.hard_timeout_s is not None or group.policy.soft_timeout_s is not None):
            self._loading.crew.spawn(self._load, led, members, group, trail)
        elif led:
            await self._loading.crew.lead(self._load, led, members, group, trail)
        values = {}
        waiting = list(reversed(seats))
        try:
            while waiting:
                seat = waiting.pop()
                spare = spares.get(seat.request.key, NOTHING)
                value = await self._loading.arrive(seat.request, seat.boarding, seat.landing, spare)
                if value is NOTHING:
                    value = await self._loading.obtain(seat.request, spare)
                values[seat.request.key] = value
        finally:
            for seat in waiting:
                self._loading.leave(seat.boarding.flight, seat.landing)
        return values

    def _seats(self, members: Members, group: Group, *, is_background: bool) -> list[_Seat]:
        seats = []
        for key, member in members.items():
            request = group.request(key, member)
            request.is_background = is_background
            boarding = self._memory.begin(key, request.tags)
            landing = self._loading.board(boarding.flight)
            if boarding.leads:
                landing.is_kept = True
            seats.append(_Seat(request, boarding, landing))
        return seats

    async def _load(self, led: list[_Seat], members: Members, group: Group, trail: Trail[Any] | None) -> None:
        """Land all of these: with what the remote tier has, else with what the loader returns."""
        try:
            own = await self._look_up(led)
            self._loading.tell_no_value([seat.request for seat in own])
            if own and group.warmed is not None and trail is not None:
                missed = [members[seat.request.key] for seat in own]
                bundle = group.warmed.bundle(trail, missed)
                ahead = self._seats_ahead(bundle, group, group.warmed)
                led += ahead
                await self._run(own, {**members, **bundle}, group, await self._claim(ahead))
            elif own:
                await self._run(own, members, group)
        finally:
            # What others hold, and all that is left where this was cancelled: each by itself.
            for seat in led:
                if not seat.landing.signal.is_given:
                    self._memory.end(seat.boarding.flight)
                    seat.landing.turn_back()

    async def _look_up(self, led: list[_Seat]) -> list[_Seat]:
        """Those that are for this process to load."""
        link = self._link
        answer = None
        if link is not None and not link.is_away:
            answer = await link.fetch([seat.request.key for seat in led], self._storing.lease_s)
        if answer is None:
            return [seat for seat in led if not self._lands_unchecked(seat)]
        own = []
        for seat in led:
            fetched = answer[seat.request.key]
            entry = fetched.entry
            if entry is not None and self._loading.settle(
                seat.request, seat.boarding.flight, seat.landing, fetched, entry
            ):
                continue
            seat.lease = fetched.lease
            if fetched.held_for_s is None:
                own.append(seat)
        return own

    def _lands_unchecked(self, seat: _Seat) -> bool:
        if self._link is not None:
            self._loading.trust(self._link, seat.boarding.flight, seat.landing)
        return seat.landing.signal.is_given

    def _seats_ahead(self, bundle: Members, group: Group, warmed: Warmed[Any]) -> list[_Seat]:
        """Seats for what no one has and no one loads."""
        seats: list[_Seat] = []
        if self._link is not None and not self._link.may_keep:
            return seats
        for key, member in bundle.items():
            if self._memory.has(key):
                continue
            request = group.request(key, member)
            boarding = self._memory.begin(key, request.tags)
            if boarding.leads:
                landing = self._loading.board(boarding.flight)
                landing.is_kept = True
                landing.ahead = request.ahead = warmed.ahead(member)
                seats.append(_Seat(request, boarding, landing))
        return seats

    async def _claim(self, ahead: list[_Seat]) -> list[_Seat]:
        """Those of a bundle that the remote tier has not, and that no other process loads."""
        link = self._link
        if not ahead or link is None or link.is_away:
            return ahead
        answer = await link.fetch([seat.request.key for seat in ahead], self._storing.lease_s)
        own: list[_Seat] = []
        for seat in ahead:
            fetched = None if answer is None else answer[seat.request.key]
            seat.lease = None if fetched is None else fetched.lease
            if fetched is not None and fetched.entry is None and fetched.held_for_s is None:
                own.append(seat)
        await self._release([seat for seat in ahead if seat not in own])
        return own

    async def _run(
        self, seats: list[_Seat], members: Members, group: Group, ahead: Sequence[_Seat] = ()
    ) -> None:
        """Load what was asked for, with the bundle; alone, where the loader fails with it."""
        try:
            load_s = await self._land([*seats, *ahead], members, group)
        except BaseException as error:
            if ahead and isinstance(error, Exception):
                await self._do_without(ahead, group)
                await self._run(seats, members, group)
                return
            await self._loading.fail(
                [(seat.boarding.flight, seat.landing, seat.lease) for seat in (*seats, *ahead)], error
            )
            if not isinstance(error, Exception):
                raise
            return
        if group.warmed is not None:
            kept = [self._memory.peek(seat.request.key) for seat in ahead]
            group.warmed.loaded(needed=len(seats), elapsed_s=load_s, entries=kept)

    async def _land(self, seats: Sequence[_Seat], members: Members, group: Group) -> float:
        """Load and keep all of these in one call of the loader; what it took, in seconds."""
        requests = [seat.request for seat in seats]
        asked = [members[request.key] for request in requests]
        found, load_s = await self._loading.timed(requests, group.loader, asked)
        await self._storing.keep_batch(
            [
                (seat.request, seat.boarding.flight, seat.lease, found.get(members[seat.request.key]))
                for seat in seats
            ],
            load_s,
        )
        for seat in seats:
            seat.landing.land(self._storing.bare(found.get(members[seat.request.key])))
        return load_s

    async def _do_without(self, ahead: Sequence[_Seat], group: Group) -> None:
        """Nobody asked for these, so that they may not be the reason why a load fails."""
        if group.warmed is not None:
            group.warmed.rest()
        await self._release(ahead)

    async def _release(self, ahead: Sequence[_Seat]) -> None:
        """Leave these to whoever asks for them."""
        for seat in ahead:
            self._memory.end(seat.boarding.flight)
            seat.landing.turn_back()
        await self._storing.give_back([seat.lease for seat in ahead if seat.lease is not None])
