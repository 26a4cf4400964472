"""The read-only half of the loop as a value."""

from __future__ import annotations

from perfloop.model.advice import Finding
from perfloop.model.baseline import Comparison
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import Value
from perfloop.model.workload import Workload


class Analysis(Value, frozen=True, kw_only=True):
    """What reading the target gave. `workload` is None where there is nothing to read one from."""

    snapshot: Snapshot
    workload: Workload | None
    findings: tuple[Finding, ...]
    unexplained: tuple[str, ...]
    """For statements without a finding, a sentence each that says why."""
    comparison: Comparison | None = None
    """With a Baseline; its Findings are among `findings`."""
