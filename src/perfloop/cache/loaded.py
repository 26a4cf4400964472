"""What a loader may return besides a bare value, and what a load is asked for."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypedDict, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from perfloop.cache.policy import CachePolicy
from perfloop.cache.warmed import Ahead
from perfloop.errors import InvalidInput

ValueT = TypeVar("ValueT")
KNOWN_POLICIES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[ValueT]):
    """A value with terms of its own, which only its loader knows; None leaves those of the call."""

    value: ValueT
    ttl_s: float | None = None
    stale_for_s: float | None = None
    tags: tuple[str, ...] = ()
    """In addition to those of the call."""


class LoadTerms(TypedDict, total=False):
    """What a call of `get_or_load` may say besides key and loader, for type checkers."""

    ttl_s: float | None
    stale_for_s: float | None
    tags: Iterable[str]
    policy: CachePolicy | None
    kind: Any


class Source(enum.Enum):
    """Where a load that ended had its value from."""

    LOADER = "loader"
    REMOTE = "remote"
    STALE = "stale"
    """Of either tier, past its life."""
    UNCHECKED = "unchecked"
    """Of the memory tier, as the remote tier went away."""


class Request:
    """One key to load, on which terms."""

    __slots__ = ("ahead", "early_s", "is_background", "key", "kind", "loader", "policy", "tags")

    def __init__(
        self,
        key: str,
        loader: Callable[[], Any] | None,
        policy: CachePolicy,
        tags: tuple[str, ...],
        kind: Any,
    ) -> None:
        self.key = key
        self.loader = loader
        self.policy = policy
        self.tags = tags
        self.kind = kind
        self.ahead: Ahead[Any] | None = None
        """Nobody has asked for it: it comes along with what was."""
        self.is_background = False
        """Nobody waits: a stale value does not do."""
        self.early_s = 0.0
        """Load anew although a shared value has up to this left."""

    def behind(self) -> Request:
        """The same load, which nobody waits for."""
        behind = Request(self.key, self.loader, self.policy, self.tags, self.kind)
        behind.is_background = True
        return behind


class Terms:
    """Policies of one cache by what callers ask for; making one for each miss would be dearer."""

    __slots__ = ("_default", "_known")

    def __init__(self, default: CachePolicy | None) -> None:
        self._default = default
        self._known: dict[tuple[Any, ...], CachePolicy] = {}

    def policy(
        self, given: CachePolicy | None, ttl_s: float | None, stale_for_s: float | None
    ) -> CachePolicy:
        """The given policy, else the cache's own, with what the call says besides.

        Raises:
            InvalidInput: Nothing says how long a value lives.
        """
        base = given or self._default
        if ttl_s is None and stale_for_s is None:
            if base is None:
                raise InvalidInput(_NO_LIFE)
            return base
        known = self._known.get((base, ttl_s, stale_for_s))
        return known or self._made(base, ttl_s, stale_for_s)

    def _made(self, base: CachePolicy | None, ttl_s: float | None, stale_for_s: float | None) -> CachePolicy:
        asked = {"ttl_s": ttl_s, "stale_for_s": stale_for_s}
        said = {name: value for name, value in asked.items() if value is not None}
        if base is not None:
            policy = msgspec.structs.replace(base, **said)
        elif ttl_s is None:
            raise InvalidInput(_NO_LIFE)
        else:
            policy = CachePolicy(ttl_s=ttl_s, stale_for_s=stale_for_s or 0.0)
        if len(self._known) >= KNOWN_POLICIES:
            self._known.clear()
        self._known[base, ttl_s, stale_for_s] = policy
        return policy

    def kept(self, ttl_s: float, stale_for_s: float, fail_safe_for_s: float) -> CachePolicy:
        """The policy that a value of the remote tier was stored with, as far as it says."""
        asked = (ttl_s, stale_for_s, fail_safe_for_s)
        policy = self._known.get(asked)
        if policy is None:
            if len(self._known) >= KNOWN_POLICIES:
                self._known.clear()
            policy = self._known[asked] = CachePolicy(
                ttl_s=ttl_s, stale_for_s=stale_for_s, fail_safe_for_s=fail_safe_for_s, jitter_ratio=0.0
            )
        return policy


_NO_LIFE = "say how long the value lives: ttl_s=60, or a policy of the call or of the cache"


def unpacked(
    loaded: object, policy: CachePolicy, tags: tuple[str, ...], terms: Terms
) -> tuple[Any, CachePolicy, tuple[str, ...]]:
    """Value, policy and tags of what a loader returned."""
    if not isinstance(loaded, Loaded):
        return loaded, policy, tags
    if loaded.ttl_s is not None or loaded.stale_for_s is not None:
        policy = terms.policy(policy, loaded.ttl_s, loaded.stale_for_s)
    return loaded.value, policy, tuple(dict.fromkeys((*tags, *loaded.tags)))


_kinds: dict[tuple[str, str, bool], Any] = {}


def kind_of(loader: Callable[..., Any], *, of_mapping: bool = False) -> Any:
    """The type that a loader says it returns, or has in its mapping, for the serialiser; else None."""
    if "return" not in getattr(loader, "__annotations__", ()):
        return None
    name = (loader.__module__, loader.__qualname__, of_mapping)
    if name not in _kinds:
        _kinds[name] = _resolved(loader, of_mapping)
    return _kinds[name]


def _resolved(loader: Callable[..., Any], of_mapping: bool) -> Any:
    try:
        kind = get_type_hints(loader)["return"]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return None  # a name that exists for the type checker only
    if of_mapping:
        kind = get_args(kind)[1] if len(get_args(kind)) == 2 else None
    if get_origin(kind) is Loaded:
        (kind,) = get_args(kind)
    if kind is Any or kind is Loaded or kind is None or kind is object or isinstance(kind, TypeVar):
        return None
    return kind
