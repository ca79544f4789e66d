"""A record that waits for its next attempt, and dead letters that cannot be written, with a real broker: what is said
of them, what goes on meanwhile, and what it costs."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from broker.retrying_service import BAD, make_app
from kstream.config import Settings
from kstream.observe.status import TaskStatus
from support.kafka import SECONDS, read
from support.running import Command, prepare, until
from support.serving import Served


class Retrying:
    def __init__(self, servers: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.servers, self.directory, self.name = servers, directory, f"retrying-{uuid.uuid4().hex[:8]}"
        monkeypatch.setenv("KSTREAM_TEST_APP", self.name)
        self.app = make_app(self.name)
        self.settings = Settings(
            bootstrap_servers=servers, state_dir=str(directory), instance="a", commit_interval=0.1, web_port=0,
            stall_timeout=2.0, restart_initial=1.0, restart_max=1.0,
        )  # fmt: skip
        prepare(self.app, self.settings)
        self.admin = AdminClient({"bootstrap.servers": servers})
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
        self.served: Served | None = None

    def start(self, **more: Any) -> Served:
        self.served = Served(self.app, "broker.retrying_service:app", replace(self.settings, **more))
        return self.served

    def feed(self, case: str, numbers: range) -> None:
        for n in numbers:
            self._producer.produce(f"{self.name}.{case}", json.dumps(n).encode(), b"k")
        assert self._producer.flush(SECONDS) == 0

    def put_out(self, topic: str) -> list[int]:
        name = f"{self.name}.{topic}"
        return [json.loads(row.value or b"") for row in read(self.servers, [name], "read_committed")[name]]

    def task(self, case: str) -> TaskStatus | None:
        assert self.served is not None
        tasks = {task.name: task for worker in self.served.supervisor.workers for task in worker.report.tasks}
        return tasks.get(f"{self.name}.{case}/0")

    def limit(self, topic: str, size: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, f"{self.name}.{topic}", incremental_configs=[entry])
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result(SECONDS)

    def deny(self, topic: str) -> None:
        """Nobody may write to it."""
        rules = [
            AclBinding(
                ResourceType.TOPIC, f"{self.name}.{topic}", ResourcePatternType.LITERAL, "User:*", "*", operation,
                AclPermissionType.ALLOW,
            )
            for operation in (AclOperation.READ, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)
        ]  # fmt: skip
        for future in self.admin.create_acls(rules).values():
            future.result(SECONDS)

    def allow(self, topic: str) -> None:
        every = AclBindingFilter(
            ResourceType.TOPIC, f"{self.name}.{topic}", ResourcePatternType.LITERAL, None, None, AclOperation.ANY,
            AclPermissionType.ANY,
        )  # fmt: skip
        for future in self.admin.delete_acls([every]).values():
            future.result(SECONDS)


@pytest.fixture
def retrying(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Retrying]:
    made = Retrying(bootstrap_servers, tmp_path, monkeypatch)
    yield made
    if made.served is not None:
        made.served.stop()


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_record_that_waits_is_told_of_costs_nothing_and_holds_up_nobody(retrying: Retrying) -> None:
    served = retrying.start()
    retrying.feed("waits", range(100))
    until(lambda: (task := retrying.task("waits")) and task.retrying, "the pause")
    task = retrying.task("waits")
    assert task is not None and task.why is not None and "a record that failed is tried again in" in task.why
    assert until(lambda: retrying.put_out("waits-out"), "the records before it") == list(range(BAD))
    retrying.feed("beside", range(BAD))
    until(lambda: len(retrying.put_out("beside-out")) == BAD, "the records beside it")

    (pid,) = served.pids
    before, began = processor_seconds(pid), time.monotonic()
    time.sleep(3.0)  # longer than `stall_timeout`
    assert (processor_seconds(pid) - before) / (time.monotonic() - began) < 0.3
    until(lambda: served.probe("ready") == (True, []), "/ready to be green")  # one that waits for the processor is red
    for command, said in (("status", "tried again in"), ("lag", "87")):
        asked = Command(
            retrying.directory / command, command, "broker.retrying_service:app", "--json", "--bootstrap-servers",
            retrying.servers,
        )  # fmt: skip
        assert asked.wait() == 0, asked.err.read_text()
        assert said in asked.out.read_text()
    began = time.monotonic()
    served.stop()
    assert time.monotonic() - began < 50.0  # a worker that does not stop is killed after 60
    assert retrying.put_out("waits-out") == list(range(BAD))


@pytest.mark.more
def test_a_pause_longer_than_max_poll_interval_costs_no_place_in_the_group(retrying: Retrying) -> None:
    """The worker polls all along: its partitions are not taken from it."""
    served = retrying.start(session_timeout=15.0, max_poll_interval=15.0)
    retrying.feed("waits", range(100))
    until(lambda: (task := retrying.task("waits")) and task.retrying, "the pause")
    rebalances = served.metrics()("kstream_rebalances_total")
    time.sleep(18.0)
    retrying.feed("beside", range(BAD))
    until(lambda: len(retrying.put_out("beside-out")) == BAD, "the records beside it")
    task = retrying.task("waits")
    assert task is not None and task.retrying
    assert served.metrics()("kstream_rebalances_total") == rebalances
    assert served.supervisor.workers[0].restarts == 0


def test_a_dead_letter_that_kafka_does_not_take_stops_its_task_only_until_it_does(retrying: Retrying) -> None:
    retrying.deny("dead-denied")
    retrying.limit("dead-small", 200)  # too small for the least that a letter says
    retrying.start()
    for case in ("denied", "small"):
        retrying.feed(case, range(30))
    for case in ("denied", "small"):
        until(
            lambda case=case: (task := retrying.task(case)) and task.error and f"dead-{case}" in task.error,
            f"the error of {case}",
        )
        assert retrying.put_out(f"{case}-out") == list(range(BAD))
    retrying.feed("beside", range(BAD))
    until(lambda: len(retrying.put_out("beside-out")) == BAD, "the records beside them")
    retrying.allow("dead-denied")
    retrying.limit("dead-small", 1_000_000)
    for case in ("denied", "small"):
        until(lambda case=case: len(retrying.put_out(f"{case}-out")) == 29, f"the rest of {case}")
        assert retrying.put_out(f"{case}-out") == [n for n in range(30) if n != BAD]
        assert retrying.put_out(f"dead-{case}") == [BAD]


def test_a_record_that_is_set_aside_holds_up_nothing_and_is_seen(retrying: Retrying) -> None:
    served = retrying.start()
    retrying.feed("later", range(100))
    until(lambda: len(retrying.put_out("later-out")) == 99, "all others")
    delayed = f"{retrying.name}-{retrying.name}.later-retry-300s"
    (row,) = read(retrying.servers, [delayed], "read_committed")[delayed]
    assert (row.key, row.value, row.partition) == (b"k", b"%d" % BAD, 0)
    until(lambda: (task := retrying.task("later")) and "set aside is tried again in" in (task.why or ""), "the reason")
    task = retrying.task("later")
    assert task is not None and task.lag == 0 and not task.retrying

    (pid,) = served.pids
    before, began = processor_seconds(pid), time.monotonic()
    time.sleep(3.0)  # longer than `stall_timeout`
    assert (processor_seconds(pid) - before) / (time.monotonic() - began) < 0.3
    until(lambda: served.probe("ready") == (True, []), "/ready to be green")  # one that waits for the processor is red
    for command, said in (("lag", delayed), ("topics", delayed), ("doctor", "rights to topics")):
        asked = Command(
            retrying.directory / command, command, "broker.retrying_service:app", "--bootstrap-servers",
            retrying.servers, COLUMNS="200",
        )  # fmt: skip
        asked.wait()
        assert said in asked.out.read_text().replace("\n", ""), asked.err.read_text()
    retrying.feed("later", range(100, 110))
    until(lambda: len(retrying.put_out("later-out")) == 109, "those behind it")
    served.stop()
