"""What is kept from one start to the next: initialised clusters, and installs that root's servers may read.

The folder is ours alone to write. Root's lies in the system's cache, not in a home: after `sudo` someone else
may own `$HOME`, and an unprivileged server could not read binaries below a closed one. Everything in it can
be made again, and appears complete or not at all: it is made beside its place and renamed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import platformdirs

from perfloop.adapters.servers.placement import scatter_children
from perfloop.errors import ServerFailed

CACHE_VARIABLE: Final = "PERFLOOP_CACHE_DIR"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
GRACE_S: Final = 86_400.0


def cached(kind: str, key: str, make: Callable[[Path], None], *, mode: int) -> Path:
    """The folder `kind/key` of the cache, made first if it is not there.

    Two processes may make it at once: the first to finish wins, the other takes what is there.

    Args:
        kind: A family of entries, which share access.
        key: Names everything the content depends on.
        make: Fills the path it is given, which does not exist yet.
        mode: Of the family's folder.

    Raises:
        ServerFailed: The cache cannot be written, or others could write it.
    """
    family = _cache_root() / kind
    entry = family / key
    try:
        _own_folder(family, mode)
        if entry.is_dir():
            return entry
        with tempfile.TemporaryDirectory(prefix=".making-", dir=family, ignore_cleanup_errors=True) as making:
            Path(making).chmod(mode)
            made = Path(making, "entry")
            make(made)
            with contextlib.suppress(OSError):  # the other was first
                made.rename(entry)
    except OSError as error:
        raise _unusable(family, error.strerror or str(error)) from error
    if not entry.is_dir():
        raise _unusable(family, f"{key} could not be moved to its place")
    return entry


def boot_key() -> str:
    """Changes with each boot: what was never synced is trusted only as long as the page cache lives."""
    if BOOT_ID.exists():
        return BOOT_ID.read_text().strip()[:8]
    told = subprocess.run(
        ["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=True
    )
    return told.stdout.strip()[:8]


def forget_earlier_boots(kind: str) -> None:
    """Remove the entries that earlier boots made; a day's grace, for a home that several machines share."""
    for entry in (_cache_root() / kind).iterdir():
        if not entry.name.endswith(boot_key()) and time.time() - entry.lstat().st_mtime > GRACE_S:
            shutil.rmtree(entry, ignore_errors=True)


def copy_tree(source: Path, destination: Path) -> None:
    """Copy a folder with owners and modes, sharing its blocks where the file system can.

    Raises:
        ServerFailed: The disk is full, or something in the source cannot be read.
    """
    sharing = {"linux": ["--reflink=auto"], "darwin": ["-c"]}.get(sys.platform, [])
    complaint = _cp([*sharing, str(source), str(destination)])
    if sharing and complaint is not None and "option" in complaint:
        # A cp that cannot share, as busybox's.
        complaint = _cp([str(source), str(destination)])
    if complaint is not None:
        shutil.rmtree(destination, ignore_errors=True)
        raise ServerFailed(
            f"cannot copy {source}: {complaint}; make room on the disk, or name another folder"
        )


def _cp(arguments: list[str]) -> str | None:
    run = subprocess.run(["cp", "-a", *arguments], capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return None
    return run.stderr.strip().splitlines()[-1] if run.stderr.strip() else f"cp ended with {run.returncode}"


def _cache_root() -> Path:
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    if os.geteuid() == 0:
        return platformdirs.site_cache_path("perfloop")
    return platformdirs.user_cache_path("perfloop")


def _own_folder(folder: Path, mode: int) -> None:
    for path, wanted in ((folder.parent, 0o755), (folder, mode)):
        if not path.exists():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(wanted)  # whatever the umask says
            scatter_children(path)
        facts = path.lstat()
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o022 or path.is_symlink():
            raise _unusable(path, "others could write it")


def _unusable(folder: Path, reason: str) -> ServerFailed:
    return ServerFailed(f"cannot use the cache folder {folder}: {reason}; name another with {CACHE_VARIABLE}")
