"""What the catalogue says of a statement: which tables it reads, and whether its result may be kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from perfloop.adapters.reads._async.connections import AsyncReads
from perfloop.cache.query_rules import Function, Relation, require_repeatable, tables_read
from perfloop.cache.query_text import Name, ReadStatement, read_statement


async def tables_behind(
    reads: AsyncReads,
    read: ReadStatement,
    *,
    policies_are_known: bool = False,
    allowed: Collection[str] = (),
) -> Sequence[Name]:
    """The tables behind a statement whose changes change its result.

    Args:
        reads: Whose search_path says what names mean.
        read: The statement.
        policies_are_known: Whether a result is kept apart by what row-level security reads.
        allowed: Names of functions that are trusted.

    Raises:
        UnsupportedStatement: Its result may not be kept, and why.
    """
    relations = await _relations(reads, read)
    tables = tables_read(relations, policies_are_known=policies_are_known)
    definitions = [relation.definition for relation in relations if relation.definition is not None]
    statements = [read, *(read_statement(definition, has_params=False) for definition in definitions)]
    require_repeatable(statements, await _functions(reads, statements), frozenset(allowed))
    return tables


async def _relations(reads: AsyncReads, read: ReadStatement) -> list[Relation]:
    names = [".".join(_quoted(part) for part in name if part) for name in sorted(read.relations)]
    return [
        Relation(
            schema=schema,
            name=name,
            kind=kind,
            is_temporary=is_temporary,
            has_policies=has_policies,
            definition=definition,
        )
        for schema, name, kind, is_temporary, has_policies, definition in await reads.ask(
            "read_relations", names=names
        )
    ]


async def _functions(reads: AsyncReads, statements: Sequence[ReadStatement]) -> list[Function]:
    called = sorted(frozenset().union(*(each.functions for each in statements)))
    return [
        Function(name=name, schema=schema, volatility=volatility, is_of_extension=is_of_extension)
        for name, schema, volatility, is_of_extension in await reads.ask(
            "read_functions", schemas=[schema for schema, _ in called], names=[name for _, name in called]
        )
    ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
