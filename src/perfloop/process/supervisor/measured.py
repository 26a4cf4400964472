"""Reads what a group is and did."""

from __future__ import annotations

from perfloop.adapters.process_use import process_use
from perfloop.process.supervisor.berth import Berth
from perfloop.process.supervisor.group import Group
from perfloop.process.supervisor.statistics import GroupStatistics, WorkerStatistics


def measured(group: Group, now_s: float) -> GroupStatistics:
    """Its numbers at this time of the monotonic clock."""
    workers = tuple(_worker(berth, now_s) for berth in group.workers)
    held = group.post.unplaced + sum(each.left for berth in group.workers for each in berth.left)
    return GroupStatistics(
        name=group.spec.name,
        workers=workers,
        waiting=group.post.waiting,
        under_way=sum(each.under_way for each in workers) + held,
        handled=group.post.handled,
        failed=group.post.failures,
        given_up=group.post.given_up,
    )


def _worker(berth: Berth, now_s: float) -> WorkerStatistics:
    running = berth.running
    use = None if running is None or running.has_ended else process_use(running.pid)
    return WorkerStatistics(
        name=berth.name,
        state=berth.state.value,
        pid=None if running is None else running.pid,
        restarts=berth.restarts,
        under_way=0 if running is None else running.under_way,
        handled=0 if running is None else running.handled,
        age_s=None if running is None else now_s - running.started_s,
        cpu_s=None if use is None else use.cpu_s,
        rss_bytes=None if use is None else use.rss_bytes,
    )
