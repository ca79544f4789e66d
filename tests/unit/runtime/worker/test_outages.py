"""Brokers that do not answer for longer than a transaction may take: the worker stays, and goes on when they do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.errors import ProducerLost

from ..harness import Counting, Fleet

KEYS = [f"k{i}" for i in range(20)]


@pytest.fixture
def app() -> Counting:
    return Counting("outages")


@pytest.fixture
def fleet(app: Counting, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(app.app, tmp_path, partitions=2)
    yield fleet
    fleet.close()


@pytest.mark.parametrize("after", [False, True], ids=["not committed", "committed"])
@pytest.mark.parametrize("times", [1, 2, 7])
def test_no_producer_can_be_made_for_a_while(
    app: Counting, fleet: Fleet, times: int, after: bool, caplog: pytest.LogCaptureFixture
) -> None:
    worker = fleet.start("a")
    fleet.send(app.source, KEYS)
    fleet.settle()
    fleet.send(app.source, KEYS)
    fleet.cluster.faults.plan("producer.commit", ProducerLost("commit timed out"), after=after)
    for _ in range(times):
        fleet.cluster.faults.plan("producer.init_transactions", ProducerLost("init_transactions timed out"))
    fleet.send(app.source, KEYS)
    fleet.settle()
    app.check(fleet)
    assert fleet.workers["a"] is worker
    assert "there is no new producer yet: init_transactions timed out" in caplog.text
    fleet.send(app.source, KEYS)
    fleet.settle()
    app.check(fleet)
