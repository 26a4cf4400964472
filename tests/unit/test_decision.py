"""The verdict follows from the evidence, in a fixed order of rules."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.errors import InvalidValue
from perfloop.model.outcome import Verdict
from perfloop.tune.decision import Aim, KeepPolicy, StatementPairs, TrialEvidence, decide, mix_ratio

POLICY = KeepPolicy()


def pairs(ratio: float, count: int = 10, noise: float = 0.002) -> tuple[float, ...]:
    """Log ratios around a treatment/control ratio, with a small spread that differs from pair to pair."""
    return tuple(-math.log(ratio) + noise * (index - count / 2) / count for index in range(count))


def statement(ratio: float, count: int = 10, *, label: str = "q", is_write: bool = False) -> StatementPairs:
    return StatementPairs(label=label, is_write=is_write, log_ratios=pairs(ratio, count))


FASTER = TrialEvidence(
    aim=Aim.FASTER,
    log_ratios=pairs(0.6),
    statements=(statement(0.6),),
    reached_share=0.5,
    reached_writes=0,
)


def test_a_proven_saving_is_kept() -> None:
    decision = decide(FASTER, POLICY)

    assert Verdict.KEEP == decision.verdict
    assert "40.0 % less CPU time" in decision.reason


def test_a_change_that_reaches_nothing_is_reverted_without_timing() -> None:
    evidence = msgspec.structs.replace(FASTER, log_ratios=(), statements=(), reached_share=0.0)

    assert Verdict.REVERT == decide(evidence, POLICY).verdict


def test_an_index_that_only_writes_notice_is_reverted() -> None:
    evidence = msgspec.structs.replace(FASTER, log_ratios=(), statements=(), reached_writes=2)

    decision = decide(evidence, POLICY)

    assert Verdict.REVERT == decision.verdict
    assert "only have more to maintain" in decision.reason


def test_a_saving_below_the_smallest_effect_is_reverted() -> None:
    evidence = msgspec.structs.replace(FASTER, log_ratios=pairs(0.995), statements=(statement(0.995),))

    assert Verdict.REVERT == decide(evidence, POLICY).verdict


def test_a_gain_never_buys_one_slower_statement() -> None:
    """However much the sum gains, a single statement proven 1.3 times slower reverts the change."""
    slower = statement(1.3, label="orders_of_user")
    evidence = msgspec.structs.replace(FASTER, statements=(statement(0.5), slower))

    decision = decide(evidence, POLICY)

    assert Verdict.REVERT == decision.verdict
    assert "orders_of_user" in decision.reason


def test_a_write_may_cost_more_than_a_read_may() -> None:
    """An index costs its writes something; what counts is the sum, up to a limit."""
    dearer = statement(1.3, label="insert", is_write=True)
    evidence = msgspec.structs.replace(FASTER, statements=(statement(0.5), dearer))

    assert Verdict.KEEP == decide(evidence, POLICY).verdict


def test_wal_beyond_its_limit_reverts_without_timing() -> None:
    evidence = msgspec.structs.replace(
        FASTER, log_ratios=(), statements=(), control_wal_bytes=100.0, treatment_wal_bytes=301.0
    )

    decision = decide(evidence, POLICY)

    assert Verdict.REVERT == decision.verdict
    assert "WAL bytes" in decision.reason


def test_a_new_error_reverts_whatever_else_is_gained() -> None:
    evidence = msgspec.structs.replace(FASTER, new_errors=("q: out of memory",))

    assert Verdict.REVERT == decide(evidence, POLICY).verdict


def test_a_large_saving_in_a_rare_statement_does_not_pay() -> None:
    """0.6 of a statement that takes 0.5 % of the time saves 0.2 % of the workload."""
    evidence = msgspec.structs.replace(FASTER, reached_share=0.005)

    decision = decide(evidence, POLICY)

    assert Verdict.REVERT == decision.verdict
    assert "of the whole workload" in decision.reason


def test_noise_asks_for_more_pairs_and_ends_unclear() -> None:
    noisy = tuple(0.05 + (0.6 if index % 2 else -0.6) for index in range(40))
    early = msgspec.structs.replace(
        FASTER,
        log_ratios=noisy[:10],
        statements=(StatementPairs(label="q", is_write=False, log_ratios=noisy[:10]),),
    )
    late = msgspec.structs.replace(
        FASTER, log_ratios=noisy, statements=(StatementPairs(label="q", is_write=False, log_ratios=noisy),)
    )

    assert decide(early, POLICY).verdict is None
    assert Verdict.UNCLEAR == decide(late, POLICY).verdict


def test_a_crowded_host_asks_for_more_than_a_bound_above_zero() -> None:
    """A small saving that a quiet host proves is no verdict on a crowded one."""
    small = tuple(0.035 + 0.02 * (index - 20) / 20 for index in range(40))
    quiet = msgspec.structs.replace(
        FASTER, log_ratios=small, statements=(StatementPairs(label="q", is_write=False, log_ratios=small),)
    )

    assert Verdict.KEEP == decide(quiet, POLICY).verdict
    assert Verdict.UNCLEAR == decide(msgspec.structs.replace(quiet, crowded=True), POLICY).verdict


def test_a_drop_that_nobody_notices_is_kept() -> None:
    evidence = msgspec.structs.replace(FASTER, aim=Aim.LEANER, log_ratios=(), statements=(), reached_writes=3)

    assert Verdict.KEEP == decide(evidence, POLICY).verdict


def test_a_drop_that_a_reader_pays_for_is_reverted() -> None:
    evidence = msgspec.structs.replace(
        FASTER, aim=Aim.LEANER, log_ratios=pairs(1.08), statements=(statement(1.08),)
    )

    assert Verdict.REVERT == decide(evidence, POLICY).verdict


def test_a_drop_is_kept_where_harm_is_excluded() -> None:
    evidence = msgspec.structs.replace(
        FASTER, aim=Aim.LEANER, log_ratios=pairs(1.0), statements=(statement(1.0),)
    )

    assert Verdict.KEEP == decide(evidence, POLICY).verdict


def test_growth_beyond_its_limit_reverts() -> None:
    assert Verdict.REVERT == decide(msgspec.structs.replace(FASTER, growth_ratio=0.51), POLICY).verdict


def test_a_policy_that_cannot_decide_is_refused() -> None:
    """Five pairs can never reach the level, so such a policy would only ever answer unclear."""
    with pytest.raises(InvalidValue, match="cannot reach"):
        KeepPolicy(looks=(5,))


@given(ratio=st.floats(0.05, 3.0), share=st.floats(0.0, 1.0))
def test_the_mix_moves_no_more_than_what_is_reached(ratio: float, share: float) -> None:
    whole = mix_ratio(ratio, share)

    assert min(1.0, ratio) - 1e-9 <= whole <= max(1.0, ratio) + 1e-9


@given(ratio=st.floats(1.0, 2.5), share=st.floats(0.0, 1.0), crowded=st.booleans())
def test_what_does_not_save_is_never_kept(ratio: float, share: float, crowded: bool) -> None:
    evidence = msgspec.structs.replace(
        FASTER, log_ratios=pairs(ratio), statements=(statement(ratio),), reached_share=share, crowded=crowded
    )

    assert Verdict.KEEP != decide(evidence, POLICY).verdict


def test_two_more_failing_pairs_in_the_treatment_revert() -> None:
    evidence = msgspec.structs.replace(FASTER, failed_treatment=2, failure="q: out of memory")

    decision = decide(evidence, POLICY)

    assert Verdict.REVERT == decision.verdict
    assert "q: out of memory" in decision.reason


def test_one_more_failing_pair_keeps_a_change_from_being_kept() -> None:
    statements = (statement(0.6, 40),)
    evidence = msgspec.structs.replace(
        FASTER, log_ratios=pairs(0.6, 40), statements=statements, failed_treatment=1, failure="q: deadlock"
    )

    assert Verdict.UNCLEAR == decide(evidence, POLICY).verdict


def test_failures_in_both_arms_alike_say_nothing_against_a_change() -> None:
    evidence = msgspec.structs.replace(FASTER, failed_control=3, failed_treatment=3, failure="q: deadlock")

    assert Verdict.KEEP == decide(evidence, POLICY).verdict


def test_pairs_that_only_ever_fail_end_unclear() -> None:
    evidence = msgspec.structs.replace(
        FASTER, log_ratios=(), statements=(), failed_control=20, failed_treatment=20, failure="q: deadlock"
    )

    assert Verdict.UNCLEAR == decide(evidence, POLICY).verdict
