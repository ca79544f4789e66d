"""What user code sees of the record at hand, and when it sees nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import kstream
from kstream.errors import KStreamError, ProcessingError, TableError, TableUndeclared
from kstream.runtime.task.context import here
from kstream.testing import TestDriver


class Seen:
    """An app whose agent shows its context to a function of the test."""

    def __init__(self) -> None:
        self.app = kstream.App("seen")
        self.source = self.app.topic("in", key=str, value=int, partitions=1)
        self.out = self.app.topic("out", key=str, value=int)
        self.strict = self.app.topic("strict", key=str, value=int)
        self.table = self.app.table("t", key=str, value=int, default=0)
        self.context: Any = None
        self.shown: list[Any] = []
        self.show: Any = lambda ctx: None
        self.app.agent(self.source, tables=[self.table])(self.agent)

    def agent(self, value: int, ctx: kstream.Context[str]) -> None:
        self.context = ctx
        self.shown.append(self.show(ctx))


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def driver(seen: Seen) -> Iterator[TestDriver]:
    with TestDriver(seen.app) as driver:
        yield driver


def test_it_is_the_record_at_hand(seen: Seen, driver: TestDriver) -> None:
    seen.show = lambda ctx: (ctx.key, ctx.timestamp, ctx.topic, ctx.partition, ctx.offset, list(ctx.headers or []))
    driver.send(seen.source, 1, key="a", timestamp=5_000, headers=[("h", b"1")])
    driver.send(seen.source, 2, key="b", timestamp=6_000)
    assert seen.shown == [("a", 5_000, "in", 0, 0, [("h", b"1")]), ("b", 6_000, "in", 0, 1, [])]


@pytest.mark.parametrize("what", ["key", "timestamp", "headers", "topic", "offset"])
def test_afterwards_it_is_nobodys(seen: Seen, driver: TestDriver, what: str) -> None:
    driver.send(seen.source, 1, key="a")
    with pytest.raises(TableError, match="the context is valid only while a record is processed"):
        getattr(seen.context, what)
    with pytest.raises(TableError, match="valid only while"):
        seen.context.send(seen.out, 1)


def test_what_it_sends_has_the_records_key_and_time_unless_others_are_given(seen: Seen, driver: TestDriver) -> None:
    def show(ctx: kstream.Context[str]) -> None:
        ctx.send(seen.out, 1)
        ctx.send(seen.out, 2, key="other", timestamp=9_000, headers=[("h", b"2")])

    seen.show = show
    driver.send(seen.source, 1, key="a", timestamp=5_000)
    assert [(one.key, one.value, one.timestamp) for one in driver.records(seen.out)] == [
        ("a", 1, 5_000), ("other", 2, 9_000),
    ]  # fmt: skip


def test_no_tombstone_where_none_is_declared(seen: Seen, driver: TestDriver) -> None:
    seen.show = lambda ctx: ctx.send(seen.strict, None)
    with pytest.raises(KStreamError, match="strict"):
        driver.send(seen.source, 1, key="a")


def test_a_name_is_no_topic(seen: Seen, driver: TestDriver) -> None:
    name: Any = "out"
    seen.show = lambda ctx: ctx.send(name, 1)
    with pytest.raises(ProcessingError, match=r"ctx\.send takes a topic, not 'out'"):
        driver.send(seen.source, 1, key="a")


def test_what_cannot_be_written_is_told_with_its_topic(seen: Seen, driver: TestDriver) -> None:
    seen.show = lambda ctx: ctx.send(seen.strict, "text")
    with pytest.raises(ProcessingError, match=r"in\[0\] offset 0: CodecError: topic 'strict': a value of type str"):
        driver.send(seen.source, 1, key="a")


def test_a_table_is_that_of_the_task_that_runs(seen: Seen, driver: TestDriver) -> None:
    def show(_: kstream.Context[str]) -> None:
        seen.table["a"] += 1

    seen.show = show
    driver.send(seen.source, 1, key="a")
    driver.send(seen.source, 1, key="a")
    assert driver.table(seen.table) == {"a": 2}
    with pytest.raises(TableError, match="'t' was used outside a task"):
        seen.table["a"]


def test_a_table_of_another_task_says_what_to_do(seen: Seen, driver: TestDriver) -> None:
    elsewhere = kstream.App("other").table("elsewhere", key=str, value=int, default=0)
    seen.show = lambda _: elsewhere["a"]
    with pytest.raises(TableUndeclared, match=r"uses table 'elsewhere', which cannot be seen in its code: put "):
        driver.send(seen.source, 1, key="a")


def test_log_lines_know_where_they_are(seen: Seen, driver: TestDriver) -> None:
    seen.show = lambda _: here()
    driver.send(seen.source, 1, key="a")
    assert seen.shown == [{"task": "in/0", "topic": "in", "partition": 0, "offset": 0}] and here() == {}


def test_the_worker_has_what_the_lifespan_put_there_and_says_so_where_it_did_not(
    seen: Seen, driver: TestDriver
) -> None:
    seen.show = lambda ctx: ctx.worker.state.client
    with pytest.raises(KStreamError, match=r"has no 'client': set it in the function under @app\.lifespan"):
        driver.send(seen.source, 1, key="a")
