"""Joins of tables by a foreign key: the cases of Kafka Streams, DuckDB over any rows, and what is refused."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import AbortRequired, TopologyError
from kstream.testing import TestDriver
from support.cases import cases
from support.sql import database, fill

How = Literal["inner", "left"]
LEFT, RIGHT = "left", "right"


def pair(left: str, right: str | None) -> str:
    return f"{left}-{right or 'null'}"


def foreign(row: str) -> str | None:
    """The second part: `a|x` is a row of value `a` that belongs to `x`."""
    return row.split("|")[1] or None


class Joined:
    def __init__(self, how: How, partitions: tuple[int, int] = (1, 1), **app: Any) -> None:
        self.app = kstream.App(f"foreign-{how}", **app)
        self.left = self.app.topic(LEFT, key=str, value=str | None, partitions=partitions[0])
        self.right = self.app.topic(RIGHT, key=str, value=str | None, partitions=partitions[1])
        self.out = self.app.topic("out", key=str, value=str | None, partitions=1)
        rows, others = (self.app.stream(topic).to_table(topic.name) for topic in (self.left, self.right))
        joined: Any = rows
        self.joined = joined.join(others, pair, on=foreign, how=how, name="joined")
        self.joined.to(self.out)


STEPS = list[tuple[str, str, str | None, dict[str, str | None], dict[str, str | None]]]
"""Side, key and value of a record; what an inner join and a left join give for it."""

CASES: dict[str, STEPS] = {
    "doJoinFromLeftThenDeleteLeftEntity": [
        (RIGHT, "rhs1", "r1", {}, {}), (RIGHT, "rhs2", "r2", {}, {}), (RIGHT, "rhs3", "r3", {}, {}),
        (LEFT, "lhs1", "l1|rhs1", {"lhs1": "l1|rhs1-r1"}, {"lhs1": "l1|rhs1-r1"}),
        (LEFT, "lhs2", "l2|rhs2", {"lhs2": "l2|rhs2-r2"}, {"lhs2": "l2|rhs2-r2"}),
        (LEFT, "lhs3", "l3|rhs1", {"lhs3": "l3|rhs1-r1"}, {"lhs3": "l3|rhs1-r1"}),
        (LEFT, "lhs1", None, {"lhs1": None}, {"lhs1": None}),
    ],
    "doJoinFromRightThenDeleteRightEntity": [
        (LEFT, "lhs1", "l1|rhs1", {}, {"lhs1": "l1|rhs1-null"}),
        (LEFT, "lhs2", "l2|rhs2", {}, {"lhs2": "l2|rhs2-null"}),
        (LEFT, "lhs3", "l3|rhs1", {}, {"lhs3": "l3|rhs1-null"}),
        (RIGHT, "rhs1", "r1", *[{"lhs1": "l1|rhs1-r1", "lhs3": "l3|rhs1-r1"}] * 2),
        (RIGHT, "rhs2", "r2", *[{"lhs2": "l2|rhs2-r2"}] * 2),
        (RIGHT, "rhs3", "r3", {}, {}),
        (RIGHT, "rhs1", None, {"lhs1": None, "lhs3": None}, {"lhs1": "l1|rhs1-null", "lhs3": "l3|rhs1-null"}),
    ],
    "shouldEmitTombstoneWhenDeletingNonJoiningRecords": [
        (LEFT, "lhs1", "l1|rhs1", {}, {"lhs1": "l1|rhs1-null"}),
        (LEFT, "lhs1", None, {}, {"lhs1": None}),  # there an inner join has a tombstone, which it calls unnecessary
        (LEFT, "lhs1", None, {}, {}),
    ],
    "shouldNotEmitTombstonesWhenDeletingNonExistingRecords": [(LEFT, "lhs1", None, {}, {})],
    "joinShouldProduceNullsWhenValueHasNonMatchingForeignKey": [
        (LEFT, "lhs1", "l1|rhs1", {}, {"lhs1": "l1|rhs1-null"}),
        (LEFT, "lhs1", "l1|rhs2", {}, {"lhs1": "l1|rhs2-null"}),  # the same, here and in the next
        (LEFT, "lhs1", "l1|rhs3", {}, {"lhs1": "l1|rhs3-null"}),
        (RIGHT, "rhs1", "r1", {}, {}),
        (LEFT, "lhs1", "l1|rhs1", *[{"lhs1": "l1|rhs1-r1"}] * 2),
        (LEFT, "lhs1", "l1|rhs2", {"lhs1": None}, {"lhs1": "l1|rhs2-null"}),
    ],
    "shouldUnsubscribeOldForeignKeyIfLeftSideIsUpdated": [
        (RIGHT, "rhs1", "r1", {}, {}), (RIGHT, "rhs2", "r2", {}, {}),
        (LEFT, "lhs1", "l1|rhs1", *[{"lhs1": "l1|rhs1-r1"}] * 2),
        (LEFT, "lhs1", "l1|rhs2", *[{"lhs1": "l1|rhs2-r2"}] * 2),
        (RIGHT, "rhs1", "r1 new", {}, {}),
    ],
    "rows without a foreign key (KIP-962)": [
        (LEFT, "lhs1", "l1|", {}, {"lhs1": "l1|-null"}),
        (RIGHT, "rhs1", "r1", {}, {}),
        (LEFT, "lhs1", "l1|rhs1", *[{"lhs1": "l1|rhs1-r1"}] * 2),
        (LEFT, "lhs1", "l2|", {"lhs1": None}, {"lhs1": "l2|-null"}),
        (RIGHT, "rhs1", "r2", {}, {}),
        (LEFT, "lhs1", None, {}, {"lhs1": None}),
    ],
}  # fmt: skip
"""Of KTableKTableForeignKeyJoinIntegrationTest, but the last."""


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("case", CASES)
def test_the_cases_of_kafka_streams(case: str, how: How) -> None:
    joined, table = Joined(how, (2, 3)), dict[str, str | None]()
    with TestDriver(joined.app) as driver:
        for at, (side, key, value, inner, left) in enumerate(CASES[case], 1000):
            seen = len(driver.records(joined.out))
            driver.send(joined.left if side == LEFT else joined.right, value, key=key, timestamp=at)
            found = driver.records(joined.out)[seen:]
            wanted = inner if how == "inner" else left
            assert [(one.key, one.value) for one in sorted(found, key=lambda one: str(one.key))] == list(wanted.items())
            assert all(one.timestamp == at for one in found)
            table |= wanted
        assert dict(driver.table(joined.joined)) == {key: row for key, row in table.items() if row is not None}


ONE = st.one_of(
    st.tuples(
        st.just(LEFT), st.sampled_from("klm"),
        st.one_of(st.none(), st.builds("{}|{}".format, st.sampled_from("abc"), st.sampled_from(["x", "y", "é\0", ""]))),
    ),
    st.tuples(st.just(RIGHT), st.sampled_from(["x", "y", "é\0", "x\0"]), st.one_of(st.none(), st.sampled_from("abc"))),
)  # fmt: skip

SQL = """
WITH last AS (SELECT side, key, arg_max(coalesce(value, ''), place) AS value FROM rows GROUP BY side, key),
l AS (SELECT *, split_part(value, '|', 2) AS other FROM last WHERE side = 'left' AND value <> ''),
r AS (SELECT * FROM last WHERE side = 'right' AND value <> '')
SELECT l.key, l.value || '-' || coalesce(r.value, 'null') FROM l {how} JOIN r ON l.other = r.key
"""


@pytest.mark.parametrize("how", ["inner", "left"])
@cases
@given(
    rows=st.lists(ONE, min_size=1, max_size=40), partitions=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    cuts=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["process", "crash", "abort", "commit"])), max_size=6),
)  # fmt: skip
def test_what_sql_says_of_the_last_rows(
    how: How, rows: list[tuple[str, str, str | None]], partitions: tuple[int, int], cuts: list[tuple[int, str]]
) -> None:
    """With crashes and aborts in between, between a question and its answer, too; and what was passed on is the
    table."""
    joined = Joined(how, partitions)
    with database() as sql:
        sql.execute("CREATE TABLE rows (place INTEGER, side TEXT, key TEXT, value TEXT)")
        fill(sql, "rows", [(at, *row) for at, row in enumerate(rows)])
        wanted = dict(sql.execute(SQL.format(how=how)).fetchall())
    with TestDriver(joined.app) as driver:
        for at, (side, key, value) in enumerate(rows):
            driver.cluster.append(side, key.encode(), None if value is None else value.encode(), timestamp=1000 + at)
            what = dict(cuts).get(at, "")  # one at most, so that an abort has something to take back
            if what == "abort":
                driver.process()
                driver.cluster.fail_next("producer.commit", AbortRequired("planned"))
                driver.worker.commit_now()  # and the answers may still be to come
            elif what:
                getattr(driver, what)()
        changes = {record.key: record.value for record in driver.records(joined.out)}
        assert {key: value for key, value in changes.items() if value is not None} == wanted
        assert dict(driver.table(joined.joined)) == wanted
        stores = [one for task in driver.worker.tasks.values() for one in task.plan.stores.values()]
        subscribed = sum(1 for one in stores if one.spec.holds == "subscriptions" for _ in one.scan())
        asked = sum(1 for one in stores if one.spec.name == "joined-asked" for _ in one.scan())
        assert subscribed == asked  # nothing is left of what was asked before


def test_an_answer_to_an_earlier_row_is_dropped() -> None:
    """The row changes while the answer is on its way: what is known of the other table then comes with the next."""
    joined = Joined("inner")
    with TestDriver(joined.app) as driver:
        driver.send(joined.right, "r", key="x")
        driver.commit()
        driver.send(joined.left, "a|x", key="k")
        driver.worker.commit_now()
        driver.process()  # the answer is written
        driver.send(joined.left, "b|y", key="k")
        driver.commit()
        assert driver.values(joined.out) == []
        driver.send(joined.right, "s", key="y")
        assert driver.values(joined.out) == ["b|y-s"]


def test_a_table_that_refers_to_itself() -> None:
    app = kstream.App("self")
    people, out = app.topic("people", key=str, value=str | None, partitions=2), app.topic("out", key=str, value=str)
    table: Any = app.stream(people).to_table("people")
    joined = table.join(table.map_values(str.upper, value=str), pair, on=foreign, how="left", name="joined")
    joined.stream().filter(lambda row: row is not None).map(lambda row: row, value=str).to(out)
    with TestDriver(app) as driver:
        for key, row in (("ann", "ann|"), ("bob", "bob|ann"), ("ann", "anna|bob"), ("eve", "eve|eve")):
            driver.send(people, row, key=key)
            driver.commit()
        wanted = {"ann": "anna|bob-BOB|ANN", "bob": "bob|ann-ANNA|BOB", "eve": "eve|eve-EVE|EVE"}
        assert dict(driver.table(joined)) == wanted
        driver.crash()
        assert dict(driver.table(joined)) == wanted


def test_a_row_whose_foreign_key_cannot_be_made_fails_alone() -> None:
    joined = Joined("left", on_error=[kstream.Skip()])
    with TestDriver(joined.app) as driver:
        for key, row in (("a", "a|x"), ("b", "no key"), ("c", "c|x"), ("a", "no key")):
            driver.cluster.append(LEFT, key.encode(), row.encode(), timestamp=1000)
        driver.commit()
        assert dict(driver.table(joined.joined)) == {"a": "a|x-null", "c": "c|x-null"}


def test_what_is_refused() -> None:
    app = kstream.App("refused")
    numbers = app.topic("numbers", key=int, value=int)
    table: Any = app.stream(numbers).to_table("numbers")
    timed: Any = app.stream(numbers).group_by_key().count(name="timed", ttl=kstream.TTL(hours=1))

    def name(n: int) -> str | None:
        return str(n)

    for other, named, said in (
        (table, {"on": name}, "on= gives keys of type str, and table 'numbers' has keys of type int"),
        (table, {"on": lambda n: n, "how": "outer"}, "neither 'inner' nor 'left'"),
        (timed, {"on": lambda n: n}, "expire"),
        (table, {"on": 5}, "callable|function"),
    ):
        with pytest.raises(TopologyError, match=said):
            table.join(other, lambda one, two: one, name="joined", value=int, **named)
