"""Changes that no lab can try, because they act over hours of a service's real writing.

A lab runs statements for seconds, rolls writes back and starts from a fresh copy: it has no dead rows
that autovacuum would be late for, and no checkpoint comes by. Such a change is proposed with its evidence and
ends unclear; the report has its statement, and `baseline compare` tells later what became of it.
"""

from __future__ import annotations

from perfloop.model.advice import AlterSetting, Change, SetTableOptions

_OVER_CHECKPOINTS = frozenset({"max_wal_size", "min_wal_size", "checkpoint_timeout"})


def why_beyond_lab(change: Change) -> str | None:
    """The reason why a trial would show nothing of the change; None where a trial can decide."""
    match change:
        case AlterSetting() if change.name in _OVER_CHECKPOINTS:
            return (
                "a lab cannot show it: it acts at checkpoints, minutes apart; set it, then compare baselines"
            )
        case SetTableOptions() if any(name.startswith("autovacuum_") for name in change.names):
            return (
                "a lab cannot show it: a fresh copy has no dead rows for autovacuum to be late for; "
                "set it, then compare baselines"
            )
    return None
