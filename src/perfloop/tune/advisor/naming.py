"""Makes the values of new indexes and statistics: their names are the same in every run."""

from __future__ import annotations

import hashlib
import re

from perfloop.model.advice import CreateIndex
from perfloop.model.target import Index, IndexKey, TableName
from perfloop.tune.advisor.conditions import canonical

_NAME_BYTES = 63
"""PostgreSQL cuts longer names silently (NAMEDATALEN - 1)."""
_DIGEST_CHARACTERS = 8


def new_index(
    table: TableName,
    keys: tuple[IndexKey, ...],
    *,
    included: tuple[str, ...] = (),
    predicate: str | None = None,
    method: str = "btree",
    requires_extension: str | None = None,
    is_partitioned: bool = False,
    taken: frozenset[str] = frozenset(),
) -> CreateIndex:
    """The index, named `perfloop_<table>_<columns>_idx`.

    A digest of the definition goes into the name where the columns alone do not say it, where the
    name would be too long, or where one of the `taken` names is the same.
    """
    plain = not included and predicate is None and all(key == IndexKey(text=key.text) for key in keys)
    definition = repr((str(table), keys, included, predicate))
    words, suffix = tuple(key.text for key in keys), "idx"
    if method != "btree":
        plain, definition, suffix = False, definition + method, f"{method}_idx"
    return CreateIndex(
        table=table,
        name=unique_name((table.name, *words), suffix, definition, taken, plain=plain),
        keys=keys,
        included=included,
        predicate=predicate,
        method=method,
        requires_extension=requires_extension,
        is_partitioned=is_partitioned,
    )


def unique_name(
    words: tuple[str, ...], suffix: str, definition: str, taken: frozenset[str], *, plain: bool = True
) -> str:
    """`perfloop_<words>_<suffix>` in at most 63 bytes, not one of `taken`."""
    body = "_".join(re.sub(r"\W+", "_", word).strip("_") for word in ("perfloop", *words))
    name = f"{body}_{suffix}"
    if plain and len(name.encode()) <= _NAME_BYTES and name not in taken:
        return name
    digest = hashlib.blake2b(definition.encode(), digest_size=_DIGEST_CHARACTERS // 2).hexdigest()
    room = _NAME_BYTES - len(f"_{digest}_{suffix}")
    name = f"{body.encode()[:room].decode(errors='ignore').rstrip('_')}_{digest}_{suffix}"
    if name in taken:
        return unique_name(words, suffix, definition + "'", taken, plain=False)
    return name


def covers(index: Index, keys: tuple[IndexKey, ...], predicate: str | None = None) -> bool:
    """Whether a valid b-tree already begins with these keys, in this order and direction.

    It has to be unconditional, or to have the same `predicate`.
    """
    if index.method != "btree" or not index.is_valid:
        return False
    if index.predicate not in (None, predicate) and not _is_same(index.predicate, predicate):
        return False
    first = tuple(_identity(key) for key in index.keys[: len(keys)])
    wanted = tuple(_identity(key) for key in keys)
    backwards = tuple((text, operators, not down, not nulls) for text, operators, down, nulls in wanted)
    return first in (wanted, backwards)


def _is_same(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and canonical(one) == canonical(other)


def covers_part(index: Index, method: str, key: IndexKey) -> bool:
    """Whether a valid, unconditional index of that method already has this key.

    The default class of GIN for documents knows the operators of jsonb_path_ops too.
    """
    if index.method != method or not index.is_valid or index.predicate is not None:
        return False
    wanted = _identity(key)
    return any(
        held[0] == wanted[0] and held[1] in (wanted[1], None)
        for held in (_identity(each) for each in index.keys)
    )


def _identity(key: IndexKey) -> tuple[str, str | None, bool, bool]:
    text = canonical(key.text) if key.is_expression else key.text
    nulls_first = key.descending if key.nulls_first is None else key.nulls_first
    return text, key.operator_class, key.descending, nulls_first
