"""What can be refused of a lab before anything of the target is read and planned for it."""

from __future__ import annotations

from perfloop.adapters.connection import connect
from perfloop.adapters.servers import PostgresBinaries, find_postgres
from perfloop.tune.lab.copies import database_bytes
from perfloop.tune.lab.fill import refuse_old_tools, refuse_unless_it_fits
from perfloop.tune.lab.servers import refuse_as_scratch

_VERSION_DIGITS = 10_000


def admitted_binaries(dsn: str, *, lab_dsn: str | None, max_lab_bytes: int) -> PostgresBinaries:
    """The programs that will copy the target at `dsn`, once a lab for it is not out of the question.

    Raises:
        TargetUnreachable, MissingRights, InvalidInput: from connecting; of the lab's DSN it says so.
        LabRefused, ServerNotFound: no lab can be had.
    """
    with connect(dsn, read_only=True) as target:
        if lab_dsn is not None:
            refuse_as_scratch(lab_dsn, target)
        major = target.info.server_version // _VERSION_DIGITS
        size_bytes = database_bytes(target)
    binaries = find_postgres(prefer_major=major)
    refuse_old_tools(binaries, major)
    refuse_unless_it_fits(size_bytes, limit_bytes=max_lab_bytes if lab_dsn is None else None)
    return binaries
