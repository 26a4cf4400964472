"""Opens the WhatIf that a lab's server allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from perfloop.model.target import Table
from perfloop.tune.advisor.combined import CombinedIndexes
from perfloop.tune.advisor.hypothetical import HypotheticalIndexes
from perfloop.tune.advisor.planner import block
from perfloop.tune.advisor.real_builds import RealIndexes
from perfloop.tune.advisor.what_if import WhatIf


@contextmanager
def open_what_if(connection: psycopg.Connection[Any], tables: tuple[Table, ...]) -> Iterator[WhatIf]:
    """HypoPG for b-trees where the server has it, else real builds; what was made is gone on leaving.

    Without a superuser's rights HypoPG stands alone, and refuses what it does not know.

    Args:
        connection: A superuser's session, in autocommit, with the target's planner settings, to a
            scratch clone that nobody else writes to. Never a target.
        tables: The tables with their statistics, for the sizes of hypothetical indexes.

    Raises:
        LabRefused: The server has no HypoPG, and the role may not edit the catalogue.
    """
    named = {table.name: table for table in tables}
    row = connection.execute(block("means")).fetchone()
    has_hypopg, is_superuser = row or (False, False)
    if not has_hypopg:
        with RealIndexes(connection) as real:
            yield real
    elif is_superuser:
        with CombinedIndexes(connection, named) as combined:
            yield combined
    else:
        with HypotheticalIndexes(connection, named) as hypothetical:
            yield hypothetical
