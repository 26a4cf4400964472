"""Holds a worker's processes to what their group may have."""

from __future__ import annotations

from contextlib import suppress

from perfloop.adapters.control_groups import ControlGroup
from perfloop.errors import LaunchFailed
from perfloop.process.launching import WorkerLimits
from perfloop.process.resources.host import group_of, hold, host_rights
from perfloop.process.resources.limits import ResourceLimits, ResourcePlan, plan

_NONE = ResourceLimits()


class Hold:
    """One process's limits, from before its start to its end.

    Args:
        limits: Of its group.
        name: Of the worker, as its group numbers them.
        incarnation: Tells this process from others of the worker, beside which it may run.
    """

    def __init__(self, limits: ResourceLimits, name: str, incarnation: int) -> None:
        self._plan = plan_of(limits, int(name.rpartition("-")[2]) - 1)
        self._name = f"{name}-{incarnation}"
        self._group: ControlGroup | None = None

    @property
    def worker(self) -> WorkerLimits:
        """What the process takes upon itself."""
        return self._plan.worker

    @property
    def bounds_memory(self) -> bool:
        """Whether the process has a control group that bounds its memory."""
        return self._plan.group_memory_bytes is not None

    def begin(self) -> None:
        """Make what has to be there before the process is.

        Raises:
            LaunchFailed: That cannot be.
        """
        group = group_of(self._plan, self._name)
        self._group = None if group is None else group.__enter__()

    def take(self, pid: int) -> None:
        """The process is there.

        Raises:
            LaunchFailed: It cannot be held to its limits.
        """
        try:
            hold(self._plan, pid, self._group)
        except (ProcessLookupError, FileNotFoundError):
            return  # it has ended already, which is told by its exit
        except OSError as error:
            raise LaunchFailed(
                f"{self._name} cannot be held to its memory: {error.strerror}; leave memory_bytes out, or"
                " give perfloop the right"
            ) from error

    def memory_kills(self) -> int | None:
        """How many of its processes had more memory than they may; None where another bound holds."""
        if self._group is None or not self.bounds_memory:
            return None
        return self._group.out_of_memory_kills()

    def end(self) -> None:
        """The process is gone."""
        group, self._group = self._group, None
        if group is not None:
            with suppress(OSError):
                group.__exit__(None, None, None)


def plan_of(limits: ResourceLimits, place: int) -> ResourcePlan:
    """How the worker at a place of its group is held; where nothing is asked for, nothing is looked at."""
    if limits == _NONE:
        return ResourcePlan(worker=WorkerLimits())
    return plan(limits, place=place, host=host_rights())
