"""Isolation groups on a real Kafka: a consumer group and workers each, in one instance or in instances of their own."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from broker.grouped_service import make_app
from kstream.config import Settings
from kstream.errors import ConfigError
from support.kafka import Reader, write
from support.observing import QUICK, running
from support.running import Command, prepare, until
from support.serving import Served

STEADY = {"session_timeout": 30.0}
"""Where no member is to be lost: a starved worker does not lose its partitions."""


class Grouped:
    """One test's app and its instances."""

    def __init__(self, servers: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.servers, self.directory, self.name = servers, directory, f"grouped-{uuid.uuid4().hex[:8]}"
        monkeypatch.setenv("KSTREAM_TEST_APP", self.name)
        self.app = make_app(self.name, 4)
        prepare(self.app, Settings(bootstrap_servers=servers))
        self.instances: list[Served] = []
        self.fed = 0
        self.reader = Reader(servers, [f"{self.name}.doubles", f"{self.name}.sums"])

    def start(self, instance: str, workers: int = 1, **settings: object) -> Served:
        given = Settings(
            bootstrap_servers=self.servers, state_dir=str(self.directory / instance), instance=instance,
            **{**QUICK, **settings},
        )  # fmt: skip
        self.instances.append(Served(self.app, "broker.grouped_service:app", given, workers))
        return self.instances[-1]

    def feed(self, count: int) -> None:
        numbers = range(self.fed, self.fed + count)
        write(self.servers, f"{self.name}.numbers", [(f"k{n}", b"%d" % n, round(time.time() * 1000)) for n in numbers])
        self.fed += count

    def doubled(self) -> bool:
        self.reader.poll()
        rows = self.reader.rows[f"{self.name}.doubles"]
        assert len(rows) <= self.fed
        return sorted(int(row.value or b"") for row in rows) == [2 * n for n in range(self.fed)]

    def summed(self) -> bool:
        self.reader.poll()
        rows = self.reader.rows[f"{self.name}.sums"]
        assert len(rows) <= self.fed
        return len(rows) == self.fed and {(row.key or b"").decode(): int(row.value or b"") for row in rows} == {
            "even": sum(range(0, self.fed, 2)), "odd": sum(range(1, self.fed, 2)),
        }  # fmt: skip


@pytest.fixture
def grouped(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Grouped]:
    made = Grouped(bootstrap_servers, tmp_path, monkeypatch)
    yield made
    made.reader.close()
    for instance in made.instances:
        instance.stop()


def tasks(instance: Served) -> dict[str, int]:
    found: dict[str, int] = {}
    for task in instance.status().tasks:
        if task.state == "running":
            found[task.group] = found.get(task.group, 0) + 1
    return found


def test_an_instance_runs_all_groups(grouped: Grouped) -> None:
    one = grouped.start("a", **STEADY)
    running(one)
    grouped.feed(300)
    until(lambda: grouped.doubled() and grouped.summed(), "both results")
    assert tasks(one) == {"default": 4, "cpu-intensive": 8}
    workers = {worker.name: (worker.group, worker.tasks) for worker in one.status().workers}
    assert workers == {"0": ("default", 4), "cpu-intensive-0": ("cpu-intensive", 8)}
    # each group reads them; what is committed is in the next report
    until(
        lambda: one.metrics()("kstream_records_consumed_total", topic=f"{grouped.name}.numbers") == 600,
        "600 records to be counted",
    )
    lag = Command(
        grouped.directory / "lag", "lag", "broker.grouped_service:app", "--bootstrap-servers", grouped.servers, "--json"
    )
    assert lag.wait() == 0, lag.err.read_text()
    assert json.loads(lag.out.read_text())["groups"] == [grouped.name, f"{grouped.name}-cpu-intensive"]


def test_groups_in_instances_of_their_own(grouped: Grouped) -> None:
    """Each is deployed alone, and the end of one is nothing to the other."""
    light = grouped.start("light", groups="default", **STEADY)
    heavy = grouped.start("heavy", groups="cpu-intensive", **STEADY)
    running(light, heavy)
    grouped.feed(200)
    until(lambda: grouped.doubled() and grouped.summed(), "both results")
    assert (tasks(light), tasks(heavy)) == ({"default": 4}, {"cpu-intensive": 8})
    rebalances = light.metrics()("kstream_rebalances_total")
    heavy.stop()
    grouped.feed(200)
    until(grouped.doubled, "the light results")
    assert light.metrics()("kstream_rebalances_total") == rebalances
    assert not grouped.summed()
    again = grouped.start("heavy", workers=2, groups="cpu-intensive", **STEADY)
    until(grouped.summed, "the heavy results")
    assert {worker.name for worker in again.status().workers} == {"cpu-intensive-0", "cpu-intensive-1"}


def test_a_group_that_there_is_not(grouped: Grouped) -> None:
    with pytest.raises(ConfigError, match=r"has no isolation group 'cpu'; it has default, cpu-intensive"):
        grouped.start("a", groups="cpu")
    command = Command(
        grouped.directory / "run", "run", "broker.grouped_service:app", "--group", "gpu", "--group", "default",
        "--bootstrap-servers", grouped.servers, "--state-dir", grouped.directory / "x",
    )  # fmt: skip
    assert command.wait() == 2
    *warnings, line = command.err.read_text().splitlines()
    assert "no isolation group 'gpu'" in line
    assert all("'total'" in warning for warning in warnings), "its sum is of no declared type"
    with pytest.raises(ConfigError, match="workers=0 runs one isolation group"):
        grouped.app.run(settings=Settings(bootstrap_servers=grouped.servers, workers=0))


def test_what_moves_into_another_group_goes_on_where_it_was(
    grouped: Grouped, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its state stays what it is: to read its input again would count everything twice."""
    monkeypatch.setenv("KSTREAM_TEST_GROUP", "default")
    before = grouped.app = make_app(grouped.name, 4)
    assert before.topology().groups == ["default"]
    old = grouped.start("a", on_stop="leave", session_timeout=10.0)
    grouped.feed(100)
    until(lambda: grouped.doubled() and grouped.summed(), "both results")

    monkeypatch.setenv("KSTREAM_TEST_GROUP", "cpu-intensive")
    grouped.app = make_app(grouped.name, 4)
    with pytest.raises(ConfigError, match=r"moves from consumer group .* still has members"):
        grouped.start("b")
    old.stop()
    caplog.set_level("INFO", "kstream.runtime.cluster.regroup")

    def started() -> Served | None:
        try:
            return grouped.start("b")
        except ConfigError:  # where the brokers are slow, the old one is out when its session ends
            return None

    new = until(started, "the new one to start")
    running(new)
    grouped.feed(100)
    until(lambda: grouped.doubled() and grouped.summed(), "both results")
    assert sorted(line for line in caplog.messages if "continues in" in line) == [
        f"sub-topology {grouped.name}-parity-repartition@cpu-intensive continues in consumer group "
        f"{grouped.name}-cpu-intensive, at the committed offsets of group {grouped.name}",
        f"sub-topology {grouped.name}.numbers@cpu-intensive continues in consumer group "
        f"{grouped.name}-cpu-intensive, at the committed offsets of group {grouped.name}",
    ]
    until(lambda: tasks(new) == {"default": 4, "cpu-intensive": 8}, "all tasks to run")


def test_one_group_in_this_process(grouped: Grouped) -> None:
    grouped.feed(50)
    command = Command(
        grouped.directory / "here", "run", "broker.grouped_service:app", "--workers", 0, "--group", "cpu-intensive",
        "--bootstrap-servers", grouped.servers, "--state-dir", grouped.directory / "x",
    )  # fmt: skip
    until(grouped.summed, "the heavy results")
    assert not grouped.doubled()
    command.process.terminate()
    assert command.wait() == 0, command.err.read_text()


def test_more_workers_than_partitions(
    grouped: Grouped, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said, and those that have nothing to do cost next to nothing."""
    caplog.set_level("WARNING", "kstream.app")
    one = grouped.start("a", workers=6, groups="default", **STEADY)
    assert (
        "6 workers in isolation group default, but no input topic of it has more than 4 partitions: 2 of them"
        in caplog.text
    )

    def idle() -> list[psutil.Process] | None:
        ready, workers = one.probe("ready")[0], one.status().workers
        even = ready and sorted(worker.tasks for worker in workers) == [0, 0, 1, 1, 1, 1]
        return [psutil.Process(worker.pid) for worker in workers if worker.tasks == 0] if even else None

    until(idle, "an even spread", 120)
    said = capfd.readouterr().err
    assert "this worker got no partition: isolation group default has more workers than" in said
    tries = []
    for _ in range(3):  # who is idle may change once more, and what was begun at the start may end only now
        found = until(idle, "an even spread")
        before, began = [sum(each.cpu_times()[:2]) for each in found], time.monotonic()
        time.sleep(3)  # what is measured is the time of doing nothing
        used = [sum(each.cpu_times()[:2]) - earlier for each, earlier in zip(found, before, strict=True)]
        tries.append([each / (time.monotonic() - began) for each in used])
        if max(tries[-1]) < 0.1:
            break
    assert len(tries[-1]) == 2 and max(tries[-1]) < 0.1, tries
