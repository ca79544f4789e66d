"""Sinks outside Kafka: how their batches are cut, when they are written, and that a failure commits nothing."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import text_of
from kstream.testing import TestDriver

Records = Sequence[kstream.SinkRecord[Any, Any]]


class Kept(kstream.BatchingSink):
    """Keeps what it gets. Fails while `failing`, and on the value 13."""

    def __init__(self, size: int = 1000, timeout: float = 5.0) -> None:
        super().__init__(size, timeout)
        self.batches: list[list[kstream.SinkRecord[Any, Any]]] = []
        self.told: list[str] = []
        self.failing = False

    def open(self) -> None:
        self.told.append("open")

    def write(self, batch: Records) -> None:
        if self.failing or any(record.value == 13 for record in batch):
            raise OSError("the disk is full")
        self.batches.append(list(batch))

    def close(self) -> None:
        self.told.append("close")

    @property
    def values(self) -> list[Any]:
        return [record.value for batch in self.batches for record in batch]


class KeptAsync(Kept):
    async def open(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().open()

    async def write(self, batch: Records) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().write(batch)

    async def close(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().close()


def app_with(sink: kstream.BatchingSink) -> tuple[kstream.App, kstream.Topic[str, int]]:
    app = kstream.App("sinks")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).sink(sink)
    return app, topic


@pytest.mark.parametrize("kind", [Kept, KeptAsync])
def test_full_batches_at_once_and_the_rest_before_the_commit(kind: type[Kept]) -> None:
    sink = kind(3)
    app, topic = app_with(sink)
    with TestDriver(app, partitions=1) as driver:
        assert sink.told == []
        for value in range(7):
            driver.send(topic, value, key="k", timestamp=1000 + value, headers=[("a", b"b")])
        assert [len(batch) for batch in sink.batches] == [3, 3]
        driver.commit()
        assert [len(batch) for batch in sink.batches] == [3, 3, 1]
        (last,) = sink.batches[-1]
        assert (last.key, last.value, last.timestamp, list(last.headers or ())) == ("k", 6, 1006, [("a", b"b")])
        assert (last.topic, last.partition, last.offset) == ("in", 0, 6)
        driver.commit()
        assert sink.values == list(range(7)), "nothing is written twice, and no empty batch"
    assert sink.told == ["open", "close"]


@given(
    values=st.lists(st.integers(0, 4), max_size=15),
    size=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 4), max_size=6),
)
def test_every_record_once_in_order_and_no_batch_ends_within_an_input_record(
    values: list[int], size: int, cuts: list[int]
) -> None:
    sink = Kept(size)
    app = kstream.App("sinks")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).flat_map(range, value=int).sink(sink)
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.batch_sizes = iter(cuts)
        for value in values:
            driver.cluster.append(topic.name, b"k", b"%d" % value)
        driver.commit()
    assert sink.values == [n for value in values for n in range(value)]
    for batch, following in itertools.pairwise(sink.batches):
        assert batch[-1].offset != following[0].offset
    for batch in sink.batches:
        whole = len(batch) - sum(record.offset == batch[-1].offset for record in batch)
        assert whole < size, "no longer than the outputs of its last input record make it"


def test_a_batch_of_two_topics_ends_between_their_records() -> None:
    """Equal offsets of two topics are two records."""
    sink = Kept(1)
    app = kstream.App("sinks")
    here, there = app.topic("here", key=str, value=int), app.topic("there", key=str, value=int)
    app.stream(here).merge(app.stream(there)).sink(sink)
    with TestDriver(app, partitions=1) as driver:
        sink.size = 1000
        driver.send(here, 1, key="k")
        driver.send(there, 2, key="k")
        sink.size = 1
        driver.send(here, 3, key="k")
    places = [[(record.topic, record.offset) for record in batch] for batch in sink.batches]
    assert places == [[("here", 0)], [("there", 0)], [("here", 1)]]


def test_a_crash_before_the_commit_writes_again_what_was_written() -> None:
    sink = Kept(2)
    app, topic = app_with(sink)
    with TestDriver(app, partitions=1) as driver:
        for value in range(3):
            driver.send(topic, value, key="k")
        driver.crash()
        driver.commit()
        assert sink.values == [0, 1, 0, 1, 2], "at least once; what was only buffered is dropped with the worker"
        driver.crash()
        driver.commit()
        assert len(sink.values) == 5, "what is committed does not come again"
    assert sink.told == ["open", "close", "open", "close"]  # after the second crash nothing was written


def test_the_record_at_fault_is_found_and_those_before_it_are_committed() -> None:
    sink = Kept(1000)
    app, topic = app_with(sink)
    copy = app.topic("copy", key=str, value=int)
    app.stream(topic).to(copy)
    driver = TestDriver(app, partitions=1)
    for value in (1, 2, 13, 4):
        driver.cluster.append(topic.name, b"k", b"%d" % value)
    with pytest.raises(kstream.ProcessingError, match=r"in\[0\] offset 2: .*the disk is full"):
        driver.commit()
    assert sorted(set(sink.values)) == [1, 2]
    assert [record.value for record in driver.cluster.records("copy")] == [b"1", b"2"]
    driver.close(commit=False)


def test_a_failing_flush_commits_nothing_and_passes() -> None:
    """The first write of the commit fails; what is tried again succeeds: every output came once, nothing is lost."""

    class Once(Kept):
        def write(self, batch: Records) -> None:
            if not self.failing:
                self.failing = True
                raise ConnectionError("reset by peer")
            self.batches.append(list(batch))

    sink = Once(1000)
    app, topic = app_with(sink)
    copy = app.topic("copy", key=str, value=int)
    app.stream(topic).to(copy)
    with TestDriver(app, partitions=1) as driver:
        for value in range(5):
            driver.send(topic, value, key="k")
        driver.commit()
        assert driver.values(copy) == list(range(5))
        assert sink.values == list(range(5))


def test_what_waits_in_the_buffer_is_not_changed_by_another_branch() -> None:
    sink = Kept(1000)
    app = kstream.App("sinks")
    topic = app.topic("in", key=str, value=dict)
    stream = app.stream(topic)
    stream.filter(bool).sink(sink)
    stream.peek(lambda value: value.update(changed=True))
    with TestDriver(app, partitions=1) as driver:
        driver.send(topic, {"a": 1}, key="k")
    assert sink.values == [{"a": 1}]


def test_changes_emitted_at_the_commit_are_written_in_that_commit() -> None:
    sink = Kept(1000)
    app = kstream.App("sinks")
    topic = app.topic("in", key=str, value=int)
    app.stream(topic).group_by_key().count(name="n", emit="commit").stream().sink(sink)
    with TestDriver(app, partitions=1) as driver:
        for key in "aab":
            driver.send(topic, 1, key=key)
        assert sink.batches == []
        driver.commit()
        assert [(record.key, record.value, record.offset) for record in sink.batches[0]] == [
            ("a", 2, None),
            ("b", 1, None),
        ]


def test_a_timeout_below_the_commit_interval_makes_commits_come_as_often() -> None:
    sink = Kept(1000, timeout=0.5)
    app, topic = app_with(sink)
    with TestDriver(app, partitions=1, commit_interval=10.0, transaction_timeout=60.0) as driver:
        driver.send(topic, 1, key="k")
        driver.clock.advance(0.4)
        driver.process()
        assert sink.values == []
        driver.clock.advance(0.1)
        driver.process()  # no record comes
        assert sink.values == [1]


def test_each_isolation_group_commits_for_its_own_sinks() -> None:
    app = kstream.App("sinks")
    here, there = app.topic("here", key=str, value=int), app.topic("there", key=str, value=int)
    app.stream(here).sink(Kept(timeout=2.0), name="a")
    app.stream(here).sink(Kept(timeout=0.5), name="b")
    app.stream(there, group="quiet").peek(print)
    assert app.topology().within_of_groups == {"default": 0.5, "quiet": math.inf}


class Silent(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise SystemExit("no text")


@pytest.mark.parametrize("error", [OSError("gone"), SystemExit("gone"), Silent("gone")])
def test_a_close_that_fails_is_logged(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    class Sticks(Kept):
        def close(self) -> None:
            raise error

    app, topic = app_with(Sticks())
    with TestDriver(app, partitions=1) as driver:
        driver.send(topic, 1, key="k")
    assert f"sink in-sink: close() failed: {type(error).__name__}: {text_of(error)}" in caplog.text


async def leave() -> None:
    sys.exit(3)


class Beside(kstream.BatchingSink):
    """While it waits, what has nothing to do with it leaves."""

    def __init__(self) -> None:
        super().__init__(size=1)
        self.left: list[asyncio.Task[None]] = []
        self.kept: list[Any] = []

    async def write(self, batch: Records) -> None:  # type: ignore[override]
        self.left.append(asyncio.get_running_loop().create_task(leave()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.kept += [record.value for record in batch]


def test_what_leaves_the_event_loop_meanwhile_is_not_the_sinks_failure() -> None:
    app, sink = kstream.App("sinking"), Beside()
    source = app.topic("in", key=str, value=int)
    app.stream(source).sink(sink, name="s")
    with TestDriver(app, partitions=1) as driver:
        for n in range(3):
            driver.send(source, n, key="k")
        driver.commit()
    assert sink.kept == [0, 1, 2]
    assert [type(task.exception()) for task in sink.left] == [SystemExit] * 3


@pytest.mark.parametrize("kind", [Kept, KeptAsync])
def test_the_dead_letter_of_a_record_says_what_the_sink_raised(kind: type[Kept]) -> None:
    app = kstream.App("sinks", on_error=[kstream.DeadLetter()])
    topic = app.topic("in", key=str, value=int)
    sink = kind()
    app.stream(topic).sink(sink)
    with TestDriver(app, partitions=1) as driver:
        for value in (1, 13, 2):
            driver.send(topic, value, key="k")
        driver.commit()
        (letter,) = driver.cluster.records("sinks-dead-letters")
        headers = dict(letter.headers or ())
        assert headers["__streams.errors.exception"] == b"builtins.OSError"
        assert headers["__streams.errors.message"] == b"the disk is full"
    assert sink.values == [1, 2]
