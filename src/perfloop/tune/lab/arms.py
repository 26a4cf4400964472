"""The two sides of a Trial."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg

from perfloop.adapters.host import backend_cpu_s
from perfloop.model.outcome import LabKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side of a Trial: a session of its own on a lab server. The connection is in autocommit mode."""

    name: str
    connection: psycopg.Connection
    is_here: bool = True

    def spent_s(self) -> float:
        """CPU time of this session's backend; on another machine, the time that passed. In seconds."""
        if not self.is_here:
            return time.perf_counter()
        return backend_cpu_s(self.connection.info.backend_pid)


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
