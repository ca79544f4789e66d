"""Stream-table joins: the rows that Kafka Streams gives, DuckDB over any rows, and what a joiner may do."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.testing import TestDriver
from support.cases import cases
from support.sql import database, fill

LEFT, RIGHT = "left", "right"
INPUT: list[tuple[str, str | None, int]] = [
    (LEFT, None, 1), (RIGHT, None, 2), (LEFT, "A", 3), (RIGHT, "a", 4), (LEFT, "B", 5), (RIGHT, "b", 6),
    (LEFT, None, 7), (RIGHT, None, 8), (LEFT, "C", 9), (RIGHT, "c", 10), (RIGHT, None, 11), (LEFT, None, 12),
    (RIGHT, None, 13), (RIGHT, "d", 7), (LEFT, "D", 6), (LEFT, None, 2), (RIGHT, None, 3), (RIGHT, "e", 14),
    (LEFT, "E", 15), (LEFT, None, 10), (RIGHT, None, 9), (LEFT, "F", 4), (RIGHT, "f", 3),
]  # fmt: skip
"""Side, value and time of each record, all of one key: the input of Kafka Streams' join integration tests (4.x)."""

EXPECTED: dict[str, dict[int, tuple[str, int]]] = {
    "inner": {4: ("B-a", 5), 14: ("D-d", 6), 18: ("E-e", 15)},
    "left": {
        2: ("A-null", 3), 4: ("B-a", 5), 8: ("C-null", 9), 14: ("D-d", 6), 18: ("E-e", 15), 21: ("F-null", 4),
    },
}  # fmt: skip
"""What comes out at which record of the input, and its time (StreamTableJoinIntegrationTest, testInner, testLeft)."""

How = Literal["inner", "left"]


def pair(left: str, right: str | None) -> str:
    return f"{left}-{right or 'null'}"


class Joined:
    """An app that joins a stream with a table."""

    def __init__(self, how: How, partitions: int = 1) -> None:
        self.app = kstream.App(f"joins-{how}")
        self.left = self.app.topic(LEFT, key=str, value=str | None, partitions=partitions)
        self.right = self.app.topic(RIGHT, key=str, value=str | None, partitions=partitions)
        self.out = self.app.topic("out", key=str, value=str)
        self.table = self.app.stream(self.right).to_table("table")
        joined: Any = self.app.stream(self.left).join(self.table, pair, how=how)
        joined.to(self.out)

    def topic(self, side: str) -> kstream.Topic[str, str | None]:
        return self.left if side == LEFT else self.right


def dropped(driver: TestDriver) -> dict[str, int]:
    tasks = driver.worker.tasks.values()
    return dict(sum((one.dropped for task in tasks for one in task.plan.operators), Counter[str]()))


@pytest.mark.parametrize("how", ["inner", "left"])
def test_the_rows_of_kafka_streams(how: How) -> None:
    joined, found = Joined(how), {}
    with TestDriver(joined.app) as driver:
        for index, (side, value, at) in enumerate(INPUT):
            seen = len(driver.records(joined.out))
            driver.send(joined.topic(side), value, key="k", timestamp=1000 + at)
            for record in driver.records(joined.out)[seen:]:
                assert index not in found
                found[index] = record.value, record.timestamp - 1000
        assert dict(driver.table(joined.table)) == {"k": "f"}
    assert found == EXPECTED[how]


@pytest.mark.parametrize(("how", "values", "left_out"), [("inner", ["a-b"], 2), ("left", ["x-null", "a-b"], 0)])
def test_a_record_without_a_key_finds_nothing(how: How, values: list[str], left_out: int) -> None:
    """As Kafka Streams since KIP-962: a left join keeps it. A null value gives nothing in either, and a record without
    a key is no row of a table."""
    joined = Joined(how)
    with TestDriver(joined.app) as driver:
        driver.send(joined.right, "none's")
        driver.send(joined.right, "b", key="k")
        driver.send(joined.left, "x")
        driver.send(joined.left, None)
        driver.send(joined.left, None, key="k")
        driver.send(joined.left, "a", key="k")
        assert driver.values(joined.out) == values
        assert dropped(driver) == {"no key": 1 + left_out, "no value": 2 - (how == "inner")}
        assert dict(driver.table(joined.table)) == {"k": "b"}


def no_zero(value: Any) -> Any:
    return value or None


@pytest.mark.parametrize("rekeyed", [False, True], ids=["in place", "travelled"])
@pytest.mark.parametrize("how", ["inner", "left"])
def test_none_of_an_undeclared_type_is_a_null(how: How, rekeyed: bool) -> None:
    """It gives nothing in a stream, and deletes in a table."""
    app = kstream.App("untyped")
    left, right = (app.topic(name, key=str, value=int) for name in (LEFT, RIGHT))
    out = app.topic("out", key=str, value=str)
    stream, rows = (app.stream(topic).map(no_zero) for topic in (left, right))
    if rekeyed:
        stream, rows = (one.rekey(lambda _: "k", key=str) for one in (stream, rows))
    table = rows.to_table("table")
    joined: Any = stream.join(table, lambda one, other: f"{one}-{other}", how=how, value=str)
    joined.to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(right, 1, key="k")
        driver.commit()
        for value in (0, 2):
            driver.send(left, value, key="k")
        driver.commit()
        driver.send(right, 0, key="k")
        driver.commit()
        assert dict(driver.table(table)) == {}
        driver.send(left, 3, key="k")
        driver.commit()
        assert driver.values(out) == (["2-1"] if how == "inner" else ["2-1", "3-None"])
        assert dropped(driver) == {"no value": 1}


def test_none_of_an_undeclared_type_is_left_out_of_an_aggregation() -> None:
    app = kstream.App("untyped")
    numbers, out = app.topic("numbers", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(numbers).map(no_zero).group_by_key().sum(lambda n: n, name="sum", value=int).to(out)
    with TestDriver(app, partitions=1) as driver:
        for value in (1, 0, 2):
            driver.send(numbers, value, key="k")
        assert driver.values(out) == [1, 3]
        assert dropped(driver) == {"no value": 1}


rows = st.lists(
    st.tuples(
        st.sampled_from([LEFT, RIGHT, RIGHT]),
        st.sampled_from(["k", "l", "m"]),
        st.one_of(st.none(), st.sampled_from("abc")),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.parametrize("how", ["inner", "left"])
@cases
@given(rows=rows, sides_apart=st.booleans())
def test_what_sql_says_whatever_arrives_first(
    how: How, rows: list[tuple[str, str, str | None]], sides_apart: bool
) -> None:
    """Both inputs are there before anything is processed: their times decide, not the order of arrival."""
    joined = Joined(how, partitions=2)
    with database() as sql:
        sql.execute("CREATE TABLE rows (place INTEGER, side TEXT, key TEXT, value TEXT)")
        fill(sql, "rows", [(at, *row) for at, row in enumerate(rows)])
        wanted = sql.execute(
            f"""SELECT l.place, l.key, l.value || '-' || coalesce(r.value, 'null')
            FROM (SELECT * FROM rows WHERE side = 'left' AND value IS NOT NULL) l
            ASOF LEFT JOIN (SELECT * FROM rows WHERE side = 'right') r ON l.key = r.key AND l.place >= r.place
            WHERE {"r.value IS NOT NULL" if how == "inner" else "true"} ORDER BY l.place"""
        ).fetchall()
    with TestDriver(joined.app) as driver:
        timed = list(enumerate(rows))
        for at, (side, key, value) in sorted(timed, key=lambda row: row[1][0]) if sides_apart else timed:
            data = None if value is None else value.encode()
            driver.cluster.append(side, key.encode(), data, timestamp=1000 + at)
        found = sorted((one.timestamp - 1000, one.key, one.value) for one in driver.records(joined.out))
    assert found == wanted


class Customer(msgspec.Struct):
    name: str
    seen: list[int] = []


def test_what_a_joiner_does_to_what_it_is_given_does_not_show_in_the_table() -> None:
    app = kstream.App("joiner")
    orders, customers = app.topic("orders", key=str, value=int), app.topic("customers", key=str, value=Customer)
    out = app.topic("out", key=str, value=Customer)
    table = app.stream(customers).to_table("customers")

    def joiner(order: int, customer: Customer) -> Customer:
        customer.seen.append(order)
        return customer

    app.stream(orders).join(table, joiner).peek(lambda customer: customer.seen.append(-1)).to(out)
    with TestDriver(app) as driver:
        driver.send(customers, Customer("Ann"), key="ann")
        for n in (1, 2):
            driver.cluster.append("orders", b"ann", b"%d" % n)
        assert driver.values(out) == [Customer("Ann", [1, -1]), Customer("Ann", [2, -1])]
        driver.crash()
        assert driver.table(table)["ann"] == Customer("Ann")


def test_a_joiner_that_fails_fails_its_record_alone() -> None:
    app = kstream.App("failing")
    orders, rates = app.topic("orders", key=str, value=int), app.topic("rates", key=str, value=int)
    out = app.topic("out", key=str, value=int)
    table = app.stream(rates).to_table("rates")
    app.stream(orders, on_error=[kstream.Skip()]).join(table, lambda order, rate: order // rate).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(rates, 0, key="a")
        driver.send(rates, 2, key="b")
        driver.commit()
        for key in (b"a", b"b", b"a", b"b"):
            driver.cluster.append("orders", key, b"6")
        assert driver.values(out) == [3, 3]


def test_a_joiner_may_ask_the_context() -> None:
    app = kstream.App("context")
    orders, rates = app.topic("orders", key=str, value=int), app.topic("rates", key=str, value=int)
    out = app.topic("out", key=str, value=str)
    table = app.stream(rates).to_table("rates")
    app.stream(orders).join(table, lambda order, rate, ctx: f"{ctx.key} {order} {rate} {ctx.offset}", how="left").to(
        out
    )
    with TestDriver(app, partitions=1) as driver:
        driver.send(rates, 7, key="b")
        for key in (b"a", b"b"):
            driver.cluster.append("orders", key, b"6")
        assert driver.values(out) == ["a 6 None 0", "b 6 7 1"]


def test_a_value_that_cannot_be_read_fails_though_it_finds_nothing() -> None:
    joined = Joined("inner")
    with TestDriver(joined.app) as driver, pytest.raises(kstream.ProcessingError, match="left"):
        driver.send_raw(joined.left, b"\xff", key=b"k")
        driver.commit()


def test_aggregations_and_tables_of_agents_are_joined_too() -> None:
    app = kstream.App("others")
    orders, out = app.topic("orders", key=str, value=int), app.topic("out", key=str, value=str)
    payments = app.topic("payments", key=str, value=int)
    paid = app.stream(payments).group_by_key().sum(lambda n: n, name="paid", value=int)
    limits = app.table("limits", key=str, value=int)

    @app.agent(payments)
    def limit(n: int, ctx: kstream.Context[str]) -> None:
        limits[ctx.key] = 10 * n

    ordered = app.stream(orders).join(paid, lambda order, sum: f"{order} of {sum}", value=str)
    ordered.join(limits, lambda said, limit: f"{said}, {limit}").to(out)
    with TestDriver(app) as driver:
        driver.send(payments, 4, key="ann")
        driver.send(payments, 5, key="ann")
        driver.send(orders, 1, key="ann")
        driver.send(orders, 1, key="bob")
        assert driver.values(out) == ["1 of 9, 50"]
