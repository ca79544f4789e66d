"""A stream joined with itself: what two sides that keep all records say, of records that are kept once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream import Tumbling
from kstream.partitioning import partition_of
from kstream.state import buffers
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import cut
from tests.unit.operators.joins.test_stream_stream import LEFT, MS, RIGHT, Oracle, Row, bounds, dropped, latest, pair


class Joined:
    def __init__(self, within: Any, grace: int, ooo: int = 0, *, travels: bool = False) -> None:
        self.app = kstream.App("itself", on_error=[kstream.Skip()])
        self.source = self.app.topic("in", key=str, value=str | None, out_of_order=ooo * MS)
        self.out = self.app.topic("out", key=str, value=str)
        stream: Any = self.app.stream(self.source)
        if travels:
            stream = stream.rekey(lambda value, ctx: ctx.key, key=str)
        stream.join(stream, unless_poison, within=within, grace=grace * MS, name="joined").to(self.out)


def unless_poison(left: str, right: str) -> str:
    if "!" in left + right:
        raise ValueError(left + right)
    return pair(left, right)


@cases
@given(
    rows=st.lists(
        st.builds(
            Row, st.just(LEFT), st.sampled_from(["k", "k", "k", "l", None]), st.sampled_from(["a", "b", "c", None]),
            st.one_of(st.integers(1000, 1040), st.integers(1000, 1200)),
        ),
        min_size=1, max_size=50,
    ),
    within=bounds, grace=st.integers(0, 12), ooo=st.sampled_from([0, 0, 5]),
    cuts=st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["process", "crash", "commit", "abort"])), max_size=4),
    partitions=st.sampled_from([1, 2]), backend=st.sampled_from(["memory", "rocksdb"]), small=st.booleans(),
    window=st.one_of(
        st.none(), st.none(),
        st.builds(lambda size, at: Tumbling(size * MS, offset=at * MS), st.integers(1, 30), st.integers(-9, 9)),
    ),
)  # fmt: skip
def test_what_the_definition_says(
    rows: list[Row], within: tuple[int, int], grace: int, ooo: int, cuts: list[tuple[int, str]], partitions: int,
    backend: str, small: bool, window: Tumbling | None,
) -> None:  # fmt: skip
    """However the input is cut, with crashes and aborts between, and parts of a few records."""
    if sum(within) < 0:
        within = (-within[0], -within[1])
    joined = Joined(window or (within[0] * MS, within[1] * MS), grace, ooo)
    oracles = [Oracle("inner", within, window, grace, ooo, 1) for _ in range(partitions)]
    counted: Counter[str] = Counter()
    late, after = 0, dict(cuts)
    with (
        patch.object(buffers, "ROWS", 2 if small else buffers.ROWS),
        TestDriver(joined.app, partitions=partitions, backend=backend) as driver,
    ):
        for number, row in enumerate(rows):
            home = partition_of(row.key.encode(), partitions) if row.key else 0
            raw = None if row.value is None else row.value.encode()
            driver.cluster.append("in", row.key and row.key.encode(), raw, row.at, None, home)
            oracle = oracles[home]
            before = oracle.late
            oracle.take(row)
            oracle.take(row._replace(side=RIGHT))
            late += oracle.late == before + 2  # late on both sides, and nothing found on either
            if (what := after.get(number, "")) == "crash":
                driver.process()
                counted.update(dropped(driver))
            cut(driver, what)
        driver.commit()
        found = [(record.key, record.value, record.timestamp) for record in driver.records(joined.out)]
        wanted = [result for oracle in oracles for result in oracle.results]
        for key in ("k", "l"):
            assert [one for one in found if one[0] == key] == [one for one in wanted if one[0] == key]
        if partitions == 1:
            assert found == wanted
        counted.update(dropped(driver))
        wanted_counts = [late, sum(one.no_key for one in oracles) / 2, sum(one.no_value for one in oracles) / 2]
        assert [counted[reason] for reason in ("late", "no key", "no value")] == wanted_counts


def test_a_record_that_fails_is_not_kept() -> None:
    joined = Joined(10 * MS, 0)
    with TestDriver(joined.app, partitions=1) as driver:
        for at, value in enumerate((b"A", b"!", b"B", b"C")):
            driver.cluster.append("in", b"k", value, 1000 + at, None, 0)
        assert driver.values(joined.out) == ["A-A", "B-A", "A-B", "B-B", "C-A", "C-B", "A-C", "B-C", "C-C"]


def test_a_joiner_has_values_of_its_own() -> None:
    app = kstream.App("own")
    source, out = app.topic("in", key=str, value=list[int]), app.topic("out", key=str, value=list[int])
    stream = app.stream(source)

    def both(left: list[int], right: list[int]) -> list[int]:
        left += right
        right.clear()
        return left

    stream.join(stream, both, within=10 * MS, grace=MS, name="joined").to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in (1, 2):
            driver.cluster.append("in", b"k", b"[%d]" % n, 1000 + n, None, 0)
        assert driver.values(out) == [[1, 1], [2, 1], [1, 2], [2, 2]]


@pytest.mark.parametrize("travels", [False, True], ids=["in place", "travelled"])
@pytest.mark.parametrize("within", [(0 * MS, 20 * MS), (20 * MS, 0 * MS), Tumbling(20 * MS)])
def test_records_are_kept_once_and_leave(within: Any, travels: bool) -> None:
    joined = Joined(within, 5, travels=travels)
    (store,) = (store for part in joined.app.topology().parts for store in part.stores)
    assert store.name == "joined-left"
    with TestDriver(joined.app, partitions=1) as driver:
        for n in range(100):
            driver.cluster.append("in", b"%d" % n, b"v", 1000, None, 0)
        driver.commit()
        assert len(driver.values(joined.out)) == 100
        assert len(latest(driver, "itself-joined-left-changelog")) == 100
        for at in range(1030, 1100, 10):
            driver.send(joined.source, "v", key="later", timestamp=at)
            driver.commit()
        assert {key[12:] for key in latest(driver, "itself-joined-left-changelog") if key} == {b"later"}


@pytest.mark.parametrize(("how", "stores"), [("inner", 1), ("left", 2), ("outer", 2)])
def test_a_side_that_tells_of_records_that_find_nothing_keeps_its_own(how: Any, stores: int) -> None:
    app = kstream.App("itself")
    source = app.topic("in", key=str, value=str)
    stream: Any = app.stream(source)
    out = app.topic("out", key=str, value=str)
    after = (timedelta(milliseconds=-5), timedelta(milliseconds=10))  # of the other: 5 to 10 ms later
    stream.join(stream, pair, within=after, grace=MS, how=how, name="joined").to(out)
    assert sum(len(part.stores) for part in app.topology().parts) == stores
    with TestDriver(app, partitions=1) as driver:
        for at, value in ((1000, "A"), (1006, "B"), (1050, "C")):
            driver.send(source, value, key="k", timestamp=at)
        alone = {"inner": [], "left": ["B-null"], "outer": ["null-A", "B-null"]}[how]
        assert sorted(driver.values(out)) == sorted(["A-B", *alone])
