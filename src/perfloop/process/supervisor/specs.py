"""What a fleet is to be: its groups of workers, and the rules for each."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from perfloop.control.budget import ConnectionBudget
from perfloop.errors import InvalidInput
from perfloop.model.value import Value, require
from perfloop.process.leaks.ladder import LadderPolicy
from perfloop.process.resources.limits import ResourceLimits
from perfloop.process.scaling.policy import MOST_WORKERS, ScalingPolicy
from perfloop.process.supervisor.ordering import start_order
from perfloop.process.supervisor.restarting import RestartPolicy, Strategy

STOP_SIGNALS: Final = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2")


class ReadyPolicy(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a worker counts as ready; by its own word where nothing else is said, a command at once."""

    delay_s: float | None = None
    """When it has run this long."""
    output: str | None = None
    """When a line that it writes matches this regular expression."""
    http: str | None = None
    """When this URL answers with a status below 400."""
    probe: tuple[str, ...] = ()
    """When this command ends with 0."""
    every_s: float = 0.1
    """Between two requests or probes."""
    within_s: float = 30.0
    """A worker that is not ready by then is killed, and started again by the rules."""

    def __post_init__(self) -> None:
        kinds = [self.delay_s is not None, self.output is not None, self.http is not None, bool(self.probe)]
        require(sum(kinds) <= 1, "delay_s, output, http, probe: at most one of them")
        require(
            self.output is None or _is_pattern(self.output), f"output: {self.output} is no regular expression"
        )
        require(self.delay_s is None or self.delay_s >= 0, "delay_s: not below zero")
        require(self.http is None or _is_url(self.http), f"http: {self.http} is no URL of http or https")
        require(self.every_s > 0, "every_s: above zero")
        require(self.within_s > 0, "within_s: above zero")

    @property
    def is_by_word(self) -> bool:
        """Whether nothing is said."""
        return self.delay_s is None and self.output is None and self.http is None and not self.probe


class HealthPolicy(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker that hangs is found; it is killed, and started again by the rules."""

    heartbeat_s: float = 60.0
    """A worker from which nothing is heard for this long hangs: longer than the longest message takes, or it
    calls `heartbeat()` in between. A target that takes no messages is left alone. 0 for never."""
    http: str | None = None
    """Hangs where this URL does not answer with a status below 400."""
    probe: tuple[str, ...] = ()
    """Hangs where this command does not end with 0."""
    every_s: float = 10.0
    """Between two requests or probes."""
    timeout_s: float = 5.0
    """Of each."""
    failures: int = 3
    """In a row."""

    def __post_init__(self) -> None:
        require(self.heartbeat_s >= 0, "heartbeat_s: not below zero")
        require(self.http is None or not self.probe, "http, probe: at most one of them")
        require(self.http is None or _is_url(self.http), f"http: {self.http} is no URL of http or https")
        require(self.every_s > 0, "every_s: above zero")
        require(self.timeout_s > 0, "timeout_s: above zero")
        require(self.failures >= 1, "failures: at least 1")


class StopPolicy(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker is ended: no more messages, then a signal, then SIGKILL to it and to all it started."""

    drain_s: float = 5.0
    """For the messages that it has; those not done then are sent to others."""
    signal: str = "TERM"
    grace_s: float = 3.0
    """From the signal to SIGKILL."""

    def __post_init__(self) -> None:
        require(self.drain_s >= 0, "drain_s: not below zero")
        require(self.grace_s >= 0, "grace_s: not below zero")
        require(self.signal in STOP_SIGNALS, f"signal: one of {', '.join(STOP_SIGNALS)}")

    @property
    def number(self) -> int:
        """Of the signal."""
        return signal.Signals[f"SIG{self.signal}"]


class GroupSpec(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Workers of one kind."""

    name: str
    handler: str | None = None
    """`module:function`, called with each message; a coroutine function for asyncio."""
    target: str | None = None
    """`module:function`, called once with a Worker and the arguments."""
    command: tuple[str, ...] = ()
    """A program and its arguments."""
    arguments: tuple[str, ...] = ()
    """Of the target."""
    count: int = 1
    concurrency: int = 1
    """Messages that one worker with an asynchronous handler does at once."""
    needs: tuple[str, ...] = ()
    """Groups that are ready before this one is started."""
    environment: Mapping[str, str] = {}
    """Added to the supervisor's."""
    folder: str | None = None
    """That it runs in; None for the supervisor's."""
    max_under_way: int = 1024
    """Messages that one worker has; who sends more waits."""
    max_deliveries: int = 4
    """A message that ended or hung its worker this often is given up."""
    overlap: bool | None = None
    """Whether a new worker is ready before the old one is ended, when it is restarted on demand; None for
    all but commands, which may hold a port."""
    pool_size: int = 0
    """Connections to the database that each worker may open, of those that the fleet may have."""
    strategy: Strategy = Strategy.ONE_FOR_ONE
    restart: RestartPolicy = RestartPolicy()
    ready: ReadyPolicy = ReadyPolicy()
    health: HealthPolicy = HealthPolicy()
    stop: StopPolicy = StopPolicy()
    limits: ResourceLimits = ResourceLimits()
    """What each worker may have of the machine."""
    memory: LadderPolicy | None = None
    """What is done for workers whose memory grows; None does not look at it. Only with a channel."""
    scaling: ScalingPolicy | None = None
    """How the number of workers follows the load; None leaves it at the count. Only with a channel."""

    def __post_init__(self) -> None:
        kinds = [self.handler is not None, self.target is not None, bool(self.command)]
        require(sum(kinds) == 1, "one of handler, target and command has to be there, and no other of them")
        for place in (self.handler, self.target):
            require(place is None or _is_place(place), f"{place}: not of the form module:function")
        require(not self.arguments or self.target is not None, "arguments: only a target has them")
        require(self.concurrency == 1 or self.handler is not None, "concurrency: only a handler has it")
        for name, policy in (("memory", self.memory), ("scaling", self.scaling)):
            require(policy is None or not self.command, f"{name}: only a handler or a target has it")
        require(0 <= self.count <= MOST_WORKERS, f"count: from 0 to {MOST_WORKERS}")
        require(self.pool_size >= 0, "pool_size: not below zero")
        require(self.concurrency >= 1, "concurrency: at least 1")
        require(self.max_under_way >= 1, "max_under_way: at least 1")
        require(self.max_deliveries >= 2, "max_deliveries: at least 2")

    @property
    def has_channel(self) -> bool:
        """Whether its workers take messages."""
        return not self.command

    @property
    def fewest(self) -> int:
        """Workers that it has in any case."""
        return self.count if self.scaling is None else max(self.count, self.scaling.lowest)

    @property
    def overlaps(self) -> bool:
        """Whether a new worker may run beside the one that it replaces."""
        return not self.command if self.overlap is None else self.overlap


class FleetSpec(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A supervisor's whole order."""

    groups: tuple[GroupSpec, ...]
    preload: tuple[str, ...] = ()
    """Modules that are loaded once for all workers, beside those of handlers and targets."""
    path: tuple[str, ...] = ()
    """Folders in which workers look for modules before all others; that of a fleet file."""
    control: str | None = None
    """The path of the socket for `perfloop fleet`; None for none."""
    connections: ConnectionBudget | None = None
    """Of the database, for the pools of all workers together; bounds how many a group may become."""

    def __post_init__(self) -> None:
        names = [each.name for each in self.groups]
        require(bool(names), "groups: there is none; add [groups.NAME]")
        require(len(set(names)) == len(names), "groups: each name once")
        mistakable = mistakable_name(names)
        require(mistakable is None, "" if mistakable is None else mistakable[1])
        start_order({each.name: each.needs for each in self.groups})
        pools = [each.name for each in self.groups if each.pool_size]
        if self.connections is None:
            require(not pools, f"pool_size: of {', '.join(pools)}, but connections are not given")
            return
        wanted = sum(each.pool_size * each.fewest for each in self.groups)
        available = self.connections.available
        require(wanted <= available, f"connections: {wanted} are wanted at least, and there are {available}")

    def room(self, name: str, workers: Mapping[str, int]) -> int | None:
        """How many workers a group may have, beside those of the others; None for any number.

        Args:
            name: Of the group.
            workers: Of each group now.
        """
        pool_size = self.group(name).pool_size
        if self.connections is None or not pool_size:
            return None
        others = sum(each.pool_size * workers[each.name] for each in self.groups if each.name != name)
        return max(0, self.connections.available - others) // pool_size

    def group(self, name: str) -> GroupSpec:
        """The group of this name.

        Raises:
            InvalidInput: There is none.
        """
        for each in self.groups:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.groups)
        raise InvalidInput(f"there is no group {name}; there are {known}")

    @property
    def preloaded(self) -> tuple[str, ...]:
        """All modules that are loaded once; that of this package first."""
        places = [each.handler or each.target for each in self.groups]
        modules = [place.partition(":")[0] for place in places if place]
        return tuple(dict.fromkeys(["perfloop.process.worker", *self.preload, *modules]))


def mistakable_name(names: Iterable[str]) -> tuple[str, str] | None:
    """A group that is called as a worker of another one, and what is wrong with that."""
    known = set(names)
    for name in known:
        other, _, number = name.rpartition("-")
        if other in known and number.isdigit():
            return name, f"{name} would be a worker of {other}, too; give this group another name"
    return None


def _is_place(text: str) -> bool:
    module, _, path = text.partition(":")
    return all(part.isidentifier() for part in [*module.split("."), *path.split(".")])


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port, or the brackets of an address
        return False


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
