"""How many connections each pool may have, so that all of them together fit the server."""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.control.policy import AdjustmentPolicy
from perfloop.errors import InvalidInput
from perfloop.model.value import Value, require


class ConnectionBudget(Value, frozen=True, kw_only=True):
    """Workers x pool size, over all groups of workers, within what the server has.

    >>> ConnectionBudget(max_connections=100, reserved=13).pool_size(workers=16)
    5
    """

    max_connections: int
    """Of the server: `max_connections`, or the size of the pooler before it."""
    reserved: int = 3
    """For superusers, replication, migrations and other services; PostgreSQL keeps 3 for superusers by
    itself.
    """

    def __post_init__(self) -> None:
        require(self.reserved >= 0, f"reserved is {self.reserved}; it must not be below 0")
        require(
            self.available >= 1,
            f"{self.reserved} of {self.max_connections} connections are reserved, which leaves none; "
            "raise max_connections or reserve fewer",
        )

    @property
    def available(self) -> int:
        """For the pools of all workers together."""
        return self.max_connections - self.reserved

    def pool_size(self, *, workers: int) -> int:
        """The largest pool that each of so many workers may have.

        Raises InvalidInput where there are more workers than connections.
        """
        require(workers >= 1, f"{workers} workers have no pools; the least is 1")
        if workers > self.available:
            raise InvalidInput(
                f"{workers} workers share {self.available} connections, which is less than one each; "
                "run fewer workers, or put a pooler such as pgbouncer before the server"
            )
        return self.available // workers

    def workers(self, *, pool_size: int) -> int:
        """The most workers that may each have a pool of this size; 0 where not even one may."""
        require(pool_size >= 1, f"a pool of {pool_size} has no connections; the least is 1")
        return self.available // pool_size

    def capped(self, policy: AdjustmentPolicy, *, workers: int) -> AdjustmentPolicy:
        """The policy of a pool's or stage's limit in each of so many workers, within the budget."""
        return policy.capped(self.pool_size(workers=workers))

    def shares(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """Connections for pools that want different numbers: all they want, or a fair part of what there is.

        Max-min fair: who wants little gets it, and what is over goes to the others in equal parts. Nobody
        gets less than 1; raises InvalidInput where there are more pools than connections.
        """
        if len(wanted) > self.available:
            raise InvalidInput(f"{len(wanted)} pools share {self.available} connections; join some of them")
        left, shares = self.available, {}
        by_need = sorted(wanted, key=lambda name: (wanted[name], name))
        for position, name in enumerate(by_need):
            share = max(1, min(wanted[name], left // (len(by_need) - position)))
            shares[name] = share
            left -= share
        return shares
