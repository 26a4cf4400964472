"""Many keys in one step: one fetch, one call of the loader, one store."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from perfloop.cache._async.landing import NOTHING, AsyncSeat
from perfloop.cache._async.link import AsyncLink
from perfloop.cache._async.loading import SERVED, AsyncLoading
from perfloop.cache._async.storing import AsyncStoring
from perfloop.cache.bundles import Trail
from perfloop.cache.entry import Entry
from perfloop.cache.functions import by_member
from perfloop.cache.loaded import Request
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import CachePolicy, Freshness
from perfloop.cache.waiting import AsyncRunner
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
            return by_member(await self.loader([member]), self.loader).get(member)

        return Request(key, load_one, self.policy, tuple(self.tags(member)), self.kind)


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
        due: dict[str, Entry] = {}
        for key in members:
            entry = self._memory.get(key)
            if entry is not None:
                values[key] = entry.value
                continue
            found, entry = self._examine(key)
            if entry is not None and found in SERVED:
                values[key] = entry.value
                if found is not Freshness.FRESH:
                    due[key] = entry
            else:
                spares[key] = NOTHING if entry is None or found is not Freshness.SPARE else entry.value
                self._loading.tell_missed(key)
        if due:
            self._refresh_behind(due, members, group)
        if spares:
            missing = {key: members[key] for key in spares}
            values.update(await self._obtain(self._requests(missing, group), missing, group, spares))
        return {key: values[key] for key in members if values[key] is not None}

    async def load_ahead(self, members: Members, group: Group) -> None:
        """Load what nobody has asked for yet."""
        await self._obtain(self._requests(members, group, is_background=True), members, group, {})

    def _examine(self, key: str) -> tuple[Freshness, Entry | None]:
        link = self._link
        found, entry = self._memory.examine(key, trusting=link is not None and link.is_away)
        if found is Freshness.STALE:
            self._loading.tell_stale(key)
        return found, entry

    def _refresh_behind(self, due: Mapping[str, Entry], members: Members, group: Group) -> None:
        """Load these anew beside the caller, but for those of which that is going on already."""
        claimed = {key: members[key] for key in due if self._loading.claim_refresh(key)}
        if not claimed:
            return
        early_s = max(self._loading.early_s(due[key]) for key in claimed)
        try:
            requests = self._requests(claimed, group, is_background=True, early_s=early_s)
            self._loading.begin_behind(tuple(claimed), self._refresh, requests, claimed, group)
        except BaseException:
            self._loading.end_refresh(claimed)
            raise

    async def _refresh(self, requests: Sequence[Request], members: Members, group: Group) -> None:
        try:
            await self._obtain(requests, members, group, {})
        except Exception:  # noqa: BLE001 - nobody waits for it, and those who load have told of the error
            return
        finally:
            self._loading.end_refresh(members)

    def _requests(
        self, members: Members, group: Group, *, is_background: bool = False, early_s: float = 0.0
    ) -> list[Request]:
        """All of them before any is begun, since the caller's own code writes their tags."""
        requests = [group.request(key, member) for key, member in members.items()]
        for request in requests:
            request.is_background = is_background
            request.early_s = early_s
        return requests

    async def _obtain(
        self, requests: Sequence[Request], members: Members, group: Group, spares: Mapping[str, Any]
    ) -> dict[str, Any]:
        seats: list[AsyncSeat] = []
        try:
            seats.extend(AsyncSeat(request, *self._loading.embark(request)) for request in requests)
            await self._lead(seats, members, group)
        except BaseException:
            for seat in seats:
                self._loading.desert(seat.boarding, seat.landing)
            raise
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

    async def _lead(self, seats: Sequence[AsyncSeat], members: Members, group: Group) -> None:
        """Begin the load of those that nobody else loads."""
        led = [seat for seat in seats if seat.boarding.leads]
        if not led:
            return
        for seat in led:
            seat.landing.is_kept = True
        # Of this context, since the load may run in another.
        trail = None if group.warmed is None or led[0].request.is_background else group.warmed.trail()
        if group.policy.hard_timeout_s is None and group.policy.soft_timeout_s is None:
            await self._loading.crew.lead(self._load, led, members, group, trail)
            return
        led = [seat for seat in led if not await self._is_refused(seat)]
        try:
            if led:
                self._loading.crew.spawn(self._load, led, members, group, trail)
        except RuntimeError as error:  # there is no thread for it
            await self._fail(led, error)

    async def _is_refused(self, seat: AsyncSeat) -> bool:
        refusal = self._loading.refusal(seat.request.key)
        if refusal is not None:
            await self._fail([seat], refusal)
        return refusal is not None

    async def _load(
        self, led: list[AsyncSeat], members: Members, group: Group, trail: Trail[Any] | None
    ) -> None:
        """Land all of these: with what the remote tier has, else with what the loader returns."""
        own = led[:]
        try:
            own = await self._look_up(led)
            if own:
                await self._load_own(own, led, members, group, trail)
        except Exception as error:  # noqa: BLE001 - a fault before the loader goes to all who wait, as a loader's
            await self._fail([seat for seat in own if not seat.landing.signal.is_given], error)
        finally:
            # What others hold, and all that is left where this was cancelled: each by itself.
            await self._release([seat for seat in led if not seat.landing.signal.is_given])

    async def _load_own(
        self,
        own: list[AsyncSeat],
        led: list[AsyncSeat],
        members: Members,
        group: Group,
        trail: Trail[Any] | None,
    ) -> None:
        """Load what no tier has, and what is likely to be asked for next."""
        self._loading.tell_no_value([seat.request for seat in own])
        if group.warmed is None or trail is None:
            await self._run(own, members, group)
            return
        bundle = group.warmed.bundle(trail, [members[seat.request.key] for seat in own])
        ahead = self._seats_ahead(bundle, group, group.warmed, led)
        await self._run(own, {**members, **bundle}, group, await self._claim(ahead))

    async def _look_up(self, led: Sequence[AsyncSeat]) -> list[AsyncSeat]:
        """Those that are for this process to load."""
        own, unread = await self._ask(led, max(seat.request.early_s for seat in led))
        if unread:  # claim their places
            others, left = await self._ask(unread, math.inf)
            own += others + left
        return own

    async def _ask(self, led: Sequence[AsyncSeat], early_s: float) -> tuple[list[AsyncSeat], list[AsyncSeat]]:
        """Those that are for this process to load; and those whose shared value it cannot read."""
        link = self._link
        answer = None
        if link is not None and not link.is_away:
            answer = await link.fetch([seat.request.key for seat in led], self._storing.lease_s, early_s)
        if answer is None:
            return [seat for seat in led if not self._lands_unchecked(seat)], []
        own: list[AsyncSeat] = []
        unread: list[AsyncSeat] = []
        for seat in led:
            fetched = answer[seat.request.key]
            entry = fetched.entry
            if entry is not None and await self._loading.settle(
                seat.request, seat.boarding.flight, seat.landing, fetched, entry
            ):
                continue
            seat.lease = fetched.lease
            if fetched.lease is None and fetched.held_for_s is None and entry is not None:
                unread.append(seat)
            elif fetched.held_for_s is None:
                own.append(seat)
        return own, unread

    def _lands_unchecked(self, seat: AsyncSeat) -> bool:
        if self._link is not None:
            self._loading.trust(self._link, seat.boarding.flight, seat.landing)
        return seat.landing.signal.is_given

    def _seats_ahead(
        self, bundle: Members, group: Group, warmed: Warmed[Any], led: list[AsyncSeat]
    ) -> list[AsyncSeat]:
        """Seats for what no one has and no one loads; `led` gets them one by one, to be ended in any case."""
        seats: list[AsyncSeat] = []
        if self._link is not None and not self._link.may_keep:
            return seats
        wanted = {key: member for key, member in bundle.items() if not self._memory.has(key)}
        for request in self._requests(wanted, group):
            boarding = self._memory.begin(request.key, request.tags)
            if boarding.leads:
                seat = AsyncSeat(request, boarding, self._loading.board(boarding.flight))
                led.append(seat)
                seats.append(seat)
                seat.landing.is_kept = True
                seat.landing.ahead = request.ahead = warmed.ahead(wanted[request.key])
        return seats

    async def _claim(self, ahead: list[AsyncSeat]) -> list[AsyncSeat]:
        """Those of a bundle that the remote tier has not, and that no other process loads."""
        link = self._link
        if not ahead or link is None or link.is_away:
            return ahead
        answer = await link.fetch([seat.request.key for seat in ahead], self._storing.lease_s)
        own: list[AsyncSeat] = []
        for seat in ahead:
            fetched = None if answer is None else answer[seat.request.key]
            seat.lease = None if fetched is None else fetched.lease
            if fetched is not None and fetched.entry is None and fetched.held_for_s is None:
                own.append(seat)
        await self._release([seat for seat in ahead if seat not in own])
        return own

    async def _run(
        self, seats: list[AsyncSeat], members: Members, group: Group, ahead: Sequence[AsyncSeat] = ()
    ) -> None:
        """Load what was asked for, with the bundle; alone, where the loader fails with it."""
        try:
            load_s = await self._land([*seats, *ahead], members, group)
        except BaseException as error:
            if ahead and isinstance(error, Exception):
                await self._do_without(ahead, group)
                await self._run(seats, members, group)
                return
            if not await self._fail([*seats, *ahead], error):
                raise
            return
        if group.warmed is not None:
            kept = [self._memory.peek(seat.request.key) for seat in ahead]
            group.warmed.loaded(needed=len(seats), elapsed_s=load_s, entries=kept)

    async def _land(self, seats: Sequence[AsyncSeat], members: Members, group: Group) -> float:
        """Load and keep all of these in one call of the loader; what it took, in seconds."""
        requests = [seat.request for seat in seats]
        asked = [members[request.key] for request in requests]
        runner = AsyncRunner.current()
        for seat in seats:
            seat.landing.runner = runner
        returned, load_s = await self._loading.timed(requests, group.loader, asked)
        found = by_member(returned, group.loader)
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

    async def _fail(self, seats: Sequence[AsyncSeat], error: BaseException) -> bool:
        loads = [(seat.boarding.flight, seat.landing, seat.lease) for seat in seats]
        return not loads or await self._loading.fail(loads, error)

    async def _do_without(self, ahead: Sequence[AsyncSeat], group: Group) -> None:
        """Nobody asked for these, so that they may not be the reason why a load fails."""
        if group.warmed is not None:
            group.warmed.rest()
        await self._release(ahead)

    async def _release(self, seats: Sequence[AsyncSeat]) -> None:
        """Leave these to whoever asks for them."""
        for seat in seats:
            self._memory.end(seat.boarding.flight)
            seat.landing.turn_back()
        await self._storing.give_back([seat.lease for seat in seats if seat.lease is not None])
