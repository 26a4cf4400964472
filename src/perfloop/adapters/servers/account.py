"""The account that servers run as.

PostgreSQL refuses uid 0, so root steps down to `nobody`, which exists everywhere. Not to `postgres`: a
scratch server replays foreign statements as its superuser, and must not be able to write the files of a
production cluster on the same machine. No user is created and no foreign folder loses a mode bit.

The group is private to one server folder: an unnamed group id that no other process carries. It lets the
folder be closed to the other processes of `nobody`, for whom the trusting socket inside would be an open
door, and keeps them from tracing the server.
"""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

from perfloop.errors import ServerFailed

UNPRIVILEGED_NAME: Final = "nobody"

# Container user namespaces usually map ids below 65536 only; system packages stay below 60000.
PRIVATE_GROUPS: Final = range(60_001, 65_000)


class SpawnIdentity(TypedDict, total=False):
    """The keyword arguments with which `subprocess` steps down."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccount:
    """User and group of one server; both `None` means our own."""

    uid: int | None = None
    gid: int | None = None

    @property
    def spawn_identity(self) -> SpawnIdentity:
        if self.uid is None or self.gid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def may_reach(self, path: Path) -> bool:
        """Whether all modes on the way let the account run a program or enter a folder; no ACLs are read."""
        if self.uid is None:
            return True
        real = path.resolve()
        return all(step.stat().st_mode & stat.S_IXOTH for step in (real, *real.parents))

    def own(self, path: Path) -> None:
        """Hand one file or folder, not what lies below it, to the account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_tree(self, top: Path) -> None:
        """Hand a folder and everything in it to the account, unless it has it already."""
        if self.uid is None or top.stat().st_uid == self.uid:
            return
        for folder, _, names in os.walk(top, topdown=False):
            for name in names:
                self.own(Path(folder, name))
            self.own(Path(folder))


def server_account() -> ServerAccount:
    """Our own account or, for root, an unprivileged one with a fresh private group.

    Raises:
        ServerFailed: There is no account to step down to.
    """
    if os.geteuid() != 0:
        return ServerAccount()
    try:
        uid = pwd.getpwnam(UNPRIVILEGED_NAME).pw_uid
    except KeyError:
        message = (
            f"database servers refuse to run as root and there is no user {UNPRIVILEGED_NAME!r} "
            "to step down to; run perfloop as an ordinary user"
        )
        raise ServerFailed(message) from None
    named = {group.gr_gid for group in grp.getgrall()}
    return ServerAccount(uid=uid, gid=secrets.choice([gid for gid in PRIVATE_GROUPS if gid not in named]))
