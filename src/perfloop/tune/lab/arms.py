"""The two sides of a Trial."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import psycopg

from perfloop.adapters.host import backend_cpu_s
from perfloop.adapters.scheduling import processors, share_processor, wait_until_asleep
from perfloop.errors import ServerFailed, TargetUnreachable
from perfloop.model.outcome import LabKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side of a Trial: a session of its own on a lab server. The connection is in autocommit mode."""

    name: str
    connection: psycopg.Connection
    is_here: bool = True
    wording: Mapping[str, str] = field(default_factory=dict)
    """What this side runs in place of an instance's own text, where its statement is rewritten here."""

    def text(self, instance: str) -> str:
        """What this side runs for an instance of an operation."""
        return self.wording.get(instance, instance)

    def spent_s(self) -> float:
        """CPU time of this session's backend; on another machine, the time that passed. In seconds."""
        if not self.is_here:
            return time.perf_counter()
        pid = self.connection.info.backend_pid
        wait_until_asleep(pid)
        return backend_cpu_s(pid)

    def end_statements_after(self, limit_s: float) -> None:
        """Let the server end every later statement of this session that takes longer; 0 means no limit."""
        milliseconds = str(math.ceil(limit_s * 1000))
        self.connection.execute("SELECT set_config('statement_timeout', %s, false)", [milliseconds])

    @contextmanager
    def told_if_lost(self) -> Iterator[None]:
        """Turn the end of the session into ServerFailed; errors of statements pass."""
        try:
            yield
        except (psycopg.OperationalError, TargetUnreachable) as error:
            if not self.connection.closed:
                raise
            raise ServerFailed(
                f"the lab's server ended the session of the {self.name} arm: {str(error).strip()}; "
                "most often memory ran out: try a machine with more, or --lab with a scratch server"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Two open arms with the Change in place in the treatment, and what putting it there took."""

    kind: LabKind
    control: Arm
    treatment: Arm
    build_s: float = 0.0
    size_bytes: int = 0

    @property
    def metric(self) -> str:
        """The Metric that `Arm.spent_s` reads."""
        return "cpu_s" if self.control.is_here else "wall_s"

    @property
    def both(self) -> tuple[Arm, Arm]:
        return self.control, self.treatment


def put_on_one_processor(control: Arm, treatment: Arm, rng: Random) -> None:
    """Bind both backends to one processor, drawn anew each time, so that no arm has the better place.

    Where that is not allowed, as for backends of another user, they stay where they are.
    """
    choices = processors()
    if choices and control.is_here and treatment.is_here:
        pids = [arm.connection.info.backend_pid for arm in (control, treatment)]
        share_processor(pids, rng.choice(choices))
