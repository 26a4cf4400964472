"""Chooses a value for one use of a parameter from what is known of its column."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from perfloop.model.snapshot import Snapshot
from perfloop.model.target import TableName
from perfloop.validate.distribution import Distribution, from_sample, from_statistics
from perfloop.validate.literals import TypeKind, fresh_value, type_kind
from perfloop.validate.sources import Site
from perfloop.validate.uses import Role, Use

_LIGHTEST_SHARE, _WIDEST_RATIO = 0.005, 60.0
"""Ranges take 0.5 % to 30 % of the rows, evenly by order of magnitude."""
_RECENT = 0.25
"""Ranges of times lie in the last quarter of the rows: services ask for what is new."""
_CONFIGURATION = re.compile(r"to_tsvector\('(\w+)'::regconfig")
_WORD = re.compile(r"\w{4,}")
_PREFIX_LENGTH = 4
_BYTE_ORDERS = ("C", "POSIX")
_COMMON_KEY_EVERY = 4
_STALE_RATIO = 0.5
"""Where more rows than these changed since ANALYZE, a sample says more than pg_stats."""

_PARTS = {"year": (0, 4), "month": (5, 7), "day": (8, 10), "hour": (11, 13), "minute": (14, 16)}


class Choices:
    """What may be drawn for the columns of a Snapshot. Samples are read once per column."""

    def __init__(
        self, snapshot: Snapshot, sample: Callable[[TableName, str], tuple[str, ...]] | None
    ) -> None:
        self._snapshot = snapshot
        self._sample = sample
        self._known: dict[tuple[TableName, str], Distribution | None] = {}

    def distribution(self, site: Site) -> Distribution | None:
        """The values of a column: from pg_stats, of the column it refers to, or from a sample."""
        name = (site.table.name, site.column.name)
        if name not in self._known:
            self._known[name] = self._find(site)
        return self._known[name]

    def value(self, use: Use, position: float, partners: tuple[Use, ...], index: int) -> str | None:
        """A value in text form for a parameter that is compared, or None where nothing is known."""
        known = self.distribution(use.site) if use.site is not None else None
        if known is None or use.site is None:
            return None
        if use.role in (Role.LOW, Role.HIGH) and use.key is None:
            return _bound(known, use, position, partners, _is_time(use.site))
        found = _chosen(known, use, use.site, position, index)
        if found is None or not use.is_pattern:
            return found
        is_prefix = index % 2 == 1 or self._has_prefix_index(use.site)
        return _prefix(found) if is_prefix else f"%{_escaped(_fragment(found))}%"

    def fresh(self, use: Use, rng: Random) -> str | None:
        """A value that violates no unique index, if the column is the free part of one."""
        site = use.site
        if site is None or not self._must_differ(site):
            return None
        known = self.distribution(site)
        return fresh_value(site.column.type_name, known.largest if known else None, rng)

    def configuration(self, site: Site | None) -> str:
        """The text search configuration that an index of the table is built with, or english."""
        indexes = self._snapshot.indexes_of(site.table.name) if site is not None else ()
        names = (_CONFIGURATION.search(index.definition) for index in indexes)
        return next((name[1] for name in names if name is not None), "english")

    def _has_prefix_index(self, site: Site) -> bool:
        """Whether somebody has built an index for patterns that begin with what they look for."""
        return any(
            index.method == "btree"
            and index.is_valid
            and _mentions(index.keys[0].text, site.column.name)
            and (
                index.keys[0].collation in _BYTE_ORDERS
                or str(index.keys[0].operator_class).endswith("_pattern_ops")
            )
            for index in self._snapshot.indexes_of(site.table.name)
        )

    def _find(self, site: Site) -> Distribution | None:
        table = site.table
        is_stale = table.modified_since_analyze > _STALE_RATIO * max(table.rows, 1.0)
        padded = site.column.type_name.startswith("character(")
        own = from_statistics(site.column.statistics, padded=padded)
        known = own or from_statistics(self._referenced(site), padded=padded)
        return known if known is not None and not is_stale else self._sampled(site) or known

    def _sampled(self, site: Site) -> Distribution | None:
        return from_sample(self._sample(site.table.name, site.column.name)) if self._sample else None

    def _referenced(self, site: Site) -> Any:
        for key in self._snapshot.foreign_keys:
            if key.table == site.table.name and site.column.name in key.columns:
                table = self._snapshot.table(key.referenced)
                name = key.referenced_columns[key.columns.index(site.column.name)]
                column = table.column(name) if table is not None else None
                return column.statistics if column is not None else None
        return None

    def _must_differ(self, site: Site) -> bool:
        """Whether the column is the last of a unique index's columns that refers to no other table."""
        name = site.column.name
        referring = {
            column
            for key in self._snapshot.foreign_keys
            if key.table == site.table.name
            for column in key.columns
        }
        for index in self._snapshot.indexes_of(site.table.name):
            if not (index.is_unique and index.is_valid):
                continue
            columns = (each.name for each in site.table.columns)
            named = [each for each in columns if any(_mentions(key, each) for key in index.columns)]
            free = [each for each in named if each not in referring]
            if free and free[-1] == name:
                return True
        return False


def _chosen(known: Distribution, use: Use, site: Site, position: float, index: int) -> str | None:
    """What a parameter becomes that is no bound of a range."""
    value = known.typical(position)
    match use.role:
        case Role.FRAGMENT:
            return _fragment(value)
        case Role.WORDS:
            return _words(value, use.key)
        case Role.ELEMENT:
            return _elements(value)[0]
        case Role.CONTAINED:
            return _contained(known, value, site, index)
        case Role.KEY:
            return next(iter(_scalars(known)), None)
        case Role.JSON_VALUE:
            return _json_value(known, use.key or "", position)
    return _part(value, use.key) if use.key else value


def _mentions(key: str, column: str) -> bool:
    return key == column or re.search(rf"(?<!\w){re.escape(column)}(?!\w)", key) is not None


def _is_time(site: Site) -> bool:
    return type_kind(site.column.type_name) in (TypeKind.TIMESTAMP, TypeKind.DATE)


def _bound(known: Distribution, use: Use, position: float, partners: tuple[Use, ...], recent: bool) -> str:
    share = _LIGHTEST_SHARE * _WIDEST_RATIO**position
    if not partners:
        from_above = use.role is Role.LOW or recent
        return known.quantile(1.0 - share if from_above else share)
    place = (position * 7.0) % 1.0 * (1.0 - share) * (_RECENT if recent else 1.0)
    low, high = 1.0 - place - share, 1.0 - place
    if use.shifted or any(each.shifted for each in partners):
        return known.quantile(low)
    while known.quantile(low) == known.quantile(high) and low > 0.0:
        low -= 0.01
    return known.quantile(max(0.0, low) if use.role is Role.LOW else min(high, 0.9999))


def _fragment(value: str) -> str:
    words = _WORD.findall(value)
    return words[0] if words else value[:_PREFIX_LENGTH]


def _prefix(value: str) -> str:
    return f"{_escaped(value[:_PREFIX_LENGTH])}%"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _words(value: str, function: str | None) -> str | None:
    words = _WORD.findall(value)
    if not words:
        return None
    return str(words[0]) if function == "to_tsquery" else " ".join(words[:2])


def _contained(known: Distribution, value: str, site: Site, index: int) -> str | None:
    """A part of a value; of JSON objects mostly the member with most values, as searches ask."""
    if type_kind(site.column.type_name) is TypeKind.ARRAY:
        elements = _elements(value)
        return "{" + elements[index % len(elements)] + "}"
    if type_kind(site.column.type_name) is not TypeKind.JSON:
        return value
    document = _document(value)
    if isinstance(document, list):
        return json.dumps(document[:1])
    keys = [key for key in _scalars(known) if key in document]
    if not keys:
        return json.dumps(document)
    key = keys[(index // _COMMON_KEY_EVERY) % len(keys)]
    return json.dumps({key: document[key]})


def _elements(array: str) -> list[str]:
    return array.strip("{}").split(",")


def _scalars(known: Distribution) -> list[str]:
    """Keys of the column's JSON objects whose values are scalars; those with most different values first."""
    values: dict[str, set[str]] = {}
    for value in known.values:
        document = _document(value)
        for key, each in document.items() if isinstance(document, dict) else ():
            if not isinstance(each, dict | list):
                values.setdefault(key, set()).add(json.dumps(each))
    return sorted(values, key=lambda key: (-len(values[key]), key))


def _json_value(known: Distribution, key: str, position: float) -> str | None:
    if key.startswith("@p"):
        key = next(iter(_scalars(known)), key)
    values = [each for value in known.values if (each := _member(value, key)) is not None]
    return values[int(position * len(values))] if values else None


def _member(value: str, key: str) -> str | None:
    document = _document(value)
    member = document.get(key) if isinstance(document, dict) else None
    if member is None or isinstance(member, dict | list):
        return None
    return member if isinstance(member, str) else json.dumps(member)


def _document(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return {}


def _part(value: str, part: str) -> str:
    # A mark is the parameter of extract($1 FROM …), which becomes a year.
    start, end = _PARTS.get("year" if part.startswith("@p") else part, (0, 0))
    digits = value[start:end].lstrip("0")
    return digits if digits.isdigit() else "1"
