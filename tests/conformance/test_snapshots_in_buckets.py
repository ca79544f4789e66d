"""Workers whose snapshots lie behind S3's protocol, with a server that is slow, overloaded, gone, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.runtime.task.states import TaskState
from kstream.state.snapshots.storage import open_storage
from support.objects import Objects, TroubledProxy, s3_server
from unit.runtime.worker.snapshots.support import Snapped


@pytest.fixture(scope="module")
def server() -> Iterator[Objects]:
    with s3_server() as running:
        yield running


@pytest.fixture
def proxy(server: Objects) -> Iterator[TroubledProxy]:
    made = TroubledProxy(server.endpoint)
    yield made
    made.close()


@pytest.fixture
def snapped(
    server: Objects, proxy: TroubledProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Snapped]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    url = f"s3://{server.bucket()}/kept"
    settings = {"snapshot_interval": 1000.0, "snapshot_timeout": 60.0, "snapshot_tolerable_failures": None}
    one = Snapped(tmp_path, partitions=1, snapshots=url, **settings)
    one.storage = open_storage(url)
    yield one
    one.close()


def lose(one: Snapped) -> None:
    one.send("a", "b")
    one.settle()
    one.fleet.crash("one")
    one.fleet.expire("one")
    one.lose_state()


def test_through_latency_and_overload_a_snapshot_is_taken_and_restored(snapped: Snapped, proxy: TroubledProxy) -> None:
    proxy.seconds = 0.05
    trouble = ["slow", "503", "reset", None, "slow"]
    proxy.trouble = lambda method, path: trouble[len(proxy.requests) % 5]
    snapped.fleet.start("one")
    snapped.send(*"abcdefgh")
    snapped.settle()
    snapped.snapshot_all()
    lose(snapped)
    worker = snapped.fleet.start("one")
    snapped.settle()
    assert worker.restorer.replay.records == 4, "two records in each of two stores"
    assert worker.snapshot_counts.restored == 1
    proxy.trouble = lambda method, path: None
    snapped.check()


def test_while_the_store_is_gone_tasks_go_on_and_their_changelogs_have_everything(
    snapped: Snapped, proxy: TroubledProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = snapped.fleet.start("one")
    snapped.send(*"abcdefgh")
    snapped.settle()
    snapped.snapshot_all()
    proxy.trouble = lambda method, path: "403"
    snapped.send(*"abcdefgh")
    snapped.settle()
    snapped.fleet.clock.advance(1000.0)
    snapped.step_until(lambda: worker.snapshot_counts.failures["storage"] == 1, "a failure")
    assert snapped.fleet.task("one", 0).state is TaskState.RUNNING
    lose(snapped)
    worker = snapped.fleet.start("one")
    snapped.settle()
    assert worker.restorer.replay.records == 2 * 18
    assert worker.snapshot_counts.refused["storage"] == 1, "it was asked until its time was over"
    proxy.trouble = lambda method, path: None
    snapped.check()
    snapped.send("a")
    snapped.settle()
    snapped.snapshot_all()
    assert snapped.newest(0).number == 2
