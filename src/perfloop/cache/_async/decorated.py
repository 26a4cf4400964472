"""Functions whose results are kept."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from perfloop.cache._async.batch import Group
from perfloop.cache._async.renewing import AsyncRenewing
from perfloop.cache.functions import by_member, require_batch
from perfloop.cache.key_list import MemberReader
from perfloop.cache.keys import bound_key, bound_tags, member_key, member_tag
from perfloop.cache.loaded import Loaded, Request, kind_of
from perfloop.cache.policy import CachePolicy
from perfloop.cache.waiting import AsyncLoaders
from perfloop.cache.warmed import Warmed
from perfloop.cache.warming import WarmingPolicy

if TYPE_CHECKING:
    from perfloop.cache._async.parts import AsyncParts

P = ParamSpec("P")
Q = ParamSpec("Q")
OwnerT = TypeVar("OwnerT")
ValueT = TypeVar("ValueT")
MemberT = TypeVar("MemberT", bound=Hashable)


class AsyncDecorator(Protocol):
    """What `cached` returns, for type checkers."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[Loaded[ValueT]]], /) -> AsyncCached[P, ValueT]: ...

    @overload
    def __call__(
        self, function: Callable[P, Awaitable[ValueT | Loaded[ValueT]]], /
    ) -> AsyncCached[P, ValueT]: ...


class AsyncManyDecorator(Protocol):
    """What `cached_many` returns, for type checkers."""

    @overload
    def __call__(
        self, function: Callable[[Sequence[MemberT]], Awaitable[Mapping[MemberT, Loaded[ValueT]]]], /
    ) -> AsyncCachedMany[MemberT, ValueT]: ...

    @overload
    def __call__(
        self, function: Callable[[Sequence[MemberT]], Awaitable[Mapping[MemberT, ValueT | Loaded[ValueT]]]], /
    ) -> AsyncCachedMany[MemberT, ValueT]: ...


class AsyncCached(Generic[P, ValueT]):
    """A function of which one result a key is kept; it is called as before, also as a method."""

    def __init__(
        self,
        parts: AsyncParts,
        function: Callable[P, Awaitable[ValueT | Loaded[ValueT]]],
        template: str,
        tags: Sequence[str],
        policy: CachePolicy,
    ) -> None:
        AsyncLoaders.require(function)
        parts.templates.take(template, function)
        self.original = function
        """The function itself, which asks no cache."""
        self._key: Callable[P, str] = bound_key(template, function)
        self._tags: Callable[P, tuple[str, ...]] = bound_tags(tags, function)
        self._parts = parts
        self._renewing = AsyncRenewing(parts)
        self._hit = parts.memory.get
        self._policy = policy
        self._kind = kind_of(function)
        functools.update_wrapper(self, function)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ValueT:
        entry = self._hit(self._key(*args, **kwargs))
        if entry is not None:
            return entry.value  # type: ignore[return-value]  # a key has one type: that of the function
        value: ValueT = await self._parts.loading.serve(self._request(*args, **kwargs))
        return value

    def _request(self, *args: P.args, **kwargs: P.kwargs) -> Request:
        loader = functools.partial(self.original, *args, **kwargs)
        key, tags = self._key(*args, **kwargs), self._tags(*args, **kwargs)
        return Request(key, loader, self._policy, tags, self._kind)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of a call with these arguments."""
        return self._key(*args, **kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Make the result of these arguments invalid, in all processes."""
        await self._parts.invalidate((self._key(*args, **kwargs),), ())

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> ValueT:
        """Load the result of these arguments anew; until it is there, the old one is served.

        A loader that fails raises, and the old value stays.
        """
        request = self._request(*args, **kwargs)

        async def load(requests: Sequence[Request]) -> Mapping[str, Any]:
            return {each.key: await self.original(*args, **kwargs) for each in requests}

        value: ValueT = (await self._renewing.renew([request], load))[request.key]
        return value

    @overload
    def __get__(self, instance: None, owner: type) -> AsyncCached[P, ValueT]: ...

    @overload
    def __get__(
        self: AsyncCached[Concatenate[OwnerT, Q], ValueT], instance: OwnerT, owner: type
    ) -> AsyncBoundCached[Q, ValueT]: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else AsyncBoundCached(self, instance)


class AsyncBoundCached(Generic[Q, ValueT]):
    """A cached method of one object."""

    __slots__ = ("_cached", "_instance")

    def __init__(self, cached: AsyncCached[..., ValueT], instance: object) -> None:
        self._cached = cached
        self._instance = instance

    async def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> ValueT:
        return await self._cached(self._instance, *args, **kwargs)

    def key(self, *args: Q.args, **kwargs: Q.kwargs) -> str:
        """The key of a call with these arguments."""
        return self._cached.key(self._instance, *args, **kwargs)

    async def invalidate(self, *args: Q.args, **kwargs: Q.kwargs) -> None:
        """Make the result of these arguments invalid, in all processes."""
        await self._cached.invalidate(self._instance, *args, **kwargs)

    async def refresh(self, *args: Q.args, **kwargs: Q.kwargs) -> ValueT:
        """Load the result of these arguments anew; until it is there, the old one is served."""
        return await self._cached.refresh(self._instance, *args, **kwargs)


class AsyncCachedMany(Generic[MemberT, ValueT]):
    """A function that loads many members at once, of which each value is kept by itself."""

    def __init__(
        self,
        parts: AsyncParts,
        function: Callable[[Sequence[MemberT]], Awaitable[Mapping[MemberT, ValueT | Loaded[ValueT]]]],
        template: str,
        tags: Sequence[str],
        policy: CachePolicy,
        *,
        warm: bool | WarmingPolicy,
        is_busy: Callable[[], bool] | None,
    ) -> None:
        AsyncLoaders.require(function)
        require_batch(function)
        parts.templates.take(template, function)
        self.original = function
        """The function itself, which asks no cache."""
        self.key: Callable[[MemberT], str] = member_key(template)
        """The key of one member."""
        writers = [member_tag(tag) for tag in tags]
        warmed: Warmed[MemberT] | None = None
        if warm:
            kept = WarmingPolicy() if warm is True else warm
            warmed = parts.warmed[template] = Warmed(self.key, kept, parts.rand, is_busy)
        self._group = Group(
            function,
            policy,
            lambda member: tuple(write(member) for write in writers),
            kind_of(function, of_mapping=True),
            warmed,
        )
        if parts.key_listing is not None:
            parts.key_listing.add(MemberReader(template, self.key), self._group)
        self._parts = parts
        self._renewing = AsyncRenewing(parts)
        self._hit = parts.memory.get
        functools.update_wrapper(self, function)

    async def __call__(self, member: MemberT) -> ValueT | None:
        """The value of one member; None where there is none."""
        key = self.key(member)
        entry = self._hit(key)
        if entry is not None:
            return entry.value  # type: ignore[return-value]  # a key has one type: that of the function
        return (await self._parts.batch.load({key: member}, self._group)).get(key)

    async def many(self, members: Iterable[MemberT]) -> dict[MemberT, ValueT]:
        """The values of those members that have one; the others are left out."""
        keys = {self.key(member): member for member in members}
        values = await self._parts.batch.load(keys, self._group)
        return {keys[key]: value for key, value in values.items()}

    async def invalidate(self, *members: MemberT) -> None:
        """Make the values of these members invalid, in all processes."""
        await self._parts.invalidate(tuple(map(self.key, members)), ())

    async def refresh(self, *members: MemberT) -> dict[MemberT, ValueT]:
        """Load the values of these members anew, in one call; until they are there, old ones are served.

        A loader that fails raises, and the old values stay.
        """
        asked = {self.key(member): member for member in members}

        async def load(requests: Sequence[Request]) -> Mapping[str, Any]:
            found = by_member(await self.original([asked[each.key] for each in requests]), self.original)
            return {each.key: found.get(asked[each.key]) for each in requests}

        requests = [self._group.request(key, member) for key, member in asked.items()]
        values = await self._renewing.renew(requests, load)
        return {asked[key]: values[key] for key in asked if values[key] is not None}
