"""SQLAlchemy on a real server: what is committed is cleared when the commit returns, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import Enum

import pytest
from sqlalchemy import (
    Dialect,
    Engine,
    ForeignKey,
    LargeBinary,
    String,
    TypeDecorator,
    create_engine,
    insert,
    select,
    text,
    update,
)
from sqlalchemy import Enum as EnumColumn
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column

from perfloop.cache.invalidation import SqlalchemyHook, TagMap

TAGS = TagMap({"orders": ("order-{id}", "orders-of-{customer}", "orders"), "lines": ("line-{id}",)})
WHOLE = {"every:orders", "orders", "table:orders"}


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[int | None]


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Size(str, Enum):  # noqa: UP042  # unlike a StrEnum's, its str() is not what is stored
    LARGE = "l"


class Doubtful(TypeDecorator[Colour]):
    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Colour | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.value.encode()


class Shirt(Base):
    __tablename__ = "shirts"
    id: Mapped[int] = mapped_column(primary_key=True)
    by_name: Mapped[Colour]
    by_value: Mapped[Colour] = mapped_column(
        EnumColumn(Colour, name="by_value", values_callable=lambda colours: [each.value for each in colours])
    )
    text: Mapped[Size] = mapped_column(String)


class Flag(Base):
    __tablename__ = "flags"
    id: Mapped[int] = mapped_column(primary_key=True)
    colour: Mapped[Colour] = mapped_column(Doubtful)


class Heard:
    def __init__(self) -> None:
        self.tags: set[str] = set()

    def invalidate_tag(self, *tags: str) -> None:
        self.tags.update(tags)

    def take(self) -> set[str]:
        taken, self.tags = self.tags, set()
        return taken


class AsyncHeard(Heard):
    async def invalidate_tag(self, *tags: str) -> None:  # type: ignore[override]  # the same cache for asyncio
        await asyncio.sleep(0)
        self.tags.update(tags)


def url_of(dsn: str) -> str:
    return f"postgresql+psycopg://?{'&'.join(dsn.split())}"


@pytest.fixture
def engine(postgres_dsn: str) -> Iterator[Engine]:
    engine = create_engine(url_of(postgres_dsn))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Order(id=1, customer=7), Order(id=2, customer=7)])
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def heard(engine: Engine) -> Iterator[Heard]:
    heard = Heard()
    with SqlalchemyHook(engine, TAGS, heard):
        yield heard


def test_rows_of_a_session_are_cleared_by_the_commit_and_not_before(engine: Engine, heard: Heard) -> None:
    with Session(engine) as session:
        order = session.get_one(Order, 1)
        order.customer = 8
        session.add(Order(id=3, customer=None))
        session.delete(session.get_one(Order, 2))
        session.flush()
        before = heard.take()
        session.commit()

    assert set() == before
    assert {
        "order-1", "orders-of-7", "orders-of-8", "order-3", "orders-of-None", "order-2", "orders",
        "table:orders"
    } == heard.take()  # fmt: skip


def test_an_old_value_that_was_never_loaded_clears_the_whole_table(engine: Engine, heard: Heard) -> None:
    with Session(engine) as session:
        order = session.get_one(Order, 1)
        session.expire(order)
        order.customer = 9
        session.commit()

    assert heard.take() >= WHOLE


def test_what_is_rolled_back_is_not_heard_nor_is_a_savepoint(engine: Engine, heard: Heard) -> None:
    with Session(engine) as session:
        session.add(Order(id=3, customer=1))
        session.flush()
        session.rollback()
        nothing = heard.take()
        with session.begin_nested():
            session.add(Order(id=4, customer=2))
        inner = session.begin_nested()
        session.add(Order(id=5, customer=3))
        session.flush()
        inner.rollback()
        session.execute(select(Order)).all()
        before = heard.take()
        session.commit()

    assert (set(), set()) == (nothing, before)
    assert {"order-4", "orders-of-2", "orders", "table:orders"} == heard.take()


@pytest.mark.parametrize(
    "statement",
    [
        update(Order).values(customer=1),
        update(Order.__table__).values(customer=1),
        insert(Order).values(id=9, customer=1),
        select(update(Order).values(customer=1).returning(Order.id).cte("moved")),
    ],
    ids=["orm", "core", "insert", "cte"],
)
def test_a_statement_of_many_rows_clears_its_whole_table(
    engine: Engine, heard: Heard, statement: object
) -> None:
    with Session(engine) as session:
        session.execute(statement)
        before = heard.take()
        session.commit()

    assert (set(), WHOLE) == (before, heard.take())


def test_bulk_methods_clear_the_whole_table(engine: Engine, heard: Heard) -> None:
    with Session(engine) as session:
        session.bulk_save_objects([Order(id=11, customer=1)])
        session.commit()
        saved = heard.take()
        session.execute(insert(Order), [{"id": 12, "customer": 1}, {"id": 13, "customer": 1}])
        session.commit()

    assert (WHOLE, WHOLE) == (saved, heard.take())


def test_a_text_that_writes_clears_all_and_one_that_reads_nothing(engine: Engine, heard: Heard) -> None:
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        connection.execute(select(aliased(Order).id))
    read = heard.take()
    with engine.begin() as connection:
        connection.execute(text("WITH moved AS (UPDATE orders SET customer = 2) SELECT 1"))
    written = heard.take()

    assert (set(), {*WHOLE, "every:lines", "table:lines"}) == (read, written)


def test_where_every_statement_is_committed_by_itself_it_is_cleared_at_once(
    engine: Engine, heard: Heard
) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(update(Order.__table__).values(customer=1))

        assert heard.take() == WHOLE


def test_a_session_within_a_larger_transaction_waits_for_its_commit(engine: Engine, heard: Heard) -> None:
    with engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.add(Order(id=21, customer=4))
            session.commit()
        before = heard.take()
        outer.commit()

    assert (set(), {"order-21", "orders-of-4", "orders", "table:orders"}) == (before, heard.take())


def test_asyncio_awaits_the_cache_before_the_commit_returns(engine: Engine, postgres_dsn: str) -> None:
    heard = AsyncHeard()

    async def save() -> set[str]:
        asynchronous = create_async_engine(url_of(postgres_dsn))
        with SqlalchemyHook(asynchronous, TAGS, heard):
            async with AsyncSession(asynchronous) as session:
                session.add(Order(id=31, customer=5))
                await session.commit()
                tags = heard.take()
        await asynchronous.dispose()
        return tags

    assert {"order-31", "orders-of-5", "orders", "table:orders"} == asyncio.run(save())


def test_an_enumeration_clears_what_the_database_has_for_it(engine: Engine) -> None:
    heard = Heard()
    tags = TagMap({"shirts": ("named-{by_name}", "valued-{by_value}", "text-{text}")})
    with SqlalchemyHook(engine, tags, heard), Session(engine) as session:
        session.add(Shirt(id=1, by_name=Colour.RED, by_value=Colour.GREEN, text=Size.LARGE))
        session.commit()
        stored = text("SELECT 'named-' || by_name, 'valued-' || by_value, 'text-' || text FROM shirts")
        row = session.execute(stored).one()

    assert {"named-RED", "valued-green", "text-l"} == set(row) == heard.take() - {"table:shirts"}


def test_an_enumeration_that_is_stored_in_a_way_of_its_own_clears_the_whole_table(engine: Engine) -> None:
    heard = Heard()
    with SqlalchemyHook(engine, TagMap({"flags": ("flag-{colour}",)}), heard), Session(engine) as session:
        session.add(Flag(id=1, colour=Colour.RED))
        session.commit()

    assert {"every:flags", "table:flags"} == heard.take()


def test_a_closed_hook_hears_nothing(engine: Engine, heard: Heard) -> None:
    other = Heard()
    with SqlalchemyHook(engine, TAGS, other):
        pass
    with Session(engine) as session:
        session.add(Order(id=41, customer=5))
        session.commit()

    assert set() == other.take()
