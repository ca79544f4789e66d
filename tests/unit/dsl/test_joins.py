"""Declaring tables of streams, and joins with tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.errors import TopologyError
from kstream.testing import TestDriver


def app_with(**partitions: int | None) -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("joins")
    orders, customers = (
        app.topic(name, key=str, value=str, partitions=partitions.get(name)) for name in ("orders", "customers")
    )
    return app, orders, customers, app.topic("out", key=str, value=str)


def pair(order: str, customer: str | None) -> str:
    return f"{order} {customer}"


def test_a_table_and_what_is_joined_with_it_are_one_task() -> None:
    app, orders, customers, out = app_with()
    table = app.stream(customers).to_table("customers")
    app.stream(orders).map(str.upper, value=str).join(table, pair).to(out)
    topology = app.topology()
    (part,) = topology.parts
    assert part.name == "customers+orders"
    assert not part.one_at_a_time
    assert [topology.changelog(store) for store in part.stores] == ["joins-customers-changelog"]
    lines = [line.strip() for line in topology.describe().splitlines()]
    assert [line for line in lines if line.startswith(("source customers", "-> table", "-> join"))] == [
        "source customers  key=str value=str",
        "-> table customers  store=customers",
        "-> join orders-map-join  table=customers how=inner",
    ]


def test_where_one_topic_leads_to_both_a_record_passes_all_before_the_next() -> None:
    app, orders, _, out = app_with()
    app.stream(orders).join(app.stream(orders).to_table("latest"), pair).to(out)
    (part,) = app.topology().parts
    assert part.one_at_a_time
    with TestDriver(app, partitions=1) as driver:
        for value in (b"1", b"2"):
            driver.cluster.append("orders", b"k", value)
        assert driver.values(out) == ["1 1", "2 2"]


def test_a_join_of_tables_of_the_streams_own_topic_has_the_row_before_the_record() -> None:
    """As the page of joins says; by one table after the other it has the record's own."""
    app, orders, _, out = app_with()
    after = app.topic("after", key=str, value=str)
    table = app.stream(orders).to_table("latest")
    upper = table.map_values(str.upper, value=str)
    app.stream(orders).join(table.join(upper, pair, name="both"), pair, how="left").to(out)
    app.stream(orders).join(table, pair).join(upper, pair).to(after)
    with TestDriver(app, partitions=1) as driver:
        for value in "ab":
            driver.send(orders, value, key="k")
        assert driver.values(out) == ["a None", "b a A"]
        assert driver.values(after) == ["a a A", "b b B"]


def test_records_whose_key_was_changed_travel_to_the_table() -> None:
    """The repartition topic has as many partitions as the table's topic, and keys are written as the table's are."""
    app, orders, customers, out = app_with(orders=2, customers=3)
    table = app.stream(customers).to_table("customers")
    app.stream(orders).rekey(lambda order: order.split(":")[0]).join(table, pair, name="named").to(out)
    assert [part.name for part in app.topology().parts] == ["customers+joins-named-repartition", "orders"]
    with TestDriver(app) as driver:
        assert driver.cluster.topics()["joins-named-repartition"].partitions == 3
        for name in "abcdefgh":
            driver.send(customers, name.upper(), key=name)
        for name in "abcdefgh":
            driver.send(orders, f"{name}:1", key="any")
        assert sorted(driver.values(out)) == [f"{name}:1 {name.upper()}" for name in "abcdefgh"]


def test_a_stream_is_joined_by_two_keys() -> None:
    """One task reads what it has written itself, to where the other key belongs."""
    app, orders, customers, out = app_with(orders=3, customers=3)
    table = app.stream(customers).to_table("customers")
    stream = app.stream(orders)
    stream.join(table, pair).to(out)
    stream.rekey(lambda order: order, key=str).join(table, pair, name="other").to(out)
    assert [part.name for part in app.topology().parts] == ["customers+joins-other-repartition+orders"]
    with TestDriver(app) as driver:
        assert driver.cluster.topics()["joins-other-repartition"].partitions == 3
        for name in ("ann", "bob"):
            driver.send(customers, name.title(), key=name)
        driver.send(orders, "ann", key="bob")
        assert sorted(driver.values(out)) == ["ann Ann", "ann Bob"]


def test_a_table_of_changed_keys_is_made_where_they_belong() -> None:
    app, orders, customers, out = app_with()
    table = app.stream(customers).rekey(lambda name: name[0], key=str).to_table("initials")
    app.stream(orders).join(table, pair).to(out)
    with TestDriver(app) as driver:
        for name in ("ann", "bob", "art"):
            driver.send(customers, name, key="any")
        driver.commit()
        for initial in "ab":
            driver.send(orders, "1", key=initial)
        assert sorted(driver.values(out)) == ["1 art", "1 bob"]


def test_inputs_with_other_partitions_are_refused_in_one_line() -> None:
    app, orders, customers, out = app_with(orders=2, customers=3)
    app.stream(orders).join(app.stream(customers).to_table("customers"), pair).to(out)
    said = "inputs of one sub-topology must have equal partition counts: orders has 2, customers has 3; repartition one"
    with pytest.raises(TopologyError, match=said):
        TestDriver(app)


def test_a_repartitioned_stream_is_joined_where_it_is() -> None:
    app, orders, customers, out = app_with(orders=2, customers=3)
    table = app.stream(customers).to_table("customers")
    app.stream(orders).repartition(name="more", parallelism=3).join(table, pair).to(out)
    with TestDriver(app) as driver:
        driver.send(customers, "Ann", key="ann")
        driver.send(orders, "1", key="ann")
        assert driver.values(out) == ["1 Ann"]


def wrong_key(app: kstream.App, orders: Any, customers: Any) -> None:
    table = app.stream(customers).to_table("customers")
    app.stream(app.topic("numbers", key=int, value=str)).join(table, pair)


def wrong_new_key(app: kstream.App, orders: Any, customers: Any) -> None:
    app.stream(orders).rekey(len, key=int).join(app.stream(customers).to_table("customers"), pair)


def wrong_how(app: kstream.App, orders: Any, customers: Any) -> None:
    how: Any = "outer"
    app.stream(orders).join(app.stream(customers).to_table("customers"), pair, how=how)


def no_table(app: kstream.App, orders: Any, customers: Any) -> None:
    stream: Any = app.stream(customers)
    app.stream(orders).join(stream, pair)


def another_app(app: kstream.App, orders: Any, customers: Any) -> None:
    other = kstream.App("other")
    table = other.stream(other.topic("customers", key=str, value=str)).to_table("customers")
    app.stream(orders).join(table, pair)


def any_partition(app: kstream.App, orders: Any, customers: Any) -> None:
    app.stream(orders).join(app.table("own", key=str, value=str, scope="partition"), pair)


def one_argument(app: kstream.App, orders: Any, customers: Any) -> None:
    joiner: Any = str.upper
    app.stream(orders).join(app.stream(customers).to_table("customers"), joiner)  # type: ignore


def changes_of_windows(app: kstream.App, orders: Any, customers: Any) -> None:
    one, two = (
        app.stream(orders).group_by_key().window(kstream.Tumbling(minutes=n), grace=timedelta(0)).count(name=f"m{n}")
        for n in (1, 2)
    )
    one.stream().join(two.stream().to_table("c"), lambda a, b: a)


def same_name(app: kstream.App, orders: Any, customers: Any) -> None:
    app.stream(customers).to_table("customers")
    app.stream(orders).to_table("customers")


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (wrong_key, "source numbers .* has keys of type int, and table 'customers' of type str"),
        (wrong_new_key, "has keys of type int, and table 'customers' of type str"),
        (wrong_how, "how='outer' is neither"),
        (no_table, "two streams are joined by time: say how far apart"),
        (another_app, "table 'customers' is of another app"),
        (any_partition, "scope='partition'"),
        (one_argument, "takes 1 arguments: it should take 2, or 3 with the context last"),
        (changes_of_windows, "results of windows cannot be joined with a table yet"),
        (same_name, "two declarations of the store 'customers'"),
    ],
)
def test_what_cannot_be_joined(declare: Any, said: str) -> None:
    app, orders, customers, _ = app_with()
    with pytest.raises(TopologyError, match=said):
        declare(app, orders, customers)


def test_what_a_table_does_not_have_is_said() -> None:
    app, _, customers, _ = app_with()
    table: Any = app.stream(customers).to_table()
    assert table.name == "customers-table"
    with pytest.raises(AttributeError, match=r"stream\(\) gives the changes"):
        table.flat_map(str)


def test_isolation_groups_keep_both_sides_together() -> None:
    app, orders, customers, _ = app_with()
    table = app.stream(customers, group="rare").to_table("customers")
    app.stream(orders, group="rare").join(table, pair)
    assert app.topology().groups == ["rare"]
    app.stream(orders).join(table, pair)
    with pytest.raises(TopologyError, match="two isolation groups"):
        app.topology()
