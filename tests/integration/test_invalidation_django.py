"""Django on SQLite: what is committed is cleared by on_commit, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
from django.apps import AppConfig
from django.conf import settings
from django.db import IntegrityError, connection, models, transaction

from perfloop.cache.invalidation import DjangoHook, TagMap

TAGS = TagMap({"orders": ("order-{id}", "orders-of-{customer_id}", "orders"), "labels": ("label-{id}",)})
WHOLE = {"every:orders", "orders", "table:orders"}

if not settings.configured:
    AppConfig.path = str(Path(__file__).parent)
    settings.configure(
        INSTALLED_APPS=[AppConfig("shop", sys.modules[__name__])],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()


class Label(models.Model):
    class Meta:
        app_label = "shop"
        db_table = "labels"


class Customer(models.Model):
    class Meta:
        app_label = "shop"
        db_table = "customers"


class Order(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, null=True)
    labels = models.ManyToManyField(Label, db_table="order_labels")
    code = models.IntegerField(unique=True, null=True)

    class Meta:
        app_label = "shop"
        db_table = "orders"


class RushOrder(Order):
    """Has a part of its row in each of two tables."""

    class Meta:
        app_label = "shop"
        db_table = "rush_orders"


class Heard:
    def __init__(self) -> None:
        self.tags: set[str] = set()

    def invalidate_tag(self, *tags: str) -> None:
        self.tags.update(tags)

    def take(self) -> set[str]:
        taken, self.tags = self.tags, set()
        return taken


@pytest.fixture
def heard() -> Iterator[Heard]:
    with connection.schema_editor() as editor:
        for model in (Label, Customer, Order, RushOrder):
            editor.create_model(model)
    Customer.objects.bulk_create([Customer(id=7), Customer(id=8)])
    Order.objects.bulk_create([Order(id=1, customer_id=7), Order(id=2, customer_id=7)])
    heard = Heard()
    with DjangoHook(TAGS, heard):
        yield heard
    with connection.schema_editor() as editor:
        for model in (RushOrder, Order, Customer, Label):
            editor.delete_model(model)


def test_a_saved_object_clears_the_tags_of_its_row_before_and_after(heard: Heard) -> None:
    order = Order.objects.get(id=1)
    order.customer_id = 8
    with transaction.atomic():
        order.save()
        before = heard.take()

    assert set() == before
    assert {"order-1", "orders-of-7", "orders-of-8", "orders", "table:orders"} == heard.take()


def test_a_new_object_and_a_deleted_one_clear_their_rows(heard: Heard) -> None:
    Order.objects.create(id=3)
    created = heard.take()
    Order.objects.get(id=2).delete()

    assert {"order-3", "orders-of-None", "orders", "table:orders"} == created
    assert {"order-2", "orders-of-7", "orders"} == {tag for tag in heard.take() if ":" not in tag}


def add_and_fail(number: int) -> None:
    with transaction.atomic():
        Order.objects.create(id=number)
        raise ZeroDivisionError


def test_what_is_rolled_back_is_not_heard_nor_is_a_savepoint(heard: Heard) -> None:
    with pytest.raises(ZeroDivisionError):
        add_and_fail(3)
    nothing = heard.take()
    with transaction.atomic():
        Order.objects.create(id=4)
        with pytest.raises(ZeroDivisionError):
            add_and_fail(5)

    assert set() == nothing
    assert {"order-4", "orders-of-None", "orders", "table:orders"} == heard.take()


@pytest.mark.parametrize(
    "write",
    [
        lambda: Order.objects.update(code=None),
        lambda: Order.objects.bulk_create([Order(id=9)]),
        lambda: connection.cursor().execute("UPDATE orders SET code = NULL"),
        lambda: connection.cursor().execute("INSERT OR REPLACE INTO orders (id) VALUES (9)"),
    ],
    ids=["update", "bulk_create", "sql", "replace"],
)
def test_what_passes_by_the_objects_clears_the_whole_table(heard: Heard, write: object) -> None:
    with transaction.atomic():
        write()
        before = heard.take()

    assert (set(), WHOLE) == (before, heard.take())


def test_a_save_that_failed_hides_nothing_that_comes_after_it(heard: Heard) -> None:
    Order.objects.create(id=3, code=1)
    with pytest.raises(IntegrityError):
        Order.objects.create(id=4, code=1)
    heard.take()
    Order.objects.bulk_create([Order(id=5)])

    assert WHOLE == heard.take()


def test_a_cascade_and_an_inherited_row_are_heard(heard: Heard) -> None:
    RushOrder.objects.create(id=6, customer_id=8)
    inherited = heard.take()
    Customer.objects.get(id=8).delete()

    assert {"order-6", "orders-of-8", "orders"} <= inherited
    assert {"order-6", "orders-of-8", "orders"} <= heard.take()


def test_a_relation_of_many_to_many_clears_its_table_and_reading_nothing(heard: Heard) -> None:
    order = Order.objects.get(id=1)
    label = Label.objects.create(id=5)
    created = heard.take()
    order.labels.add(label)
    related = heard.take()
    list(Order.objects.filter(labels=label))

    assert ({"label-5", "table:labels"}, set()) == (created, heard.take())
    assert {"every:order_labels", "table:order_labels"} == related


def test_a_text_that_cannot_be_made_out_clears_all(heard: Heard) -> None:
    connection.cursor().execute("WITH old AS (SELECT 1) UPDATE orders SET code = 5 WHERE id = 1")

    assert {*WHOLE, "every:labels", "table:labels"} == heard.take()
