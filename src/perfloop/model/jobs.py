"""What the queues of a service's background jobs hold, whichever library fills them."""

from __future__ import annotations

from msgspec.structs import replace

from perfloop.model.value import Value

Unknown = tuple[tuple[str, str], ...]
"""Fields that could not be told, each with its reason."""


class JobQueue(Value, frozen=True, kw_only=True):
    """One queue at one moment. None stands for what its system does not tell; `unknown` says why."""

    name: str
    system: str
    """procrastinate, celery, rq or dramatiq."""
    depth: int
    """Jobs that wait for a worker and are due."""
    in_progress: int
    """Jobs that workers have, begun or only fetched."""
    scheduled: int | None = None
    """Jobs that are not due yet."""
    oldest_age_s: float | None = None
    """Since the oldest job in `depth` was due; 0 where none waits."""
    window_s: float | None = None
    """How far back the four fields below look; None where they are all that the system still keeps."""
    arrived: int | None = None
    """Jobs enqueued in the window."""
    finished: int | None = None
    """Jobs that ended well in the window."""
    failures: int | None = None
    """Jobs that ended badly in the window, and will not be tried again by themselves."""
    run_time_s: float | None = None
    """Mean from start to end, of those that ended in the window."""
    stuck: int | None = None
    """Jobs of `in_progress` whose worker is dead: nobody will end them."""
    grown_by: int | None = None
    """Change of `depth` between two readings."""
    grown_over_s: float | None = None
    """Time between those readings."""
    unknown: Unknown = ()

    @property
    def failure_ratio(self) -> float | None:
        """Failures among the jobs that ended, in [0, 1]; None where one of the two is not known."""
        if self.failures is None or self.finished is None:
            return None
        return self.failures / max(1, self.failures + self.finished)

    @property
    def identity(self) -> str:
        """The same for the same queue in every reading."""
        return f"{self.system}: {self.name}"


def with_growth(
    earlier: tuple[JobQueue, ...], later: tuple[JobQueue, ...], elapsed_s: float
) -> tuple[JobQueue, ...]:
    """The later reading, with what each queue has grown by; a queue that was not there was empty."""
    depths = {each.identity: each.depth for each in earlier}
    return tuple(
        replace(each, grown_by=each.depth - depths.get(each.identity, 0), grown_over_s=elapsed_s)
        for each in later
    )
