"""The service itself: one method for each thing a client can ask for; the SQL is in workload/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import psycopg
from psycopg.types.numeric import Int8Dumper

from examples.feedshop.mix import operations

Row: TypeAlias = tuple[object, ...]
Connection: TypeAlias = psycopg.Connection[Row]


def connect(dsn: str) -> Connection:
    """Open a connection as the service does.

    Every integer is sent as bigint: left to its size, one statement would show as three in
    pg_stat_statements. Statements are not prepared, so each is planned for its own values.
    """
    conn = psycopg.connect(
        dsn,
        autocommit=True,
        prepare_threshold=None,
        cursor_factory=psycopg.RawCursor,
        application_name="feedshop",
    )
    conn.adapters.register_dumper(int, Int8Dumper)
    return conn


class FeedShop:
    """What the service offers, over one connection. Reads return rows; writes return what they made."""

    def __init__(self, conn: Connection, rewritten: Mapping[str, str] | None = None) -> None:
        """`rewritten` has texts that take the place of the operations' own, by name."""
        self._conn = conn
        texts = {operation.name: operation.sql for operation in operations()} | dict(rewritten or {})
        self._sql = {name: text.encode() for name, text in texts.items()}

    def session_user(self, user_id: int) -> list[Row]:
        return self._call("session_user", user_id)

    def user_by_email(self, email: str) -> list[Row]:
        return self._call("user_by_email", email)

    def mark_user_seen(self, user_id: int, session_token: str) -> list[Row]:
        return self._call("mark_user_seen", user_id, session_token)

    def tenant_timeline(self, tenant_id: int) -> list[Row]:
        return self._call("tenant_timeline", tenant_id)

    def feed_timeline(self, feed_id: int) -> list[Row]:
        return self._call("feed_timeline", feed_id)

    def feeds_of_owner(self, user_id: int) -> list[Row]:
        return self._call("feeds_of_owner", user_id)

    def quiet_feeds(self) -> list[Row]:
        return self._call("quiet_feeds")

    def mirror_feeds(self, tenant_id: int) -> list[Row]:
        return self._call("mirror_feeds", tenant_id)

    def search_feeds(self, tenant_id: int, words: str) -> list[Row]:
        return self._call("search_feeds", tenant_id, words)

    def mark_feed_seen(self, feed_id: int) -> list[Row]:
        return self._call("mark_feed_seen", feed_id)

    def post_by_id(self, post_id: int) -> list[Row]:
        return self._call("post_by_id", post_id)

    def search_posts(self, tenant_id: int, words: str) -> list[Row]:
        return self._call("search_posts", tenant_id, words)

    def posts_of_campaign(self, attrs: str) -> list[Row]:
        return self._call("posts_of_campaign", attrs)

    def language_views(self, language: str) -> list[Row]:
        return self._call("language_views", language)

    def publish_post(self, tenant_id: int, feed_id: int, author_id: int, title: str) -> list[Row]:
        return self._call("publish_post", tenant_id, feed_id, author_id, title)

    def count_view(self, post_id: int) -> list[Row]:
        return self._call("count_view", post_id)

    def hide_post(self, post_id: int) -> list[Row]:
        return self._call("hide_post", post_id)

    def purge_post(self, post_id: int) -> list[Row]:
        return self._call("purge_post", post_id)

    def classify_post(self, tenant_id: int, post_id: int) -> list[Row]:
        return self._call("classify_post", tenant_id, post_id)

    def label_drift(self, tenant_id: int) -> list[Row]:
        return self._call("label_drift", tenant_id)

    def orders_of_user(self, user_id: int) -> list[Row]:
        return self._call("orders_of_user", user_id)

    def order_with_items(self, order_id: int) -> list[Row]:
        return self._call("order_with_items", order_id)

    def order_by_reference(self, reference: str) -> list[Row]:
        return self._call("order_by_reference", reference)

    def largest_orders(self) -> list[Row]:
        return self._call("largest_orders")

    def disputed_campaign_orders(self, since: object) -> list[Row]:
        return self._call("disputed_campaign_orders", since)

    def orders_of_day(self, day: object) -> list[Row]:
        return self._call("orders_of_day", day)

    def customer_ranking(self, tenant_id: int) -> list[Row]:
        return self._call("customer_ranking", tenant_id)

    def lapsed_customers(self, tenant_id: int) -> list[Row]:
        return self._call("lapsed_customers", tenant_id)

    def place_order(self, tenant_id: int, user_id: int, total_cents: int) -> list[Row]:
        return self._call("place_order", tenant_id, user_id, total_cents)

    def add_item(self, tenant_id: int, order_id: int, sku: str, price_cents: int) -> list[Row]:
        return self._call("add_item", tenant_id, order_id, sku, price_cents)

    def settle_order(self, order_id: int) -> list[Row]:
        return self._call("settle_order", order_id)

    def _call(self, name: str, *values: object) -> list[Row]:
        cursor = self._conn.execute(self._sql[name], values)
        return cursor.fetchall() if cursor.description else []
