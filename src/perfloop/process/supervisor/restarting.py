"""Whether a worker that ended is started again, and when: the rules of OTP's supervisors, with back-off.

Source: Erlang/OTP, supervisor(3), for restart types (permanent, transient, temporary), strategies and restart
intensity. OTP restarts at once; the growing delay with its cap and its jitter is the back-off that users of
supervisord have long asked for.
"""

from __future__ import annotations

import signal
from enum import StrEnum
from math import log

from msgspec import structs

from perfloop.model.value import Value, require


class RestartKind(StrEnum):
    """Which ends are followed by a restart."""

    PERMANENT = "permanent"
    """Every one."""
    TRANSIENT = "transient"
    """Those with an exit code other than 0, or by a signal."""
    TEMPORARY = "temporary"
    """None."""


class Strategy(StrEnum):
    """Who is restarted with a worker of a group that ended."""

    ONE_FOR_ONE = "one-for-one"
    """It alone."""
    ONE_FOR_ALL = "one-for-all"
    """All of its group."""
    REST_FOR_ONE = "rest-for-one"
    """It, and those of its group that were started after it."""


class RestartPolicy(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker is restarted."""

    kind: RestartKind = RestartKind.PERMANENT
    first_s: float = 0.1
    """Before the second restart in a row; the first comes at once."""
    factor: float = 2.0
    max_s: float = 30.0
    jitter_ratio: float = 0.1
    """Each delay is changed by up to this much of it, so that a fleet does not restart as one."""
    steady_after_s: float = 10.0
    """A worker that ran this long begins anew with its delays."""
    max_restarts: int = 10
    within_s: float = 60.0
    """More restarts than that within this time end the worker for good: its group has given up on it. So do
    more starts in a row than that of which none got ready, however long they took."""

    def __post_init__(self) -> None:
        require(self.first_s >= 0, "first_s: not below zero")
        require(self.factor >= 1, "factor: at least 1")
        require(self.max_s >= self.first_s, "max_s: not below first_s")
        require(0 <= self.jitter_ratio < 1, "jitter_ratio: from 0 to below 1")
        require(self.max_restarts >= 0, "max_restarts: not below zero")
        require(self.within_s > 0, "within_s: above zero")


class RestartHistory(Value, frozen=True, kw_only=True):
    """What is remembered of a worker's restarts."""

    restarts_s: tuple[float, ...] = ()
    """When, on the supervisor's clock; those within the policy's time."""
    in_a_row: int = 0
    """Restarts since it last ran steadily."""
    unready: int = 0
    """Starts in a row of which none got ready."""


class RestartDecision(Value, frozen=True, kw_only=True):
    """What becomes of a worker that ended."""

    history: RestartHistory
    delay_s: float | None
    """Until it is started again; None where it is not."""
    reason: str
    is_given_up: bool = False
    """Whether it would be started again, had it not been too often."""


def decide(
    policy: RestartPolicy,
    history: RestartHistory,
    *,
    code: int,
    ran_s: float | None,
    now_s: float,
    rand: float,
) -> RestartDecision:
    """What becomes of a worker that ended with this exit code, or the negative number of a signal.

    Args:
        policy: The rules.
        history: Of this worker.
        code: 0 is a regular end.
        ran_s: How long it ran once it was ready; None where it never was.
        now_s: On the clock of the history.
        rand: From [0, 1), for the jitter.
    """
    if policy.kind is RestartKind.TEMPORARY:
        return RestartDecision(history=history, delay_s=None, reason="it is temporary")
    if policy.kind is RestartKind.TRANSIENT and code == 0:
        return RestartDecision(history=history, delay_s=None, reason="it came to its end")
    recent = tuple(each for each in history.restarts_s if each > now_s - policy.within_s)
    unready = 0 if ran_s is not None else history.unready + 1
    too_often = _too_often(policy, len(recent), unready)
    if too_often:
        spent = structs.replace(history, restarts_s=recent, unready=unready)
        return RestartDecision(history=spent, delay_s=None, reason=too_often, is_given_up=True)
    is_steady = ran_s is not None and ran_s >= policy.steady_after_s
    in_a_row = 0 if is_steady else history.in_a_row
    delay_s = delay(policy, in_a_row) * (1 + policy.jitter_ratio * (2 * rand - 1))
    restarted = RestartHistory(restarts_s=(*recent, now_s), in_a_row=in_a_row + 1, unready=unready)
    return RestartDecision(history=restarted, delay_s=delay_s, reason=_told(code, ran_s))


def _too_often(policy: RestartPolicy, recent: int, unready: int) -> str:
    """Why a worker is given up; empty where it is not."""
    if recent >= policy.max_restarts:
        return f"it was restarted {recent} times within {policy.within_s:g} s"
    if unready > policy.max_restarts:
        return f"it was started {unready} times in a row and never got ready"
    return ""


def delay(policy: RestartPolicy, in_a_row: int) -> float:
    """Seconds before the next restart after so many in a row, without jitter."""
    if in_a_row == 0 or policy.first_s == 0:
        return 0.0
    doublings = min(in_a_row - 1, 1000)
    if policy.factor > 1 and doublings > log(policy.max_s / policy.first_s, policy.factor):
        return policy.max_s
    return min(policy.max_s, policy.first_s * policy.factor**doublings)


def restarted_with(strategy: Strategy, group: tuple[str, ...], ended: str) -> tuple[str, ...]:
    """The workers of a group, in the order of their start, that are started anew when one has ended."""
    if strategy is Strategy.ONE_FOR_ONE:
        return (ended,)
    if strategy is Strategy.ONE_FOR_ALL:
        return group
    return group[group.index(ended) :]


def signal_name(number: int) -> str:
    """As SIGKILL, or the number of one that has no name."""
    return signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"


def _told(code: int, ran_s: float | None) -> str:
    how = f"by {signal_name(-code)}" if code < 0 else f"with exit code {code}"
    return f"it ended {how} " + ("before it was ready" if ran_s is None else f"after {ran_s:.1f} s")
