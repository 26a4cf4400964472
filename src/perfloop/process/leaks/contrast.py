"""What workers of different age tell that one of them cannot: whether memory comes with age or with the hour.

A leak makes the older workers of a group larger, at equal load. A daily cycle, a cache that follows the
traffic, a deploy of new data move all alike, whatever their age. So a suspicion against one worker is
dropped where the others grow as it does, and yet the older ones hold surely no more than half of what it
would have made of their age. A worker that grows alone is left suspected: there is nothing to hold it
against.

The slope over age stands on one level a worker, so its error is that of a regression over a few points, and
Student's t decides; workers that were all started together give no answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from perfloop.model.value import Value
from perfloop.process.leaks.floors import Floor
from perfloop.process.leaks.suspicion import LeakPolicy, Suspicion, growth, suspect

_LEVEL_S: Final = 3600.0
"""A worker's level is the mean of its floors over so long."""
_MIN_SPREAD_S: Final = 1800.0
"""Standard deviation of the ages, below which they are alike."""
_MIN_WORKERS: Final = 3
_T95: Final = (6.31, 2.92, 2.35, 2.13, 2.02)
"""Student's t, 95 % of one side, for 1 to 5 degrees of freedom; 2 above."""
_ALIKE_RATIO: Final = 0.5


class Peer(Value, frozen=True, kw_only=True):
    """One worker of a group, in which all do the same."""

    started_at_s: float
    """By a clock that all workers share."""
    floors: tuple[Floor, ...]


class Contrast(Value, frozen=True, kw_only=True):
    """How much more the older workers hold."""

    bytes_per_s: float
    """Of age."""
    high_bytes_per_s: float
    """Surely no more than this."""
    workers: int


def suspect_among(peers: Mapping[str, Peer], policy: LeakPolicy) -> dict[str, Suspicion]:
    """The workers of a group whose memory grows, without those that only move with all others."""
    suspected = {name: suspect(peer.floors, policy) for name, peer in peers.items()}
    return {
        name: found
        for name, found in suspected.items()
        if found is not None and not _is_of_the_hour(name, found, peers, policy)
    }


def contrast(peers: Sequence[Peer], policy: LeakPolicy) -> Contrast | None:
    """The slope of what is held over age; None where too few workers or too similar ages cannot tell."""
    grown = [each for each in peers if each.floors and each.floors[-1].at_s > policy.warm_up_s + _LEVEL_S]
    if len(grown) < _MIN_WORKERS:
        return None
    ages = np.array([each.floors[-1].at_s for each in grown])
    if ages.std() < _MIN_SPREAD_S:
        return None
    levels = np.array([_level(each) for each in grown])
    from_mean = ages - ages.mean()
    width = float(from_mean @ from_mean)
    rate = float(from_mean @ levels) / width
    residuals = levels - levels.mean() - rate * from_mean
    freedom = len(grown) - 2
    error = float(np.sqrt(residuals @ residuals / freedom / width))
    t = _T95[freedom - 1] if freedom <= len(_T95) else 2.0
    return Contrast(bytes_per_s=rate, high_bytes_per_s=rate + t * error, workers=len(grown))


def _is_of_the_hour(name: str, found: Suspicion, peers: Mapping[str, Peer], policy: LeakPolicy) -> bool:
    seen = contrast(list(peers.values()), policy)
    if seen is None or seen.high_bytes_per_s >= _ALIKE_RATIO * found.rate_bytes_per_s:
        return False
    others = [growth(peer.floors, policy) for other, peer in peers.items() if other != name]
    known = [each for each in others if each is not None]
    return bool(known) and float(np.median(known)) >= _ALIKE_RATIO * found.rate_bytes_per_s


def _level(peer: Peer) -> float:
    end_s = peer.floors[-1].at_s
    last = [each.in_use_bytes for each in peer.floors if each.at_s > end_s - _LEVEL_S]
    return float(np.mean(last))
