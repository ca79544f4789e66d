"""Slow records: one is exact, of several only what their time together tells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

import kstream
from kstream.observe.throttle import Throttle
from kstream.runtime.task import slow
from kstream.testing import TestDriver


class Slow:
    """An app whose function takes as many seconds of the driver's clock as the record says."""

    def __init__(self, **settings: Any) -> None:
        self.app = kstream.App("a")
        self.source = self.app.topic("in", key=str, value=float)
        self.app.stream(self.source).peek(self._take)
        self.driver = TestDriver(self.app, partitions=1, **settings)

    def _take(self, seconds: float) -> None:
        self.driver.clock.advance(seconds)

    def send(self, *seconds: float) -> None:
        for each in seconds:
            self.driver.cluster.append("in", b"k", self.source.value.codec.encode(each))
        self.driver.process()

    @property
    def batches(self) -> int:
        return self.driver.worker.tasks["in/0"].slow.batches


@pytest.fixture(autouse=True)
def fresh_throttle() -> Iterator[None]:
    before = slow.log.filters[:]
    slow.log.filters[:] = [Throttle()]
    yield
    slow.log.filters[:] = before


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, slow.log.name)
    return caplog


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == slow.log.name]


def test_a_single_record_is_told_exactly(warned: pytest.LogCaptureFixture) -> None:
    service = Slow(slow_record=1.0)
    service.send(0.9)
    assert not texts(warned)
    service.send(1.25)
    assert texts(warned) == ["slow record: in[0] offset 1 took 1.25 s"]
    (record,) = warned.records
    fields = {name: getattr(record, name) for name in ("marker", "task", "topic", "partition", "offset", "seconds")}
    assert fields == {
        "marker": "PERFORMANCE", "task": "in/0", "topic": "in", "partition": 0, "offset": 1,
        "seconds": pytest.approx(1.25),
    }  # fmt: skip
    assert service.batches == 1


def test_one_among_many_is_told_by_their_range(warned: pytest.LogCaptureFixture) -> None:
    service = Slow(slow_record=1.0)
    service.send(*[0.01] * 10)
    service.send(*[0.01] * 5, 2.0, *[0.01] * 4)
    assert texts(warned) == [
        "slow records: 10 of in[0], offsets 10 to 19, took 2.09 s, where as many usually take 0.1 s"
    ]
    (record,) = warned.records
    assert (record.first_offset, record.last_offset, record.records) == (10, 19, 10)  # type: ignore[attr-defined]
    assert not hasattr(record, "offset")
    assert service.batches == 1


def test_many_records_that_all_take_their_time_are_not_slow(warned: pytest.LogCaptureFixture) -> None:
    """64 of 20 ms are 1.3 s together; no record takes longer than the others."""
    service = Slow(slow_record=1.0)
    service.send(*[0.02] * 64)
    service.send(*[0.02] * 64)
    assert not texts(warned)
    assert service.batches == 0


def test_several_at_first_are_slow_when_their_mean_is(warned: pytest.LogCaptureFixture) -> None:
    service = Slow(slow_record=1.0)
    service.send(3.0, 3.0)
    assert texts(warned) == ["slow records: 2 of in[0], offsets 0 to 1, took 6.00 s"]


def test_none_is_slow_when_it_is_off(warned: pytest.LogCaptureFixture) -> None:
    service = Slow(slow_record=0)
    service.send(100.0)
    assert not texts(warned)
    assert service.batches == 0


def test_repetitions_are_counted_and_left_out(warned: pytest.LogCaptureFixture) -> None:
    service = Slow(slow_record=1.0)
    for _ in range(20):
        service.send(2.0)
    assert texts(warned) == ["slow record: in[0] offset 0 took 2.00 s"]
    assert service.batches == 20


def test_an_agent_that_waits_is_slow_too(warned: pytest.LogCaptureFixture) -> None:
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)

    @app.agent(source)
    async def waits(stream: kstream.AgentStream[str, int]) -> None:
        async for _ in stream:
            await asyncio.sleep(0)
            driver.clock.advance(1.5)

    with TestDriver(app, partitions=1, slow_record=1.0) as driver:
        driver.send(source, 1)
    assert texts(warned) == ["slow record: in[0] offset 0 took 1.50 s"]
