"""Copy the target's database into a lab with pg_dump and pg_restore.

The dump reads one consistent snapshot and takes no lock but ACCESS SHARE. Owners, grants, publications
and subscriptions stay behind: the lab has one user, and must never talk to anybody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfloop.adapters.servers.binaries import PostgresBinaries
from perfloop.adapters.servers.folders import ServerFolder
from perfloop.errors import LabRefused, MissingRights, TargetUnreachable

SPACE_FACTOR = 5
"""The dump, the untouched copy, two arms and a what-if clone, each at most the database's size."""

_LEFT_BEHIND = (
    "--no-owner",
    "--no-privileges",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-comments",
)


def refuse_unless_it_fits(database_bytes: int, *, limit_bytes: int) -> None:
    """Raise LabRefused where the database is above the limit or the disk too small for its copies."""
    if database_bytes > limit_bytes:
        raise LabRefused(
            f"the target has {_gigabytes(database_bytes)}, the limit for a lab of perfloop's own is "
            f"{_gigabytes(limit_bytes)}; raise it with --max-lab-size, or point --lab at a scratch server"
        )
    folder = Path(tempfile.gettempdir())
    free_bytes = shutil.disk_usage(folder).free
    needed_bytes = database_bytes * SPACE_FACTOR
    if free_bytes < needed_bytes:
        raise LabRefused(
            f"a lab for {_gigabytes(database_bytes)} needs {_gigabytes(needed_bytes)} of disk, "
            f"{folder} has {_gigabytes(free_bytes)} free; set TMPDIR to a larger disk, or use --lab"
        )


def copy_database(source_dsn: str, lab_dsn: str, binaries: PostgresBinaries) -> tuple[str, ...]:
    """Copy one database into an empty one, by way of a dump in a private folder that is removed again.

    Returns:
        What could not be restored, as the server's messages: an extension the lab lacks, for instance.

    Raises:
        MissingRights: the role may not read a table.
        TargetUnreachable: pg_dump ended otherwise.
    """
    with ServerFolder() as folder:
        dump = folder.path / "dump"
        _dump(source_dsn, binaries, dump)
        return _restore(lab_dsn, binaries, dump)


def _dump(source_dsn: str, binaries: PostgresBinaries, dump: Path) -> None:
    public_dsn, environment = _without_secrets(source_dsn)
    command = [
        str(binaries.bin_dir / "pg_dump"),
        f"--dbname={public_dsn}",
        "--format=directory",
        "--compress=0",
        "--jobs=2",
        "--lock-wait-timeout=10s",
        f"--file={dump}",
        *_LEFT_BEHIND,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    message = done.stderr.strip()
    if "permission denied" in message or "row-level security" in message:
        raise MissingRights(
            f"the database cannot be copied into a lab: {message}\n"
            "let the role read it: GRANT pg_read_all_data TO <role>; with row security also BYPASSRLS"
        )
    raise TargetUnreachable(f"pg_dump could not copy the target: {message}")


def _restore(lab_dsn: str, binaries: PostgresBinaries, dump: Path) -> tuple[str, ...]:
    public_dsn, environment = _without_secrets(lab_dsn)
    command = [
        str(binaries.bin_dir / "pg_restore"),
        f"--dbname={public_dsn}",
        "--jobs=2",
        "--no-owner",
        "--no-privileges",
        str(dump),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ()
    problems = [line for line in done.stderr.splitlines() if "error:" in line]
    if not problems:
        raise LabRefused(f"the lab could not be filled: {done.stderr.strip()}")
    return tuple(line.partition("error:")[2].strip() for line in problems)


def _without_secrets(dsn: str) -> tuple[str, dict[str, str]]:
    """The DSN without its passwords, which other users of the machine could read, and an environment with."""
    parameters = conninfo_to_dict(dsn)
    environment = {**os.environ, "PGCONNECT_TIMEOUT": "10"}
    password = parameters.pop("password", None)
    if password is not None:
        environment["PGPASSWORD"] = str(password)
    return make_conninfo("", **parameters), environment


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
