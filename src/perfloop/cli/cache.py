"""`perfloop cache`: what a cache needs in the database, and what it would be worth."""

from __future__ import annotations

import click

from perfloop.cli.cache_changes import outbox, slot


@click.group
def cache() -> None:
    """Let what is committed in a database clear the tags of a cache.

    \b
    perfloop cache outbox install postgresql://localhost/shop --table orders:id,customer_id
    perfloop cache outbox status postgresql://localhost/shop
    perfloop cache slot install postgresql://localhost/shop --table orders
    """


cache.add_command(outbox)
cache.add_command(slot)
