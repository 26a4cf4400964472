"""What a user may choose of a Study, and a Study under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from perfloop.adapters.store import Journal
from perfloop.model.advice import Change
from perfloop.model.outcome import Study
from perfloop.model.value import Value
from perfloop.tune.decision import STANDARD_KEEP_POLICY, KeepPolicy
from perfloop.tune.observer import Observer
from perfloop.tune.rewrites.rule import Rule
from perfloop.tune.rewrites.rules import RULES
from perfloop.tune.samples import Count
from perfloop.tune.weighing import Weighing


class StudyOptions(Value, frozen=True, kw_only=True):
    """What a user may choose of a Study."""

    workload_source: str | None = None
    """A log, a folder of logs or of .sql files, or a pgbench script; None for pg_stat_statements."""
    log: str | None = None
    """A log whose real parameters stand in for `$n`."""
    log_line_prefix: str | None = None
    window_s: float | None = None
    lab_dsn: str | None = None
    """A scratch server of the user's own, with the right to create databases; None for one of perfloop's."""
    keep_lab: bool = False
    """Leave the lab's data for a look; the study's notes say where."""
    max_lab_bytes: int = 20 * 1024**3
    max_index_bytes: int | None = None
    """For all new indexes together; None for half of what the tables take."""
    weighing: Weighing = Weighing.TIME
    """What the statements count by, in the search and in the trials."""
    most_trials: int = 24
    seed: int = 1
    policy: KeepPolicy = STANDARD_KEEP_POLICY


@dataclass(slots=True)
class StudyRun:
    """A Study under way."""

    study: Study
    journal: Journal
    observer: Observer
    options: StudyOptions
    counts: dict[str, Count] = field(default_factory=dict)
    """Of every operation, with all that is kept so far."""
    counts_before: dict[Change, Mapping[str, Count]] = field(default_factory=dict)
    """Of what a kept change may reach, in the control arm of its trial."""
    kept_bytes: int = 0
    draws: dict[str, int] = field(default_factory=dict)
    """Of each statement, the instance whose plan the study keeps."""
    rules: tuple[Rule, ...] = RULES

    def save(self, **changes: object) -> None:
        self.study = msgspec.structs.replace(self.study, **changes)
        self.journal.save_study(self.study)
