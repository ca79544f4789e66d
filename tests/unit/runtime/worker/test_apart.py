"""Tasks in which what Kafka refused is looked for, beside others that have something to do by the clock."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.testing import TestDriver
from kstream.testing.consumer import MemoryConsumer
from kstream.types import Polled, TopicPartition
from unit.runtime.harness import Fleet

NOW = 1_700_000_000_000
KEYS = "k3", "k0"
"""One of each partition."""
WINDOWS = 8


class Rings(kstream.Processor[str, int, int]):
    """Has a timer of the wall clock for each record."""

    def process(self, value: int, ctx: kstream.ProcessorContext[str, int]) -> None:
        ctx.timer(after=timedelta(seconds=0.7), name=str(value), clock="wall")

    def on_timer(self, timer: kstream.Timer, ctx: kstream.ProcessorContext[str, int]) -> None:
        ctx.emit(int(timer.name))


def make_app() -> kstream.App:
    app = kstream.App("apart", on_error=[kstream.Retry(1, base=0.02, jitter=0.0), kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=2, timestamp=lambda value: NOW + value)
    windows = app.stream(source).group_by_key().window(kstream.Tumbling(timedelta(seconds=1)), grace=timedelta(0))
    compact = app.topic("out", key=str, value=int, partitions=2, config={"cleanup.policy": "compact"})

    @app.agent(windows.count(name="n", emit="close").stream(), to=compact)
    def keyless(count: int, ctx: kstream.Context[Any]) -> kstream.Record[str, int]:
        bad = ctx.key.start // 1000 % 3 == 0
        return kstream.Record(None if bad else ctx.key.key, count)  # type: ignore[arg-type]

    app.stream(source).process(Rings, name="rings").to(app.topic("rung", key=str, value=int, partitions=2))
    return app


@pytest.mark.parametrize("seed", range(3))
def test_timers_that_are_due_in_two_tasks_do_not_keep_what_is_refused_from_being_found(seed: int) -> None:
    """Each was taken for one of those at fault in the transaction of the other, which had nothing of it yet: both were
    looked at apart again, without end."""
    choose = random.Random(seed)
    with TestDriver(make_app(), partitions=2) as driver:
        driver.cluster.batch_sizes = iter(lambda: choose.randrange(1, 10), 0)
        for key in KEYS:
            for number in range(10 * WINDOWS):
                driver.cluster.append("in", key.encode(), b"%d" % (100 * number), NOW)
        for _ in range(600):
            driver.clock.advance(choose.choice([0.02, 0.05, 0.1]))
            driver.worker.step()
        assert driver.worker.aborts < 100
        assert len(driver.cluster.records("rung")) == 20 * WINDOWS
        good = [n for n in range(WINDOWS - 1) if (NOW // 1000 + n) % 3]
        assert len(driver.cluster.records("out")) == 2 * len(good)
        assert len(driver.cluster.records("apart-dead-letters")) == 2 * (WINDOWS - 1 - len(good))


def test_a_task_that_waits_for_an_input_does_not_keep_what_is_refused_from_being_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its turn opened the transaction, and put nothing into it. It counted as one that nobody had watched from its
    beginning, so the other task was looked at apart again, without end: after a seek records come a turn later."""
    app = kstream.App("apart", on_error=[kstream.DeadLetter()])
    source, left, right = (app.topic(name, key=str, value=int) for name in ("in", "left", "right"))
    compact = app.topic("out", key=str, value=int, config={"cleanup.policy": "compact"})

    @app.agent(source, to=compact)
    def keyless(value: int, ctx: kstream.Context[Any]) -> kstream.Record[str, int]:
        return kstream.Record(None if value == 7 else ctx.key, value)  # type: ignore[arg-type]

    app.stream(left).merge(app.stream(right)).to(app.topic("both", key=str, value=int))
    sought: list[Mapping[TopicPartition, int]] = []
    seek, poll = MemoryConsumer.seek, MemoryConsumer.poll

    def seeks(self: MemoryConsumer, positions: Mapping[TopicPartition, int]) -> None:
        sought.append(positions)
        seek(self, positions)

    def polls(self: MemoryConsumer, *args: Any) -> Polled:
        if sought:
            sought.clear()
            return Polled()
        return poll(self, *args)

    monkeypatch.setattr(MemoryConsumer, "seek", seeks)
    monkeypatch.setattr(MemoryConsumer, "poll", polls)
    fleet = Fleet(app, tmp_path, partitions=1, max_task_idle=3600.0)
    worker = fleet.start("a")
    fleet.step(times=10)
    for topic in ("left", "in"):
        for value in range(20):
            fleet.cluster.append(topic, b"k", b"%d" % value)
    fleet.step(times=200)
    assert fleet.outputs(compact) == {"k": [value for value in range(20) if value != 7]}
    assert len(fleet.cluster.records("apart-dead-letters")) == 1
    assert worker.aborts < 10
    assert not fleet.cluster.records("both"), "the other task waits all the time"
    fleet.close()
