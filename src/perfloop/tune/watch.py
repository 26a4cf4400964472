"""After apply, compare what the service's statements cost with what they cost before, and undo what hurts.

A live window is no experiment: parameters and mix move by themselves. So wall time alone never undoes
anything. A statement hurts only where its work per call (blocks, spilled blocks) has grown along with its
time, where it was called often enough in both windows, and where the loss is felt in the whole. WAL is no
evidence here: full-page images make it jump after every checkpoint, and an index too many shows in blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from perfloop.adapters.catalog import read_role
from perfloop.adapters.statement_counters import StatementReading, read_statements, statement_difference
from perfloop.adapters.store import Journal
from perfloop.model.advice import AlterSetting, CreateExtension
from perfloop.model.outcome import ActState, AppliedChange, Study
from perfloop.model.snapshot import StatementCounters
from perfloop.model.units import seconds_text
from perfloop.model.value import Value
from perfloop.tune.session import Connect
from perfloop.tune.undo import Report, undo_change


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPolicy:
    """What counts as hurt."""

    worse_ratio: float = 1.3
    """Time per call, and work per call, after over before."""
    calls_min: int = 20
    """In each window; fewer are not judged."""
    felt_ratio: float = 0.01
    """The time lost by the statement, as a share of the time of all statements after."""
    looks: int = 10
    """How often the windows are compared over the whole watch."""
    before_s: float = 60.0
    """Length of the window before apply."""


class Worsening(Value, frozen=True, kw_only=True):
    """A statement that takes longer than before. Ratios are after over before, per call."""

    query_id: str
    text: str
    time_ratio: float
    work_ratio: float
    """Of the kind of work that grew most."""
    is_confirmed: bool
    """Whether its work grew too; if not, the time may be anybody's."""


def worsenings(
    before: tuple[StatementCounters, ...], after: tuple[StatementCounters, ...], policy: WatchPolicy
) -> tuple[Worsening, ...]:
    """The statements whose time per call has grown, those that lost most first."""
    earlier = {each.statement.query_id: each for each in before if each.calls >= policy.calls_min}
    whole_s = sum(each.total_s for each in after)
    found = []
    for now in after:
        then = earlier.get(now.statement.query_id)
        if then is None or now.calls < policy.calls_min or then.mean_s <= 0:
            continue
        lost_s = (now.mean_s - then.mean_s) * now.calls
        if now.mean_s >= policy.worse_ratio * then.mean_s and lost_s >= policy.felt_ratio * whole_s:
            found.append((lost_s, _worsening(then, now, policy)))
    return tuple(each for _, each in sorted(found, key=lambda pair: -pair[0]))


def suspects(worsening: Worsening, acts: tuple[AppliedChange, ...]) -> tuple[AppliedChange, ...]:
    """The acts that can have caused it: on tables that the statement names, else settings, else all."""
    named = tuple(
        act
        for act in acts
        if not isinstance(act.change, AlterSetting | CreateExtension)
        and re.search(rf"\b{re.escape(act.change.table.name)}\b", worsening.text, re.IGNORECASE)
    )
    settings = tuple(act for act in acts if isinstance(act.change, AlterSetting))
    return named or settings or acts


def observe(
    connect: Connect, *, watch_s: float, sleep: Callable[[float], None], policy: WatchPolicy | None = None
) -> StatementReading:
    """The window before apply: what the statements cost over `before_s`, or `watch_s` where that is less."""
    policy = policy or WatchPolicy()
    with connect() as connection:
        role = read_role(connection).user
        start = read_statements(connection, role=role)
        sleep(min(policy.before_s, watch_s))
        return statement_difference(start, read_statements(connection, role=role))


def watch_study(
    study: Study,
    connect: Connect,
    journal: Journal,
    *,
    before: StatementReading,
    report: Report,
    watch_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    policy: WatchPolicy | None = None,
) -> tuple[AppliedChange, ...]:
    """Watch for `watch_s` after apply and undo what hurts; returns what was undone.

    `before` is what `observe` saw. After an undo the window begins anew, so the rest is judged by itself.
    Raises as `undo_change` when an undo fails.
    """
    policy = policy or WatchPolicy()
    undone: list[AppliedChange] = []
    deadline_s = clock() + watch_s
    with connect() as connection:
        role = read_role(connection).user
        start = read_statements(connection, role=role)
        told: set[str] = set()
        while clock() < deadline_s and _applied(study, journal):
            sleep(max(0.0, min(watch_s / policy.looks, deadline_s - clock())))
            now = statement_difference(start, read_statements(connection, role=role))
            worse = worsenings(before.counters, now.counters, policy)
            _tell_unclear(worse, told, report)
            hurting = [each for each in worse if each.is_confirmed]
            if hurting:
                undone += _undo_suspects(hurting[0], study, connect, journal, report)
                start = read_statements(connection, role=role)
    if not undone:
        report(f"watched for {seconds_text(watch_s)}: no statement does more work than before")
    return tuple(undone)


def _undo_suspects(
    worsening: Worsening, study: Study, connect: Connect, journal: Journal, report: Report
) -> tuple[AppliedChange, ...]:
    report(
        f"query {worsening.query_id} takes {worsening.time_ratio:.1f} times as long per call as before "
        f"and does {worsening.work_ratio:.1f} times the work; undoing what it may come from"
    )
    chosen = suspects(worsening, _applied(study, journal))
    for act in reversed(chosen):
        undo_change(act.act_id, connect, journal, report=report)
    return chosen


def _applied(study: Study, journal: Journal) -> tuple[AppliedChange, ...]:
    return tuple(act for act in journal.acts(study.study_id) if act.state is ActState.APPLIED)


def _tell_unclear(worse: tuple[Worsening, ...], told: set[str], report: Report) -> None:
    for each in worse:
        if not each.is_confirmed and each.query_id not in told:
            told.add(each.query_id)
            report(
                f"query {each.query_id} takes {each.time_ratio:.1f} times as long per call, but does "
                "the same work: unclear, left as it is"
            )


def _worsening(then: StatementCounters, now: StatementCounters, policy: WatchPolicy) -> Worsening:
    work_ratio = max(
        _growth(then.hit_blocks + then.read_blocks, then.calls, now.hit_blocks + now.read_blocks, now.calls),
        _growth(then.temp_blocks, then.calls, now.temp_blocks, now.calls),
    )
    return Worsening(
        query_id=now.statement.query_id,
        text=now.statement.text,
        time_ratio=now.mean_s / then.mean_s,
        work_ratio=work_ratio,
        is_confirmed=work_ratio >= policy.worse_ratio,
    )


def _growth(then: int, then_calls: int, now: int, now_calls: int) -> float:
    """Work per call, after over before; one unit a call is added, so that little things do not count."""
    return (now / now_calls + 1) / (then / then_calls + 1)
