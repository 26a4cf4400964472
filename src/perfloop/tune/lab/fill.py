"""Copy the target's database into a lab with pg_dump and pg_restore.

The dump reads one consistent snapshot and takes no lock but ACCESS SHARE. Owners, grants, publications
and subscriptions stay behind: the lab has one user, and must never talk to anybody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfloop.adapters.patience import is_silent, silence
from perfloop.adapters.servers.binaries import PostgresBinaries
from perfloop.adapters.servers.folders import ServerFolder
from perfloop.errors import InvalidInput, LabRefused, MissingRights, TargetUnreachable
from perfloop.model.target import TableName
from perfloop.model.units import bytes_text

SPACE_FACTOR = 8
"""The untouched copy and two arms, those three again for a second server, and twice for WAL and indexes."""
END_DEADLINE_S = 10.0

CONNECT_TIMEOUT_S = 10
LOOK_AFTER_S = 30.0
"""How often, while a tool is at work, a connection looks whether the server still answers."""

# libpq reads these from a connection string or a service file, and from no variable.
_FILED_SECRETS = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")

_LEFT_BEHIND = (
    "--no-owner",
    "--no-privileges",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-comments",
)


def refuse_unless_it_fits(database_bytes: int, *, limit_bytes: int | None) -> None:
    """Raise LabRefused where the database is above the limit or the disk too small for its copies.

    Without a limit the copies live elsewhere, and only the dump passes through this machine.
    """
    if limit_bytes is not None and database_bytes > limit_bytes:
        raise LabRefused(
            f"the target has {bytes_text(database_bytes)}, the limit for a lab of perfloop's own is "
            f"{bytes_text(limit_bytes)}; raise it with --max-lab-size, or point --lab at a scratch server"
        )
    folder = Path(tempfile.gettempdir())
    free_bytes = _free_bytes(folder)
    needed_bytes = database_bytes * (1 if limit_bytes is None else SPACE_FACTOR)
    if free_bytes < needed_bytes:
        raise LabRefused(
            f"a lab for {bytes_text(database_bytes)} needs {bytes_text(needed_bytes)} of disk, "
            f"{folder} has {bytes_text(free_bytes)} free; set TMPDIR to a larger disk, or use --lab"
        )


def _free_bytes(folder: Path) -> int:
    """What may be filled of a folder. One that lies in memory shares that with the servers."""
    free_bytes = shutil.disk_usage(folder).free
    mounts = [each for each in psutil.disk_partitions(all=True) if folder.is_relative_to(each.mountpoint)]
    nearest = max(mounts, key=lambda each: len(each.mountpoint), default=None)
    if nearest is not None and nearest.fstype in {"tmpfs", "ramfs"}:
        return min(free_bytes, int(psutil.virtual_memory().available) // 2)
    return free_bytes


def refuse_old_tools(binaries: PostgresBinaries, target_major: int) -> None:
    """Raise LabRefused where these tools cannot copy a server of that major version."""
    if not binaries.has_pg_dump:
        raise LabRefused(
            f"{binaries.bin_dir} has no pg_dump, which copies the target; install the client programs of "
            f"PostgreSQL {target_major}, or name their folder with PERFLOOP_PG_BIN"
        )
    if binaries.major < target_major:
        raise LabRefused(
            f"the target is PostgreSQL {target_major}, the newest binaries here are of {binaries.major}, and "
            f"pg_dump reads no newer server; install PostgreSQL {target_major} here, or name its bin folder "
            "with PERFLOOP_PG_BIN"
        )


def copy_database(
    source_dsn: str, lab_dsn: str, binaries: PostgresBinaries, *, empty: Iterable[TableName] = ()
) -> tuple[str, ...]:
    """Copy one database into an empty one, by way of a dump in a private folder that is removed again.

    The tables of `empty` come without their rows.

    Returns:
        What could not be restored, as the server's messages: an extension the lab lacks, for instance.

    Raises:
        MissingRights: the role may not read a table.
        TargetUnreachable: pg_dump ended otherwise.
        LabRefused: the disk is full, or a table's rows are missing in the copy.
    """
    with ServerFolder() as folder:
        dump = folder.path / "dump"
        _dump(source_dsn, binaries, dump, folder, empty)
        return _restore(lab_dsn, binaries, dump, folder)


def _dump(
    source_dsn: str, binaries: PostgresBinaries, dump: Path, folder: ServerFolder, empty: Iterable[TableName]
) -> None:
    command = [
        str(binaries.bin_dir / "pg_dump"),
        "--format=directory",
        "--compress=0",
        "--jobs=2",
        "--lock-wait-timeout=10s",
        f"--file={dump}",
        *_LEFT_BEHIND,
        *(f"--exclude-table-data={_pattern(each)}" for each in empty),
    ]
    code, message = _run(command, _uncounted(source_dsn), folder)
    if code == 0:
        return
    _refuse_full_disk(message)
    if "permission denied" in message or "row-level security" in message:
        raise MissingRights(
            f"the database cannot be copied into a lab: {_first_line(message)}; "
            "let the role read it: GRANT pg_read_all_data TO <role>; with row security also BYPASSRLS"
        )
    raise TargetUnreachable(
        f"the target could not be copied: {_first_line(message)}; see whether it is up, and try again"
    )


def _pattern(table: TableName) -> str:
    """A pattern of pg_dump that only this table matches: within quotes no sign is a wildcard."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in (table.schema, table.name))


def _restore(lab_dsn: str, binaries: PostgresBinaries, dump: Path, folder: ServerFolder) -> tuple[str, ...]:
    command = [
        str(binaries.bin_dir / "pg_restore"),
        "--jobs=2",
        "--no-owner",
        "--no-privileges",
        str(dump),
    ]
    code, message = _run(command, lab_dsn, folder)
    if code == 0:
        return ()
    _refuse_full_disk(message)
    problems = [line.partition("error:")[2].strip() for line in message.splitlines() if "error:" in line]
    empty = [problem for problem in problems if problem.startswith("COPY failed")]
    if empty or not problems:
        fault = (empty or [_first_line(message)])[0]
        raise LabRefused(
            f"the lab's copy is not whole, and figures from it would be wrong: {fault}; "
            "let pg_restore load that table (a function in a check or an index needs its own search_path), "
            "or give a server that has what it needs with --lab"
        )
    return tuple(problems)


def _refuse_full_disk(message: str) -> None:
    if "No space left on device" in message:
        raise LabRefused(
            f"the disk is full: {_first_line(message)}; set TMPDIR to a larger disk, or use --lab"
        )


def _uncounted(dsn: str) -> str:
    """The DSN with which pg_stat_statements does not count the dump, where the role may say so."""
    parameters = conninfo_to_dict(dsn)
    asked = str(parameters.get("options") or os.environ.get("PGOPTIONS", ""))
    parameters["options"] = f"{asked} -c pg_stat_statements.track=none".strip()
    uncounted = make_conninfo("", **parameters)
    try:
        psycopg.connect(uncounted, connect_timeout=CONNECT_TIMEOUT_S).close()
    except psycopg.Error:
        return dsn
    return uncounted


def _run(command: list[str], dsn: str, folder: ServerFolder) -> tuple[int, str]:
    """Run a tool on a database; returns its code and what it said. It ends when we are interrupted."""
    public_dsn, environment = _without_secrets(dsn, folder)
    tool = [command[0], f"--dbname={public_dsn}", "--no-password", *command[1:]]
    with subprocess.Popen(
        tool,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            message = _last_words(process, dsn)
        except BaseException:  # also on Ctrl-C: no process is left running
            _end(process)
            raise
    return process.returncode, message.strip()


def _last_words(process: subprocess.Popen[str], dsn: str) -> str:
    """What the tool said, once it has ended; TargetUnreachable where its server has stopped answering."""
    while True:
        try:
            return process.communicate(timeout=LOOK_AFTER_S)[1]
        except subprocess.TimeoutExpired:
            if is_silent(dsn, limit_s=LOOK_AFTER_S):
                raise TargetUnreachable(silence("lets nobody in while it is being copied")) from None


def _end(process: subprocess.Popen[str]) -> None:
    """A tool that is asked to end also cancels what its workers do on the server; a killed one does not."""
    process.terminate()
    try:
        process.wait(END_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _without_secrets(dsn: str, folder: ServerFolder) -> tuple[str, dict[str, str]]:
    """The DSN without its secrets, and an environment with them: all users may see command lines.

    Raises:
        InvalidInput: a secret can only stand in a service file, and the DSN names one already.
    """
    parameters = conninfo_to_dict(dsn)
    environment = {**os.environ, "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT_S)}
    password = parameters.pop("password", None)
    if password is not None:
        environment["PGPASSWORD"] = str(password)
    rest = {name: parameters.pop(name) for name in _FILED_SECRETS if name in parameters}
    if rest:
        if "service" in parameters:
            raise InvalidInput(f"put {', '.join(rest)} into the service file that the DSN names")
        lines = ["[perfloop]", *(f"{name}={value}" for name, value in rest.items()), ""]
        service_file = folder.path / "service"
        service_file.touch(mode=0o600)
        service_file.write_text("\n".join(lines), encoding="utf-8")
        environment["PGSERVICEFILE"] = str(service_file)
        parameters["service"] = "perfloop"
    return make_conninfo("", **parameters), environment


def _first_line(message: str) -> str:
    """The fact; details, hints and the statement follow it."""
    return (message.strip().splitlines() or ["it said nothing"])[0]
