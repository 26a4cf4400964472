"""How the statements of a Workload are weighed against each other, in the search and in the trials.

By time, a statement counts by what it costs: that is what the machine gains. It needs true call counts.
A folder of .sql files has none, so that of a set of reports the slowest one is nearly everything; and
somebody who waits for each of them does not care for the sum. Weighed equally, each statement counts as
if the Workload spent the same time in it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from perfloop.model.workload import Workload


class Weighing(enum.Enum):
    """What a statement's gain counts by."""

    TIME = "time"
    """Its share of the time: calls times time per call."""
    EQUAL = "equal"
    """Nothing: every statement counts the same."""


def weighed(workload: Workload, seconds: Mapping[str, float], weighing: Weighing) -> Workload:
    """The Workload with shares of calls so that statements weigh as wanted.

    Args:
        workload: with the shares of calls as they were seen.
        seconds: per call, by query_id; of every operation.
        weighing: by TIME the Workload stays as it is.
    """
    if weighing is Weighing.TIME:
        return workload
    calls = {query_id: 1.0 / max(spent_s, 1e-9) for query_id, spent_s in seconds.items()}
    whole = sum(calls[each.statement.query_id] for each in workload.operations)
    return msgspec.structs.replace(
        workload,
        operations=tuple(
            msgspec.structs.replace(each, calls_share=calls[each.statement.query_id] / whole)
            for each in workload.operations
        ),
    )
