# Generated from perfloop/cache/_async/renewing.py by tools/make_sync.py; edit that one.
"""What `refresh` does: values are loaded anew, and the old ones are served until the new ones are there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perfloop.cache._sync.landing import NOTHING, Seat
from perfloop.cache.loaded import Request
from perfloop.cache.remote import StoreOutcome

if TYPE_CHECKING:
    from perfloop.cache._sync.parts import Parts

Loader = Callable[[Sequence[Request]], Mapping[str, Any]]
"""Loads all of these in one call."""


class Renewing:
    """Loads that begin now. One that was under way before may have read what its caller has changed since.

    Nobody waits for others while it holds a lease or a flight of its own, so that two refreshes of the same
    keys, in whatever order, never wait for one another.
    """

    def __init__(self, parts: Parts) -> None:
        self._memory = parts.memory
        self._link = parts.link
        self._loading = parts.loading
        self._storing = parts.storing

    def renew(self, requests: Sequence[Request], loader: Loader) -> dict[str, Any]:
        """The new values by key; a loader that fails raises, and leaves the old ones as they were."""
        if self._link is not None:
            self._link.require_open()
        values: dict[str, Any] = {}
        left = list(requests)
        for request in left:
            request.renews = True
        while left:
            values.update(self._begin(left, loader))
            left = [request for request in left if request.key not in values]
        return values

    def _begin(self, requests: Sequence[Request], loader: Loader) -> dict[str, Any]:
        """Load those that nobody loads, and wait for the end of the others' loads."""
        seats: list[Seat] = []
        try:
            seats.extend(Seat(request, *self._loading.embark(request)) for request in requests)
            self._lead([seat for seat in seats if seat.boarding.leads], loader)
        except BaseException:
            for seat in seats:
                self._loading.desert(seat.boarding, seat.landing)
            raise
        values: dict[str, Any] = {}
        waiting = sorted(seats, key=lambda seat: seat.boarding.leads)  # what is loaded here comes first
        try:
            while waiting:
                seat = waiting.pop()
                value = self._arrive(seat)
                if value is not NOTHING:
                    values[seat.request.key] = value
        finally:
            for seat in waiting:
                self._loading.leave(seat.boarding.flight, seat.landing)
        return values

    def _arrive(self, seat: Seat) -> Any:
        """The value; NOTHING where it has to be loaded yet."""
        flight, landing = seat.boarding.flight, seat.landing
        if seat.boarding.leads:
            return self._loading.arrive(seat.request, seat.boarding, landing)
        try:
            if not landing.signal.wait(seat.request.policy.hard_timeout_s):
                self._memory.end(flight)
        finally:
            self._loading.leave(flight, landing)
        return NOTHING

    def _lead(self, led: Sequence[Seat], loader: Loader) -> None:
        if not led:
            return
        for seat in led:
            seat.landing.is_kept = True
        policy = led[0].request.policy
        if policy.hard_timeout_s is not None or policy.soft_timeout_s is not None:
            self._loading.crew.spawn(self._load, led, loader)
        else:
            self._loading.crew.lead(self._load, led, loader)

    def _load(self, led: Sequence[Seat], loader: Loader) -> None:
        """Land all of these; with nothing where another process has begun to load before."""
        own = led
        try:
            held, seen = self._claim(led)
            own = [seat for seat in led if seat.request.key not in held]
            if own:
                self._run(own, loader)
            for key, held_for_s in held.items():
                if self._link is not None:
                    self._link.wait_for_news(key, seen, held_for_s)
        except Exception as error:  # noqa: BLE001 - a fault before the loader goes to all who wait, as a loader's
            self._fail([seat for seat in own if not seat.landing.signal.is_given], error)
        finally:
            left = [seat for seat in led if not seat.landing.signal.is_given]
            for seat in left:
                self._memory.end(seat.boarding.flight)
                seat.landing.turn_back()
            self._storing.give_back([seat.lease for seat in left if seat.lease is not None])

    def _claim(self, led: Sequence[Seat]) -> tuple[dict[str, float], int]:
        """For how long others hold which of these, and what was heard before that was asked."""
        link = self._link
        if link is None:
            return {}, 0
        seen = link.news
        answer = link.fetch([seat.request.key for seat in led], self._storing.lease_s, math.inf) or {}
        held: dict[str, float] = {}
        for seat in led:
            fetched = answer.get(seat.request.key)
            if fetched is not None:
                seat.lease = fetched.lease
                if fetched.held_for_s is not None:
                    held[seat.request.key] = fetched.held_for_s
        self._storing.end_old(
            seat.request.key for seat in led if seat.lease is None and seat.request.key not in held
        )
        return held, seen

    def _run(self, own: Sequence[Seat], loader: Loader) -> None:
        requests = [seat.request for seat in own]
        try:
            found, load_s = self._loading.timed(requests, loader, requests)
            outcomes = self._storing.keep_batch(
                [
                    (seat.request, seat.boarding.flight, seat.lease, found.get(seat.request.key))
                    for seat in own
                ],
                load_s,
            )
            self._storing.end_old(key for key in found if outcomes.get(key) is not StoreOutcome.STORED)
            for seat in own:
                seat.landing.land(self._storing.bare(found.get(seat.request.key)))
        except BaseException as error:
            self._fail(own, error)
            if not isinstance(error, Exception):
                raise

    def _fail(self, seats: Sequence[Seat], error: BaseException) -> None:
        if seats:
            loads = [(seat.boarding.flight, seat.landing, seat.lease) for seat in seats]
            self._loading.fail(loads, error)
