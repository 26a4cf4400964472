"""A PostgreSQL server of our own, for labs and tests.

`postgres` is started directly and its pid file polled: pg_ctl looks only every tenth of a second. It listens
on a socket in a folder that only we and it can enter, and nowhere else, so the socket may trust everyone.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from psycopg.conninfo import make_conninfo

from perfloop.adapters.servers.binaries import PostgresBinaries
from perfloop.adapters.servers.cachefolder import copy_tree
from perfloop.adapters.servers.folders import ServerFolder
from perfloop.adapters.servers.process import ServerProcess
from perfloop.adapters.servers.templates import MARK, SUPERUSER, lay_out_cluster, readable_bin_dir
from perfloop.errors import InvalidInput

READY: Final = frozenset({"ready", "standby"})
STATUS_LINE: Final = 7
START_DEADLINE_S: Final = 60.0

# Where the server is and how it is reached is ours to say, and a scratch server must not reach out: settings
# are often a target's, and its archive command would file our WAL among production's.
RESERVED_SETTINGS: Final = frozenset(
    {
        "archive_cleanup_command",
        "archive_command",
        "archive_library",
        "archive_mode",
        "config_file",
        "data_directory",
        "external_pid_file",
        "hba_file",
        "ident_file",
        "listen_addresses",
        "log_destination",
        "logging_collector",
        "port",
        "primary_conninfo",
        "recovery_end_command",
        "restore_command",
        "ssl",
        "unix_socket_directories",
        "unix_socket_group",
        "unix_socket_permissions",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """How long the server took to appear."""

    prepare_s: float
    """For the folder and the cluster in it, at opening."""

    start_s: float
    """From the last start of the process until it took connections."""

    starts: int


class PostgresServer:
    """A server that exists while it is open, and not a moment longer, however we end.

    Its settings are those of a fresh cluster and the ones given. They stand in a file, not on the command
    line, so that ALTER SYSTEM and a reload override them as they would on any server.

    Args:
        binaries: The installation to run.
        settings: By name, as in postgresql.conf but without quotes.
        data_dir: Keep the data there: made if missing, used again if an earlier server of ours left it.
            Otherwise the data are removed at the end.
        copy_of: Start from a copy of a kept `data_dir` whose server is stopped.
        checksums: Of the pages; they cost a few per cent, so match the target.
        parent: Where the private folder is made; its path must be short.
    """

    def __init__(
        self,
        binaries: PostgresBinaries,
        *,
        settings: Mapping[str, str] | None = None,
        data_dir: Path | None = None,
        copy_of: Path | None = None,
        checksums: bool = False,
        parent: Path | None = None,
    ) -> None:
        self.binaries = binaries
        self._settings = _checked(settings or {})
        self._kept_data_dir = data_dir
        self._copy_of = copy_of
        self._checksums = checksums
        self._parent = parent
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Lay out the data and start.

        Raises:
            ServerFailed: With the last words of the server.
            InvalidInput: The data folder is not one of ours.
        """
        began_s = time.monotonic()
        with contextlib.ExitStack() as undo:
            self._folder = undo.enter_context(ServerFolder(parent=self._parent))
            self._bin_dir = readable_bin_dir(self.binaries, self._folder)
            self.data_dir = self._lay_out()
            self._statistics = ServerStatistics(prepare_s=time.monotonic() - began_s, start_s=0.0, starts=0)
            self._process = self._configured_process()
            undo.callback(self._stop)
            self._start()
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Stop the server and remove its folder; kept data stay."""
        self._undo.close()

    def restart(self, settings: Mapping[str, str] | None = None) -> None:
        """Shut down cleanly and start again, with other settings if some are given.

        Raises:
            ServerFailed: It did not come up; it can be restarted with other settings.
        """
        wanted = self._settings if settings is None else _checked(settings)
        self._process.stop(signal.SIGINT)
        self._settings = wanted
        self._process = self._configured_process()
        self._start()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[Path]:
        """Stand still while the data folder, which is yielded, is copied; starts again on leaving."""
        self._process.stop(signal.SIGINT)
        try:
            yield self.data_dir
        finally:
            self._start()

    def dsn(self, dbname: str = "postgres") -> str:
        """A connection string for the superuser."""
        return make_conninfo(host=str(self._folder.server_path), port=5432, user=SUPERUSER, dbname=dbname)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def settings(self) -> Mapping[str, str]:
        return self._settings

    def statistics(self) -> ServerStatistics:
        return self._statistics

    def _lay_out(self) -> Path:
        if self._kept_data_dir is None:
            data_dir = self._folder.server_path / "data"
            self._fill(data_dir)
            return data_dir
        kept = self._kept_data_dir.absolute()
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not self._folder.account.may_reach(kept.parent):
            message = f"an unprivileged server cannot enter {kept.parent}; keep its data in an open folder"
            raise InvalidInput(message)
        if kept.exists() and any(kept.iterdir()):
            _check_ours(kept)
            self._folder.account.own_tree(kept)
        else:
            self._fill(kept)
        return kept

    def _fill(self, data_dir: Path) -> None:
        if self._copy_of is None:
            lay_out_cluster(self.binaries, self._folder, data_dir, checksums=self._checksums)
            return
        source = self._copy_of.absolute()
        _check_ours(source)
        _check_copyable(source)
        with contextlib.suppress(FileNotFoundError):
            data_dir.rmdir()
        copy_tree(source, data_dir)
        self._folder.account.own_tree(data_dir)

    def _start(self) -> None:
        began_s = time.monotonic()
        self._process.start()
        self._process.wait_until(self._is_ready, deadline_s=START_DEADLINE_S)
        self._statistics = ServerStatistics(
            prepare_s=self._statistics.prepare_s,
            start_s=time.monotonic() - began_s,
            starts=self._statistics.starts + 1,
        )

    def _configured_process(self) -> ServerProcess:
        name = f"PostgreSQL {self.binaries.version}"
        return ServerProcess(name=name, folder=self._folder, command=self._command())

    def _command(self) -> list[str]:
        fixed = {
            "config_file": str(self._configuration()),
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(self._folder.server_path),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "log_destination": "stderr",
        }
        options = [word for name, value in fixed.items() for word in ("-c", f"{name}={value}")]
        return [str(self._bin_dir / "postgres"), "-D", str(self.data_dir), *options]

    def _configuration(self) -> Path:
        lines = [f"{name} = {_quoted(value)}" for name, value in self._settings.items()]
        whole = [f"include = {_quoted(str(self.data_dir / 'postgresql.conf'))}", *lines, ""]
        return self._folder.publish("postgresql.conf", "\n".join(whole))

    def _is_ready(self) -> bool:
        """The server's own word, in its pid file; a connection attempt would cost it a process."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > STATUS_LINE and lines[0] == str(self.pid) and lines[STATUS_LINE].strip() in READY

    def _stop(self) -> None:
        # Data that are about to be removed need no last checkpoint.
        self._process.stop(signal.SIGQUIT if self._kept_data_dir is None else signal.SIGINT)


def _checked(settings: Mapping[str, str]) -> dict[str, str]:
    refused = sorted(RESERVED_SETTINGS.intersection(settings))
    if refused:
        raise InvalidInput(f"{', '.join(refused)} cannot be set on a scratch server; leave it out")
    return dict(settings)


def _check_ours(data_dir: Path) -> None:
    if not (data_dir / MARK).exists():
        raise InvalidInput(f"{data_dir} was not made by perfloop, which leaves it alone; name a new folder")


def _check_copyable(data_dir: Path) -> None:
    if (data_dir / "postmaster.pid").exists():
        raise InvalidInput(f"a server runs on {data_dir}; copy it once the server is closed")
    if any((data_dir / "pg_tblspc").iterdir()):
        raise InvalidInput(f"{data_dir} has tablespaces, which a copy would share; use the default one")


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
