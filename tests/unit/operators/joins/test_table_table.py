"""Table-table joins and derived tables: the rows that Kafka Streams gives, and DuckDB over any rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

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

EXPECTED: dict[str, dict[int, str | None]] = {
    "inner": {
        3: "A-a", 4: "B-a", 5: "B-b", 6: None, 9: "C-c", 10: None, 14: "D-d", 15: None, 18: "E-e", 19: None, 22: "F-f",
    },
    "left": {
        2: "A-null", 3: "A-a", 4: "B-a", 5: "B-b", 6: None, 8: "C-null", 9: "C-c", 10: "C-null", 11: None, 14: "D-d",
        15: None, 18: "E-e", 19: None, 21: "F-null", 22: "F-f",
    },
    "outer": {
        2: "A-null", 3: "A-a", 4: "B-a", 5: "B-b", 6: "null-b", 7: None, 8: "C-null", 9: "C-c", 10: "C-null", 11: None,
        13: "null-d", 14: "D-d", 15: "null-d", 16: None, 17: "null-e", 18: "E-e", 19: "null-e", 20: None, 21: "F-null",
        22: "F-f",
    },
}  # fmt: skip
"""What comes out at which record of the input (TableTableJoinIntegrationTest: testInner, testLeft, testOuter). Times
differ where the input is out of order: there they are the larger of both sides', here the record's own."""

HOWS = list(EXPECTED)


def pair(left: str | None, right: str | None) -> str:
    return f"{left or 'null'}-{right or 'null'}"


class Joined:
    def __init__(self, how: str, partitions: int = 1) -> None:
        self.app = kstream.App(f"tables-{how}")
        self.left = self.app.topic(LEFT, key=str, value=str | None, partitions=partitions)
        self.right = self.app.topic(RIGHT, key=str, value=str | None, partitions=partitions)
        self.out = self.app.topic("out", key=str, value=str | None)
        self.tables: list[Any] = [self.app.stream(topic).to_table(topic.name) for topic in (self.left, self.right)]
        self.joined: Any = self.tables[0].join(self.tables[1], pair, how=how, name="joined")
        self.joined.to(self.out)

    def topic(self, side: str) -> kstream.Topic[str, str | None]:
        return self.left if side == LEFT else self.right


@pytest.mark.parametrize("how", HOWS)
def test_the_rows_of_kafka_streams(how: str) -> None:
    joined, found, last = Joined(how), {}, -1
    with TestDriver(joined.app) as driver:
        for index, (side, value, at) in enumerate(INPUT):
            seen = len(driver.records(joined.out))
            driver.send(joined.topic(side), value, key="k", timestamp=1000 + at)
            for record in driver.records(joined.out)[seen:]:
                assert index not in found
                found[index], last = record.value, record.timestamp
                assert last == 1000 + at
        assert dict(driver.table(joined.joined)) == {"k": "F-f"}
    assert found == EXPECTED[how]


rows = st.lists(
    st.tuples(
        st.sampled_from([LEFT, RIGHT]),
        st.sampled_from(["k", "l", "m"]),
        st.one_of(st.none(), st.sampled_from("abc")),
    ),
    min_size=1,
    max_size=40,
)

SQL = """
WITH last AS (SELECT side, key, arg_max(coalesce(value, ''), place) AS value FROM rows GROUP BY side, key),
l AS (SELECT * FROM last WHERE side = 'left' AND value <> ''),
r AS (SELECT * FROM last WHERE side = 'right' AND value <> '')
SELECT coalesce(l.key, r.key), coalesce(l.value, 'null') || '-' || coalesce(r.value, 'null')
FROM l {how} JOIN r ON l.key = r.key
"""


@pytest.mark.parametrize("how", HOWS)
@cases
@given(rows=rows, cuts=st.lists(st.integers(0, 40), max_size=3))
def test_what_sql_says_of_the_last_rows(how: str, rows: list[tuple[str, str, str | None]], cuts: list[int]) -> None:
    """With crashes in between; and the changes that were passed on are the table."""
    joined = Joined(how, partitions=2)
    with database() as sql:
        sql.execute("CREATE TABLE rows (place INTEGER, side TEXT, key TEXT, value TEXT)")
        fill(sql, "rows", [(at, *row) for at, row in enumerate(rows)])
        wanted = dict(sql.execute(SQL.format(how="FULL OUTER" if how == "outer" else how)).fetchall())
    with TestDriver(joined.app) as driver:
        for at, (side, key, value) in enumerate(rows):
            driver.cluster.append(side, key.encode(), None if value is None else value.encode(), timestamp=1000 + at)
            if at in cuts:
                driver.process()
                driver.crash()
        changes = {record.key: record.value for record in driver.records(joined.out)}
        assert {key: value for key, value in changes.items() if value is not None} == wanted
        assert dict(driver.table(joined.joined)) == wanted


def test_a_deletion_of_what_was_not_there_is_no_change() -> None:
    joined = Joined("inner")
    with TestDriver(joined.app) as driver:
        sent = ((RIGHT, b"a"), (LEFT, None), (LEFT, b"A"), (LEFT, None), (LEFT, None), (RIGHT, None))
        for at, (side, value) in enumerate(sent, 1000):
            driver.cluster.append(side, b"k", value, timestamp=at)
        assert driver.values(joined.out) == ["A-a", None]


def app_with_numbers() -> tuple[kstream.App, Any, Any]:
    app = kstream.App("derived")
    numbers = app.topic("numbers", key=str, value=int | None)
    return app, numbers, app.stream(numbers).to_table("numbers")


def even(n: int) -> bool:
    return n % 2 == 0


def shown(n: int) -> str:
    return f"<{n}>"


def test_derived_tables_keep_nothing_and_pass_changes_on() -> None:
    app, numbers, table = app_with_numbers()
    out = app.topic("out", key=str, value=str | None)
    table.filter(even).map_values(shown).to(out)
    assert [store.name for store in app.topology().parts[0].stores] == ["numbers"]
    with TestDriver(app) as driver:
        for n in (2, 3, 4, None):
            driver.send(numbers, n, key="k")
        assert driver.values(out) == ["<2>", None, "<4>", None]


def test_derived_tables_are_joined_as_they_are_seen() -> None:
    app, numbers, table = app_with_numbers()
    orders, out = app.topic("orders", key=str, value=str), app.topic("out", key=str, value=str)
    names = app.topic("names", key=str, value=str)
    both = app.topic("both", key=str, value=str | None)
    seen = table.filter(even).map_values(shown)
    app.stream(orders).join(seen, lambda order, row: f"{order} {row}", how="left", value=str).to(out)
    named: Any = app.stream(names).to_table("names").map_values(str.upper, value=str)
    named.join(seen, lambda name, row: f"{name} {row}", name="both", value=str).to(both)
    with TestDriver(app) as driver:
        driver.send(names, "ann", key="k")
        for n in (2, 3, 4):
            driver.send(numbers, n, key="k")
            driver.send(orders, "tea", key="k")
        driver.send(names, "bob", key="k")
        assert driver.values(out) == ["tea <2>", "tea None", "tea <4>"]
        assert driver.values(both) == ["ANN <2>", None, "ANN <4>", "BOB <4>"]


def test_aggregations_are_joined_with_tables_and_with_each_other() -> None:
    app, numbers, table = app_with_numbers()
    sold, out = app.topic("sold", key=str, value=int), app.topic("out", key=str, value=list[int] | None)
    group = app.stream(sold).group_by_key()
    counts, sums = group.count(name="counts"), group.sum(lambda n: n, name="sums", value=int)
    of_both: Any = counts.join(sums, lambda count, sum: [count, sum], name="counted", value=list[int])
    of_both.join(table, lambda pair, n: [*pair, n], how="left", name="all", value=list[int | None])
    of_both.to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in (b"5", b"7"):
            driver.cluster.append("sold", b"k", n)
        driver.send(numbers, 9, key="k")
        assert driver.values(out)[-1] == [2, 12]
        assert driver.cluster.records("derived-all-changelog")[-1].value == b"[2,12,9]"


def test_a_table_joined_with_what_is_derived_of_it() -> None:
    """A record changes both sides: both give the result, which is the same."""
    app, _numbers, table = app_with_numbers()
    out = app.topic("out", key=str, value=list[int] | None)
    table.join(table.map_values(lambda n: -n, value=int), lambda n, m: [n, m], name="self", value=list[int]).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in (b"1", b"2", None):
            driver.cluster.append("numbers", b"k", n)
        assert driver.values(out) == [[1, -1], [1, -1], [2, -2], [2, -2], None]


def test_a_table_joined_with_itself() -> None:
    app, _numbers, table = app_with_numbers()
    out = app.topic("out", key=str, value=list[int] | None)
    table.join(table, lambda n, m: [n, m], name="self", value=list[int], how="outer").to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in (b"1", None):
            driver.cluster.append("numbers", b"k", n)
        assert driver.values(out) == [[1, 1], [1, 1], None]


def of_two_types(app: kstream.App, table: Any) -> None:
    other = app.stream(app.topic("ints", key=int, value=int)).to_table("ints")
    table.join(other, lambda a, b: a)


def of_two_apps(app: kstream.App, table: Any) -> None:
    table.join(app_with_numbers()[2], lambda a, b: a)


def of_no_how(app: kstream.App, table: Any) -> None:
    table.join(table, lambda a, b: a, how="full")


def of_an_agents_table(app: kstream.App, table: Any) -> None:
    table.join(app.table("own", key=str, value=int), lambda a, b: a)


def of_a_stream(app: kstream.App, table: Any) -> None:
    table.join(table.stream(), lambda a, b: a)


def of_one_argument(app: kstream.App, table: Any) -> None:
    table.join(table, lambda a: a)


class Bare:
    def encode(self, value: object) -> bytes:
        return b""

    def decode(self, data: bytes) -> object:
        return None


def of_windows(app: kstream.App, table: Any) -> None:
    numbers = app.stream(app.topic("timed", key=str, value=int))
    minutes = numbers.group_by_key().window(kstream.Tumbling(minutes=1), grace=timedelta(0)).count(name="minutes")
    minutes.join(table, lambda a, b: a)


def of_what_expires(app: kstream.App, table: Any) -> None:
    numbers = app.stream(app.topic("timed", key=str, value=int))
    table.join(numbers.group_by_key().count(name="recent", ttl=kstream.TTL(minutes=1)), lambda a, b: a)


def of_what_expires_filtered(app: kstream.App, table: Any) -> None:
    numbers = app.stream(app.topic("timed", key=str, value=int))
    recent = numbers.group_by_key().count(name="recent", ttl=kstream.TTL(minutes=1))
    recent.filter(bool).join(table, lambda a, b: a)


def of_changes_of_windows(app: kstream.App, table: Any) -> None:
    numbers = app.stream(app.topic("timed", key=str, value=int)).group_by_key()
    one, two = (
        numbers.window(kstream.Tumbling(minutes=n), grace=timedelta(0)).count(name=f"m{n}").stream().to_table(f"c{n}")
        for n in (1, 2)
    )
    one.join(two, lambda a, b: a)


def of_a_codec(app: kstream.App, table: Any) -> None:
    table.map_values(lambda n: n, value=Bare())


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (of_two_types, "table 'numbers' has keys of type str, and table 'ints' of type int"),
        (of_two_apps, "is of another app"),
        (of_no_how, "how='full' is neither"),
        (of_an_agents_table, "a table is joined with what to_table"),
        (of_a_stream, "a table is joined with what to_table"),
        (of_one_argument, "takes 1 arguments"),
        (of_windows, "has a row for each window"),
        (of_what_expires, r"rows of 'recent' expire \(ttl=\) without a change"),
        (of_what_expires_filtered, r"rows of 'recent' expire \(ttl=\) without a change"),
        (of_changes_of_windows, "results of windows cannot be joined with a table yet"),
        (of_a_codec, "takes no None"),
    ],
)
def test_what_cannot_be_joined(declare: Any, said: str) -> None:
    app, _, table = app_with_numbers()
    with pytest.raises(kstream.errors.TopologyError, match=said):
        declare(app, table)
