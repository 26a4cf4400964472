from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as prometheus_families

from perfloop import metrics
from perfloop.errors import InvalidInput
from perfloop.metrics import Registry

STARTED_S = 1_700_000_000.5
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def registry() -> Registry:
    return Registry(clock=lambda: STARTED_S)


def samples_of(families: Iterable[Metric]) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def parsed_prometheus(registry: Registry) -> Samples:
    return samples_of(prometheus_families(registry.prometheus_text()))


def parsed_openmetrics(registry: Registry) -> Samples:
    families = openmetrics_families(registry.openmetrics_text())  # type: ignore[no-untyped-call]  # theirs
    return samples_of(families)


def test_a_name_asked_for_again_gives_the_same_metric(registry: Registry) -> None:
    assert registry.counter("orders", "Orders taken") is registry.counter("orders_total")
    assert registry.histogram("a_seconds", "", ["x"]) is registry.histogram("a_seconds", labels=("x",))


def test_a_name_cannot_become_another_kind_or_get_other_labels(registry: Registry) -> None:
    registry.counter("orders")

    with pytest.raises(InvalidInput, match="already a counter"):
        registry.gauge("orders")
    with pytest.raises(InvalidInput, match="already a counter"):
        registry.counter("orders", labels=("shop",))


def test_series_of_two_metrics_cannot_mix(registry: Registry) -> None:
    registry.histogram("wait_seconds")

    with pytest.raises(InvalidInput, match="belongs to wait_seconds"):
        registry.gauge("wait_seconds_count")
    with pytest.raises(InvalidInput, match="belongs to perfloop_meter"):
        registry.gauge("perfloop_meter_dropped_observations_total")


@pytest.mark.parametrize("name", ["", "2fast", "with space", "dash-ed", "new\nline", "naïve"])
def test_a_name_that_cannot_be_exposed_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name a metric"):
        registry.gauge(name)


@pytest.mark.parametrize("labels", [(), ("a", "a"), ("__a",), ("a-b",), ("le",)])
def test_labels_that_cannot_be_exposed_are_refused(registry: Registry, labels: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"label"):
        registry.histogram("a_seconds", labels=labels)


def test_the_text_formats_are_written_as_specified(registry: Registry) -> None:
    registry.counter("orders", "Orders taken").inc(3)
    registry.gauge("queue_bytes", labels=("queue",))["mail"].set(1.5)
    histogram = registry.histogram("wait_seconds", "Time\nspent")
    for value in (0.0, 1.0, 1.5, 2.5):
        histogram.observe(value)

    assert """\
# HELP orders_total Orders taken
# TYPE orders_total counter
orders_total 3
# TYPE queue_bytes gauge
queue_bytes{queue="mail"} 1.5
# HELP wait_seconds Time\\nspent
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.7071067811865476"} 1
wait_seconds_bucket{le="1.0"} 2
wait_seconds_bucket{le="1.4142135623730951"} 2
wait_seconds_bucket{le="2.0"} 3
wait_seconds_bucket{le="2.8284271247461903"} 4
wait_seconds_bucket{le="+Inf"} 4
wait_seconds_sum 5.0
wait_seconds_count 4
# HELP perfloop_meter_dropped_observations_total Observations lost because a buffer was over its limit.
# TYPE perfloop_meter_dropped_observations_total counter
perfloop_meter_dropped_observations_total 0
""" == registry.prometheus_text()
    assert """\
# TYPE orders counter
# HELP orders Orders taken
orders_total 3
orders_created 1700000000.5
# TYPE queue_bytes gauge
# UNIT queue_bytes bytes
queue_bytes{queue="mail"} 1.5
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
# HELP wait_seconds Time\\nspent
wait_seconds_bucket{le="0.5"} 1
wait_seconds_bucket{le="1.0"} 2
wait_seconds_bucket{le="2.0"} 3
wait_seconds_bucket{le="4.0"} 4
wait_seconds_bucket{le="+Inf"} 4
wait_seconds_sum 5.0
wait_seconds_count 4
wait_seconds_created 1700000000.5
# TYPE perfloop_meter_dropped_observations counter
# HELP perfloop_meter_dropped_observations Observations lost because a buffer was over its limit.
perfloop_meter_dropped_observations_total 0
perfloop_meter_dropped_observations_created 1700000000.5
# EOF
""" == registry.openmetrics_text(bucket_scale=0)


def test_both_formats_come_back_from_prometheus_own_parsers(registry: Registry) -> None:
    registry.counter("orders", "Orders", labels=("shop",))["north"].inc(2)
    registry.gauge("load_ratio").set(-math.inf)
    histogram = registry.histogram("wait_seconds")
    for value in (math.nan, -1.0, 0.0, 3e-6, 0.1, 7.0, 1e300, math.inf):
        histogram.observe(value)

    for samples in (parsed_prometheus(registry), parsed_openmetrics(registry)):
        assert 2 == samples["orders_total", (("shop", "north"),)]
        assert -math.inf == samples["load_ratio", ()]
        assert 8 == samples["wait_seconds_count", ()]
        assert 8 == samples["wait_seconds_bucket", (("le", "+Inf"),)]
        finite = [
            (float(dict(labels)["le"]), value)
            for (name, labels), value in samples.items()
            if name == "wait_seconds_bucket"
        ]
        assert sorted(finite) == finite
        for at_most, count in finite[:-1]:
            assert sum(1 for value in (-1.0, 0.0, 3e-6, 0.1, 7.0, 1e300) if value <= at_most) == count


def test_the_openmetrics_parser_sees_units_and_creation(registry: Registry) -> None:
    registry.histogram("wait_seconds").observe(1.0)
    families = openmetrics_families(registry.openmetrics_text())  # type: ignore[no-untyped-call]  # theirs
    waits = next(family for family in families if family.name == "wait_seconds")

    assert ("histogram", "seconds") == (waits.type, waits.unit)
    assert STARTED_S == next(one.value for one in waits.samples if one.name == "wait_seconds_created")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_label_value_and_help_text_survives_the_round_trip(value: str, help_text: str) -> None:
    registry = Registry()
    registry.counter("orders", help_text, ("shop", "till"))[value, "1"].inc()

    assert 1 == parsed_prometheus(registry)["orders_total", (("shop", value), ("till", "1"))]
    assert 1 == parsed_openmetrics(registry)["orders_total", (("shop", value), ("till", "1"))]


def test_a_value_that_is_not_unicode_does_not_break_the_page(registry: Registry) -> None:
    registry.counter("files", labels=("name",))["caf\udce9"].inc()

    assert b'files_total{name="caf\\\\udce9"} 1' in registry.prometheus_text().encode()


def test_statistics_tell_what_is_held_without_draining(registry: Registry) -> None:
    family = registry.histogram("wait_seconds", labels=("queue",))
    family["mail"].observe(1.0)
    family["sms"].observe(1.0)
    registry.counter("orders").inc()
    before = registry.statistics()
    registry.drain()
    after = registry.statistics()

    assert (2, 3, 2, 0) == (before.metrics, before.series, before.buffered, before.dropped)
    assert 0.0 == before.drain_s
    assert 0 == after.buffered
    assert after.drain_s > 0.0
    assert STARTED_S == after.started_s
    assert before.instance_id == after.instance_id != Registry().statistics().instance_id


def test_the_module_functions_work_on_the_registry_of_the_process() -> None:
    metrics.counter("perfloop_test_module_orders").inc()
    with metrics.timed("perfloop_test_module_block"):
        pass

    assert metrics.counter("perfloop_test_module_orders") is metrics.registry.counter(
        "perfloop_test_module_orders"
    )
    assert 1 == metrics.histogram("perfloop_test_module_block_seconds").count
    assert sorted(metrics.__all__) == metrics.__all__
