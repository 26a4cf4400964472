from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from perfloop.errors import InvalidInput
from perfloop.metrics import Counter, Family, Registry
from perfloop.metrics.histogram import CROWDED


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_every_way_of_naming_labels_leads_to_the_same_child(registry: Registry) -> None:
    family = registry.counter("requests", labels=("method", "status"))
    child = family["GET", "200"]

    assert child is family.labels("GET", "200")
    assert child is family.labels(status="200", method="GET")
    assert child is family.labels("GET", 200)
    assert child is not family["GET", "404"]
    assert 2 == len(family)


def test_a_family_of_one_label_is_asked_with_the_bare_value(registry: Registry) -> None:
    family = registry.gauge("queue_length", labels=("queue",))

    assert family["mail"] is family.labels("mail")
    assert family["mail"] is family.labels(queue="mail")
    assert family["mail"] is family["mail",]
    assert ((("mail",), family["mail"]),) == family.children()


def test_values_that_compare_equal_but_read_differently_stay_apart(registry: Registry) -> None:
    family = registry.counter("flags", labels=("value",))

    assert family.labels(1) is not family.labels(True)
    assert ["1", "True"] == [values[0] for values, _ in family.children()]


@pytest.mark.parametrize("values", [(), ("GET",), ("GET", "200", "x")])
def test_a_wrong_number_of_values_is_refused(registry: Registry, values: tuple[str, ...]) -> None:
    family = registry.counter("requests", labels=("method", "status"))

    with pytest.raises(InvalidInput, match="the labels are method, status"):
        family.labels(*values)


def test_unknown_or_mixed_names_are_refused(registry: Registry) -> None:
    family = registry.counter("requests", labels=("method", "status"))

    with pytest.raises(InvalidInput, match="the labels are"):
        family.labels(method="GET", code="200")
    with pytest.raises(InvalidInput, match="the labels are"):
        family.labels("GET", status="200")


def test_beyond_the_seal_everything_goes_to_one_overflow_child(registry: Registry) -> None:
    family = registry.counter("logins", labels=("user",), max_label_sets=10)
    for user in range(100):
        family[f"user{user}"].inc()
    family["user3"].inc()

    assert 11 == len(family)
    assert 90 == family["_overflow"].value
    assert 2 == family["user3"].value
    assert ("logins",) == registry.statistics().overflowed
    assert 101 == sum(child.value for _, child in family.children())


def test_the_overflow_child_of_a_histogram_is_drained_where_it_is_asked_for(registry: Registry) -> None:
    family = registry.histogram("login_seconds", labels=("user",), max_label_sets=1)
    family["ann"].observe(1.0)
    for user in range(3 * CROWDED):
        family[f"user{user}"].observe(1.0)

    assert family["_overflow"].buffered <= CROWDED
    assert 3 * CROWDED == family["_overflow"].count


def test_a_new_label_set_drains_its_crowded_siblings(registry: Registry) -> None:
    family = registry.histogram("request_seconds", labels=("method",))
    for _ in range(CROWDED):
        family["GET"].observe(1.0)
    family["POST"].observe(1.0)

    assert 0 == family["GET"].buffered


def test_two_threads_that_miss_at_once_make_one_child() -> None:
    made = []

    def slowly() -> Counter:
        Event().wait(0.01)
        made.append(Counter())
        return made[-1]

    family = Family(("method",), slowly, max_label_sets=10)
    with ThreadPoolExecutor(4) as pool:
        children = list(pool.map(lambda _: family["GET"], range(4)))

    assert [made[0]] == made
    assert made * 4 == children


def test_threads_that_meet_at_a_new_label_set_share_its_child(registry: Registry) -> None:
    family = registry.counter("requests", labels=("method", "status"), max_label_sets=300)

    def work(_: int) -> None:
        for status in range(500):
            family["GET", str(status)].inc()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    assert 301 == len(family)
    assert 8 * 500 == sum(child.value for _, child in family.children())
    assert 8 * 200 == family["_overflow", "_overflow"].value
