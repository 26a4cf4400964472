"""What one look at the queues of background jobs gave."""

from __future__ import annotations

from perfloop.model.jobs import JobQueue
from perfloop.model.snapshot import Limitation
from perfloop.model.value import Value

WINDOW_S = 3600.0
"""How far back failures, finished jobs and run times are looked at."""


class JobReading(Value, frozen=True, kw_only=True):
    """The queues that were found, in the order of system and name, and what could not be read."""

    queues: tuple[JobQueue, ...] = ()
    limitations: tuple[Limitation, ...] = ()
