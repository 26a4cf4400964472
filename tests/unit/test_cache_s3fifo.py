"""The queues: what stays, what goes, and that the bound holds whatever is removed, replaced or looked at."""

import gc
import random

import pytest
from benchmarks.cache_traces import trace
from hypothesis import given, settings
from hypothesis import strategies as st

from perfloop.cache.s3fifo import MOST_VISITS, Node, S3Fifo
from perfloop.errors import InvalidInput, InvalidValue


def _request(queues: S3Fifo[Node], key: object, cost: int = 1) -> bool:
    node = queues.nodes.get(key)
    if node is None:
        queues.admit(Node(key, cost))
        return False
    node.visits = min(MOST_VISITS, node.visits + 1)
    return True


def test_a_capacity_that_holds_nothing_is_refused() -> None:
    with pytest.raises(InvalidValue, match="1 or more"):
        S3Fifo(0)


def test_what_was_asked_for_again_survives_a_scan() -> None:
    queues: S3Fifo[Node] = S3Fifo(100)
    hot = [f"hot{number}" for number in range(50)]
    for key in hot * 3:
        _request(queues, key)

    for number in range(10_000):
        _request(queues, f"scanned{number}")

    assert set(hot) <= queues.nodes.keys()


def test_a_loop_a_little_larger_than_the_cache_is_served_for_most_of_it() -> None:
    queues: S3Fifo[Node] = S3Fifo(1000)

    hits = sum(_request(queues, number % 1100) for number in range(110_000))

    assert hits > 0.6 * 110_000


def test_what_comes_back_soon_after_it_went_is_kept() -> None:
    queues: S3Fifo[Node] = S3Fifo(100)
    for number in range(100):
        _request(queues, number)
    _request(queues, "back")
    for number in range(200, 260):
        _request(queues, number)
    assert "back" not in queues.nodes

    _request(queues, "back")
    for number in range(300, 380):
        _request(queues, number)

    assert "back" in queues.nodes


def test_there_are_never_more_ghosts_than_nodes() -> None:
    queues: S3Fifo[Node] = S3Fifo(100)

    for number in range(10_000):
        _request(queues, number)

    assert 90 <= queues.ghosts <= 100


def test_a_node_larger_than_everything_is_not_taken_and_pushes_nobody_out() -> None:
    queues: S3Fifo[Node] = S3Fifo(100)
    _request(queues, "small", cost=60)
    large = Node("large", 101)

    assert [large] == queues.admit(large)
    assert {"small"} == queues.nodes.keys()


def test_a_replaced_node_keeps_its_place_and_its_visits() -> None:
    queues: S3Fifo[Node] = S3Fifo(10)
    for number in range(10):
        _request(queues, number)
    _request(queues, 0)
    anew = Node(0)

    assert [] == queues.replace(anew)
    assert 1 == anew.visits
    assert anew is queues.nodes[0]
    assert 10 == queues.cost


def test_a_replacement_that_is_larger_makes_room_without_going_itself() -> None:
    queues: S3Fifo[Node] = S3Fifo(10)
    for number in range(10):
        _request(queues, number)
    anew = Node(0, 8)

    gone = queues.replace(anew)

    assert 7 == len(gone)
    assert anew is queues.nodes[0]
    assert 10 == queues.cost


def test_a_walk_meets_every_node_once_and_then_starts_again() -> None:
    queues: S3Fifo[Node] = S3Fifo(100)
    for number in range(70):
        _request(queues, number)

    for _ in range(2):
        met = [queues.look_round() for _ in range(70)]
        assert set(range(70)) == {node.key for node in met if node is not None}
        assert queues.look_round() is None


@settings(max_examples=200, deadline=None)
@given(
    capacity=st.integers(1, 30),
    steps=st.lists(st.tuples(st.sampled_from("grwx"), st.integers(0, 25), st.integers(1, 12)), max_size=80),
)
def test_the_bound_holds_and_every_node_is_either_held_or_handed_back(
    capacity: int, steps: list[tuple[str, int, int]]
) -> None:
    queues: S3Fifo[Node] = S3Fifo(capacity)
    held: dict[object, Node] = {}
    for kind, key, cost in steps:
        node = held.get(key)
        gone: list[Node] = []
        if kind == "w":
            queues.look_round()
        elif kind == "x" and node is not None:
            queues.remove(held.pop(key))
        elif kind == "r" and node is not None:
            held[key] = Node(key, cost)
            gone = queues.replace(held[key])
        elif kind == "g" and node is not None:
            node.visits = min(MOST_VISITS, node.visits + 1)
        elif kind == "g":
            held[key] = Node(key, cost)
            gone = queues.admit(held[key])
        for left in gone:
            assert held.pop(left.key) is left
        assert held == queues.nodes
        assert sum(node.cost for node in held.values()) == queues.cost <= capacity
        assert all(node.queue is not None for node in held.values())


@pytest.mark.parametrize(
    ("name", "capacity", "facts_percent"), [("web07", 1200, 55.2), ("web12", 1200, 70.8)]
)
def test_it_hits_as_often_as_the_s3_fifo_of_libcachesim(
    name: str, capacity: int, facts_percent: float
) -> None:
    try:
        requests = trace(name)
    except InvalidInput as error:
        pytest.skip(str(error))
    queues: S3Fifo[Node] = S3Fifo(capacity)

    hits = sum(_request(queues, key) for key in requests)

    assert 100 * hits / len(requests) >= facts_percent


def test_random_removals_leave_the_walk_and_the_evictions_intact() -> None:
    rng = random.Random(5)
    queues: S3Fifo[Node] = S3Fifo(50)
    for _ in range(20_000):
        _request(queues, rng.randrange(200))
        if rng.random() < 0.3:
            queues.remove(rng.choice(list(queues.nodes.values())))
        if rng.random() < 0.5:
            met = queues.look_round()
            assert met is None or queues.nodes[met.key] is met

    assert queues.cost == len(queues.nodes) <= 50


def test_a_node_that_went_keeps_no_other_alive() -> None:
    queues: S3Fifo[Node] = S3Fifo(10)
    for number in range(10):
        _request(queues, number)
    held = queues.nodes[0]

    for number in range(10, 1000):
        _request(queues, number)
    gc.collect()

    assert held.queue is None
    assert sum(isinstance(thing, Node) and isinstance(thing.key, int) for thing in gc.get_objects()) < 20
