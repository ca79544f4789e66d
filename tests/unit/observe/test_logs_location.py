"""Which record a line belongs to: looked up when the line is made, never wrong, as exact as can be known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

import kstream
from kstream.errors import ProcessingError
from kstream.observe import logs
from kstream.testing import TestDriver

log = logging.getLogger("service")


class Lines(logging.Handler):
    """What was logged by the service: text and place."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = [logs.Located()]
        self.found: list[tuple[Any, ...]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = ("task", "topic", "partition", "offset", "first_offset", "last_offset")
        place = {name: getattr(record, name) for name in fields if hasattr(record, name)}
        self.found.append((record.getMessage(), place))


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def place(offset: int, task: str = "in/0", topic: str = "in") -> dict[str, object]:
    return {"task": task, "topic": topic, "partition": 0, "offset": offset}


def batch(first: int, last: int) -> dict[str, object]:
    return {"task": "in/0", "topic": "in", "partition": 0, "first_offset": first, "last_offset": last}


def send(driver: TestDriver, topic: kstream.Topic[Any, Any], *values: int) -> None:
    """All in one batch."""
    for value in values:
        driver.cluster.append(topic.name, b"k", topic.value.codec.encode(value))
    driver.process()


def test_nothing_is_known_outside_tasks(lines: Lines) -> None:
    log.info("hello")
    assert lines.found == [("hello", {})]


def test_a_function_with_a_context_knows_its_record_one_without_its_batch(lines: Lines) -> None:
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)

    def exact(value: int, ctx: kstream.Context[str]) -> int:
        log.info("exact %d", value)
        return value

    def roughly(value: int) -> int:
        log.info("roughly %d", value)
        return value

    app.stream(source).map(roughly).map(exact).map(roughly)
    app.stream(source).peek(roughly)
    with TestDriver(app, partitions=1) as d:
        send(d, source, 5, 6)
        send(d, source, 7)
        log.info("after")
    assert lines.found == [
        ("roughly 5", batch(0, 1)),
        ("roughly 6", batch(0, 1)),
        ("exact 5", place(0)),
        ("exact 6", place(1)),
        ("roughly 5", batch(0, 1)),
        ("roughly 6", batch(0, 1)),
        ("roughly 5", batch(0, 1)),
        ("roughly 6", batch(0, 1)),
        ("roughly 7", place(2)),
        ("exact 7", place(2)),
        ("roughly 7", place(2)),
        ("roughly 7", place(2)),
        ("after", {}),
    ]


def test_folds_and_generators_with_contexts(lines: Lines) -> None:
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)
    out = app.topic("out", key=str, value=int)

    def fold(total: int, value: int, ctx: kstream.Context[str]) -> int:
        log.info("fold %d", value)
        return total + value

    @app.agent(source, to=out)
    def twice(value: int, ctx: kstream.Context[str]) -> Iterator[int]:
        for _ in range(2):
            log.info("yield %d", value)
            yield value

    app.stream(source).group_by_key().aggregate(int, fold, name="sum").stream().peek(lambda _: log.info("behind"))
    with TestDriver(app, partitions=1) as d:
        send(d, source, 5, 6)
        d.commit()
    assert lines.found == [
        ("yield 5", place(0)),
        ("yield 5", place(0)),
        ("yield 6", place(1)),
        ("yield 6", place(1)),
        ("fold 5", place(0)),
        ("fold 6", place(1)),
        ("behind", batch(0, 1)),
        ("behind", batch(0, 1)),
    ]


def test_an_async_agent_keeps_its_record_over_an_await(lines: Lines) -> None:
    app = kstream.App("a")
    one, other = app.topic("in", key=str, value=int), app.topic("other", key=str, value=int)
    gate: asyncio.Future[None] | None = None

    @app.agent(one)
    async def waits(stream: kstream.AgentStream[str, int]) -> None:
        nonlocal gate
        async for value in stream:
            log.info("before %d", value)
            gate = asyncio.get_running_loop().create_future()
            await gate
            log.info("after %d", value)

    @app.agent(other)
    def opens(value: int) -> None:
        log.info("opens")
        assert gate is not None
        gate.set_result(None)

    with TestDriver(app, partitions=1) as d:
        d.cluster.append("in", b"k", b"5")
        while not gate:
            d.worker.step()
        d.cluster.append("other", b"k", b"1")
        d.process()
    assert lines.found == [
        ("before 5", place(0)),
        ("opens", place(0, "other/0", "other")),
        ("after 5", place(0)),
    ]


def test_what_an_agent_does_between_its_records_belongs_to_none(lines: Lines) -> None:
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)
    background: set[asyncio.Task[None]] = set()

    @app.agent(source)
    async def spawns(stream: kstream.AgentStream[str, int]) -> None:
        async def beside() -> None:
            log.info("beside")
            while not stream_is_drained():
                await asyncio.sleep(0)
            log.info("later")

        async for value in stream:
            log.info("at %d", value)
            background.add(asyncio.get_running_loop().create_task(beside()))
            await asyncio.sleep(0)

    with TestDriver(app, partitions=1) as d:

        def stream_is_drained() -> bool:
            return not any(task.busy for task in d.worker.tasks.values())

        send(d, source, 5)
        while len(lines.found) < 3:
            d.worker.events.asyncio.run_until_complete(asyncio.sleep(0))
    assert lines.found == [("at 5", place(0)), ("beside", place(0)), ("later", {"task": "in/0"})]


def test_what_is_emitted_at_commit_has_a_task_and_no_record(lines: Lines) -> None:
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)

    def behind(value: int, ctx: kstream.Context[str]) -> None:
        log.info("total %d", value)

    app.stream(source).group_by_key().count(name="n", emit="commit").stream().peek(behind)
    with TestDriver(app, partitions=1) as d:
        send(d, source, 5, 6)
        assert lines.found == []
        d.commit()
    assert lines.found == [("total 2", {"task": "in/0"})]


def test_a_failure_leaves_no_record_behind(lines: Lines) -> None:
    """What failed is replayed; lines of the replay have places of their own."""
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)
    fail = True

    def plain(value: int) -> int:
        log.info("plain %d", value)
        return value

    def fails(value: int, ctx: kstream.Context[str]) -> None:
        if fail and value == 6:
            raise ValueError(value)

    app.stream(source).map(plain).peek(fails)
    with TestDriver(app, partitions=1) as d:
        with pytest.raises(ProcessingError):
            send(d, source, 5, 6)
        fail = False
        lines.found.clear()
        d.crash()
        log.info("between")
    assert lines.found == [("plain 6", place(1)), ("between", {})]


def test_a_field_of_the_lines_own_is_left_alone(lines: Lines) -> None:
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)
    app.stream(source).peek(lambda _: log.info("x", extra={"task": "mine", "offset": "my own"}))
    with TestDriver(app, partitions=1) as d:
        send(d, source, 5)
    assert lines.found == [("x", {"task": "mine", "topic": "in", "partition": 0, "offset": "my own"})]
