"""A cache's numbers in a registry, and with the real OpenTelemetry SDK."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families
from tests.cache_kinds import FakeClock

from perfloop.cache import CachePolicy, InMemoryServer, TieredCache, observe_cache
from perfloop.cache.exporting import EXPORTS, Steady
from perfloop.errors import InvalidInput
from perfloop.metrics import Registry

POLICY = CachePolicy(ttl_s=60, jitter_ratio=0)


def _shown(registry: Registry) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(registry.prometheus_text())
        for sample in family.samples
    }


def _collected(reader: InMemoryMetricReader) -> dict[tuple[Any, ...], float]:
    told = reader.get_metrics_data()
    return {
        (metric.name, *point.attributes.values()): point.value
        for resource in (() if told is None else told.resource_metrics)
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def test_a_registry_shows_each_request_once_while_the_cache_is_open(kind: Any, clock: FakeClock) -> None:
    registry = Registry()
    server = InMemoryServer(clock=clock)
    options = {"policy": POLICY, "clock": clock, "usage": True}
    with kind.cache(server, **options) as other:
        other.get_or_load("a:2", lambda: 2)

        with kind.cache(server, prefix="shop", registry=registry, **options) as cache:
            for _ in range(3):
                cache.get_or_load("a:1", lambda: 1)
            cache.get_or_load("a:2", lambda: 2)
            cache.get("a:3")
            cache.delete("a:1")
            shown = _shown(registry)

    name = "perfloop_cache_requests_total"
    assert {
        (name, "shop", "memory", "hit"): 2,
        (name, "shop", "shared", "hit"): 1,
        (name, "shop", "any", "stale"): 0,
        (name, "shop", "any", "miss"): 2,
    } == {key: value for key, value in shown.items() if key[0] == name}
    assert 2 == shown["perfloop_cache_template_requests_total", "shop", "a:{}", "any", "miss"]
    assert 1 == shown["perfloop_cache_removals_total", "shop", "invalidated"]
    assert 1 == shown["perfloop_cache_shared_tier_up", "shop"]
    assert pytest.approx(0.6) == shown["perfloop_cache_hit_ratio", "shop"]
    assert [] == [key for key in _shown(registry) if "shop" in key]


def test_two_caches_are_shown_side_by_side_and_never_under_one_name(kind: Any, clock: FakeClock) -> None:
    registry = Registry()
    with (
        kind.cache(prefix="one", registry=registry, clock=clock),
        kind.cache(prefix="two", registry=registry, clock=clock),
    ):
        with (
            pytest.raises(InvalidInput, match="attached to this registry already"),
            kind.cache(prefix="one", registry=registry, clock=clock),
        ):
            pass
        shown = _shown(registry)

    assert {"one", "two"} == {key[1] for key in shown if key[0] == "perfloop_cache_entries"}
    assert registry.openmetrics_text().endswith("# EOF\n")


def test_without_usage_no_template_is_shown(kind: Any, clock: FakeClock) -> None:
    registry = Registry()
    with kind.cache(registry=registry, clock=clock, policy=POLICY) as cache:
        cache.get("a:1")
        shown = _shown(registry)

    assert [] == [key for key in shown if "template" in key[0]]


def test_opentelemetry_collects_the_same_numbers_while_the_cache_is_there() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    cache = TieredCache(prefix="shop", policy=POLICY, usage=True)
    observe_cache(provider.get_meter("test"), cache)
    cache.get_or_load("a:1", lambda: 1)
    cache.get_or_load("a:1", lambda: 1)

    collected = _collected(reader)
    del cache
    gc.collect()
    left = _collected(reader)
    provider.shutdown()

    assert 1 == collected["perfloop.cache.requests", "shop", "memory", "hit"]
    assert 1 == collected["perfloop.cache.template.requests", "shop", "a:{}", "any", "miss"]
    assert 1 == collected["perfloop.cache.entry.count", "shop"]
    assert {} == left


def test_what_turns_out_to_be_a_hit_of_the_shared_tier_takes_no_miss_back() -> None:
    steady = Steady()
    requests, entries = (
        next(export for export in EXPORTS if export.name.endswith(name)) for name in ("_requests", "_entries")
    )
    rows = [(("any", "miss"), 5.0)]
    fewer = [(("any", "miss"), 4.0)]

    assert [rows, rows] == [steady.rows(requests, rows), steady.rows(requests, fewer)]
    assert [rows, fewer] == [steady.rows(entries, rows), steady.rows(entries, fewer)]


def test_names_for_opentelemetry_follow_its_rules() -> None:
    names = [export.otel_name for export in EXPORTS]

    assert sorted(set(names)) == sorted(names)
    assert [] == [name for name in names if not name.startswith("perfloop.cache.") or name != name.lower()]
    assert [] == [name for name in names if name.endswith((".total", ".seconds", ".bytes"))]
