"""What is wrong with feedshop on purpose, and the changes that look right and are not.

The acceptance test holds perfloop's findings against these lists; `tests/integration` holds the lists
against a real server, without perfloop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Yardstick(Enum):
    """What a change is measured by, per call of an operation.

    WAL is counted in records: bytes depend on when the last checkpoint was.
    """

    TIME = "execution time"
    WAL = "WAL records"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A problem: where it is, which change mends it, and how much at least that gains."""

    id: str
    check: str
    """The name of perfloop's check that finds it."""
    location: str
    """Table, index or setting; for tables the table's name alone."""
    columns: tuple[str, ...]
    operation: str
    """The operation that suffers most."""
    change: str
    """create-index, drop-index, analyze, alter-setting or rewrite-query."""
    fix: str
    """The change as SQL; for rewrite-query the operation's new text."""
    yardstick: Yardstick
    gain: float
    """What the operation costs without the fix over what it costs with it: at least this."""
    story: str
    needs_jit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """A change that looks right, with the operations that show why it has to go again."""

    id: str
    looks_like: str
    """The check, or the common advice, that suggests it."""
    change: str
    fix: str
    before: tuple[str, ...]
    """What has been mended already when the trap opens."""
    operations: tuple[str, ...]
    """Whose execution times, weighed as in the mix, are compared."""
    cost: float
    """What they cost with the change over what they cost without: at least this."""
    story: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongRewrite:
    """A statement in words that look the same and give the same rows on feedshop's data, but not always."""

    id: str
    statement: str
    text: str
    story: str


PLANTED = (
    Planted(
        id="order-history",
        check="missing-index",
        location="orders",
        columns=("user_id",),
        operation="orders_of_user",
        change="create-index",
        fix="CREATE INDEX ON orders (user_id)",
        yardstick=Yardstick.TIME,
        gain=20,
        story="150,000 orders are read to show the few of one customer",
    ),
    Planted(
        id="payment-callback",
        check="missing-index",
        location="orders",
        columns=("externalRef",),
        operation="order_by_reference",
        change="create-index",
        fix='CREATE INDEX ON orders ("externalRef")',
        yardstick=Yardstick.TIME,
        gain=20,
        story="the payment provider's reference has no index; its column's name needs quotes",
    ),
    Planted(
        id="items-of-order",
        check="missing-index",
        location="items",
        columns=("order_id",),
        operation="order_with_items",
        change="create-index",
        fix="CREATE INDEX ON items (order_id)",
        yardstick=Yardstick.TIME,
        gain=20,
        story="the inner side of a join is read from start to end for every order that is shown",
    ),
    Planted(
        id="newest-of-feed",
        check="missing-index",
        location="posts",
        columns=("feed_id", "published_at"),
        operation="feed_timeline",
        change="create-index",
        fix="CREATE INDEX ON posts (feed_id, published_at DESC)",
        yardstick=Yardstick.TIME,
        gain=3,
        story="thousands of posts of a popular feed are sorted for the newest twenty",
    ),
    Planted(
        id="campaign-attributes",
        check="missing-index",
        location="posts",
        columns=("attrs",),
        operation="posts_of_campaign",
        change="create-index",
        fix="CREATE INDEX ON posts USING gin (attrs jsonb_path_ops)",
        yardstick=Yardstick.TIME,
        gain=10,
        story="JSONB containment over 200,000 posts for a hundred; a b-tree cannot help, a GIN index does",
    ),
    Planted(
        id="purge-cascade",
        check="foreign-key-without-index",
        location="classifications",
        columns=("post_id",),
        operation="purge_post",
        change="create-index",
        fix="CREATE INDEX ON classifications (post_id)",
        yardstick=Yardstick.TIME,
        gain=20,
        story="each post that is removed reads 400,000 classifications; only the trigger's time shows it",
    ),
    Planted(
        id="import-without-analyze",
        check="stale-statistics",
        location="classifications",
        columns=(),
        operation="label_drift",
        change="analyze",
        fix="ANALYZE classifications",
        yardstick=Yardstick.TIME,
        gain=5,
        story="analysed with 20,000 rows, then 380,000 came without autovacuum: one row is expected",
    ),
    Planted(
        id="small-work-mem",
        check="sort-hash-spill",
        location="work_mem",
        columns=(),
        operation="lapsed_customers",
        change="alter-setting",
        fix="SET work_mem = '8MB'",
        yardstick=Yardstick.TIME,
        gain=1.5,
        story="NOT IN over 57,000 rows fits no hash of 512 kB: the list is read from disk for every user",
    ),
    Planted(
        id="eager-jit",
        check="jit-overhead",
        location="jit_above_cost",
        columns=(),
        operation="customer_ranking",
        change="alter-setting",
        fix="SET jit = off",
        yardstick=Yardstick.TIME,
        gain=1.5,
        story="somebody lowered jit_above_cost for a report, for the whole database",
        needs_jit=True,
    ),
    Planted(
        id="forgotten-report",
        check="unused-index",
        location="orders_updated_idx",
        columns=("updated_at",),
        operation="settle_order",
        change="drop-index",
        fix="DROP INDEX orders_updated_idx",
        yardstick=Yardstick.WAL,
        gain=2,
        story="never scanned, and on a column that every payment changes: it alone prevents HOT updates",
    ),
    Planted(
        id="same-index-twice",
        check="duplicate-index",
        location="orders_tenant_placed_idx",
        columns=("tenant_id", "placed_at"),
        operation="place_order",
        change="drop-index",
        fix="DROP INDEX orders_tenant_placed_idx",
        yardstick=Yardstick.WAL,
        gain=1.05,
        story="equal to orders_by_tenant_and_day, which scans prefer; every order writes both",
    ),
    Planted(
        id="failed-build",
        check="invalid-index",
        location="users_session_key",
        columns=("session_token",),
        operation="mark_user_seen",
        change="drop-index",
        fix="DROP INDEX users_session_key",
        yardstick=Yardstick.WAL,
        gain=2,
        story="a unique index that failed half-way: no query may use it, yet it prevents HOT updates",
    ),
    Planted(
        id="day-of-moment",
        check="function-on-column",
        location="orders",
        columns=("placed_at",),
        operation="orders_of_day",
        change="rewrite-query",
        fix="SELECT count(*) AS orders, sum(o.total_cents) AS total_cents FROM orders AS o"
        " WHERE o.placed_at >= $1::date AND o.placed_at < $1::date + 1",
        yardstick=Yardstick.TIME,
        gain=10,
        story="the index is on placed_at, the condition on date(placed_at), which no index may hold, since"
        " the day depends on the session's time zone",
    ),
)

TRAPS = (
    Trap(
        id="index-on-last-seen",
        looks_like="missing-index: quiet_feeds sorts 12,000 feeds for twenty",
        change="create-index",
        fix="CREATE INDEX ON feeds (last_seen_at)",
        before=(),
        operations=("quiet_feeds", "mark_feed_seen"),
        cost=1.4,
        story="the read becomes two hundred times faster, but each visit changes last_seen_at: updates stop"
        " being HOT, and each writes the GIN index of the description anew, forty times the work",
    ),
    Trap(
        id="index-on-language",
        looks_like="missing-index: language_views discards up to nine rows in ten",
        change="create-index",
        fix="CREATE INDEX ON posts (language)",
        before=("SET jit = off",),
        operations=("language_views", "publish_post"),
        cost=0.85,
        story="every page holds posts of every language: whichever way, all of them are read",
    ),
    Trap(
        id="random-page-cost",
        looks_like="common advice: random_page_cost 1.1 on SSDs",
        change="alter-setting",
        fix="SET random_page_cost = 1.1",
        before=(),
        operations=("disputed_campaign_orders",),
        cost=5,
        story="walking the orders from the dearest down looks cheap then, but the campaign's orders are the"
        " cheapest of all, so that nearly the whole table is walked",
    ),
    Trap(
        id="drop-language-index",
        looks_like="unused-index: feeds_language_idx has no scans",
        change="drop-index",
        fix="DROP INDEX feeds_language_idx",
        before=(),
        operations=("mirror_feeds",),
        cost=5,
        story="its statistics on lower(language) go with it; the planner then expects ten rows instead of"
        " 1,800 and joins them row by row",
    ),
    Trap(
        id="yet-more-work-mem",
        looks_like="sort-hash-spill: customer_ranking writes temporary files",
        change="alter-setting",
        fix="SET work_mem = '64MB'",
        before=("SET jit = off",),
        operations=("customer_ranking",),
        cost=0.85,
        story="the spill is gone and the time is the same: so small a spill stays in the page cache",
    ),
)

WRONG_REWRITES = (
    WrongRewrite(
        id="not-in-of-references",
        statement="SELECT u.id FROM users AS u WHERE u.email NOT IN"
        " (SELECT o.\"externalRef\" FROM orders AS o WHERE o.status = 'charged back')",
        text="SELECT u.id FROM users AS u WHERE NOT EXISTS"
        " (SELECT 1 FROM orders AS o WHERE o.status = 'charged back' AND o.\"externalRef\" = u.email)",
        story="NOT IN finds nothing once a single reference is NULL, NOT EXISTS does not care: as long as no"
        " order was charged back, nobody sees the difference",
    ),
    WrongRewrite(
        id="day-by-between",
        statement="SELECT o.id FROM orders AS o WHERE date(o.placed_at) = '2026-03-01'",
        text="SELECT o.id FROM orders AS o WHERE o.placed_at BETWEEN '2026-03-01' AND '2026-03-02'",
        story="an order at midnight sharp is of both days",
    ),
)
