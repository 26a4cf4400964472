"""The statements of a Change and of its undo, as text: what the report shows is what `acts` runs.

Nothing here talks to a server. Expressions and predicates of an index are inserted as they
stand: they come from a catalogue or from the advisor, never from outside.
"""

from __future__ import annotations

import re

from psycopg import sql

from perfloop.database.knobs import forbid
from perfloop.errors import ChangeForbidden, InvalidInput
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    CreateExtension,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    ServerChange,
    SetTableOptions,
    SettingScope,
)
from perfloop.model.target import IndexKey, TableName

Statement = sql.SQL | sql.Composed

RELOAD = sql.SQL("SELECT pg_reload_conf()")

_METHODS = frozenset({"btree", "hash", "gin", "gist", "spgist", "brin"})
_STATISTICS_KINDS = frozenset({"ndistinct", "dependencies", "mcv"})
_TABLE_OPTION = re.compile(r"fillfactor=\d+|autovacuum_enabled=true|autovacuum_(?!enabled)\w+=[\d.]+")
_NOTHING = sql.SQL("")
_NESTED = re.compile(r"\([^()]*\(")
_INDEX_HEAD = re.compile(r"CREATE (UNIQUE )?INDEX ")


def act_statements(change: ServerChange, *, concurrently: bool) -> tuple[Statement, ...]:
    """What carries the Change out, in order; each stands outside a transaction.

    Raises ChangeForbidden for a setting that is never touched.
    """
    match change:
        case CreateIndex():
            return (*build_statements(change, concurrently=concurrently), *analyze_after(change))
        case CreateExtension():
            return (_create_extension(change.name),)
        case DropIndex():
            return (_drop_index(change.table.schema, change.name, concurrently),)
        case AlterSetting():
            forbid(change.name, change.value, change.scope)
            return _set(change, change.value)
        case AnalyzeTable():
            return (_analyze(change.table),)
        case CreateStatistics():
            return (_create_statistics(change), _analyze(change.table))
        case SetTableOptions():
            _refuse_options(change)
            return (_set_options(change, change.options),)


def build_statements(change: CreateIndex, *, concurrently: bool) -> tuple[Statement, ...]:
    """What builds the index, without what makes its statistics."""
    build = _create_index(change, sql.SQL("CONCURRENTLY " if concurrently else ""))
    if change.requires_extension is None:
        return (build,)
    return (_create_extension(change.requires_extension), build)


def build_only(change: CreateIndex) -> Statement:
    """What builds the index of a partitioned table without those of its partitions: it is invalid."""
    return _create_index(change, sql.SQL(""), only=sql.SQL("ONLY "))


def analyze_after(change: CreateIndex) -> tuple[Statement, ...]:
    """What makes the statistics of an index on an expression."""
    return (_analyze(change.table),) if has_expression(change) else ()


def has_expression(change: CreateIndex) -> bool:
    """Whether the planner knows nothing of the index's values until an ANALYZE."""
    return any(key.is_expression for key in change.keys)


def undo_statements(change: ServerChange, before: str | None, *, concurrently: bool) -> tuple[Statement, ...]:
    """What brings back `before`, as `states.read_before` gave it. Empty where there is nothing to undo."""
    match change:
        case CreateIndex():
            return (_drop_index(change.table.schema, change.name, concurrently),)
        case CreateExtension():
            return () if before else (_drop_extension(change.name),)
        case DropIndex():
            return _rebuild(change, before or change.definition, concurrently) if change.was_valid else ()
        case AlterSetting():
            return _set(change, before)
        case AnalyzeTable():
            return ()
        case CreateStatistics():
            name = sql.Identifier(change.table.schema, change.name)
            return (sql.SQL("DROP STATISTICS IF EXISTS {}").format(name),)
        case SetTableOptions():
            return (_set_options(change, tuple(before.split(", ")) if before else ()),)


def _rebuild(change: DropIndex, definition: str, concurrently: bool) -> tuple[Statement, ...]:
    """The index as it was. The statistics of its expressions went with it; ANALYZE brings them back."""
    build = index_from_definition(definition, concurrently)
    is_nested = _NESTED.search(definition.partition(" WHERE ")[0])
    return (build, _analyze(change.table)) if is_nested else (build,)


def drop_leftover(change: CreateIndex | DropIndex, *, concurrently: bool) -> Statement:
    """What removes the invalid index that a build or a drop leaves behind when it is cut."""
    return _drop_index(change.table.schema, change.name, concurrently)


def apply_sql(change: ServerChange) -> str:
    """The Change as a psql script. A setting of the target's own database reads psql's `:"DBNAME"`."""
    if isinstance(change, CreateIndex) and change.is_partitioned:
        note = (
            "-- This blocks writes while it runs; perfloop apply builds it partition by partition instead.\n"
        )
        return note + _script(act_statements(change, concurrently=False))
    return _script(act_statements(change, concurrently=True))


def undo_sql(change: ServerChange, before: str | None) -> str:
    """The undo as a psql script, or a comment that says why there is none."""
    is_partitioned = isinstance(change, CreateIndex) and change.is_partitioned
    script = _script(undo_statements(change, before, concurrently=not is_partitioned))
    if script:
        return script
    if isinstance(change, DropIndex):
        return f"-- {change.name} was invalid and of no use: it is not built again\n"
    return "-- ANALYZE has no undo: statistics only age\n"


def index_from_definition(definition: str, concurrently: bool) -> Statement:
    """The definition that pg_get_indexdef() gave, as a statement. Raises InvalidInput if it is none."""
    head = _INDEX_HEAD.match(definition)
    if head is None:
        raise InvalidInput(f"this is not an index definition of pg_get_indexdef(): {definition}")
    word = "CONCURRENTLY " if concurrently else ""
    return _verbatim(head[0] + word + definition[head.end() :])


def _script(statements: tuple[Statement, ...]) -> str:
    return "".join(f"{statement.as_string(None)};\n" for statement in statements)


def _verbatim(text: str) -> sql.SQL:
    """Text as it stands; only format() would read braces in it as placeholders, and it is never formatted."""
    return sql.SQL(text)


def _drop_index(schema: str, name: str, concurrently: bool) -> Statement:
    """IF EXISTS, because a drop that is repeated may find that the first one came through."""
    word = sql.SQL("CONCURRENTLY " if concurrently else "")
    return sql.SQL("DROP INDEX {}IF EXISTS {}").format(word, sql.Identifier(schema, name))


def _create_index(change: CreateIndex, word: sql.SQL, only: sql.SQL = _NOTHING) -> Statement:
    if change.method not in _METHODS:
        raise InvalidInput(f"{change.method} is no index method; use one of {', '.join(sorted(_METHODS))}")
    parts = [
        sql.SQL("CREATE INDEX {}{} ON {}{} USING {} ({})").format(
            word,
            sql.Identifier(change.name),
            only,
            _table(change.table),
            sql.SQL(change.method),
            sql.SQL(", ").join(_key(key) for key in change.keys),
        )
    ]
    if change.included:
        parts.append(sql.SQL("INCLUDE ({})").format(_columns(change.included)))
    if change.predicate is not None:
        parts.append(sql.SQL("WHERE {}").format(_verbatim(change.predicate)))
    return sql.SQL(" ").join(parts)


def _key(key: IndexKey) -> Statement:
    parts: list[sql.Composable] = [
        sql.SQL("({})").format(_verbatim(key.text)) if key.is_expression else sql.Identifier(key.text)
    ]
    if key.collation is not None:
        parts.append(sql.SQL("COLLATE {}").format(sql.Identifier(key.collation)))
    if key.operator_class is not None:
        parts.append(sql.Identifier(key.operator_class))
    if key.descending:
        parts.append(sql.SQL("DESC"))
    if key.nulls_first is not None:
        parts.append(sql.SQL("NULLS FIRST" if key.nulls_first else "NULLS LAST"))
    return sql.SQL(" ").join(parts)


def _create_extension(name: str) -> Statement:
    return sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name))


def _drop_extension(name: str) -> Statement:
    """Without CASCADE: what others have built on it keeps it."""
    return sql.SQL("DROP EXTENSION IF EXISTS {}").format(sql.Identifier(name))


def _create_statistics(change: CreateStatistics) -> Statement:
    unknown = sorted(set(change.kinds) - _STATISTICS_KINDS)
    if unknown:
        raise InvalidInput(f"{', '.join(unknown)} is no kind of statistics; use {sorted(_STATISTICS_KINDS)}")
    return sql.SQL("CREATE STATISTICS IF NOT EXISTS {} ({}) ON {} FROM {}").format(
        sql.Identifier(change.table.schema, change.name),
        sql.SQL(", ").join(sql.SQL(kind) for kind in change.kinds),
        _columns(change.columns),
        _table(change.table),
    )


def _analyze(table: TableName) -> Statement:
    return sql.SQL("ANALYZE {}").format(_table(table))


def _refuse_options(change: SetTableOptions) -> None:
    for option in change.options:
        if not _TABLE_OPTION.fullmatch(option):
            raise ChangeForbidden(f"{option} is no storage parameter that perfloop sets; do it by hand")


def _set_options(change: SetTableOptions, options: tuple[str, ...]) -> Statement:
    """Set these of the Change's parameters and reset its others, in one step."""
    given = dict(option.split("=", 1) for option in options)
    equals = sql.SQL("{} = {}")
    wanted = [equals.format(sql.Identifier(name), sql.Literal(value)) for name, value in given.items()]
    others = [sql.Identifier(name) for name in change.names if name not in given]
    parts = [
        sql.SQL(verb).format(sql.SQL(", ").join(each))
        for verb, each in (("SET ({})", wanted), ("RESET ({})", others))
        if each
    ]
    return sql.SQL("ALTER TABLE {} {}").format(_table(change.table), sql.SQL(", ").join(parts))


def _set(change: AlterSetting, value: str | None) -> tuple[Statement, ...]:
    words = {"name": sql.Identifier(change.name), "value": sql.Literal(value)}
    act = sql.SQL("RESET {name}" if value is None else "SET {name} = {value}").format(**words)
    if change.scope is SettingScope.SYSTEM:
        return sql.SQL("ALTER SYSTEM {}").format(act), RELOAD
    return (sql.SQL("ALTER {} {}").format(_owner(change), act),)


def _owner(change: AlterSetting) -> Statement:
    if change.scope is SettingScope.DATABASE:
        name = sql.SQL(':"DBNAME"') if change.scope_name is None else sql.Identifier(change.scope_name)
        return sql.SQL("DATABASE {}").format(name)
    role = sql.SQL("CURRENT_USER") if change.scope_name is None else sql.Identifier(change.scope_name)
    return sql.SQL("ROLE {}").format(role)


def _table(name: TableName) -> sql.Identifier:
    return sql.Identifier(name.schema, name.name)


def _columns(names: tuple[str, ...]) -> Statement:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)
