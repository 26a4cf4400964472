"""Keep, revert or unclear: the verdict on a Change from the evidence of its Trial. Pure.

The order of the evidence is the order of the rules:

1. Nothing reached: no statement changed its plan or its work. A change that should make the workload
   faster is reverted without timing anything; one that frees space is kept, since nobody uses what it
   removes.
2. Errors, size and WAL bytes are counted, not sampled: a limit passed is a limit broken. A statement that
   fails in the treatment only reverts the change, at once if it did so in the counted run.
3. A single statement that is proven to cost more than its guardrail allows reverts the change, however
   much the others gain.
4. The CPU time of the statements that the change reaches, weighted by calls, decides by the sequential
   procedure of `stats.sequential`.
5. What is kept must also matter to the whole workload (`KeepPolicy.min_mix_gain_ratio`): an index that
   makes a rare statement ten times faster and the workload 0.1 % faster does not pay for its space.

On a crowded host rule 4 asks for more: the bound itself, not only the estimate, must clear the smallest
effect worth keeping. The answer then is unclear more often, and invented less often.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

from perfloop.model.outcome import GuardrailReading, Verdict
from perfloop.model.value import Value, require
from perfloop.stats.paired import paired_interval
from perfloop.stats.ratio import cost_ratio
from perfloop.stats.sequential import Answer, Look, SequentialPolicy, exceeds, look
from perfloop.stats.signed_rank import hodges_lehmann


class Aim(enum.Enum):
    """What a Change promises."""

    FASTER = "faster"
    """Less work for the same operations."""
    LEANER = "leaner"
    """Space freed and writes relieved, with no operation slower."""


class KeepPolicy(Value, frozen=True, kw_only=True):
    """How good is good enough, and what may not get worse. Ratios are treatment over control."""

    looks: tuple[int, ...] = (10, 14, 20, 28, 40)
    """Numbers of pairs at which the evidence is judged; see `stats.sequential` for the levels."""
    level: float = 0.0030
    """One-sided level of each look; 0.0030 keeps five looks together at 1 % (decision record 0004)."""
    min_effect_ratio: float = 0.03
    """Smallest saving in the reached statements that is worth keeping."""
    min_mix_gain_ratio: float = 0.005
    """Smallest saving in the whole workload that is worth keeping."""
    max_statement_ratio: float = 1.15
    """No reading statement may be proven to cost more than this."""
    max_write_ratio: float = 2.0
    """Nor a writing one more than this; its cost also counts in the sum."""
    max_wal_ratio: float = 3.0
    """WAL bytes of the reached writes."""
    max_growth_ratio: float = 0.5
    """Space that all kept changes together may take, as a share of the database's size."""

    def __post_init__(self) -> None:
        require(
            0 < self.min_effect_ratio < 1, f"min_effect_ratio lies in (0, 1), not {self.min_effect_ratio}"
        )
        for name in ("max_statement_ratio", "max_write_ratio", "max_wal_ratio"):
            require(getattr(self, name) >= 1, f"{name} is a ratio of at least 1, not {getattr(self, name)}")
        self.sequential()

    def sequential(self) -> SequentialPolicy:
        """The procedure's own policy; checks that the looks can reach the level."""
        return SequentialPolicy(
            looks=self.looks, lower_level=self.level, min_effect_ratio=self.min_effect_ratio
        )


STANDARD_KEEP_POLICY = KeepPolicy()
FAILURES_TO_REVERT = 2
"""How many more pairs must fail in the treatment than in the control to revert the change; one more keeps it
from being kept."""


class StatementPairs(Value, frozen=True, kw_only=True):
    """The log ratios ln(control) - ln(treatment) of one reached statement, a pair each."""

    label: str
    is_write: bool
    log_ratios: tuple[float, ...]


class TrialEvidence(Value, frozen=True, kw_only=True):
    """All that a verdict may depend on, as far as the Trial has come."""

    aim: Aim
    log_ratios: tuple[float, ...]
    """The primary metric over the reached statements, weighted by calls; empty if nothing was timed."""
    statements: tuple[StatementPairs, ...]
    reached_share: float
    """Share of the whole workload's CPU time that the reached statements had in the control arm."""
    reached_writes: int
    """How many writing statements changed their plan or their work."""
    control_wal_bytes: float = 0.0
    treatment_wal_bytes: float = 0.0
    new_errors: tuple[str, ...] = ()
    """Statements that fail in the treatment arm only, with the server's message."""
    failed_control: int = 0
    """Pairs that are void because a statement failed in the control; the same for the treatment below."""
    failed_treatment: int = 0
    failure: str = ""
    """The last of them: the statement and the server's message."""
    growth_ratio: float = 0.0
    """Space taken by this change and those kept before, over the database's size."""
    crowded: bool = False


class Decision(Value, frozen=True, kw_only=True):
    """The verdict, or None: go on measuring."""

    verdict: Verdict | None
    reason: str
    guardrails: tuple[GuardrailReading, ...] = ()


def decide(evidence: TrialEvidence, policy: KeepPolicy) -> Decision:
    """Judge the evidence so far.

    Raises:
        InvalidValue: more pairs than the policy plans.
    """
    guardrails = _counted_guardrails(evidence, policy)
    if evidence.new_errors:
        return _reverted(f"a statement fails with it: {evidence.new_errors[0]}", guardrails)
    if evidence.failed_treatment - evidence.failed_control >= FAILURES_TO_REVERT:
        return _reverted(f"a statement fails with it in some pairs: {evidence.failure}", guardrails)
    broken = next((rail for rail in guardrails if rail.broken), None)
    if broken is not None:
        return _reverted(f"{broken.name}: {broken.ratio:.2f}, limit {broken.limit_ratio:.2f}", guardrails)
    failures = evidence.failed_control, evidence.failed_treatment
    if failures_decide(*failures, policy.looks[-1]):
        reason = f"statements fail in both arms, in {sum(failures)} pairs: {evidence.failure}"
        return Decision(verdict=Verdict.UNCLEAR, reason=reason, guardrails=guardrails)
    if not evidence.log_ratios:
        return _decide_untimed(evidence, guardrails)
    timed = tuple(_statement_guardrail(each, policy) for each in evidence.statements)
    guardrails = guardrails + timed
    broken = next((rail for rail in timed if rail.broken), None)
    if broken is not None:
        return _reverted(
            f"{broken.name} costs {broken.ratio:.2f} times as much, limit {broken.limit_ratio:.2f}",
            guardrails,
        )
    if evidence.aim is Aim.LEANER:
        return _decide_leaner(evidence, policy, guardrails)
    return _decide_faster(evidence, policy, guardrails)


def failures_decide(control: int, treatment: int, most: int) -> bool:
    """Whether so many pairs failed, in each arm, that no more pairs are worth running."""
    return treatment - control >= FAILURES_TO_REVERT or control + treatment >= most


def mix_ratio(reached_ratio: float, reached_share: float) -> float:
    """The whole workload's cost after over before, where the statements not reached are unchanged.

    >>> mix_ratio(0.5, 0.2)
    0.9
    """
    return 1.0 - reached_share * (1.0 - reached_ratio)


def _counted_guardrails(evidence: TrialEvidence, policy: KeepPolicy) -> tuple[GuardrailReading, ...]:
    readings = [
        GuardrailReading(
            name="size of all kept changes over the database's size",
            ratio=evidence.growth_ratio,
            limit_ratio=policy.max_growth_ratio,
            broken=evidence.growth_ratio > policy.max_growth_ratio,
        )
    ]
    if evidence.failed_control or evidence.failed_treatment:
        readings.append(
            GuardrailReading(
                name="pairs in which a statement fails",
                ratio=(evidence.failed_treatment + 1) / (evidence.failed_control + 1),
                limit_ratio=1.0,
                broken=evidence.failed_treatment - evidence.failed_control >= FAILURES_TO_REVERT,
            )
        )
    if evidence.control_wal_bytes > 0:
        wal_ratio = evidence.treatment_wal_bytes / evidence.control_wal_bytes
        readings.append(
            GuardrailReading(
                name="WAL bytes of the writes over those without it",
                ratio=wal_ratio,
                limit_ratio=policy.max_wal_ratio,
                broken=wal_ratio > policy.max_wal_ratio,
            )
        )
    return tuple(readings)


def _statement_guardrail(statement: StatementPairs, policy: KeepPolicy) -> GuardrailReading:
    limit_ratio = policy.max_write_ratio if statement.is_write else policy.max_statement_ratio
    return GuardrailReading(
        name=statement.label,
        ratio=cost_ratio(hodges_lehmann(statement.log_ratios)),
        limit_ratio=limit_ratio,
        broken=exceeds(statement.log_ratios, margin_ratio=limit_ratio - 1.0, level=policy.level),
    )


def _decide_untimed(evidence: TrialEvidence, guardrails: tuple[GuardrailReading, ...]) -> Decision:
    if evidence.aim is Aim.LEANER:
        relief = ", and writes have less to maintain" if evidence.reached_writes else ""
        reason = f"no plan of the workload uses it{relief}"
        return Decision(verdict=Verdict.KEEP, reason=reason, guardrails=guardrails)
    if evidence.reached_writes:
        return _reverted("no plan changes; writes only have more to maintain", guardrails)
    return _reverted("no statement of the workload changes its plan or its work", guardrails)


def _decide_faster(
    evidence: TrialEvidence, policy: KeepPolicy, guardrails: tuple[GuardrailReading, ...]
) -> Decision:
    sequential = policy.sequential()
    seen = look(evidence.log_ratios, sequential)
    if seen.answer is Answer.DROP:
        return _reverted(_too_small(seen, policy), guardrails)
    at_risk = next((rail for rail in guardrails if rail.ratio > rail.limit_ratio), None)
    sure = seen.low > (sequential.min_effect if evidence.crowded else 0.0)
    if seen.answer is Answer.KEEP and sure and at_risk is None:
        whole = mix_ratio(seen.ratio, evidence.reached_share)
        if 1.0 - whole < policy.min_mix_gain_ratio:
            reason = (
                f"saves {_percent(1 - seen.ratio)} in the statements it reaches, but only "
                f"{_percent(1 - whole)} of the whole workload"
            )
            return _reverted(reason, guardrails)
        reason = f"the statements it reaches cost {_percent(1 - seen.ratio)} less CPU time"
        return Decision(verdict=Verdict.KEEP, reason=reason, guardrails=guardrails)
    if seen.pairs < policy.looks[-1]:
        return Decision(verdict=None, reason="more pairs are needed", guardrails=guardrails)
    return Decision(
        verdict=Verdict.UNCLEAR, reason=_why_unclear(evidence, at_risk, seen), guardrails=guardrails
    )


def _decide_leaner(
    evidence: TrialEvidence, policy: KeepPolicy, guardrails: tuple[GuardrailReading, ...]
) -> Decision:
    if len(evidence.log_ratios) not in policy.looks:
        return Decision(verdict=None, reason="more pairs are needed", guardrails=guardrails)
    if exceeds(evidence.log_ratios, margin_ratio=0.0, level=policy.level):
        return _reverted("the statements that used it cost more without it", guardrails)
    seen = look(evidence.log_ratios, policy.sequential())
    no_harm = -math.log1p(policy.min_effect_ratio)
    if seen.low > no_harm and all(rail.ratio <= rail.limit_ratio for rail in guardrails):
        reason = "harm to the statements it reaches is excluded"
        return Decision(verdict=Verdict.KEEP, reason=reason, guardrails=guardrails)
    if len(evidence.log_ratios) < policy.looks[-1]:
        return Decision(verdict=None, reason="more pairs are needed", guardrails=guardrails)
    return Decision(verdict=Verdict.UNCLEAR, reason="harm could not be excluded", guardrails=guardrails)


def _reverted(reason: str, guardrails: tuple[GuardrailReading, ...]) -> Decision:
    return Decision(verdict=Verdict.REVERT, reason=reason, guardrails=guardrails)


def _too_small(seen: Look, policy: KeepPolicy) -> str:
    if seen.high < 0:
        return f"the statements it reaches cost {_percent(seen.ratio - 1)} more CPU time"
    change = _signed_percent(seen.ratio - 1)
    return f"it saves less than {_percent(policy.min_effect_ratio)}: the CPU time changes by {change}"


def _why_unclear(evidence: TrialEvidence, at_risk: GuardrailReading | None, seen: Look) -> str:
    if at_risk is not None:
        return f"{at_risk.name} may cost {at_risk.ratio:.2f} times as much, limit {at_risk.limit_ratio:.2f}"
    where = " on a crowded host" if evidence.crowded else ""
    low, high = _signed_percent(seen.ratio_low - 1), _signed_percent(seen.ratio_high - 1)
    return f"{seen.pairs} pairs{where} cannot tell: the CPU time changes by something from {low} to {high}"


def _signed_percent(ratio: float) -> str:
    return f"{ratio * 100:+.1f} %"


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.1f} %"


def effect_bounds(log_ratios: Sequence[float]) -> tuple[float, float, float]:
    """(ratio, low, high): treatment over control with the exact 95 % interval, for reports."""
    interval = paired_interval(log_ratios)
    return interval.estimate, interval.low, interval.high
