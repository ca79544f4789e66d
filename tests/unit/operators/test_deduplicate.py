"""Records that were there before, by their definition: none is passed on twice, none is lost that was not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import KStreamError, TopologyError
from kstream.testing import TestDriver
from support.cases import cases

MS = timedelta(milliseconds=1)
WITHIN = 10
Input = tuple[str | None, str | None, int]
"""Key, id, timestamp."""


def app_of(by: bool = True, out_of_order: int = 0, moved: bool = False) -> tuple[kstream.App, Any, Any]:
    app = kstream.App("once")
    source = app.topic("in", key=str, value=str | None, out_of_order=out_of_order * MS)
    out = app.topic("out", key=str, value=str | None)
    stream: Any = app.stream(source)
    if moved:
        stream = stream.rekey(lambda value, ctx: ctx.key, key=str)

    def event(value: str) -> str | None:
        return value.partition(":")[2] or None

    stream.deduplicate(event if by else None, within=WITHIN * MS, name="seen").to(out)
    return app, source, out


def by_definition(records: list[Input], out_of_order: int, by: bool) -> tuple[list[int], Counter[str]]:
    """The places of those that are passed on, and why others are not."""
    passed: list[int] = []
    out: Counter[str] = Counter()
    time = 0
    for place, (key, one, at) in enumerate(records):
        time = max(time, at - out_of_order)
        if not by and key is None:
            out["no key"] += 1
        elif by and one is None:
            passed.append(place)
        elif at <= time - WITHIN:
            out["late"] += 1
        elif any(
            records[there][0] == key and (not by or records[there][1] == one) and abs(at - records[there][2]) < WITHIN
            for there in passed
        ):
            out["duplicate"] += 1
        else:
            passed.append(place)
    return passed, out


inputs = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "a\0", None]),
        st.sampled_from(["x", "y", "\u00e9", None]),
        st.integers(0, 60).map(lambda at: 1000 + at),
    ),
    max_size=30,
)


def dropped_by(driver: TestDriver) -> Counter[str]:
    tasks = driver.worker.tasks.values()
    return sum((operator.dropped for task in tasks for operator in task.plan.operators), Counter[str]())


@cases
@given(inputs, st.booleans(), st.integers(0, 30), st.sampled_from(["memory", "rocksdb"]), st.integers(0, 2**16))
def test_what_is_passed_on_is_what_the_definition_says(
    records: list[Input], by: bool, out_of_order: int, backend: str, seed: int
) -> None:
    choose = Random(seed)
    app, _, out = app_of(by, out_of_order)
    passed, left_out = by_definition(records, out_of_order, by)
    with TestDriver(app, partitions=1, backend=backend) as driver:
        crashed = False
        for place, (key, one, at) in enumerate(records):
            value = f"{place}:{one or ''}".encode()
            driver.cluster.append("in", None if key is None else key.encode(), value, at, None, 0)
            if choose.random() < 0.4:
                driver.process()
            if choose.random() < 0.2:
                driver.commit()
            if choose.random() < 0.1:
                crashed = True
                driver.crash()
        assert [int((record.value or "").partition(":")[0]) for record in driver.records(out)] == passed
        assert crashed or dropped_by(driver) == left_out


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_nothing_is_remembered_that_can_be_met_no_more(backend: str) -> None:
    app, source, out = app_of()
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for at in range(1000, 1400, 7):
            driver.send(source, f"n:{at}", key="a", timestamp=at)
            driver.commit()
            [task] = driver.worker.tasks.values()
            assert len(list(task.stores["seen"].scan())) <= 4 * WITHIN // 7 + 1
        driver.send(source, "n:end", key="a", timestamp=9000)
        driver.commit()
        live: dict[bytes | None, bytes | None] = {}
        for record in driver.cluster.records("once-seen-changelog"):
            live[record.key] = record.value
        assert sum(value is not None for value in live.values()) == 1
        assert len(driver.values(out)) == len(range(1000, 1400, 7)) + 1


def test_keys_that_were_changed_go_home_first() -> None:
    app, source, out = app_of(moved=True)
    with TestDriver(app, partitions=3) as driver:
        for partition in range(3):
            driver.send(source, "n:x", key="a", timestamp=1000 + partition, partition=partition)
        assert driver.values(out) == ["n:x"]


def test_no_key_is_not_an_empty_one() -> None:
    app = kstream.App("distinct")
    source, out = app.topic("in", key=str | None, value=str), app.topic("out", key=str | None, value=str)
    app.stream(source).deduplicate(lambda id_: id_, within=timedelta(minutes=1), of=str, name="seen").to(out)
    with TestDriver(app, partitions=1) as driver:
        again = [(None, "1"), ("", "1"), (None, "1"), ("", "1")]
        for key, id_ in (*again, (None, "2"), (None, "\xff"), ("", "\u24001")):
            driver.send(source, id_, key=key)
        driver.crash()
        driver.commit()
        assert [(one.key, one.value) for one in driver.records(out)] == [
            (None, "1"), ("", "1"), (None, "2"), (None, "\xff"), ("", "\u24001"),
        ]  # fmt: skip


def test_a_tombstone_has_no_id() -> None:
    app, source, out = app_of()
    with TestDriver(app, partitions=1) as driver:
        for _ in range(2):
            driver.send(source, None, key="a", timestamp=1000)
        assert driver.values(out) == [None, None]


def test_what_is_behind_and_fails_takes_back_that_it_was_seen() -> None:
    app = kstream.App("once", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=str), app.topic("out", key=str, value=int)
    app.stream(source).deduplicate(lambda text: text[-1], within=WITHIN * MS, name="seen").map(int, value=int).to(out)
    with TestDriver(app, partitions=1) as driver:
        for text in ("x1", "21", "31", "x2", "2", "52", "3"):
            driver.cluster.append("in", b"k", text.encode(), 1000, None, 0)
        assert driver.values(out) == [21, 2, 3]
        assert [record.value for record in driver.cluster.records("once-dead-letters")] == [b"x1", b"x2"]


def test_an_id_that_is_none_blames_its_record() -> None:
    app = kstream.App("once")
    source = app.topic("in", key=str, value=str)
    app.stream(source).deduplicate(lambda text: 0.5 if text == "bad" else 1, of=int, within=MS).peek(print)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, "good", key="k")
        with pytest.raises(KStreamError, match=r"in\[0\] offset 1: .*what deduplicate of 'in-distinct' is given"):
            driver.send(source, "bad", key="k")


def test_it_moves_with_its_keys() -> None:
    app, _, _ = app_of()
    [part] = app.topology().parts
    [store] = part.stores
    with TestDriver(app, partitions=1) as driver:
        driver.send(app._graph.topics["in"], "n:x", key="a\0b", timestamp=1000)
        driver.commit()
        [task] = driver.worker.tasks.values()
        [(raw, _)] = task.stores["seen"].scan()
        assert store.home_key(raw) == b"a\0b"


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda s: s.deduplicate(within=5), "within=5 is not a timedelta"),
        (lambda s: s.deduplicate(within=timedelta(0)), "1 at least"),
        (lambda s: s.deduplicate(5, within=MS), "5 is not a function"),
        (lambda s: s.deduplicate(lambda a, b: a, within=MS), "takes 2 arguments"),
        (lambda s: s.group_by_key().deduplicate(within=MS), r"stream\(\) gives the grouped records as a stream"),
    ],
)
def test_what_cannot_be_is_refused(declare: Callable[[Any], object], said: str) -> None:
    app = kstream.App("once")
    with pytest.raises((TopologyError, AttributeError), match=said):
        declare(app.stream(app.topic("in", key=str, value=str)))
