"""Input topics that are deleted and created again, and offsets that are deleted, while an app is stopped or runs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

import kstream
from kstream.config import Settings
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.kafka import KafkaClients, KafkaOptions, options_from
from kstream.runtime.kafka.members import remove_members
from kstream.runtime.process.making import make_worker
from kstream.runtime.worker.loop import StreamWorker
from kstream.state.rocksdb import RocksMemory, RocksReader
from kstream.types import TopicPartition
from support.kafka import read, write
from support.running import prepare, until

KEYS = [f"k{number}" for number in range(20)]
ONCE, TWICE = ([(key, count) for key in KEYS] for count in (1, 2))


class Service:
    """An app that counts one topic and hands another one on, and its worker."""

    def __init__(self, servers: str, directory: Path, lost_offsets: str) -> None:
        self.servers, self.admin = servers, AdminClient({"bootstrap.servers": servers})
        self.app = kstream.App(f"anew-{uuid.uuid4().hex[:8]}")
        self.counted, self.counts, self.plain, self.passed = (
            self.app.topic(f"{self.app.name}.{name}", key=str, value=int, partitions=2)
            for name in ("counted", "counts", "plain", "passed")
        )
        self.declare()
        self.app.stream(self.plain).to(self.passed)
        self.settings = Settings(
            bootstrap_servers=servers, state_dir=str(directory), workers=0, announce_interval=0, commit_interval=0.2,
            lost_offsets=lost_offsets, restart_initial=0.5, restart_max=2.0,
            kafka={"topic.metadata.refresh.interval.ms": "500"},
        )  # fmt: skip
        self.identity = Identity(self.app.name, "one", 0)
        self.worker, self.closed = self.start(), False

    def declare(self) -> None:
        self.app.stream(self.counted).group_by_key().count(name="n").to(self.counts)

    def start(self) -> StreamWorker:
        self.worker = make_worker(self.app, self.identity, self.settings, prepare(self.app, self.settings))
        self.worker.start()
        return self.worker

    def write(self, topic: kstream.Topic[str, int]) -> None:
        write(self.servers, topic.name, [(key, b"1", round(time.time() * 1000)) for key in KEYS])

    def process(self, topic: kstream.Topic[str, int], to: kstream.Topic[str, int]) -> None:
        """Writes the keys, and waits for as many more records in what comes of it."""
        before = len(self.read(to))
        self.write(topic)
        self.until(lambda: len(self.read(to)) >= before + len(KEYS), f"the records in {to.name}")

    def until(self, condition: Callable[[], object], what: str) -> None:
        until(condition, what, each=self.turns)

    def turns(self) -> None:
        for _ in range(10):
            self.worker.step()

    def read(self, topic: kstream.Topic[str, int]) -> list[tuple[str, int]]:
        rows = read(self.servers, [topic.name])[topic.name]
        return sorted((str(row.key, "utf-8"), int(row.value or b"0")) for row in rows)

    def delete(self, topic: kstream.Topic[str, int]) -> None:
        self.admin.delete_topics([topic.name])[topic.name].result(60)

    def create(self, topic: kstream.Topic[str, int]) -> None:
        def made() -> bool:
            error = self.admin.create_topics([NewTopic(topic.name, 2, 1)])[topic.name].exception(60)
            return error is None

        until(made, f"{topic.name} to be made again")

    @property
    def failed(self) -> dict[str, str]:
        return {task.name: str(task.error) for task in self.worker.tasks.values() if task.error is not None}

    @property
    def committed(self) -> dict[TopicPartition, int | None]:
        admin = KafkaClients(self.servers, options_from(self.settings, "test")).admin()
        try:
            found = admin.committed(self.app.name, [TopicPartition(self.counted.name, n) for n in range(2)]).result(60)
        finally:
            admin.close()
        return {at: entry and entry[0] for at, entry in found.items()}

    @property
    def reads_counted(self) -> bool:
        return any(at.topic == self.counted.name for at in self.worker.registry.owned)

    @property
    def stopped(self) -> bool:
        return self.failed.keys() == {f"{self.counted.name}/0", f"{self.counted.name}/1"}


class Regrouped(Service):
    """What reads the counted topic has no state: it writes to a repartition topic, behind which all is counted."""

    def declare(self) -> None:
        everything = self.app.stream(self.counted).group_by(lambda value: "all", key=str, name="by")
        everything.count(name="n").to(self.counts)


Make = Callable[..., Service]


@pytest.fixture
def make(bootstrap_servers: str, tmp_path: Path) -> Iterator[Make]:
    """A service that has processed each key once in both of its topics."""
    services: list[Service] = []

    def made(lost_offsets: str, kind: type[Service] = Service) -> Service:
        service = kind(bootstrap_servers, tmp_path, lost_offsets)
        services.append(service)
        service.process(service.counted, service.counts)
        service.process(service.plain, service.passed)
        return service

    yield made
    for service in services:
        if not service.closed:
            service.worker.abandon()


def anew_while_stopped(service: Service) -> None:
    service.worker.close()
    service.delete(service.counted)
    service.create(service.counted)
    service.write(service.counted)
    service.start()


def anew_while_it_runs(service: Service) -> None:
    service.delete(service.counted)
    service.process(service.plain, service.passed)
    service.until(lambda: not service.reads_counted, "the deleted topic to be known as such")
    service.process(service.plain, service.passed)
    service.create(service.counted)
    service.write(service.counted)
    service.until(lambda: service.reads_counted, "the new topic to be known")


def without_offsets(service: Service) -> None:
    service.worker.close()
    name = service.app.name
    remove_members(
        service.servers, KafkaOptions(), name, [service.identity.member], 30
    )  # a group with members is not deleted
    service.admin.delete_consumer_groups([name])[name].result(60)
    service.start()


WAYS = [anew_while_stopped, anew_while_it_runs, without_offsets]


@pytest.mark.parametrize("happen", WAYS)
def test_the_tasks_of_a_topic_made_anew_stop_and_the_others_go_on(
    make: Make, caplog: pytest.LogCaptureFixture, happen: Callable[[Service], None]
) -> None:
    service = make("stop")
    happen(service)
    service.until(lambda: service.stopped, "the tasks to stop")
    for task, line in service.failed.items():
        assert service.counted.name in line
        assert "lost_offsets" in line, line
        assert sum(line in record.getMessage() for record in caplog.records) >= 1, task
    service.process(service.plain, service.passed)
    assert service.read(service.counts) == sorted(ONCE)
    assert set(service.committed.values()) == {None}


@pytest.mark.parametrize(
    "happen", [anew_while_it_runs, *(pytest.param(way, marks=pytest.mark.more) for way in WAYS[::2])]
)
def test_with_the_setting_a_topic_made_anew_is_read_from_its_start(
    make: Make, happen: Callable[[Service], None]
) -> None:
    service = make("continue")
    happen(service)
    service.until(lambda: len(service.read(service.counts)) >= 2 * len(KEYS), "the new topic to be counted")
    service.process(service.plain, service.passed)
    assert service.read(service.counts) == sorted(ONCE + TWICE)
    assert not service.failed
    assert sum(offset or 0 for offset in service.committed.values()) >= len(KEYS)


@pytest.mark.parametrize("happen", [anew_while_stopped, pytest.param(anew_while_it_runs, marks=pytest.mark.more)])
def test_before_a_repartition_the_tasks_of_a_topic_made_anew_stop_too(
    make: Make, happen: Callable[[Service], None]
) -> None:
    """They have no state that could tell; what they write once more is counted twice behind it (decision 0021)."""
    service = make("stop", Regrouped)
    happen(service)
    service.until(lambda: service.stopped, "the tasks to stop")
    assert all(service.counted.name in line and "lost_offsets" in line for line in service.failed.values())
    service.process(service.plain, service.passed)
    assert service.read(service.counts) == [("all", number + 1) for number in range(len(KEYS))]
    assert set(service.committed.values()) == {None}


def test_before_a_repartition_a_topic_made_anew_is_read_from_its_start_with_the_setting(make: Make) -> None:
    service = make("continue", Regrouped)
    anew_while_stopped(service)
    service.until(lambda: len(service.read(service.counts)) >= 2 * len(KEYS), "the new topic to be counted")
    service.process(service.plain, service.passed)
    assert service.read(service.counts) == [("all", number + 1) for number in range(2 * len(KEYS))]
    assert not service.failed


def test_nothing_of_a_topic_made_anew_at_once_is_committed(make: Make) -> None:
    """The client need not notice that it is another topic: it reads on at the old one's offset where that is there."""
    service = make("stop")
    service.delete(service.counted)
    service.create(service.counted)
    for _ in range(10):
        service.write(service.counted)
    service.until(lambda: service.stopped, "the tasks to stop")
    assert all("lost_offsets" in line for line in service.failed.values()), service.failed
    service.process(service.plain, service.passed)
    assert service.read(service.counts) == sorted(ONCE)


def test_the_tasks_of_a_changelog_made_anew_stop_and_the_others_go_on(make: Make) -> None:
    service = make("stop")
    service.worker.close()
    changelog = f"{service.app.name}-n-changelog"
    service.admin.delete_topics([changelog])[changelog].result(60)
    until(lambda: changelog not in service.admin.list_topics(timeout=60).topics, "the changelog to be gone")
    service.start()
    service.write(service.counted)
    service.until(lambda: service.stopped, "the tasks to stop")
    assert all(f"changelog {changelog} was deleted and created again" in line for line in service.failed.values())
    service.process(service.plain, service.passed)
    assert service.read(service.counts) == sorted(ONCE)
    assert set(service.committed.values()) != {None}


def test_a_changelog_that_is_made_anew_while_tasks_wait_for_it_costs_no_local_state(make: Make, tmp_path: Path) -> None:
    """The worker died, and comes back while the changelog is not there. It went on without, and did not name it in its
    next commit; with the new one the local state was emptied."""
    service = make("stop")
    partitions = prepare(service.app, service.settings)
    service.worker.close()
    changelog = f"{service.app.name}-n-changelog"
    service.admin.delete_topics([changelog])[changelog].result(60)
    until(lambda: changelog not in service.admin.list_topics(timeout=60).topics, "the changelog to be gone")
    service.worker = make_worker(service.app, service.identity, service.settings, partitions)
    service.worker.start()
    waiting = {f"{service.counted.name}/{number}" for number in range(2)}
    service.until(lambda: waiting <= service.worker.tasks.keys(), "the tasks to be given")
    for _ in range(3):
        service.turns()
    made = service.admin.create_topics([NewTopic(changelog, 2, 1, config={"cleanup.policy": "compact"})])
    made[changelog].result(60)
    service.write(service.counted)
    again = f"changelog {changelog} was deleted and created again"
    service.until(
        lambda: service.stopped and all(again in line for line in service.failed.values()), "the tasks to stop"
    )
    service.process(service.plain, service.passed)
    service.worker.close()
    service.closed = True
    assert service.read(service.counts) == sorted(ONCE)
    kept = [current.parent for current in tmp_path.rglob("CURRENT") if "counted" in str(current)]
    readers = [RocksReader(directory, RocksMemory(1 << 20, 1 << 20)) for directory in kept]
    assert sum(reader.entries("n") for reader in readers) == len(KEYS)
    for reader in readers:
        reader.close()
