"""The list of keys that outlives the process, so that a restart begins with a warm cache.

Only keys are listed, never values: these come from the shared tier, and what that does not have from the
batch loaders, at a limited rate. The file is in `key_list_file`.

What it brings is measured: a share of the keys is held back, and misses of the first requests are compared
(`held_back`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from perfloop.cache.held_back import LEAST_HELD_MISSES, HeldBack
from perfloop.model.value import Value, require
from perfloop.stats.interval import RatioInterval

_MOST_DIGITS: Final = 40


class KeyListPolicy(Value, frozen=True, kw_only=True):
    """How much is remembered, how often, and how hard a restart may press the database."""

    max_keys: int = 100_000
    every_s: float = 60.0
    """Between two looks at the tier, each of which is followed by a new file."""
    half_life_capacities: float = 10.0
    """Half-life of a key's points, in requests, as multiples of the tier's capacity."""
    batch_rows: int = 100
    loaded_rows_per_s: float = 500.0
    """Of the loaders, on average; they rest at least as long as they work. The shared tier is not slowed."""
    held_back_ratio: float = 0.05
    max_bytes: int = 64 * 1024 * 1024
    """A larger file is not read."""

    def __post_init__(self) -> None:
        require(self.max_keys >= 1, f"max_keys is {self.max_keys}; it is at least 1")
        require(self.batch_rows >= 1, f"batch_rows is {self.batch_rows}; it is at least 1")
        for name in ("every_s", "half_life_capacities", "loaded_rows_per_s"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be above 0")
        held = self.held_back_ratio
        require(0.01 <= held <= 0.5, f"held_back_ratio is {held}; it lies between 0.01 and 0.5")


class KeyList(Value, frozen=True, kw_only=True):
    """What a file holds: keys with their points, the most wanted first, and when it was written."""

    keys: tuple[str, ...] = ()
    points: tuple[float, ...] = ()
    held: int = 0
    """How many entries the tier held, or had room for."""
    saved_unix_s: float = 0.0


class FoundKeys(Value, frozen=True, kw_only=True):
    """What a file gave; `note` says why there are no keys, or is empty."""

    found: KeyList = KeyList()
    note: str = ""


class KeyListStatistics(Value, frozen=True, kw_only=True):
    """What the key list brought to the first `requests` requests after the start.

    `hit_ratio_without` and `misses_ratio`, misses with the list over misses without, are those of the keys
    that are held back; None while there are too few to tell.
    """

    listed: int = 0
    from_remote: int = 0
    from_loaders: int = 0
    requests: int = 0
    hit_ratio: float | None = None
    hit_ratio_without: float | None = None
    misses_ratio: RatioInterval | None = None
    note: str = ""


class MemberReader:
    """Makes members of a template's keys again.

    >>> MemberReader("product:{}", "product:{}".format).read("product:7")
    7
    """

    def __init__(self, template: str, key: Callable[[Any], str]) -> None:
        self.before, _, self._after = template.partition("{}")
        self._key = key

    def read(self, key: str) -> Any:
        """A whole number or a text whose key this is, or None."""
        if not (key.startswith(self.before) and key.endswith(self._after)):
            return None
        text = key[len(self.before) : len(key) - len(self._after)]
        quoted = unquote(text)
        for member in (_whole(text), quoted, quoted.removeprefix("'")):
            if member is not None and self._key(member) == key:
                return member
        return None


def _whole(text: str) -> int | None:
    return int(text) if text.removeprefix("-").isdecimal() and len(text) <= _MOST_DIGITS else None


def rest_s(policy: KeyListPolicy, *, rows: int, elapsed_s: float) -> float:
    """How long to wait after a loader's call for so many rows took so long."""
    return max(rows / policy.loaded_rows_per_s - elapsed_s, elapsed_s)


class KeyListGain:
    """Compares the keys that are loaded at the start with those held back, over the first requests."""

    def __init__(self, policy: KeyListPolicy, salt: int) -> None:
        self._keys = HeldBack(policy.held_back_ratio, salt)

    def holds(self, key: str) -> bool:
        """Whether this key is not to be loaded at the start."""
        return self._keys.holds(key)

    def missed(self, key: str) -> None:
        """A request among the first had to load this key."""
        self._keys.missed(key)

    def statistics(self, requests: int) -> KeyListStatistics:
        """What `requests` requests show so far."""
        if not requests:
            return KeyListStatistics()
        held_misses = self._keys.held_misses()
        without = 1 - held_misses / (requests * self._keys.held_ratio)
        return KeyListStatistics(
            requests=requests,
            hit_ratio=1 - (self._keys.warmed_misses() + held_misses) / requests,
            hit_ratio_without=max(0.0, without) if held_misses >= LEAST_HELD_MISSES else None,
            misses_ratio=self._keys.misses_ratio(),
        )
