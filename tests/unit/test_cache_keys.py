from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.cache import CachePolicy
from perfloop.cache.invalidation import TagMap
from perfloop.cache.keys import bound_key, bound_tags, member_key, member_tag
from perfloop.errors import InvalidInput
from perfloop.model.changes import TableChange, table_name


class Colour(enum.Enum):
    RED = "red"


class Shade(enum.StrEnum):
    RED = "red"


@dataclass
class Order:
    id: int


def price(product: Any, currency: str = "EUR", *, day: Any = None) -> None: ...


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
    | st.text(alphabet="-:.,%'(){}_0123456789Ntrue", max_size=6)
    | st.binary(max_size=4)
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([Colour.RED, Shade.RED]),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)


def test_arguments_are_bound_as_the_function_binds_them() -> None:
    key = bound_key("price:{product}:{currency}:{day}", price)

    assert {"price:7:EUR:None"} == {key(7), key(product=7), key(7, "EUR"), key(7, day=None, currency="EUR")}


def test_a_call_that_the_function_refuses_is_refused_in_its_name() -> None:
    with pytest.raises(TypeError, match=r"price\(\) missing 1 required positional argument: 'product'"):
        bound_key("price:{product}", price)()


@pytest.mark.parametrize(
    "template", ["{product}:{currency}", "{product}-{currency}", "{product}._{currency}"]
)
@given(one=st.tuples(VALUES, VALUES), other=st.tuples(VALUES, VALUES))
def test_calls_that_differ_never_share_a_key(
    template: str, one: tuple[Any, Any], other: tuple[Any, Any]
) -> None:
    key = bound_key(template, price)

    assert (repr(one) == repr(other)) == (key(*one) == key(*other))


def test_values_that_are_easily_taken_for_one_another_have_keys_of_their_own() -> None:
    day = datetime.date(2026, 11, 21)
    number = uuid.UUID(int=7)
    alike = [7, "7", 7.0, True, "True", 1, None, "None", "", (), [], day, str(day), number, str(number)]
    alike += [decimal.Decimal(7), Colour.RED, Shade.RED, "red", b"red", ("a", "b"), "a,b", ("a,b",)]
    key = bound_key("k:{product}", price)
    keys = [key(value) for value in alike]

    assert [] == [pair for pair in itertools.combinations(keys, 2) if pair[0] == pair[1]]


def test_attributes_of_arguments_can_be_named() -> None:
    def invoice(order: Order) -> None: ...

    assert bound_key("invoice:{order.id}", invoice)(Order(7)) == "invoice:7"


def test_what_has_no_text_of_its_own_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInput, match=r"a Order cannot be part of a key.*argument\.id"):
        bound_key("price:{product}", price)(Order(7))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("price:{produkt}", "no parameter; there are: product, currency, day"),
        ("price:{product:>4}", "takes no format"),
        ("price:{product!r}", "takes no format"),
        ("price:{product}{currency}", "parts no two fields"),
        ("price:{product}x{currency}", "parts no two fields"),
        ("price:{product", "no template"),
        ("price:{}", "no parameter"),
        ("price:{product[0]}", "no parameter"),
    ],
)
def test_a_template_that_cannot_work_is_refused_when_the_function_is_decorated(
    template: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        bound_key(template, price)


def test_tags_are_templates_too() -> None:
    assert bound_tags(("product-{product}", "prices"), price)(7) == ("product-7", "prices")
    assert bound_tags((), price)(7) == ()


@pytest.mark.parametrize(
    ("value", "column"),
    [
        (7, "7"),
        ("7", "7"),
        ("my-post", "my-post"),
        ("ada@example.org", "ada@example.org"),
        ("a:b/c{d} e", "a:b/c{d} e"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    ],
)
def test_a_change_of_a_row_clears_the_tag_that_a_decorator_wrote(value: object, column: str) -> None:
    def user(user_id: object) -> None: ...

    change = TableChange(table=table_name("public", "users"), rows=({"id": column},))
    cleared = set(TagMap({"users": ("user-{id}",)}).tags_of(change))

    assert bound_tags(("user-{user_id}",), user)(value)[0] in cleared
    assert member_tag("user-{}")(value) in cleared
    assert f"user-{value}" in cleared


def test_a_member_has_a_key_of_its_own() -> None:
    key = member_key("product:{}:row")

    assert ("product:7:row", "product:'7:row", "product:a%3Ab:row") == (key(7), key("7"), key("a:b"))
    with pytest.raises(InvalidInput, match="needs one"):
        member_key("product:{id}")


@pytest.fixture
def cache(kind: Any) -> Iterator[Any]:
    with kind.cache(policy=CachePolicy(ttl_s=60)) as cache:
        yield cache


def test_a_decorated_function_runs_once_for_equal_arguments(cache: Any) -> None:
    calls = []

    @cache.cached("user:{user_id}", tags=("user-{user_id}",))
    def user(user_id: int, trace: str = "") -> str:
        calls.append(user_id)
        return f"user {user_id}"

    values = [user(7), user(user_id=7, trace="x"), user(8)]
    user.invalidate(7)
    user(7)
    cache.invalidate_tag("user-8")
    user(8)
    fresh = user.refresh(7)

    assert ["user 7", "user 7", "user 8", "user 7"] == [*values, fresh]
    assert [7, 8, 7, 8, 7] == calls
    assert user.key(7) == "user:7"


def test_many_members_are_loaded_in_one_call_and_kept_one_by_one(cache: Any) -> None:
    calls = []

    @cache.cached_many("product:{}", tags=("product-{}", "products"))
    def products(ids: list[int]) -> dict[int, str]:
        calls.append(list(ids))
        return {number: f"product {number}" for number in ids if number < 100}

    first = products.many([7, 8, 200])
    one, none = products(7), products(200)
    products.invalidate(8)
    second = products.many([7, 8])

    assert {7: "product 7", 8: "product 8"} == first == second
    assert ("product 7", None) == (one, none)
    assert [[7, 8, 200], [8]] == calls
    cache.invalidate_tag("products")
    assert products(7) == "product 7"
    assert [7] == calls[-1]


def test_a_parameter_may_have_the_name_of_a_type() -> None:
    def find(str: int, int: object) -> None:  # noqa: A002 - users write that
        """Nothing."""

    assert "find:7:x" == bound_key("find:{str}:{int}", find)(7, "x")
    assert ("str-7", "int-8") == bound_tags(("str-{str}", "int-{int}"), find)(7, 8)
