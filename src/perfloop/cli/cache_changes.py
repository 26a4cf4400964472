"""`perfloop cache outbox` and `perfloop cache slot`: the two ways in which a database tells what changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click
import psycopg

from perfloop.adapters.changes import outbox_plan, slot_plan
from perfloop.adapters.changes.outbox_plan import Statement, carry_out
from perfloop.adapters.connection import connect, safe_dsn
from perfloop.cli.apply import confirm
from perfloop.cli.options import dsn_argument, yes_option
from perfloop.cli.terminal import output, result_console, show_table
from perfloop.model.changes import WatchedTable, read_watched
from perfloop.model.units import bytes_text, seconds_text

table_option = click.option(
    "--table",
    "tables",
    multiple=True,
    required=True,
    metavar="TABLE[:COLUMN,…]",
    help="A table, and the columns that tags are made of; default: its primary key. May be repeated.",
)
some_tables_option = click.option(
    "--table", "tables", multiple=True, metavar="TABLE", help="Only this table. May be repeated."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the SQL, and do nothing.")
rows_option = click.option(
    "--rows",
    "rows_limit",
    type=click.IntRange(min=1),
    default=outbox_plan.ROWS_LIMIT,
    show_default=True,
    help="A statement that changes more rows clears the whole table.",
)
NO_LIMIT: Final = "-1"


@click.group(short_help="Triggers that note changes in a table, for one reader.")
def outbox() -> None:
    """Triggers that note, for each statement, which rows changed; a listener reads and clears tags.

    \b
    perfloop cache outbox install postgresql://localhost/shop --table orders:id,customer_id
    perfloop cache outbox remove postgresql://localhost/shop --yes
    """


@outbox.command("install")
@dsn_argument
@table_option
@rows_option
@dry_run_option
@yes_option
def install_outbox(dsn: str, tables: tuple[str, ...], rows_limit: int, dry_run: bool, yes: bool) -> None:
    """Note changes of tables in the schema perfloop_cache of the database at DSN."""
    watched = [read_watched(table) for table in tables]
    with _session(dsn) as connection:
        statements = outbox_plan.plan_install(connection, watched, rows_limit=rows_limit)
        _do(connection, statements, _named("Note changes of", watched, dsn), dry_run=dry_run, yes=yes)


@outbox.command("remove")
@dsn_argument
@some_tables_option
@dry_run_option
@yes_option
def remove_outbox(dsn: str, tables: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Remove all that install made, or what it made for some tables."""
    watched = [read_watched(table) for table in tables]
    with _session(dsn) as connection:
        statements = outbox_plan.plan_remove(connection, [each.table for each in watched])
        _do(connection, statements, _named("No longer note", watched, dsn), dry_run=dry_run, yes=yes)


@outbox.command("status")
@dsn_argument
def outbox_status(dsn: str) -> None:
    """Show what is watched, who reads, and how far behind."""
    with _session(dsn) as connection:
        installed = outbox_plan.read_installed(connection)
        if not installed.exists:
            output("no outbox is installed")
            return
        _show_watched(installed.watched)
        for fact in outbox_plan.gone_or_renamed(connection, installed):
            output(f"{fact}; remove it or install it again")
        for table in outbox_plan.missing_triggers(connection, installed):
            output(f"{table} has not all its triggers; install it again")
        events, size_bytes = connection.execute(outbox_plan.block("read_size")).fetchone() or (0, 0)
        output(f"events kept: {events}, in {bytes_text(size_bytes)}")
        readers = connection.execute(outbox_plan.block("read_readers")).fetchall()
        if not readers:
            output("no reader with a name has been here")
            return
        rows = [(name, seconds_text(silent), seconds_text(behind)) for name, silent, behind in readers]
        show_table(result_console(), ("reader", "last seen", "oldest event"), rows)


@click.group(short_help="A publication, for a reader of the database's log.")
def slot() -> None:
    """A publication of tables, whose changes a listener reads from the database's log.

    \b
    perfloop cache slot install postgresql://localhost/shop --table orders:id,customer_id
    perfloop cache slot remove postgresql://localhost/shop --yes
    """


@slot.command("install")
@dsn_argument
@table_option
@dry_run_option
@yes_option
def install_slot(dsn: str, tables: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Publish changes of tables of the database at DSN; the slot is made by the first listener."""
    watched = [read_watched(table) for table in tables]
    with _session(dsn) as connection:
        statements = slot_plan.plan_install(connection, watched)
        _do(connection, statements, _named("Publish changes of", watched, dsn), dry_run=dry_run, yes=yes)
        if slot_plan.check_server(connection) == NO_LIMIT:
            output(
                "max_slot_wal_keep_size is unlimited, so a slot that nobody reads can fill the disk; "
                "set it: ALTER SYSTEM SET max_slot_wal_keep_size = '10GB', then SELECT pg_reload_conf()"
            )


@slot.command("remove")
@dsn_argument
@some_tables_option
@dry_run_option
@yes_option
def remove_slot(dsn: str, tables: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Remove the publication with its slots, or some tables from it."""
    watched = [read_watched(table) for table in tables]
    with _session(dsn) as connection:
        statements = slot_plan.plan_remove(connection, [each.table for each in watched])
        _do(connection, statements, _named("No longer publish", watched, dsn), dry_run=dry_run, yes=yes)


@slot.command("status")
@dsn_argument
def slot_status(dsn: str) -> None:
    """Show what is published, who reads, and how much log is kept for it."""
    with _session(dsn) as connection:
        found = slot_plan.read_publication(connection)
        if found is None:
            output("no publication is installed")
            return
        _show_watched(found.watched)
        slots = slot_plan.read_slots(connection)
        if not slots:
            output("there is no slot yet; the first listener makes it")
        for name, active_pid, is_lost, kept_bytes in slots:
            state = "lost its log" if is_lost else "is followed" if active_pid else "is followed by nobody"
            output(f"the slot {name} {state}; log kept: {bytes_text(kept_bytes)}")


def _session(dsn: str) -> psycopg.Connection[Any]:
    return connect(dsn, read_only=False)


def _named(verb: str, watched: Sequence[WatchedTable], dsn: str) -> str:
    tables = ", ".join(each.table for each in watched) or "all tables"
    return f"{verb} {tables} on {safe_dsn(dsn)}?"


def _do(
    connection: psycopg.Connection[Any],
    statements: Sequence[Statement],
    question: str,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    if not statements:
        output("there is nothing to remove")
        return
    if dry_run or not yes:
        for statement in statements:
            output(f"{statement.as_string(connection)};\n")
    if dry_run:
        return
    confirm(question, yes=yes)
    carry_out(connection, statements)
    output("done")


def _show_watched(watched: Sequence[WatchedTable]) -> None:
    for each in watched:
        output(f"{each.table}: {', '.join(each.columns)}")
