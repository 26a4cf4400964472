"""What a group's workers may have, and what of that this host can hold them to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from perfloop.model.units import bytes_text
from perfloop.model.value import Value, require
from perfloop.process.launching import WorkerLimits

_USUAL_WEIGHT: Final = 100
_NICE_STEP: Final = 1.25
"""By which the kernel's scheduler makes one level of nice lighter than the other."""
_LIGHTEST: Final = 19


class ResourceLimits(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each worker of a group may have."""

    memory_bytes: int | None = None
    """Of its own, beside what it shares with the zygote."""
    cpus: tuple[int, ...] = ()
    """Processors that it may run on; none given means all."""
    spread: bool = False
    """Whether each worker has one of these processors to run on, in turn."""
    weight: int = _USUAL_WEIGHT
    """Its share of the CPU where there is too little, against others' shares; from 1 to 10000."""
    nice: int = 0
    """From -20 (first) to 19 (last)."""
    open_files: int | None = None

    def __post_init__(self) -> None:
        require(self.memory_bytes is None or self.memory_bytes >= 2**20, "memory_bytes: at least 1 MB")
        require(all(each >= 0 for each in self.cpus), "cpus: numbers of processors, from 0 on")
        require(1 <= self.weight <= 10_000, "weight: from 1 to 10000")
        require(-20 <= self.nice <= _LIGHTEST, "nice: from -20 to 19")
        require(self.open_files is None or self.open_files >= 16, "open_files: at least 16")


class HostRights(Value, frozen=True, kw_only=True):
    """What this host lets this process do."""

    cpus: tuple[int, ...]
    """That it may run on; empty where processes cannot be bound, as on macOS."""
    group_controllers: tuple[str, ...] = ()
    """`memory`, `cpu`: which control groups of version 2 can be made."""
    group_reason: str = ""
    """Why one of them cannot."""
    holds_data: bool = False
    """Whether RLIMIT_DATA counts all private memory, as on Linux."""
    may_raise_priority: bool = False
    most_files: int | None = None
    """The hard limit of open files; None for none."""


class ResourcePlan(Value, frozen=True, kw_only=True):
    """How one worker is held to its limits."""

    worker: WorkerLimits
    """What it takes upon itself before its first work."""
    data_bytes: int | None = None
    """By how much its private memory may grow from what it begins with, by RLIMIT_DATA."""
    group_memory_bytes: int | None = None
    group_weight: int | None = None
    """What its control group has; it needs none where both are None."""
    words: tuple[str, ...] = ()
    """What this host does not allow, and what is done instead."""


def plan(limits: ResourceLimits, *, place: int, host: HostRights) -> ResourcePlan:
    """How the worker at this place of its group, from 0 on, is held to its limits.

    Args:
        limits: Of its group.
        place: In its group.
        host: What can be done.
    """
    words: list[str] = []
    rlimits: dict[str, int] = {}
    group_memory, data = _memory(limits, host, words)
    group_weight, nice = _share(limits, host, words)
    if limits.open_files is not None:
        rlimits["NOFILE"] = _files(limits.open_files, host, words)
    return ResourcePlan(
        worker=WorkerLimits(nice=nice, cpus=_cpus(limits, place, host, words), rlimits=rlimits),
        data_bytes=data,
        group_memory_bytes=group_memory,
        group_weight=group_weight,
        words=tuple(words),
    )


def _memory(limits: ResourceLimits, host: HostRights, words: list[str]) -> tuple[int | None, int | None]:
    """The bound of its control group, and that of its growth; at most one of them."""
    if limits.memory_bytes is None:
        return None, None
    if "memory" in host.group_controllers:
        return limits.memory_bytes, None
    text = bytes_text(limits.memory_bytes)
    if host.holds_data:
        words.append(
            f"memory is bounded to {text} by RLIMIT_DATA, at which Python raises MemoryError, and for each"
            f" process of a worker alone: {host.group_reason}"
        )
        return None, limits.memory_bytes
    words.append(
        "memory cannot be bounded on this system; max_own_bytes of the memory table recycles instead"
    )
    return None, None


def _share(limits: ResourceLimits, host: HostRights, words: list[str]) -> tuple[int | None, int]:
    """The weight of its control group, if it gets one, and how nice it is."""
    nice, weight = limits.nice, None
    if limits.weight != _USUAL_WEIGHT:
        if "cpu" in host.group_controllers:
            weight = limits.weight
        else:
            nice += round(math.log(_USUAL_WEIGHT / limits.weight, _NICE_STEP))
            words.append(f"a weight of {limits.weight} is given as nice {nice}: {host.group_reason}")
    if nice < 0 and not host.may_raise_priority:
        words.append(f"nice {nice} is left at 0: this user may not raise priorities (CAP_SYS_NICE)")
        nice = 0
    return weight, max(-20, min(_LIGHTEST, nice))


def _cpus(limits: ResourceLimits, place: int, host: HostRights, words: list[str]) -> tuple[int, ...]:
    if not limits.cpus and not limits.spread:
        return ()
    if not host.cpus:
        words.append("processes cannot be bound to processors on this system; the scheduler places them")
        return ()
    wanted: Sequence[int] = limits.cpus or host.cpus
    allowed = tuple(each for each in wanted if each in host.cpus)
    if len(allowed) < len(wanted):
        missing = ", ".join(str(each) for each in wanted if each not in host.cpus)
        words.append(f"processor {missing} is not this process's to use; the others are")
    if not allowed:
        return ()
    return (allowed[place % len(allowed)],) if limits.spread else allowed


def _files(wanted: int, host: HostRights, words: list[str]) -> int:
    if host.most_files is not None and wanted > host.most_files:
        words.append(f"open_files is {host.most_files} and not {wanted}: that is the hard limit of this user")
        return host.most_files
    return wanted
