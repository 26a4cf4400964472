"""What a usage profile says is amiss."""

import math

import msgspec
import pytest

from perfloop.cache.ghosts import CapacityEstimate
from perfloop.cache.usage import HotKey, TemplateUsage, UsageProfile
from perfloop.cache.usage_findings import usage_findings
from perfloop.model.advice import Finding

SOUND = TemplateUsage(
    template="user:{user_id}",
    hits=90_000,
    misses=10_000,
    loads=10_000,
    loaded_keys=10_000,
    load_s=100.0,
    ttl_s=60.0,
    entries=5_000,
    size_bytes=5_000_000,
    evictions=3_000,
    evicted_unread=600,
    evicted_age_s=60_000.0,
    expirations=2_000,
    expired_unread=300,
    compared=400,
    changed=80,
    compared_age_s=400 * 61.0,
)


def _profile(usage: TemplateUsage = SOUND, **fields: object) -> UsageProfile:
    profile = UsageProfile(
        cache="shop",
        observed_s=3600.0,
        saved_unix_s=0.0,
        capacity=10_000,
        by_bytes=False,
        has_shared_tier=False,
        templates=(usage,),
    )
    return msgspec.structs.replace(profile, **fields)


def _findings(fields: dict[str, object], **profile_fields: object) -> tuple[Finding, ...]:
    return usage_findings(_profile(msgspec.structs.replace(SOUND, **fields), **profile_fields))


def _checks(fields: dict[str, object], **profile_fields: object) -> list[str]:
    return [finding.check for finding in _findings(fields, **profile_fields)]


def _estimates(half: float, double: float) -> tuple[CapacityEstimate, ...]:
    return tuple(
        CapacityEstimate(
            capacity_ratio=ratio,
            capacity=int(ratio * 10_000),
            hit_ratio=0.9 + points / 100,
            gain_points=points,
            sampled_misses=3000,
        )
        for ratio, points in ((0.5, half), (1.0, 0.0), (2.0, double), (4.0, double))
    )


def _hot_key(**fields: object) -> tuple[HotKey, ...]:
    key = HotKey(key="user:7", template="user:{user_id}", hits=30_000, excess_hits=500, samples=120)
    return (msgspec.structs.replace(key, **fields),)


def test_of_a_sound_template_nothing_is_said() -> None:
    assert [] == _checks({}, capacity_estimates=_estimates(-3.0, 1.5), hot_keys=_hot_key(hits=5_000))


@pytest.mark.parametrize(
    ("check", "fields"),
    [
        ("cache-rarely-hit", {"hits": 500, "compared": 0}),
        ("cache-cheap-loader", {"load_s": 0.02}),
        ("cache-one-hit-wonders", {"evicted_unread": 2_500, "expired_unread": 1_000}),
        ("cache-ttl-short", {"changed": 2}),
        ("cache-ttl-long", {"changed": 300}),
        ("cache-ttl-idle", {"expirations": 0, "ttl_s": 600.0, "evicted_age_s": 30_000.0, "compared": 0}),
    ],
)
def test_a_template_is_found_where_it_goes_wrong_and_with_too_little_to_tell_it_is_not(
    check: str, fields: dict[str, object]
) -> None:
    little = {
        name: 1
        for name in ("hits", "misses", "evictions", "evicted_unread", "expirations", "expired_unread")
        if fields.get(name, 2)
    }

    assert [check] == _checks(fields)
    assert [] == _checks({**fields, **little, "compared": 0})


@pytest.mark.parametrize(
    ("fields", "estimates", "keys", "expected"),
    [
        ({}, _estimates(-3.0, 6.0), (), ["cache-small"]),
        ({}, _estimates(-0.1, 0.1), (), ["cache-large"]),
        ({"evictions": 0, "evicted_unread": 0}, _estimates(0.0, 0.0), (), []),
        ({}, (), _hot_key(), ["cache-hot-key"]),
        ({"refreshes_behind": True}, (), _hot_key(), []),
        ({"ttl_s": None}, (), _hot_key(), []),
        ({}, (), _hot_key(samples=9), []),
        ({}, (), _hot_key(excess_hits=25_000), []),
    ],
)
def test_capacity_and_hot_keys_are_found_where_a_change_would_help(
    fields: dict[str, object],
    estimates: tuple[CapacityEstimate, ...],
    keys: tuple[HotKey, ...],
    expected: list[str],
) -> None:
    assert expected == _checks(fields, capacity_estimates=estimates, hot_keys=keys)


def test_a_longer_life_is_proposed_only_as_far_as_what_was_compared_reaches() -> None:
    sure, less_sure = (
        _findings({"compared": 4000, "changed": 8, "compared_age_s": 4000 * 61.0}),
        _findings({"changed": 6}),
    )

    assert "ttl_s=480: at most 5 % change in that time" == sure[0].would_try
    assert "ttl_s=110: at most 5 % change in that time" == less_sure[0].would_try


def test_a_shorter_life_is_proposed_by_the_rate_at_which_values_change() -> None:
    (finding,) = _findings({"changed": 300})

    rate = -math.log(1 - 300 / 400) / 61
    assert f"ttl_s={-math.log(0.95) / rate:.2g}" == finding.would_try.rpartition(" ")[2]
    assert "old, of its hits, about" == finding.evidence[-1].label
