"""Holds a Study of feedshop against the lists of what is planted there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from examples.feedshop.mix import operations
from examples.feedshop.planted import PLANTED, TRAPS, Planted, Yardstick

from benchmarks.rewritten_calls import service_text
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    Change,
    CreateIndex,
    DropIndex,
    Finding,
    RewriteQuery,
)
from perfloop.model.outcome import Study, TrialRecord, Verdict
from perfloop.model.units import size_bytes

MENDED_RATIO = 0.5
"""Where another change than the planned one brings an operation down to this, it mended the problem."""
LARGE_WORK_MEM_BYTES = 64 * 1024**2
"""From here on work_mem is the trap, below it the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedScore:
    """Whether a planted problem has a finding and a kept change, and what its operation gained."""

    id: str
    possible: bool
    """False for what this server's build cannot show."""
    found: bool
    mended: str
    """as planned, otherwise, or no."""
    operation: str
    ratio: float | None
    """Mean latency of its operation after over before, in the scoring load; None where it was not called."""

    @property
    def fixed(self) -> bool:
        return self.mended != "no"

    def cells(self) -> list[str]:
        if not self.possible:
            return [self.id, "no JIT in this build", "-", "-"]
        gain = "not called" if self.ratio is None else f"{self.operation} {self.ratio:.3f}"
        mended = f"**{self.mended}**" if self.mended == "no" else self.mended
        return [self.id, "yes" if self.found else "**no**", mended, gain]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapScore:
    """What became of a change that looks right and is not."""

    id: str
    outcome: str
    """not proposed, reverted, unclear, or kept."""
    reason: str

    def cells(self) -> list[str]:
        return [self.id, f"**{self.outcome}**" if self.outcome == "kept" else self.outcome, self.reason]


def score_planted(study: Study, ratios: Mapping[str, float]) -> tuple[PlantedScore, ...]:
    """One score for each of PLANTED; `ratios` are after over before by operation."""
    kept = [trial.proposal.change for trial in study.kept()]
    return tuple(
        PlantedScore(
            id=each.id,
            possible=study.fingerprint.jit_available or not each.needs_jit,
            found=any(_is_about(finding, each) for finding in study.findings),
            mended=_mended(each, kept, ratios.get(each.operation)),
            operation=each.operation,
            ratio=ratios.get(each.operation),
        )
        for each in PLANTED
    )


def score_traps(study: Study) -> tuple[TrapScore, ...]:
    """One score for each of TRAPS; of several proposals that walk into one the worst outcome counts."""
    kept = [trial.proposal.change for trial in study.kept()]
    scores = []
    for trap in TRAPS:
        tried = [trial for trial in study.trials if _walks_into(trial.proposal.change, trap.id)]
        scores.append(_trap_score(trap.id, tried, kept))
    return tuple(scores)


def _mended(planted: Planted, kept: list[Change], ratio: float | None) -> str:
    if any(_mends(change, planted) for change in kept):
        return "as planned"
    by_time = planted.yardstick is Yardstick.TIME and ratio is not None and ratio <= MENDED_RATIO
    return "otherwise" if by_time else "no"


def _trap_score(trap_id: str, tried: list[TrialRecord], kept: list[Change]) -> TrapScore:
    if not tried:
        return TrapScore(id=trap_id, outcome="not proposed", reason="")
    fallen = next((trial for trial in tried if trial.proposal.change in kept), None)
    if fallen is not None:
        return TrapScore(id=trap_id, outcome="kept", reason=_told(fallen))
    unclear = next((trial for trial in tried if trial.verdict is Verdict.UNCLEAR), None)
    if unclear is not None:
        return TrapScore(id=trap_id, outcome="unclear", reason=_told(unclear))
    return TrapScore(id=trap_id, outcome="reverted", reason="; ".join(_told(trial) for trial in tried))


def _told(trial: TrialRecord) -> str:
    return f"{trial.proposal.change.title}: {trial.reason}"


def _is_about(finding: Finding, planted: Planted) -> bool:
    """The same check at the same place; of a finding on columns, one is among the planted ones."""
    if finding.check != planted.check:
        return False
    place = finding.location
    if planted.change == "create-index":
        table, _, listed = place.partition("(")
        columns = {each.strip().removesuffix(" desc") for each in listed.rstrip(")").split(",")}
        return table == planted.location and not columns.isdisjoint(planted.columns)
    if planted.change == "drop-index":
        return place.endswith(f": {planted.location}")
    # A spill is located at its statement, not at the setting that would mend it; so are its words.
    return planted.change in {"alter-setting", "rewrite-query"} or place == planted.location


def _mends(change: Change, planted: Planted) -> bool:
    match change:
        case CreateIndex():
            return (
                planted.change == "create-index"
                and change.table.name == planted.location
                and change.predicate is None
                and tuple(key.text for key in change.keys)[: len(planted.columns)] == planted.columns
            )
        case DropIndex():
            return planted.change == "drop-index" and change.name == planted.location
        case AnalyzeTable():
            return planted.change == "analyze" and change.table.name == planted.location
        case AlterSetting():
            names = {"jit_above_cost": {"jit", "jit_above_cost"}}.get(planted.location, {planted.location})
            return planted.change == "alter-setting" and change.name in names
        case RewriteQuery():
            operation = next(each for each in operations() if each.name == planted.operation)
            return planted.change == "rewrite-query" and service_text(operation.sql, change) is not None
    return False


def _walks_into(change: Change, trap_id: str) -> bool:
    match trap_id, change:
        case "index-on-last-seen", CreateIndex():
            return change.table.name == "feeds" and "last_seen_at" in _columns(change)
        case "index-on-language", CreateIndex():
            return change.table.name == "posts" and change.keys[0].text == "language"
        case "random-page-cost", AlterSetting():
            return change.name == "random_page_cost"
        case "drop-language-index", DropIndex():
            return change.name == "feeds_language_idx"
        case "yet-more-work-mem", AlterSetting():
            return change.name == "work_mem" and size_bytes(change.value) >= LARGE_WORK_MEM_BYTES
    return False


def _columns(change: CreateIndex) -> Iterable[str]:
    return {*(key.text for key in change.keys), *change.included}
