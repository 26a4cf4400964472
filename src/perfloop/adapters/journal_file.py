"""Where the Journal's file is, who may read it, and what must not be in it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from perfloop.errors import InvalidInput

_SECRETS = ("password", "sslpassword", "oauth_client_secret")


def journal_path() -> Path:
    """Where the Journal is: in the folder PERFLOOP_STATE, or where this system keeps a user's state."""
    folder = os.environ.get("PERFLOOP_STATE")
    return (Path(folder) if folder else platformdirs.user_state_path("perfloop")) / "journal.sqlite3"


def way_out(fault: str) -> str:
    """What to do about what SQLite or the file system says."""
    if "full" in fault or "No space" in fault:
        return "free some space on that disk; nothing is done on a target that the journal does not hold"
    if "locked" in fault:
        return "another perfloop is writing to it; try again when it has finished"
    if "not a database" in fault or "malformed" in fault:
        return (
            "the file is damaged: restore it from a backup, or move it away and undo by hand from the reports"
        )
    return "make it writable, or let PERFLOOP_STATE name another folder"


def make_private(path: Path) -> None:
    """Make the file and its folder, and let nobody else read them."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def refuse_password(target: str) -> None:
    """Raise InvalidInput where the connection string holds a secret, without repeating it."""
    # Imported here: a journal that is only read needs no driver.
    import psycopg
    from psycopg import conninfo

    try:
        fields = conninfo.conninfo_to_dict(target)
    except psycopg.ProgrammingError:
        # The parser's own message may quote the password.
        raise InvalidInput(
            "the journal stores a target only as a connection string, without password"
        ) from None
    found = [name for name in _SECRETS if fields.get(name)]
    if found:
        raise InvalidInput(f"the journal does not store a {found[0]}; pass the DSN through safe_dsn() first")
