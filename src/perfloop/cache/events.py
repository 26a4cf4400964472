"""What a cache tells its listener. Hits are not told: they are counted, and cost nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from perfloop.model.value import Value


class Missed(Value, frozen=True, kw_only=True, tag="missed"):
    """No tier had a value for these: the loader is called, or `get` has nothing to give."""

    keys: tuple[str, ...]


class StaleServed(Value, frozen=True, kw_only=True, tag="stale_served"):
    """A value past its life was served; `is_spare` where it stood in for a loader that failed or was slow."""

    key: str
    is_spare: bool


class LoadEnded(Value, frozen=True, kw_only=True, tag="load_ended"):
    """A loader returned."""

    keys: tuple[str, ...]
    """All that it was called for, in one call."""
    load_s: float


class LoadFailed(Value, frozen=True, kw_only=True, tag="load_failed"):
    """A loader raised, or the background refresh of a value did."""

    keys: tuple[str, ...]
    error: str


class StoreRefused(Value, frozen=True, kw_only=True, tag="store_refused"):
    """A loaded value was not kept: an invalidation overtook it, or no serialiser took it."""

    key: str
    reason: str


class BreakerOpened(Value, frozen=True, kw_only=True, tag="breaker_opened"):
    """The remote tier is away; the memory tier serves alone."""

    error: str


class BreakerClosed(Value, frozen=True, kw_only=True, tag="breaker_closed"):
    """The remote tier is back, and has what was invalidated meanwhile."""


CacheEvent: TypeAlias = (
    Missed | StaleServed | LoadEnded | LoadFailed | StoreRefused | BreakerOpened | BreakerClosed
)

_log = logging.getLogger("perfloop.cache")


def guarded(listener: Callable[[CacheEvent], None] | None) -> Callable[[CacheEvent], None]:
    """The listener, whose faults are logged, the first with its traceback, and cost nobody a value."""
    if listener is None:
        return _nobody
    faults = 0

    def tell(event: CacheEvent) -> None:
        nonlocal faults
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001  # the service's own code, in the path of every caller
            faults += 1
            _log.warning("on_event failed: %r", error, exc_info=faults == 1)

    return tell


def told(error: BaseException, show: Callable[[object], str] = repr) -> str:
    """An error as events have it, also where its own code fails."""
    try:
        return show(error)
    except Exception:  # noqa: BLE001 - an error that cannot be shown ends no load otherwise than others do
        return f"{type(error).__name__}, which cannot be shown"


def _nobody(event: CacheEvent) -> None:
    """Nobody listens."""
