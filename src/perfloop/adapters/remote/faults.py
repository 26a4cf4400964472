"""What an error of the server means for the cache, and the rights that its user needs."""

from __future__ import annotations

from typing import Final

from perfloop.adapters.remote.address import Address
from perfloop.adapters.remote.resp import ServerError
from perfloop.errors import MissingRights, PerfloopError, TargetUnreachable

_COMMANDS: Final = (
    *("+eval", "+evalsha", "+get", "+set", "+del", "+unlink", "+pttl", "+pexpire", "+time", "+publish"),
    *("+zadd", "+zrange", "+zscore", "+zcard", "+zremrangebyrank"),
    *("+hello", "+select", "+info", "+ping", "+subscribe", "+client|setname", "+client|tracking"),
)


def grants(address: Address, prefix: str) -> str:
    """The command by which an administrator gives the user all that the cache needs, and nothing else.

    Redis 6.2 gives each new user all channels, and then takes none by name unless they are taken back first.
    """
    return f"ACL SETUSER {address.user} '~{prefix}*' resetchannels '&{prefix}news' {' '.join(_COMMANDS)}"


def fault_of(error: ServerError, address: Address, prefix: str) -> PerfloopError:
    """The error to raise for it: MissingRights, or TargetUnreachable for whatever else it answers."""
    if "NOPERM" in error or "ACL failure" in error or "user executing the script can" in error:
        return MissingRights(
            f"user {address.user} of Redis at {address} may not do what the cache needs ({error}); "
            f"an administrator can allow it: {grants(address, prefix)}"
        )
    if error.startswith(("NOAUTH", "WRONGPASS")) or "invalid password" in error:
        return MissingRights(
            f"Redis at {address} refused user {address.user} or the password; "
            "put both into the URL: redis://user:password@host"
        )
    return TargetUnreachable(
        f"Redis at {address} answered: {error}; see its log around this moment, it serves no cache so"
    )
