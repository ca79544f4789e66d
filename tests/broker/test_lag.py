"""Lag is true where work stands still: what comes to a task that failed, restores or is paused is told of by the
metrics, the page and `kstream lag` as plain clients count it, and grows older."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from kstream.cli import main
from support.observing import Service, Services, running, services
from support.running import until
from support.serving import Served

STEADY = {"session_timeout": 30.0, "commit_interval": 0.5}


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    yield from services(bootstrap_servers, tmp_path, monkeypatch)


def counted(one: Service) -> dict[int, int]:
    """What waits in each partition of the input by clients that know nothing of kstream."""
    reader = Consumer({"bootstrap.servers": one.servers, "group.id": one.name, "enable.auto.commit": False})
    try:
        places = [TopicPartition(one.events, number) for number in range(4)]
        read = reader.committed(places, timeout=30)
        ends = [reader.get_watermark_offsets(place, timeout=30)[1] for place in places]
        return {at.partition: end - max(at.offset, 0) for at, end in zip(read, ends, strict=True)}
    finally:
        reader.close()


def by_command(one: Service, capsys: pytest.CaptureFixture[str]) -> dict[int, tuple[int, float | None, float | None]]:
    """What `kstream lag` says: of each partition what waits, the time of the first that does, and for how long that has
    waited as the instance says."""
    capsys.readouterr()
    assert main(["lag", Service.target, "--json", "--bootstrap-servers", one.servers]) in (0, 1)
    rows = json.loads(capsys.readouterr().out)["partitions"]
    return {row["partition"]: (row["lag"], row["waiting"], row["behind"]) for row in rows if row["topic"] == one.events}


def by_metric(one: Service, served: Served, name: str) -> dict[int, float]:
    found = served.metrics().series(f"kstream_{name}", topic=one.events)
    return {int(labels["partition"]): value for labels, value in found}


def by_page(one: Service, served: Served) -> dict[int, int | None]:
    inputs = [each for task in served.status().tasks for each in task.inputs]
    return {each.partition: each.lag for each in inputs if each.topic == one.events}


def behind_by_page(one: Service, served: Served) -> dict[int, float | None]:
    inputs = [each for task in served.status().tasks for each in task.inputs]
    return {each.partition: each.behind for each in inputs if each.topic == one.events}


def fails(one: Service, served: Served) -> tuple[Served, set[int]]:
    """One task of four fails, again at each try."""
    one.feed(1, **{"raise": True})
    (partition,) = until(lambda: {at for at, lag in counted(one).items() if lag}, "the record that fails")
    until(lambda: served.metrics()("kstream_tasks", state="failed") == 1, "the failure")
    return served, {partition}


def is_paused(one: Service, served: Served) -> tuple[Served, set[int]]:
    assert served.ask("/api/pause", {})[0] in (200, 204)
    until(lambda: all(task.why == "paused by an operator" for task in served.status().tasks), "the pause")
    return served, {0, 1, 2, 3}


def restores(one: Service, served: Served) -> tuple[Served, set[int]]:
    """All of them, as long as a transaction is open in their changelogs."""
    served.stop()
    one.instances.remove(served)
    shutil.rmtree(one.directory / served.name)
    producer = Producer(
        {"bootstrap.servers": one.servers, "transactional.id": one.name, "transaction.timeout.ms": 300_000}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(4):
        producer.produce(f"{one.name}-counts-changelog", b"never committed", b"k", number)
    assert producer.flush(30) == 0
    again = one.start(**STEADY)
    until(lambda: again.metrics()("kstream_tasks", state="restoring") == 4, "the restore", 60)
    return again, {0, 1, 2, 3}


@pytest.mark.parametrize("stands", [fails, is_paused, restores])
def test_what_waits_is_what_the_broker_says(
    service: Services,
    stands: Callable[[Service, Served], tuple[Served, set[int]]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = service()
    served = one.start(**STEADY)
    running(served)
    one.feed(500)
    one.all_done(served, seconds=100)
    served, standing = stands(one, served)
    began = time.time()
    one.feed(400)

    def settled() -> dict[int, int] | None:
        """What stands has all that came, and the others are through."""
        found = counted(one)
        still = {at for at, lag in found.items() if lag}
        return found if still == standing and sum(found.values()) > 60 * len(standing) else None

    found = until(settled, "the records to wait", 60, each=lambda: time.sleep(0.2))
    assert until(lambda: by_metric(one, served, "consumer_lag_records") == found, "the metric to follow", 90)
    assert until(lambda: by_page(one, served) == found, "the page to follow", 90)

    def said() -> dict[int, tuple[int, float | None, float | None]]:
        # workers load the app by its module; so does the command
        monkeypatch.delitem(sys.modules, Service.target.partition(":")[0], raising=False)
        return by_command(one, capsys)

    first = said()
    assert {at: lag for at, (lag, *_) in first.items()} == found
    assert all((waiting is None) == (at not in standing) for at, (_, waiting, _) in first.items())

    def older(least: float) -> bool:
        """What waits is so old, and what does not has no age."""
        seconds = by_metric(one, served, "consumer_lag_seconds")
        return all((seconds[at] > least) == (at in standing) for at in seconds) and len(seconds) == 4

    until(lambda: older(2.0), "what waits to grow older", 60)
    until(lambda: older(4.0), "it to grow older still", 60)

    def agree(told: dict[int, float | None]) -> bool:
        """As old at least as the metric has said, and what does not wait has no age."""
        ages = {at: age for at, age in told.items() if age is not None}
        assert ages.keys() <= standing and all(age < time.time() - began + 60.0 for age in ages.values())
        return {at for at, age in ages.items() if age > 4.0} == standing

    until(lambda: agree(behind_by_page(one, served)), "the page to say so", 60)
    until(lambda: agree({at: age for at, (_, _, age) in said().items()}), "the command to say so", 60)
    assert all(age < time.time() - began + 60.0 for age in by_metric(one, served, "consumer_lag_seconds").values())
    assert counted(one) == found == by_metric(one, served, "consumer_lag_records")
