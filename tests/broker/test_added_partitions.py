"""Partitions that are added to the inputs of a running app."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

import kstream
from kstream.config import Settings
from kstream.errors import TopicError
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.process.making import make_worker
from kstream.runtime.worker.loop import StreamWorker
from support.kafka import read, write
from support.running import prepare, until

KEYS = [f"k{number}" for number in range(50)]


class Service:
    """An app that counts one topic and hands another one on, and its worker."""

    def __init__(self, servers: str, directory: Path) -> None:
        self.servers = servers
        self.app = kstream.App(f"added-{uuid.uuid4().hex[:8]}")
        self.counted, self.counts, self.plain, self.passed = (
            self.app.topic(f"{self.app.name}.{name}", key=str, value=int)
            for name in ("counted", "counts", "plain", "passed")
        )
        self.app.stream(self.counted).group_by_key().count(name="n").to(self.counts)
        self.app.stream(self.plain).to(self.passed)
        self.settings = Settings(
            bootstrap_servers=servers, state_dir=str(directory), workers=0, announce_interval=0,
            kafka={"topic.metadata.refresh.interval.ms": "1000"},
        )  # fmt: skip
        self.worker = self.start()

    def start(self) -> StreamWorker:
        identity = Identity(self.app.name, "one", 0)
        self.worker = make_worker(self.app, identity, self.settings, prepare(self.app, self.settings))
        self.worker.start()
        return self.worker

    def write(self, topic: kstream.Topic[str, int]) -> None:
        write(self.servers, topic.name, [(key, b"1", round(time.time() * 1000)) for key in KEYS])

    def until(self, topic: kstream.Topic[str, int], count: int) -> list[tuple[str, int]]:
        """What the topic holds, once that many records are in it."""
        until(lambda: len(self.read(topic)) >= count, f"{count} records in {topic.name}", each=self.turns)
        return self.read(topic)

    def turns(self) -> None:
        for _ in range(20):
            self.worker.step()

    def read(self, topic: kstream.Topic[str, int]) -> list[tuple[str, int]]:
        rows = read(self.servers, [topic.name])[topic.name]
        return [(str(row.key, "utf-8"), int(row.value or b"0")) for row in rows]

    @property
    def failed(self) -> dict[str, str]:
        return {task.name: str(task.error) for task in self.worker.tasks.values() if task.error is not None}


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path) -> Iterator[Service]:
    made = Service(bootstrap_servers, tmp_path)
    yield made
    made.worker.abandon()


def test_tasks_with_state_stop_and_the_others_read_the_new_partitions(service: Service) -> None:
    for topic in (service.counted, service.plain):
        service.write(topic)
    assert sorted(service.until(service.counts, 50)) == sorted((key, 1) for key in KEYS)
    service.until(service.passed, 50)
    admin = AdminClient({"bootstrap.servers": service.servers})
    wanted = [NewPartitions(topic.name, 6) for topic in (service.counted, service.plain)]
    for future in admin.create_partitions(wanted).values():
        future.result(60)
    name = service.counted.name
    until(lambda: len(service.failed) == 6, "all tasks of the count to stop", each=service.turns)
    for topic in (service.counted, service.plain):
        service.write(topic)
    service.until(service.passed, 100)
    (line,) = set(service.failed.values())
    assert f"reads {name} (6 partitions), its state has {service.app.name}-n-changelog (4 partitions)" in line
    assert sorted(service.read(service.counts)) == sorted((key, 1) for key in KEYS)
    service.worker.close()

    service.start()  # the rest of the app still runs
    service.write(service.plain)
    service.until(service.passed, 150)
    until(lambda: service.failed, "the count to stop again", each=service.turns)  # perhaps after the others' records
    assert {task.partition("/")[0] for task in service.failed} == {name}
    assert len(service.read(service.counts)) == 50


def test_an_app_with_nothing_left_to_run_does_not_start(bootstrap_servers: str, tmp_path: Path) -> None:
    app = kstream.App(f"added-{uuid.uuid4().hex[:8]}")
    source = app.topic(f"{app.name}.in", key=str, value=int)
    app.stream(source).group_by_key().count(name="n")
    settings = Settings(bootstrap_servers=bootstrap_servers, state_dir=str(tmp_path))
    prepare(app, settings)
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_partitions([NewPartitions(source.name, 6)])[source.name].result(60)
    with pytest.raises(TopicError, match=r"copy .* into a topic with 4 partitions and read that, or build"):
        until(lambda: prepare(app, settings)[source.name] == 6, "the partitions to be known")


def test_what_a_producer_writes_that_is_the_first_to_know_is_not_counted_elsewhere(service: Service) -> None:
    """A new producer hears of the partitions at once, and writes at once. What comes of it is read before the app has
    looked, and not committed."""
    service.write(service.counted)
    assert sorted(service.until(service.counts, 50)) == sorted((key, 1) for key in KEYS)
    admin = AdminClient({"bootstrap.servers": service.servers})
    admin.create_partitions([NewPartitions(service.counted.name, 7)])[service.counted.name].result(60)
    service.write(service.counted)
    until(lambda: service.failed, "the first task to stop", each=service.turns)
    assert sorted(service.read(service.counts)) == sorted((key, 1) for key in KEYS)
    until(lambda: len(service.failed) >= 4, "all of them to stop", each=service.turns)
    assert sorted(service.read(service.counts)) == sorted((key, 1) for key in KEYS)
