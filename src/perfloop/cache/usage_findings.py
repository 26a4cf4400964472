"""What a usage profile says is amiss, and what to change. Pure.

Each rule wants enough of what it rests on; where there is less it is silent. How long a value may live is
told by how often it proved to be another one when it was loaded anew: changes are taken to come as a Poisson
process, so that a share p changed over a time t means a rate of -ln(1 - p) / t.
Source: Cho, Garcia-Molina, "Estimating frequency of change", ACM TOIT 2003, section 4. Where changes come in
bursts or by the clock, values change less often than that; where lives are far longer than what lies between
two changes, more often.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from perfloop.cache.usage import MISS_S, HotKey, TemplateUsage, UsageProfile
from perfloop.cache.warming_gate import wilson_lower_bound
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.units import bytes_text, count_text, seconds_text, share_text

MIN_REQUESTS: Final = 1000
MIN_LEFT: Final = 500
MIN_COMPARED: Final = 100
MIN_SAMPLED_MISSES: Final = 300
RARELY_HIT_RATIO: Final = 0.1
UNREAD_RATIO: Final = 0.5
CHANGED_RATIO: Final = 0.05
"""Of the values that are loaded anew: so many may have changed before a life is called too long for them."""
OFTEN_CHANGED_RATIO: Final = 0.5
MAX_LONGER: Final = 8.0
"""A life is not proposed to be so many times longer at once: what was compared says nothing of that."""
IDLE_LIFE_RATIO: Final = 10.0
"""A life that is so many times what entries last bounds nothing."""
HOT_RATIO: Final = 0.1
MIN_HOT_SAMPLES: Final = 30
MIN_GAIN_POINTS: Final = 2.0
"""About what the estimates may be wrong by: benchmarks/cache_usage.py."""
MAX_LOSS_POINTS: Final = 0.5


def usage_findings(profile: UsageProfile) -> tuple[Finding, ...]:
    """All findings, the most severe first."""
    found = [
        finding for usage in profile.templates for rule in _TEMPLATE_RULES for finding in rule(profile, usage)
    ]
    found += [finding for key in profile.hot_keys for finding in _hot(profile, key)]
    found += _capacity(profile)
    return tuple(sorted(found, key=lambda finding: (finding.severity.rank, finding.location)))


def _of_no_use(profile: UsageProfile, usage: TemplateUsage) -> Iterator[Finding]:
    """Rarely hit, or cheaper to load than to keep."""
    ratio, load_s, saved_s = usage.hit_ratio, usage.load_mean_s, usage.saved_s
    if usage.requests < MIN_REQUESTS or ratio is None:
        return
    evidence = (*_traffic(usage), Evidence(label="size", value=bytes_text(usage.size_bytes)))
    if ratio < RARELY_HIT_RATIO:
        yield Finding(
            check="cache-rarely-hit",
            severity=Severity.LOW if saved_s is None or saved_s > 0 else Severity.MEDIUM,
            title=f"{usage.template} is hit in {share_text(ratio)} of its requests",
            location=usage.template,
            evidence=evidence,
            would_try="load it without the cache, which then has room for others",
            space_bytes=usage.size_bytes,
        )
    elif load_s is not None and saved_s is not None and saved_s < 0:
        yield Finding(
            check="cache-cheap-loader",
            severity=Severity.LOW,
            title=f"{usage.template} is loaded in {seconds_text(load_s)}, which the cache does not spare",
            location=usage.template,
            evidence=(*evidence, Evidence(label="a miss costs besides", value=seconds_text(MISS_S))),
            would_try="call the loader each time",
            space_bytes=usage.size_bytes,
        )


def _unread(profile: UsageProfile, usage: TemplateUsage) -> Iterator[Finding]:
    if usage.left < MIN_LEFT or usage.left_unread < UNREAD_RATIO * usage.left:
        return
    if usage.hit_ratio is None or usage.hit_ratio < RARELY_HIT_RATIO:
        return  # told already
    by_room = usage.evicted_unread > usage.left_unread / 2
    would_try = "a longer ttl_s, or keep only those that are asked for often"
    if by_room:
        would_try = "a larger capacity, or keep only those that are asked for often"
    yield Finding(
        check="cache-one-hit-wonders",
        severity=Severity.LOW,
        title=f"{share_text(usage.left_unread / usage.left)} of the entries of {usage.template} left unread",
        location=usage.template,
        evidence=(
            *_traffic(usage),
            Evidence(label="left", value=count_text(usage.left)),
            Evidence(label="for want of room", value=count_text(usage.evictions)),
        ),
        would_try=would_try,
    )


def _life(profile: UsageProfile, usage: TemplateUsage) -> Iterator[Finding]:
    """Shorter or longer than what values last."""
    ttl_s = usage.ttl_s
    if ttl_s is None or usage.compared < MIN_COMPARED:
        return
    apart_s = usage.compared_age_s / usage.compared
    unchanged = usage.compared - usage.changed
    most = 1 - wilson_lower_bound(unchanged, usage.compared)
    longer_s = min(MAX_LONGER * ttl_s, apart_s * _lives(CHANGED_RATIO) / _lives(most))
    evidence = (
        Evidence(label="compared", value=f"{usage.compared} loads, {seconds_text(apart_s)} apart"),
        Evidence(label="changed", value=share_text(usage.changed / usage.compared)),
    )
    if most <= CHANGED_RATIO and longer_s >= 1.5 * ttl_s:
        yield Finding(
            check="cache-ttl-short",
            severity=Severity.MEDIUM if _renewed_ratio(usage) > 0.5 else Severity.LOW,
            title=f"{usage.template} is loaded anew each {seconds_text(ttl_s)} and is the same",
            location=usage.template,
            evidence=(
                *evidence,
                Evidence(label="of the loads came after a life", value=share_text(_renewed_ratio(usage))),
            ),
            would_try=f"ttl_s={_rounded(longer_s)}: at most {share_text(CHANGED_RATIO)} change in that time",
        )
    elif wilson_lower_bound(usage.changed, usage.compared) >= OFTEN_CHANGED_RATIO:
        changes = _lives(min(usage.changed / usage.compared, 1 - 1 / (2 * usage.compared))) / apart_s
        yield Finding(
            check="cache-ttl-long",
            severity=Severity.MEDIUM,
            title=f"{usage.template} changes within its {seconds_text(ttl_s)}: old values are served",
            location=usage.template,
            evidence=(
                *evidence,
                Evidence(label="old, of its hits, about", value=share_text(_stale_ratio(changes * ttl_s))),
            ),
            would_try="clear it by a tag when it changes, or"
            f" ttl_s={_rounded(_lives(CHANGED_RATIO) / changes)}",
        )


def _idle_life(profile: UsageProfile, usage: TemplateUsage) -> Iterator[Finding]:
    """Never reached: entries leave long before."""
    ttl_s, left = usage.ttl_s, usage.evictions + usage.invalidated
    if ttl_s is None or left < MIN_LEFT or usage.expirations + usage.renewals > 0.01 * left:
        return
    age_s = (usage.evicted_age_s + usage.invalidated_age_s) / left
    if ttl_s < IDLE_LIFE_RATIO * age_s or profile.observed_s < ttl_s:
        return
    why = "evicted" if usage.evictions > usage.invalidated else "invalidated"
    yield Finding(
        check="cache-ttl-idle",
        severity=Severity.LOW,
        title=f"{usage.template} lives {seconds_text(ttl_s)}, and is {why} after {seconds_text(age_s)}",
        location=usage.template,
        evidence=(Evidence(label="left", value=f"{count_text(left)}, by time almost none"),),
        would_try=f"ttl_s={_rounded(ttl_s / 2)}: it costs next to no hits, and halves how long a missed"
        " invalidation can last",
    )


def _hot(profile: UsageProfile, key: HotKey) -> Iterator[Finding]:
    hits = sum(usage.hits for usage in profile.templates)
    usage = next((each for each in profile.templates if each.template == key.template), None)
    sure = key.hits - key.excess_hits
    if usage is None or key.samples < MIN_HOT_SAMPLES or sure < HOT_RATIO * hits:
        return
    if usage.ttl_s is None or usage.refreshes_behind:
        return
    load_s = usage.load_mean_s or 0.0
    yield Finding(
        check="cache-hot-key",
        severity=Severity.MEDIUM if load_s >= 0.01 else Severity.LOW,
        title=f"{key.key} has {share_text(sure / hits)} of all hits, and all wait when it ends",
        location=key.key,
        evidence=(
            Evidence(label="template", value=key.template),
            Evidence(label="a load", value=seconds_text(load_s)),
            Evidence(label="every", value=seconds_text(usage.ttl_s)),
        ),
        would_try=f"stale_for_s={_rounded(usage.ttl_s)}, or refresh_ahead_ratio=0.8: nobody waits then",
    )


def _capacity(profile: UsageProfile) -> Iterator[Finding]:
    by_ratio = {each.capacity_ratio: each for each in profile.capacity_estimates}
    half, own, double = (by_ratio.get(ratio) for ratio in (0.5, 1.0, 2.0))
    if half is None or own is None or double is None or own.sampled_misses < MIN_SAMPLED_MISSES:
        return
    unit = "max_bytes" if profile.by_bytes else "capacity"
    evidence = tuple(
        Evidence(label=f"{each.capacity_ratio:g} times", value=f"{each.gain_points:+.1f} points")
        for each in profile.capacity_estimates
        if each is not own
    )
    if double.gain_points >= MIN_GAIN_POINTS:
        yield Finding(
            check="cache-small",
            severity=Severity.MEDIUM if double.gain_points >= 5 else Severity.LOW,
            title=f"twice the capacity would hit {double.gain_points:.1f} points more",
            location=profile.cache,
            evidence=evidence,
            would_try=f"{unit}={double.capacity}",
        )
    elif _has_turned_over(profile) and half.gain_points >= -MAX_LOSS_POINTS:
        yield Finding(
            check="cache-large",
            severity=Severity.LOW,
            title=f"half the capacity would hit {-half.gain_points:.1f} points less",
            location=profile.cache,
            evidence=evidence,
            would_try=f"{unit}={half.capacity}, where memory is short",
        )


def _has_turned_over(profile: UsageProfile) -> bool:
    """Whether it ever was full: an empty half says nothing."""
    return any(usage.evictions for usage in profile.templates)


def _traffic(usage: TemplateUsage) -> tuple[Evidence, ...]:
    told = [Evidence(label="requests", value=count_text(usage.requests))]
    if usage.load_mean_s is not None:
        told.append(Evidence(label="a load", value=seconds_text(usage.load_mean_s)))
    return tuple(told)


def _renewed_ratio(usage: TemplateUsage) -> float:
    """Of the loads, those for what had been loaded before and ended by time."""
    return min(1.0, (usage.expirations + usage.renewals) / max(1, usage.loaded_keys))


def _lives(changed_ratio: float) -> float:
    """How many mean times between changes it takes until so many have changed."""
    return -math.log1p(-changed_ratio)


def _stale_ratio(changes: float) -> float:
    """Of requests spread evenly over a life in which so many changes are expected."""
    return 1 - -math.expm1(-changes) / changes


def _rounded(seconds: float) -> str:
    """To two digits, as a number to write in code."""
    return f"{float(f'{seconds:.2g}'):g}"


_TEMPLATE_RULES: Final[tuple[Callable[[UsageProfile, TemplateUsage], Iterator[Finding]], ...]] = (
    _of_no_use,
    _unread,
    _life,
    _idle_life,
)
