"""In which order groups are started: each after those that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from perfloop.errors import InvalidInput


def start_order(needs: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Groups that may be started together, one round after another; they are stopped the other way round.

    Args:
        needs: By group, the groups that have to be ready before it.

    Raises:
        InvalidInput: A group needs one that does not exist, or itself by way of others.
    """
    for group, needed in needs.items():
        for each in needed:
            if each not in needs:
                known = ", ".join(sorted(needs))
                raise InvalidInput(f"{group} needs {each}, which is no group; there are {known}")
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        raise InvalidInput(f"groups need each other in a circle: {' -> '.join(error.args[1])}") from error
    rounds = []
    while sorter.is_active():
        ready = sorter.get_ready()
        rounds.append(tuple(sorted(ready, key=list(needs).index)))
        sorter.done(*ready)
    return tuple(rounds)
