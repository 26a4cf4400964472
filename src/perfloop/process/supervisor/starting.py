"""Starts the groups of a fleet: each as soon as those that it needs are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from perfloop.errors import FleetFailed
from perfloop.process.supervisor.group import Group


async def start_all(groups: Mapping[str, Group], *, started: Callable[[Group], None]) -> str:
    """Start them, and wait until each is ready, or was given up; what did not become ready, and why.

    One that others need and that does not become ready keeps those from being started. All others go on.

    Args:
        groups: By their names; none needs itself by way of others.
        started: Is told each group whose start is over.

    Raises:
        FleetFailed: Some did not become ready, and nothing runs besides.
    """
    starting: dict[str, asyncio.Task[str]] = {}

    async def start(group: Group) -> str:
        for needed in group.spec.needs:
            if await starting[needed]:
                told = group.hold_back(needed)
                started(group)
                return told
        await group.start()
        started(group)
        return group.fault_of_start()

    for name, group in groups.items():
        starting[name] = asyncio.create_task(start(group))
    try:
        faults = [each for each in await asyncio.gather(*starting.values()) if each]
    finally:
        for task in starting.values():
            task.cancel()
    told = "; ".join(faults)
    if faults and not any(group.is_alive for group in groups.values()):
        raise FleetFailed(told)
    return told
