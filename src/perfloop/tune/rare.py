"""Whether a change harms a statement that is too rare to be part of the timed workload.

A nightly report takes no share of the time that a trial could weigh, yet dropping "its" index may turn
seconds into hours. So before a change is kept, the rare statements are planned in both arms, and those whose
plan changes run once in each. A single run tells a doubling, not a few percent: that is the limit here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from perfloop.model.workload import Operation
from perfloop.tune.lab.arms import Arms
from perfloop.tune.measure import HEAVY_RATIO, count, runaway_s
from perfloop.tune.reach import plans_alike
from perfloop.tune.samples import Count

LONGEST_S = 10.0
"""A rare statement that takes longer in the control is not waited for."""
TOTAL_S = 60.0
"""After this no further statement is begun."""
_SURE_S = 0.005
"""From this CPU time on a doubling is no accident; below it, the blocks must say the same."""


def harm_to_rare(arms: Arms, operations: Iterable[Operation]) -> str | None:
    """One sentence on the first rare statement that costs twice as much or fails with the change; else None.

    Raises:
        ServerFailed: the lab's server ended a session.
    """
    deadline_s = time.monotonic() + TOTAL_S
    for operation in operations:
        if time.monotonic() > deadline_s:
            return None
        if plans_alike(arms, operation):
            continue
        before = count(arms.control, operation, limit_s=LONGEST_S)
        if before.error is None:
            harm = _harm(before, count(arms.treatment, operation, limit_s=runaway_s(before)))
            if harm is not None:
                return f"{operation.statement.label}, which is called too rarely to be timed, {harm}"
    return None


def _harm(before: Count, after: Count) -> str | None:
    if after.error is not None:
        return f"fails: {after.error}"
    is_dearer = after.cpu_s >= HEAVY_RATIO * before.cpu_s > 0
    if is_dearer and (after.cpu_s >= _SURE_S or after.mean("blocks") >= HEAVY_RATIO * before.mean("blocks")):
        return f"costs {after.cpu_s / before.cpu_s:.1f} times as much"
    return None
