"""State in SQL: what becomes of keys and values of all types, and what a query may not do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kstream.cli.state.sql import asked
from kstream.errors import UsageError
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec


@dataclass
class Order:
    amount: int
    tags: list[str]


def spec(name: str, key: Any, value: Any) -> StoreSpec:
    return StoreSpec(name, schema(key, "a key", key=True), schema(value, "a value"))


SPECS = {"counts": spec("counts", str, int), "or-ders": spec("or-ders", int, Order), "empty": spec("empty", str, int)}


def parts() -> Iterator[tuple[str, int, Iterator[tuple[bytes, bytes]]]]:
    for partition in (0, 1):
        yield "counts", partition, ((b"k%d" % n, b"%d" % n) for n in range(partition, 10, 2))
        yield (
            "or-ders",
            partition,
            iter([(b"%d" % partition, b'{"amount":%d,"tags":["a","b"]}' % (10 * partition + 5))]),
        )


def run(query: str) -> Any:
    return asked(SPECS, [name for name in SPECS if name in query], parts_of(query), query)


def parts_of(query: str) -> Any:
    return ((store, partition, entries) for store, partition, entries in parts() if store in query)


def test_each_store_is_a_table() -> None:
    assert run("select count(*) as many, sum(value) as sum from counts") == (["many", "sum"], [(10, 45)])
    assert run("select key from counts where partition = 1 order by value desc limit 2")[1] == [("k9",), ("k7",)]
    assert run('select key, value.amount, value.tags[1] from "or-ders" order by key')[1] == [(0, 5, "a"), (1, 15, "a")]
    assert run('select c.key from counts c join "or-ders" o on c.value = o.key order by 1')[1] == [("k0",), ("k1",)]
    assert run("select count(*) from empty")[1] == [(0,)]


@pytest.mark.parametrize(
    "query",
    [
        "select * from nothing",
        "selec",
        "select * from read_text('/etc/hosts')",
        "copy (select 1) to '/tmp/kstream-out'",
    ],
    ids=["table", "syntax", "reads", "writes"],
)
def test_what_cannot_be_answered_is_one_error(query: str) -> None:
    with pytest.raises(UsageError, match=r"the query fails: .*the tables are: counts, or-ders, empty"):
        run(query)


@dataclass
class Both:
    a: int
    A: int


def test_text_is_text_whatever_it_looks_like() -> None:
    dates = {"dates": spec("dates", str, str)}
    parts = [("dates", 0, iter([(b"2020-01-01", b"12:00"), (b"2021-01-01", b"13:00")]))]
    found = asked(dates, ["dates"], parts, "select key, value from dates where key like '2020%'")
    assert found[1] == [("2020-01-01", "12:00")]


def test_fields_whose_names_differ_by_capitals_only_are_json() -> None:
    pairs = {"pairs": spec("pairs", str, Both)}
    parts = [("pairs", 0, iter([(b"k", b'{"a":1,"A":2}')]))]
    assert asked(pairs, ["pairs"], parts, "select key, value from pairs")[1] == [("k", '{"a":1,"A":2}')]


def test_stores_whose_names_differ_by_capitals_only_are_told_of() -> None:
    two = {"Order": spec("Order", str, int), "order": spec("order", str, int)}
    parts = [(name, 0, iter([(b"k", b"1")])) for name in two]
    with pytest.raises(UsageError, match=r"store order cannot be a table: .*already exists"):
        asked(two, ["Order", "order"], parts, "select 1")


def test_no_query() -> None:
    with pytest.raises(UsageError, match="there is no query"):
        asked(SPECS, [], [], "")
