"""Global tables: what a stream finds in one, against Kafka Streams' rows and a dict, and what functions read of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import ProcessingError, TableError, TopologyError
from kstream.testing import TestDriver

from .test_stream_table import EXPECTED, INPUT, LEFT, How, pair


class Customer(msgspec.Struct):
    name: str
    country: str = "at"


class Order(msgspec.Struct):
    customer: str | None
    product: str


def joined(how: How) -> tuple[kstream.App, Any, Any, Any, Any]:
    """Orders, keyed by anything, and customers; more partitions of these than of orders."""
    app = kstream.App("shop")
    customers = app.topic("customers", key=str, value=Customer | None, partitions=5)
    orders = app.topic("orders", key=str, value=Order | None, partitions=2)
    out = app.topic("out", key=str, value=str)
    known = app.global_table(customers)

    def bill(order: Order, customer: Customer | None) -> str:
        return f"{order.product}-{customer.name if customer else 'null'}"

    app.stream(orders).join(known, bill, on=lambda order: order.customer, how=how).to(out)
    return app, customers, orders, out, known


@pytest.mark.parametrize("how", ["inner", "left"])
def test_the_rows_of_kafka_streams(how: Literal["inner", "left"]) -> None:
    """Those of a stream and a table, processed one by one: a global table is not synchronised by time, so what comes
    first counts, whatever its time stamp."""
    app = kstream.App("ks")
    left, right = (app.topic(side, key=str, value=str | None, partitions=3) for side in ("left", "right"))
    out = app.topic("out", key=str, value=str)
    table = app.global_table(right)
    app.stream(left).join(table, pair, on=lambda value: "k", how=how).to(out)
    found: dict[int, tuple[str, int]] = {}
    with TestDriver(app) as d:
        for number, (side, value, at) in enumerate(INPUT):
            before = len(d.records(out))
            d.send(left if side == LEFT else right, value, key="k" if side != LEFT else "other", timestamp=at)
            for record in d.records(out)[before:]:
                found[number] = record.value, record.timestamp
    assert found == EXPECTED[how]


@pytest.mark.parametrize(
    ("order", "inner", "left"),
    [
        (Order("ann", "tea"), ["tea-Ann"], ["tea-Ann"]),
        (Order("eve", "tea"), [], ["tea-null"]),
        (Order(None, "tea"), [], ["tea-null"]),  # no key is named: KIP-962
        (None, [], []),
    ],
)
def test_what_comes_of_a_record(order: Order | None, inner: list[str], left: list[str]) -> None:
    for how, expected in (("inner", inner), ("left", left)):
        app, customers, orders, out, _ = joined(how)
        with TestDriver(app) as d:
            d.send(customers, Customer("Ann"), key="ann")
            d.send(orders, order)
            assert d.values(out) == expected
            reason = "no value" if order is None else "no key"
            left_out = order is None or (order.customer is None and how == "inner")
            [step] = [one for task in d.worker.tasks.values() for one in task.plan.operators if one.dropped] or [None]
            assert (step.dropped if step else {}) == ({reason: 1} if left_out else {})


def test_null_as_others_write_it_is_no_row_to_any_reader() -> None:
    app = kstream.App("shop")
    prices = app.topic("prices", key=str, value=int | None)
    asked, out = app.topic("asked", key=str, value=str), app.topic("out", key=str, value=list)
    known = app.global_table(prices)
    app.stream(asked).map(lambda one: [known.get(one), one in known, len(known), *known], value=list).to(out)
    with TestDriver(app) as d:
        d.send(prices, 3, key="tea")
        d.send_raw(prices, b"null", key=b"cup")
        d.send(asked, "cup")
        assert d.values(out) == [[None, False, 1, "tea"]]


KEYS = st.sampled_from("abcde")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("row"), KEYS, st.one_of(st.none(), st.integers(0, 9)), st.integers(0, 4)),
        st.tuples(st.just("order"), KEYS, st.integers(0, 99), st.integers(0, 1)),
        st.tuples(st.sampled_from(["commit", "crash"])),
    ),
    max_size=25,
)


@given(steps=STEPS, backend=st.sampled_from(["memory", "rocksdb"]), cuts=st.lists(st.integers(1, 3), max_size=20))
def test_any_order_of_updates_restarts_and_records(steps: list[Any], backend: str, cuts: list[int]) -> None:
    """Against a dict. What was not committed before a crash finds the rows of later, for it is processed again."""
    app, customers, orders, out, known = joined("left")
    rows: dict[str, int] = {}
    homes: dict[str, int] = {}
    done: list[str] = []
    pending: list[tuple[int, str, int]] = []
    results: dict[int, str] = {}

    def bill(number: int, key: str, product: int) -> None:
        results[number] = f"{product}-{rows.get(key, 'null')}"

    with TestDriver(app, backend=backend) as d:
        d.cluster.batch_sizes = iter(cuts)
        for number, step in enumerate(steps):
            match step:
                case ("row", key, value, home):
                    home = homes.setdefault(key, home)  # a key has one home, whoever chose it
                    d.send(
                        customers, None if value is None else Customer(str(value)), key=key, partition=home
                    )  # fmt: skip
                    rows.pop(key, None) if value is None else rows.update({key: value})
                case ("order", key, product, partition):
                    d.send(orders, Order(key, str(product)), partition=partition)
                    pending.append((number, key, product))
                    bill(number, key, product)
                case ("commit",):
                    d.commit()
                    done += [results[one] for one, _, _ in pending]
                    pending = []
                case _:
                    d.crash()
                    for one in pending:
                        bill(*one)
        done += [results[one] for one, _, _ in pending]
        assert sorted(d.values(out)) == sorted(done)
        assert {key: int(row.name) for key, row in d.table(known).items()} == rows


def test_functions_read_any_key_whole() -> None:
    app, customers, orders, _, known = joined("left")
    seen = app.topic("seen", key=str, value=list[str])

    @app.agent(orders, to=seen)
    async def look(stream: kstream.AgentStream[str, Order]) -> AsyncIterator[list[str]]:
        async for order in stream:
            await asyncio.sleep(0)
            found = known.get(order.customer)
            yield [
                str(found and found.name), str("ann" in known), str(len(known)), *known,
                *(key for key, _ in known.range("b", "d")), *(row.name for _, row in known.prefix("an")),
            ]  # fmt: skip

    with TestDriver(app) as d:
        for key in ("ann", "bob", "cid", "dan"):
            d.send(customers, Customer(key.title()), key=key)
        d.send(orders, Order("cid", "tea"), key="x")
        assert d.values(seen) == [["Cid", "True", "4", "ann", "bob", "cid", "dan", "bob", "cid", "Ann"]]


def test_what_is_read_is_the_readers_own() -> None:
    app = kstream.App("own")
    boxes, asks = app.topic("boxes", key=str, value=list[int]), app.topic("asks", key=str, value=str)
    out = app.topic("out", key=str, value=list[int])
    table = app.global_table(boxes, name="contents")

    def grow(key: str, box: list[int]) -> list[int]:
        table[key].append(7)
        box.append(8)
        return box

    app.stream(asks).join(table, grow, on=lambda key: key).to(out)
    with TestDriver(app) as d:
        d.send(boxes, [1], key="a")
        d.send(asks, "a")
        d.send(asks, "a")
        assert d.values(out) == [[1, 8], [1, 8]]
        assert d.table(table)["a"] == [1]


def test_on_may_ask_the_context_and_may_be_left_out() -> None:
    app = kstream.App("keys")
    rows, stream = app.topic("rows", key=str, value=str), app.topic("stream", key=str, value=str)
    by_own, by_context = app.topic("own", key=str, value=str), app.topic("context", key=str, value=str)
    table = app.global_table(rows)
    app.stream(stream).join(table, pair).to(by_own)

    def named(value: str, ctx: kstream.Context[str]) -> str:
        return f"{ctx.key}{value}"

    def told(value: str, row: str, ctx: kstream.Context[str]) -> str:
        return f"{ctx.key}:{value}-{row}"

    app.stream(stream).join(table, told, on=named).to(by_context)
    with TestDriver(app) as d:
        d.send(rows, "one", key="a")
        d.send(rows, "two", key="ab")
        d.send(stream, "b", key="a")
        d.send(stream, "b")
        assert d.values(by_own) == ["b-one"]
        assert d.values(by_context) == ["a:b-two"]


def test_a_row_that_cannot_be_read_fails_the_records_that_ask_for_it() -> None:
    """It is named, and the policy is theirs: others go on."""
    app = kstream.App("bad", on_error=[kstream.DeadLetter("set-aside")])
    rows, asks = app.topic("rows", key=str, value=Customer | None), app.topic("asks", key=str, value=str)
    letters = app.topic("set-aside", key=bytes, value=bytes)
    out = app.topic("out", key=str, value=str)
    table = app.global_table(rows)
    app.stream(asks).join(table, lambda ask, row: row.name, on=lambda ask: ask).to(out)
    with TestDriver(app) as d:
        d.send(rows, Customer("Ann"), key="ann")
        d.send_raw(rows, b'{"nom": "Bob"}', key=b"bob")
        for ask in ("ann", "bob", "ann"):
            d.send(asks, ask, key=ask)
        assert d.values(out) == ["Ann", "Ann"]
        [letter] = d.records(letters)
        assert letter.value == b"bob"
        said = dict(letter.headers or ())["__streams.errors.message"]
        assert b"global table 'rows'['bob'] cannot be read as" in (said or b"") and b"topic rows" in (said or b"")
        d.send(rows, Customer("Bob"), key="bob")
        d.send(asks, "bob", key="bob")
        assert d.values(out) == ["Ann", "Ann", "Bob"]


def test_a_key_that_cannot_be_read_fails_who_reads_them_all_and_names_the_topic() -> None:
    app = kstream.App("bad", on_error=[kstream.DeadLetter("set-aside")])
    rows, asks = app.topic("rows", key=int, value=str), app.topic("asks", key=str, value=str)
    letters, out = app.topic("set-aside", key=bytes, value=bytes), app.topic("out", key=str, value=str)
    table = app.global_table(rows, name="all")
    app.stream(asks).map(lambda ask: ",".join(table.values()) if ask == "all" else table.get(1, ""), value=str).to(out)
    with TestDriver(app) as d:
        d.send(rows, "one", key=1)
        d.send_raw(rows, b'"bad"', key=b"one")
        for ask in ("first", "all", "first"):
            d.send(asks, ask, key="k")
        assert d.values(out) == ["one", "one"]
        [letter] = d.records(letters)
        said = (dict(letter.headers or ())["__streams.errors.message"] or b"").decode()
        assert said.startswith("global table 'all': its key b'one' cannot be read as int: "), said
        assert "; topic rows has keys that it is not declared to have: delete such rows there" in said, said


def test_a_key_that_on_cannot_give_fails_its_record() -> None:
    app, _, orders, _, known = joined("left")
    app.stream(orders).join(known, lambda order, row: "", on=lambda order: 7)
    with TestDriver(app) as d:
        with pytest.raises(ProcessingError, match=r"on= of the join with global table 'customers' gave 7"):
            d.send(orders, Order("ann", "tea"))
        d.close(commit=False)


def test_it_is_read_only() -> None:
    app, _, orders, _, known = joined("left")

    @app.agent(orders)
    def write(order: Order) -> None:
        known["ann"] = Customer("Ann")

    with TestDriver(app) as d:
        with pytest.raises(ProcessingError, match="does not support item assignment"):
            d.send(orders, Order("ann", "tea"))
        d.close(commit=False)


def test_it_joins_no_parts_and_has_no_changelog() -> None:
    app, _, _, _, known = joined("left")
    others = app.topic("others", key=str, value=str, partitions=3)
    app.stream(others).map(known.get).peek(print)
    topology = app.topology()
    assert [part.name for part in topology.parts] == ["orders", "others"]
    assert "global table customers  key=str" in topology.describe()
    with TestDriver(app) as d:
        assert sorted(d.cluster.topics()) == ["customers", "orders", "others", "out"]


def test_what_cannot_work_is_refused_where_it_is_declared() -> None:
    app, customers, orders, _, known = joined("inner")
    other = kstream.App("other").topic("rows", key=str, value=str)
    numbers = app.global_table(app.topic("numbers", key=int, value=str), name="by-number")
    stream = app.stream(orders)
    for call, said in (
        (lambda: app.global_table("customers"), "app.global_table takes a topic, not 'customers'"),
        (lambda: app.global_table(customers), "topic 'customers' is global table 'customers' already"),
        (lambda: app.global_table(other), "global table 'rows': topic 'rows' is of another app"),
        (lambda: app.global_table(app.topic("more", key=str), name="by-number"), "two declarations of the store"),
        (lambda: stream.join(known, pair, on=lambda one: "", how="outer"), "how='outer' is neither 'inner' nor 'left'"),
        (lambda: stream.join(numbers, pair), "say the key of the table by on="),
        (lambda: stream.join(numbers, pair, on=named), "on= gives keys of type str, and global table 'by-number'"),
        (lambda: stream.join(stream, pair, on=named), "on= is for a global table"),
        (lambda: app.stream(customers).to_table("t").join(known, pair), "a table is joined with what to_table"),
    ):
        with pytest.raises(TopologyError) as refused:
            call()
        assert said in str(refused.value)
    with pytest.raises(AttributeError, match=r"app.stream\(topic\) gives the records of its topic"):
        known.stream()
    with pytest.raises(TableError, match="outside a task"):
        known.get("ann")


def named(order: Order) -> str:
    return order.customer or ""
