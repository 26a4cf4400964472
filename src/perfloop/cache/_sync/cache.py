# Generated from perfloop/cache/_async/cache.py by tools/make_sync.py; edit that one.
"""The cache as its users see it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from perfloop.cache._sync.batch import Group
from perfloop.cache._sync.decorated import Cached, CachedMany, Decorator, ManyDecorator
from perfloop.cache._sync.link import shared_tier
from perfloop.cache._sync.parts import Parts, Surroundings, memory_of
from perfloop.cache.breaker import BreakerPolicy
from perfloop.cache.codec import Codec, Serializer
from perfloop.cache.events import CacheEvent, guarded
from perfloop.cache.key_list import KeyListPolicy
from perfloop.cache.loaded import (
    Loaded,
    LoadTerms,
    Request,
    keys_of,
    kind_of,
    require_key,
    require_tag,
    texts_of,
)
from perfloop.cache.policy import CachePolicy
from perfloop.cache.remote import RemoteTier
from perfloop.cache.statistics import CacheStatistics
from perfloop.cache.usage import UsagePolicy, UsageProfile
from perfloop.cache.usage_counts import usage_counts
from perfloop.cache.warming import WarmingPolicy
from perfloop.metrics.registry import Registry
from perfloop.model.value import require

ValueT = TypeVar("ValueT")
DefaultT = TypeVar("DefaultT")
MemberT = TypeVar("MemberT", bound=Hashable)
P = ParamSpec("P")


class TieredCache:
    """Values by key in this process, and in Redis or Valkey where one is given, for threads.

    Threads may share it. With `redis`, `remote`, `key_list` or `registry`, open it.

    Args:
        redis: URL of the shared tier; None keeps values in this process alone.
        prefix: Of all keys in the shared tier; caches with the same prefix share their values.
        capacity: Entries that the process holds; 100,000 where neither this nor `max_bytes` is given.
        max_bytes: Bounds the process's entries by their size instead.
        policy: For calls that give none; without it each call says `ttl_s`.
        serializer: For the shared tier: msgpack, pickle (which needs a secret), or one's own.
        secret: Signs the values in the shared tier; at least 16 bytes, the same in all processes.
        timeout_s: How long Redis may make no progress, and how long a call waits for the connection; then it
            is away. Default 0.04.
        lease_s: The longest that one process's load keeps others from loading the same key.
        breaker: How often a shared tier that is away is probed.
        remote: A shared tier of one's own, such as `InMemoryRemote` in tests.
        key_list: A file of its own for the keys of `cached_many` that the next process begins with.
        key_list_policy: How many, how often, how fast.
        usage: Tell by `usage()` how each template is used: docs/how-to/cache-usage.md.
        registry: Of perfloop.metrics; shows its statistics while it is open.
        on_event: Is told what it does, except hits, in the caller's path; what it raises is logged.
        clock: Seconds, never going back.
        rand: Numbers from [0, 1), for jitter and XFetch.
    """

    def __init__(
        self,
        redis: str | None = None,
        *,
        prefix: str = "perfloop",
        capacity: int | None = None,
        max_bytes: int | None = None,
        policy: CachePolicy | None = None,
        serializer: Literal["msgpack", "pickle"] | Serializer = "msgpack",
        secret: bytes | None = None,
        timeout_s: float | None = None,
        lease_s: float = 10.0,
        breaker: BreakerPolicy | None = None,
        remote: RemoteTier | None = None,
        key_list: str | Path | None = None,
        key_list_policy: KeyListPolicy | None = None,
        usage: bool | UsagePolicy = False,
        registry: Registry | None = None,
        on_event: Callable[[CacheEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        remote = shared_tier(redis, remote, prefix=prefix, timeout_s=timeout_s)
        require(lease_s > 0, f"lease_s is {lease_s}; it must be above 0")
        require(not key_list_policy or key_list is not None, "key_list_policy: give key_list, too")
        counted = usage_counts(usage, prefix, by_bytes=max_bytes is not None, clock=clock, rand=rand)
        memory = memory_of(capacity, max_bytes, counted, clock=clock, rand=rand)
        codec = Codec(serializer, secret=secret, scope=prefix if remote is None else remote.scope)
        around = Surroundings(clock=clock, rand=rand, tell=guarded(on_event))
        self._parts = Parts(
            memory, remote, around, codec, policy=policy, lease_s=lease_s, breaker=breaker, usage=counted
        )
        self._parts.observe(prefix, registry)
        if key_list is not None:
            self._parts.keep_key_list(
                key_list, key_list_policy, memory.capacity if max_bytes is None else None
            )
        self._memory, self._link, self._loading = memory, self._parts.link, self._parts.loading
        self._terms, self._batch = self._parts.terms, self._parts.batch
        self._hit = memory.get

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """What `with` begins with, for where there is no place for that: a server's start-up.

        Raises:
            MissingRights: The user of the shared tier may not subscribe. One that is away is no error.
        """
        self._parts.open()

    def close(self) -> None:
        """End loads and refreshes that are under way, stop listening, and close the connections."""
        self._parts.close()

    @overload
    def get_or_load(
        self, key: str, loader: Callable[[], Loaded[ValueT]], **terms: Unpack[LoadTerms]
    ) -> ValueT: ...

    @overload
    def get_or_load(
        self, key: str, loader: Callable[[], ValueT | Loaded[ValueT]], **terms: Unpack[LoadTerms]
    ) -> ValueT: ...

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], ValueT | Loaded[ValueT]],
        *,
        ttl_s: float | None = None,
        stale_for_s: float | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
        kind: Any = None,
    ) -> ValueT:
        """The value of a key; where there is none, of all who ask for it one runs the loader.

        Args:
            key: Any text.
            loader: Takes nothing; returns the value, or a Loaded with terms of its own.
            ttl_s: Life of the value; None takes the policy's.
            stale_for_s: How long after it the value may be served while a new one is loaded behind.
            tags: What `invalidate_tag` finds the value by.
            policy: The other terms.
            kind: The type of the value, for msgpack to make; None takes the loader's return type.

        Raises:
            LoadTimedOut: The policy has a hard_timeout_s, and the loader took longer.
            InvalidInput: Nothing says how long the value lives.
        """
        entry = self._hit(key)
        if entry is not None:
            return entry.value  # type: ignore[return-value]  # a key has one type, which its callers know
        terms = self._terms.policy(policy, ttl_s, stale_for_s)
        request = Request(key, loader, terms, texts_of("tags", tags), kind or self._kind(loader))
        return self._loading.serve(request)  # type: ignore[no-any-return]  # as above

    def _kind(self, loader: Callable[..., Any], *, of_mapping: bool = False) -> Any:
        return None if self._link is None else kind_of(loader, of_mapping=of_mapping)

    @overload
    def get(self, key: str, default: None = None, *, kind: type[ValueT]) -> ValueT | None: ...

    @overload
    def get(self, key: str, default: DefaultT, *, kind: type[ValueT]) -> ValueT | DefaultT | None: ...

    @overload
    def get(self, key: str, default: Any = None, *, kind: Any = None) -> Any: ...

    def get(self, key: str, default: Any = None, *, kind: Any = None) -> Any:
        """The value of a key if a tier has it, or a stale one that may be served; loads nothing.

        It is None, not `default`, where it is kept that there is no value. Without `kind` a value of the
        shared tier is what its bytes say: a dict for a dataclass.
        """
        entry = self._hit(key)
        if entry is not None:
            return entry.value
        require_key(key)
        return (self._parts.plain.look((key,), kind)).get(key, default)

    @overload
    def get_many(self, keys: Iterable[str], *, kind: type[ValueT]) -> dict[str, ValueT | None]: ...

    @overload
    def get_many(self, keys: Iterable[str], *, kind: Any = None) -> dict[str, Any]: ...

    def get_many(self, keys: Iterable[str], *, kind: Any = None) -> dict[str, Any]:
        """The values of those keys that a tier has, as `get` does, in one step."""
        return self._parts.plain.look(keys_of(keys), kind)

    def set(
        self,
        key: str,
        value: object,
        *,
        ttl_s: float | None = None,
        stale_for_s: float | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
        kind: Any = None,
    ) -> None:
        """Keep a value that is true now; loads of the key that are under way will not be kept.

        Raises:
            InvalidInput: There is a shared tier, and its serialiser does not take the value; msgpack needs
                `kind` for what it would not give back as it is. Or nothing says how long the value lives.
        """
        terms = self._terms.policy(policy, ttl_s, stale_for_s)
        self._parts.plain.put(Request(key, None, terms, texts_of("tags", tags), kind), value)

    @overload
    def load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[Sequence[str]], Mapping[str, Loaded[ValueT]]],
        **terms: Unpack[LoadTerms],
    ) -> dict[str, ValueT]: ...

    @overload
    def load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[Sequence[str]], Mapping[str, ValueT | Loaded[ValueT]]],
        **terms: Unpack[LoadTerms],
    ) -> dict[str, ValueT]: ...

    def load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[Sequence[str]], Mapping[str, ValueT | Loaded[ValueT]]],
        *,
        ttl_s: float | None = None,
        stale_for_s: float | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
        kind: Any = None,
    ) -> dict[str, ValueT]:
        """The values of many keys in one step; the loader gets those that no tier has, in one call.

        A key that the loader leaves out, or has None for, has no value. The result leaves it out, and that is
        kept for the policy's negative_ttl_s, else its ttl_s. A load goes on where its caller is cancelled.
        """
        terms = self._terms.policy(policy, ttl_s, stale_for_s)
        common = texts_of("tags", tags)
        group = Group(loader, terms, lambda _: common, kind or self._kind(loader, of_mapping=True))
        return self._batch.load({key: key for key in keys_of(keys)}, group)

    def cached(
        self,
        key: str,
        *,
        ttl_s: float | None = None,
        stale_for_s: float | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> Decorator:
        """Decorate a function: its result is kept under a key made of its arguments.

        Args:
            key: A template, `"user:{user_id}"`; it names parameters, or attributes of them.
            ttl_s: As for `get_or_load`, like the rest.
            stale_for_s: See there.
            tags: Templates, too.
            policy: See there.

        Raises:
            InvalidInput: A template names what is no parameter, or another function has the key; when
                the function is decorated.
        """
        terms = self._terms.policy(policy, ttl_s, stale_for_s)
        templates = texts_of("tags", tags)

        def decorate(function: Callable[P, Any]) -> Cached[P, Any]:
            return Cached(self._parts, function, key, templates, terms)

        return decorate

    def cached_many(
        self,
        key: str,
        *,
        ttl_s: float | None = None,
        stale_for_s: float | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
        warm: bool | WarmingPolicy = False,
        is_busy: Callable[[], bool] | None = None,
    ) -> ManyDecorator:
        """Decorate a function that loads many members at once; `{}` in the templates is the member.

        With `warm` it learns what is missed after what, and loads that in the same call while it pays,
        unless `is_busy` says no: docs/explain/warming.md. `statistics().warming` says what it gains.
        """
        require(is_busy is None or warm is not False, "is_busy is asked before bundles are loaded; give warm")
        terms = self._terms.policy(policy, ttl_s, stale_for_s)
        templates = texts_of("tags", tags)

        def decorate(
            function: Callable[[Sequence[MemberT]], Mapping[MemberT, Any]],
        ) -> CachedMany[MemberT, Any]:
            return CachedMany(self._parts, function, key, templates, terms, warm=warm, is_busy=is_busy)

        return decorate

    def delete(self, *keys: str) -> None:
        """Make the values of these keys invalid, in all processes; loads under way will not be kept."""
        for key in keys:
            require_key(key)
        self._parts.invalidate(keys, ())

    def invalidate_tag(self, *tags: str) -> None:
        """Make all that carry one of these tags invalid, in all processes, in one step a tag."""
        for tag in tags:
            require_tag(tag)
        self._parts.invalidate((), tags)

    @property
    def is_alone(self) -> bool:
        """Whether the shared tier is away, so that this process serves what it has, by its lives alone."""
        return self._parts.is_alone

    def usage(self) -> UsageProfile:
        """How each template was used since it was made, and what other capacities would do.

        Raises:
            InvalidInput: It was made without `usage=True`.
        """
        return self._parts.usage()

    def statistics(self) -> CacheStatistics:
        """What it did since it was made."""
        return self._parts.statistics()
