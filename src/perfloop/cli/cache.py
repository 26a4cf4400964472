"""`perfloop cache`: what a cache needs in the database, and what it would be worth."""

from __future__ import annotations

import click

from perfloop.cli.cache_changes import outbox, slot
from perfloop.cli.later import LaterCommand


@click.group
def cache() -> None:
    """Find what is worth caching, and let what is committed in a database clear the tags of a cache.

    \b
    perfloop cache advise postgresql://localhost/shop --window 60
    perfloop cache outbox install postgresql://localhost/shop --table orders:id,customer_id
    perfloop cache outbox status postgresql://localhost/shop
    perfloop cache slot install postgresql://localhost/shop --table orders
    """


cache.add_command(
    LaterCommand("advise", home="perfloop.cli.cache_advice", short_help="Which statements are worth caching.")
)
cache.add_command(outbox)
cache.add_command(slot)
