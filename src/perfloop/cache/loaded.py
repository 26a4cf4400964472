"""What a loader may return besides a bare value, and what a load is asked for."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypedDict, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from perfloop.cache.policy import CachePolicy
from perfloop.cache.warmed import Ahead
from perfloop.errors import InvalidInput

ValueT = TypeVar("ValueT")
KNOWN_POLICIES: Final = 1000
KNOWN_KINDS: Final = 1000
LONGEST_TAG_BYTES: Final = 65_535
"""The remote tier has two bytes for the length of a tag."""
MOST_TAGS: Final = 65_535
"""And two for their number."""
TICK_S: Final = 0.001
"""The remote tier keeps lengths of time in milliseconds."""


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

    __slots__ = (
        "ahead",
        "early_s",
        "is_background",
        "key",
        "kind",
        "loader",
        "policy",
        "renews",
        "replaces",
        "tags",
    )

    def __init__(
        self,
        key: str,
        loader: Callable[[], Any] | None,
        policy: CachePolicy,
        tags: tuple[str, ...],
        kind: Any,
    ) -> None:
        require_key(key)
        require_tags(tags)
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
        self.replaces = False
        """The remote tier has an older value."""
        self.renews = False
        """What other processes have is older as well."""

    def behind(self) -> Request:
        """The same load, which nobody waits for."""
        behind = Request(self.key, self.loader, self.policy, self.tags, self.kind)
        behind.is_background = True
        behind.replaces = self.replaces
        return behind


def require_key(key: object) -> None:
    """Raise InvalidInput for what is no text: the remote tier would take it for another, or not at all."""
    if not isinstance(key, str):
        raise InvalidInput(f"{key!r} is no key: keys are text, as f'user:{{number}}'")


def keys_of(keys: Iterable[str]) -> tuple[str, ...]:
    """Each key once.

    Raises:
        InvalidInput: It is a single text, of which each letter would be a key; or one of them is no text.
    """
    if isinstance(keys, str):
        raise InvalidInput(f"{keys!r} is one key, where several are asked for: give [{keys!r}]")
    each = tuple(keys)
    for key in each:
        require_key(key)
    return tuple(dict.fromkeys(each))


def texts_of(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """What was given under a name that takes several texts.

    Raises:
        InvalidInput: It is a single text, which would be as many as it has letters.
    """
    if isinstance(given, str):
        raise InvalidInput(f"{name}={given!r} would be one for each letter; write {name}=({given!r},)")
    return tuple(given)


def require_tag(tag: object) -> None:
    """Raise InvalidInput for what is no text."""
    if not isinstance(tag, str):
        raise InvalidInput(f"{tag!r} is no tag: tags are text")


def require_tags(tags: Collection[str]) -> None:
    """Raise InvalidInput for what is no text, or more than the remote tier can take."""
    if len(tags) > MOST_TAGS:
        raise InvalidInput(f"a value has {len(tags):,} tags; it may have {MOST_TAGS:,}")
    for tag in tags:
        require_tag(tag)
        if len(tag) > LONGEST_TAG_BYTES // 4 and len(tag.encode(errors="replace")) > LONGEST_TAG_BYTES:
            raise InvalidInput(
                f"the tag {tag[:20]!r}… has over {LONGEST_TAG_BYTES} bytes; make it of an id, not of a text"
            )


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
        self._keep((base, ttl_s, stale_for_s), policy)
        return policy

    def kept(self, ttl_s: float, stale_for_s: float, fail_safe_for_s: float) -> CachePolicy:
        """The policy that a value of the remote tier was stored with, as far as it says.

        Of the lives, which are drawn for each value, it has the first one's: an entry comes with its own.
        """
        policy = self._known.get((stale_for_s, fail_safe_for_s))
        if policy is None:
            policy = CachePolicy(
                ttl_s=ttl_s, stale_for_s=stale_for_s, fail_safe_for_s=fail_safe_for_s, jitter_ratio=0.0
            )
            self._keep((stale_for_s, fail_safe_for_s), policy)
        return policy

    def fetched(self, asked: CachePolicy, stale_for_s: float, fail_safe_for_s: float) -> CachePolicy:
        """The policy of a request, with what the value that the remote tier had for it was stored with."""
        if (
            abs(asked.stale_for_s - stale_for_s) < TICK_S
            and abs(asked.fail_safe_for_s - fail_safe_for_s) < TICK_S
        ):
            return asked
        policy = self._known.get((asked, stale_for_s, fail_safe_for_s, "fetched"))
        if policy is None:
            policy = msgspec.structs.replace(
                asked,
                stale_for_s=stale_for_s,
                fail_safe_for_s=fail_safe_for_s,
                soft_timeout_s=asked.soft_timeout_s if fail_safe_for_s else None,
            )
            self._keep((asked, stale_for_s, fail_safe_for_s, "fetched"), policy)
        return policy

    def _keep(self, asked: tuple[Any, ...], policy: CachePolicy) -> None:
        if len(self._known) >= KNOWN_POLICIES:
            self._known.clear()
        self._known[asked] = policy


_NO_LIFE = "say how long the value lives: ttl_s=60, or a policy of the call or of the cache"


def unpacked(
    loaded: object, policy: CachePolicy, tags: tuple[str, ...], terms: Terms
) -> tuple[Any, CachePolicy, tuple[str, ...]]:
    """Value, policy and tags of what a loader returned."""
    if not isinstance(loaded, Loaded):
        return loaded, policy, tags
    more = texts_of("tags", loaded.tags)
    if loaded.ttl_s is not None or loaded.stale_for_s is not None:
        policy = terms.policy(policy, loaded.ttl_s, loaded.stale_for_s)
    tags = tuple(dict.fromkeys((*tags, *more)))
    require_tags(tags)
    return loaded.value, policy, tags


_kinds: dict[tuple[Any, ...], Any] = {}


def kind_of(loader: Callable[..., Any], *, of_mapping: bool = False) -> Any:
    """The type that a loader says it returns, or has in its mapping, for the serialiser; else None."""
    said = getattr(loader, "__annotations__", {}).get("return")
    if said is None:
        return None
    # By what it says, not by its name: closures of one name may say different things.
    name = (getattr(loader, "__module__", None), said, of_mapping)
    try:
        kind = _kinds.get(name, _kinds)
    except TypeError:  # an annotation without a hash
        return _resolved(loader, of_mapping)
    if kind is _kinds:
        if len(_kinds) >= KNOWN_KINDS:
            _kinds.clear()
        kind = _kinds[name] = _resolved(loader, of_mapping)
    return kind


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
