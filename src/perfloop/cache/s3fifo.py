"""S3-FIFO: which entry goes when there is no room. Pure: no clock, no lock, no values.

Source: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023. A small
queue takes what is new, and most of it leaves from there; what was asked for again moves to the main queue,
where each node goes round once more for each visit. What the small queue lets go is remembered by its hash
in the ghost queue, and goes straight to the main queue when it comes again.

Where we depart from the paper, and why (hit ratios on five real traces, benchmarks/cache_hit_ratio.py):

- As in libCacheSim, the main queue is filled, too, until something has to be evicted. Otherwise a loop that
  is slightly larger than the cache would find nothing in it, ever.
- Visits count to 5 instead of 3, and there are 0.95 ghosts a node instead of 0.9. Together that gains 0.0 to
  0.4 points and loses nowhere; 4 visits and ratios from 0.9 to 1 are within 0.4 of it.
- Rejected: promotion at one visit. It gains up to 1.6 points where the cache is far too small (orm-busy at
  1 % of its keys) and loses up to 0.5 at all other sizes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar, cast

from perfloop.errors import InvalidValue

MOST_VISITS: Final = 5
GHOSTS_PER_20_NODES: Final = 19
SMALL_RATIO: Final = 0.1
PROMOTING_VISITS: Final = 2
"""A node that was visited so often since it came leaves the small queue for the main one."""

NodeT = TypeVar("NodeT", bound="Node")


class Node:
    """What the queues hold: a key, what it costs, and how often it was visited, at most MOST_VISITS.

    Whoever serves a node counts its visits, ``if node.visits < MOST_VISITS: node.visits += 1``, without a
    call. A step that two threads lose to each other changes nothing that matters.
    """

    __slots__ = ("cost", "key", "newer", "older", "queue", "visits", "was_visited")

    key: Hashable
    newer: Node
    older: Node
    queue: _Queue | None

    def __init__(self, key: Hashable, cost: int = 1) -> None:
        self.key = key
        self.cost = cost
        self.visits = 0
        self.was_visited = False
        """Visits of it were taken away: there is more behind it than `visits` says."""
        self.queue = None

    @property
    def is_unread(self) -> bool:
        """Whether nobody has asked for it since it came in."""
        return self.visits == 0 and not self.was_visited


_NOWHERE: Final = Node(None, 0)


class _Queue:
    """A ring through a node of its own: linked, so that any node can leave in one step."""

    __slots__ = ("cost", "ends")

    def __init__(self) -> None:
        self.ends = Node(None, 0)
        self.ends.newer = self.ends.older = self.ends
        self.cost = 0

    def push(self, node: Node) -> None:
        ends = self.ends
        newest = ends.older
        node.older = newest
        node.newer = ends
        newest.newer = ends.older = node
        node.queue = self
        self.cost += node.cost

    def take(self, node: Node) -> None:
        older, newer = node.older, node.newer
        older.newer = newer
        newer.older = older
        self.cost -= node.cost
        # Whoever still holds the node must not hold its neighbours by it, and theirs when they go.
        node.older = node.newer = _NOWHERE
        node.queue = None

    def exchange(self, old: Node, node: Node) -> None:
        older, newer = old.older, old.newer
        node.older, node.newer, node.queue = older, newer, self
        older.newer = newer.older = node
        self.cost += node.cost - old.cost
        old.older = old.newer = _NOWHERE
        old.queue = None


class _Ghosts:
    """Hashes of the keys that left the small queue last; two keys of one hash do no harm.

    What comes back keeps its place in the order, so that there are never more ghosts than places, and fewer
    where many come back.
    """

    __slots__ = ("_next", "_numbers", "_order")

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._order: deque[int] = deque()
        self._next = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, key: Hashable, limit: int) -> None:
        order = self._order
        numbers = self._numbers
        ghost = hash(key)
        numbers[ghost] = self._next
        order.append(ghost)
        self._next += 1
        while len(order) > limit:
            oldest = order.popleft()
            if numbers.get(oldest) == self._next - len(order) - 1:
                del numbers[oldest]

    def take(self, key: Hashable) -> bool:
        return self._numbers.pop(hash(key), None) is not None


class S3Fifo(Generic[NodeT]):
    """Holds nodes up to a total cost: with a cost of 1 each it is bounded by entries, else by bytes.

    `nodes` may be read by anyone; only the methods change it.
    """

    __slots__ = (
        "_evicts",
        "_ghosts",
        "_main",
        "_main_limit",
        "_seen",
        "_small",
        "_small_limit",
        "capacity",
        "nodes",
    )

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise InvalidValue(f"a capacity of {capacity} holds nothing; it must be 1 or more")
        self.capacity = capacity
        self.nodes: dict[Hashable, NodeT] = {}
        self._small = _Queue()
        self._main = _Queue()
        self._ghosts = _Ghosts()
        self._small_limit = max(1, int(capacity * SMALL_RATIO))
        self._main_limit = capacity - self._small_limit
        self._evicts = False
        self._seen: Node = _NOWHERE

    @property
    def cost(self) -> int:
        """Of all nodes together; never above the capacity."""
        return self._small.cost + self._main.cost

    @property
    def ghosts(self) -> int:
        """Keys that are remembered without a node."""
        return len(self._ghosts)

    def admit(self, node: NodeT) -> list[NodeT]:
        """Take a node in, and return those that had to go for it; the node itself where it is too large.

        A node of the same key has to be removed, or replaced, before.
        """
        if node.cost > self.capacity:
            return [node]
        returns = self._ghosts.take(node.key)
        gone = self._make_room(node.cost)
        # An empty cache fills its small queue first and then, as long as nothing was evicted, the main one.
        fills = not self._evicts and self._small.cost >= self._small_limit
        (self._main if returns or fills else self._small).push(node)
        self.nodes[node.key] = node
        return gone

    def replace(self, node: NodeT) -> list[NodeT]:
        """Put a node in the place of the one with its key, and return those that had to go.

        The visits stay: a value that is loaded anew was not asked for more often. A node that costs more than
        the old one goes to the end of its queue, since the room for it may come from next to it.
        """
        old = self.nodes[node.key]
        queue = old.queue
        assert queue is not None
        node.visits = old.visits
        node.was_visited = old.was_visited
        if node.cost > old.cost:
            self.remove(old)
            if node.cost > self.capacity:
                return [node]
            gone = self._make_room(node.cost)
            queue.push(node)
        else:
            gone = []
            queue.exchange(old, node)
            self._look_away(old)
        self.nodes[node.key] = node
        return gone

    def remove(self, node: NodeT) -> None:
        """Take out a node that is held."""
        queue = node.queue
        assert queue is not None
        queue.take(node)
        self._look_away(node)
        del self.nodes[node.key]

    def look_round(self) -> NodeT | None:
        """The next node of a walk through all of them that starts again at its end; None in an empty cache.

        The walk is no promise: a node that moves may be met twice or be left out until the next time.
        """
        seen = self._seen
        node = self._main.ends.newer if seen.queue is None else seen.newer
        if node is self._main.ends:
            node = self._small.ends.newer
        if node is self._small.ends:
            self._seen = _NOWHERE
            return None
        self._seen = node
        return cast("NodeT", node)

    def _look_away(self, node: Node) -> None:
        """The walk must not keep what has gone."""
        if self._seen is node:
            self._seen = _NOWHERE

    def _make_room(self, cost: int) -> list[NodeT]:
        gone = []
        while self._small.cost + self._main.cost + cost > self.capacity:
            node = self._evict()
            self._look_away(node)
            gone.append(node)
        return gone

    def _evict(self) -> NodeT:
        self._evicts = True
        if self._main.cost <= self._main_limit and self._small.cost > 0:
            node = self._evict_small()
            if node is not None:
                return node
        return self._evict_main()

    def _evict_small(self) -> NodeT | None:
        small, main = self._small, self._main
        while small.cost > 0:
            node = cast("NodeT", small.ends.newer)
            small.take(node)
            if node.visits < PROMOTING_VISITS:
                self._ghosts.add(node.key, len(self.nodes) * GHOSTS_PER_20_NODES // 20)
                return self.nodes.pop(node.key)
            node.visits = 0
            node.was_visited = True
            main.push(node)
        return None

    def _evict_main(self) -> NodeT:
        main = self._main
        while True:
            node = cast("NodeT", main.ends.newer)
            main.take(node)
            if node.visits == 0:
                return self.nodes.pop(node.key)
            node.visits -= 1
            node.was_visited = True
            main.push(node)
