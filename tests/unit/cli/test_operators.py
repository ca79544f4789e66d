"""What the operators' commands print, from given statuses; beside a real app they are in tests/broker."""

from __future__ import annotations

import io
import json
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console, RenderableType
from rich.text import Text
from typer.main import get_command

import kstream
from kstream.cli import human, lag, main
from kstream.cli.app import commands
from kstream.cli.checks import cluster, machine
from kstream.cli.checks.topics import Topics
from kstream.cli.status import run, screen
from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.observe.status import (
    InputStatus,
    InstanceState,
    InstanceStatus,
    RestoreStatus,
    TableStatus,
    TaskStatus,
    Totals,
    WorkerStatus,
)
from kstream.runtime.cluster.announce import encode
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster

NOW = 1_700_000_000.0


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [one for one in os.environ if one.startswith("KSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield


def instance(name: str, state: InstanceState = "running", tasks: int = 2, **more: Any) -> InstanceStatus:
    given: dict[str, Any] = {
        "ready": state == "running",
        "workers": [WorkerStatus("0", "running")],
        "totals": Totals(rate_in=1500.0, rate_out=2.5, lag=70, latency_p99=0.25, busy=0.5),
        "tasks": [
            TaskStatus(f"orders/{n}", "0", "running", lag=n, inputs=[InputStatus("orders", n, 1, n, NOW - 5)])
            for n in range(tasks)
        ],
    }
    return InstanceStatus("shop", name, state, NOW - 2, NOW - 7200, host="node", **{**given, **more})


def text(of: RenderableType, width: int = 80) -> str:
    out = Console(width=width, record=True, file=io.StringIO())
    out.print(of)
    return out.export_text()


class TestHuman:
    @pytest.mark.parametrize(
        "value,shown",
        [(0, "0"), (9999, "9,999"), (10_000, "10.0k"), (99_949, "99.9k"), (99_951, "100k"), (999_499, "999k"),
         (999_500, "1.0M"), (123_456_789, "123M"), (5e12, "5,000G")],
    )  # fmt: skip
    def test_count(self, value: float, shown: str) -> None:
        assert human.count(value) == shown

    @pytest.mark.parametrize(
        "value,shown",
        [(0.0, "0 ms"), (0.999, "999 ms"), (0.9996, "1 s"), (59.4, "59 s"), (59.6, "1 min"), (3599, "1 h"),
         (7500, "2 h 5 min"), (86_400, "1 d"), (100_000, "1 d 3 h")],
    )  # fmt: skip
    def test_span(self, value: float, shown: str) -> None:
        assert human.span(value) == shown

    @pytest.mark.parametrize(
        "value,shown",
        [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1000 << 20, "1000 MiB"), (3 << 50, "3072 TiB")],
    )
    def test_size(self, value: int, shown: str) -> None:
        assert human.size(value) == shown

    def test_rate_and_moment(self) -> None:
        assert [human.rate(one) for one in (0, 0.25, 9.96, 1234)] == ["0/s", "0.2/s", "10.0/s", "1,234/s"]
        assert human.moment(None, NOW) == "-"
        assert len(human.moment(NOW - 1, NOW)) == 8 and human.moment(NOW - 1e9, NOW).startswith("1992-")


def test_who_has_a_partition_says_how_far_it_is_behind() -> None:
    """Only where something waits; and a record that is still the next has waited longer since."""

    def row(partition: int, waiting: int, group: str = "shop") -> lag.PartitionLag:
        return lag.PartitionLag("orders", partition, False, 100, 100 + waiting, waiting, group=group)

    def task(partition: int, position: int, behind: float | None, part: str = "orders") -> TaskStatus:
        return TaskStatus(
            f"{part}/{partition}", "0", "running", inputs=[InputStatus("orders", partition, position, 7, behind=behind)]
        )

    rows = [row(0, 9), row(1, 9), row(2, 0), row(3, 9), row(4, 9), row(5, 9), row(0, 9, "shop-cpu")]
    tasks = [task(0, 100, 30.0), task(1, 105, 30.0), task(2, 100, 30.0), task(3, 100, None)]
    one, gone = instance("a"), instance("b", "silent")
    one.tasks, gone.tasks, one.at = tasks, [task(4, 100, 30.0)], time.time() - 20.0
    lag.tell(rows, {"shop": "default", "shop-cpu": "cpu"}, [one, gone])
    assert [each.owner for each in rows] == ["a/0"] * 4 + [None] * 3
    (still, went_on, *others) = [each.behind for each in rows]
    assert still is not None and 50.0 <= still < 80.0 and went_on == 30.0 and others == [None] * 5
    found = lag.Lag("shop", ["shop"], NOW, 54, 0.0, rows, max(still, 30.0))
    shown = text(lag.screen(found, "k:1"), 100)
    assert "BEHIND" in shown and f"54 records wait, {human.span(still)} behind" in shown
    assert human.behind(0.4) == "< 1 s" and human.behind(None) == "-"


class TestStatus:
    def test_totals_instances_and_tasks(self) -> None:
        shown = text(screen("shop on k:1", [instance("a"), instance("b")], NOW))
        assert "2 instances, 2 ready · 4 tasks · in 3,000/s, out 5.0/s · lag 140 · age 250 ms" in shown
        assert shown.count("orders/1  a/0") + shown.count("orders/1 a/0") == 1 and "2 h" in shown

    def test_the_longest_time_behind_stands_above_and_each_beside_its_task(self) -> None:
        one = instance("a")
        one.tasks[1].inputs[0].behind = 200.0
        shown = text(screen("shop", [one, instance("b")], NOW), 120)
        assert "· lag 140 · 3 min behind ·" in shown
        (heading,) = (line for line in shown.splitlines() if line.startswith("TASK"))
        rows = [line for line in shown.splitlines() if line.startswith("orders/")]
        told = {tuple(line.split()[:2]): line[: heading.index("BEHIND") + 6].split()[-1] for line in rows}
        assert told["orders/1", "a/0"] == "min" and told["orders/0", "a/0"] == told["orders/1", "b/0"] == "-"

    def test_memory_stands_beside_the_budget(self) -> None:
        one = instance("a")
        for worker in one.workers:
            worker.memory, worker.budget = 300 << 20, 512 << 20
        assert "· memory 300 MiB of 512 MiB ·" in " ".join(text(screen("shop", [one], NOW)).split())

    def test_silent_ones_are_shown_but_not_counted(self) -> None:
        silent = instance("b", "silent", reasons=["not heard of for 20 s"])
        shown = text(screen("shop", [instance("a"), silent], NOW))
        assert "2 instances, 1 ready · 2 tasks · in 1,500/s" in shown and "b: not heard of for 20 s" in shown
        assert "b/0" not in shown

    def test_what_is_wrong_is_said(self) -> None:
        bad = instance("a", "degraded", reasons=["task orders/0 failed"], restore=RestoreStatus(1, 12_000, 5, 60.0))
        bad.tasks[0].state, bad.tasks[0].error = "failed", "ValueError: x"
        bad.tasks[1].why = "waits for payments[1]"
        bad.workers[0].why = "slow user code: price (shop.py, line 31) took 4 s"
        bad.failing = {"orders/map price": 12, "topic:orders": 1}
        bad.tables = [
            TableStatus("prices", "prices", "0", rows=1200, lag=7, there=True),
            TableStatus("prices", "prices", "1", lag=31_000),
            TableStatus("zones", "zones", "0", rows=3, there=True, why="topic zones does not exist"),
        ]
        bad.workers.append(WorkerStatus("1", "restarting", restart_in=4.0, last_error="was killed by SIGKILL"))
        shown = text(screen("shop", [bad], NOW))
        for line in (
            "a: task orders/0 failed",
            "a: 12 failures at orders/map price within a minute",
            "a: 1 failure at topic:orders within a minute",
            "orders/0: ValueError: x",
            "orders/1: waits for payments[1]",
            "a/1: restarts in 4 s: was killed by SIGKILL",
            "a/0: slow user code: price (shop.py, line 31) took 4 s",
            "a: restores 1 task: 12.0k records, about 1 min left",
            "a/1: reads global table prices first: 31.0k records left",
            "a/0: global table zones: topic zones does not exist",
            "global table prices: 1,200 rows in 1 worker, 7 records behind",
        ):
            assert line in shown, line
        assert "stalled" in shown and "1/2" in shown

    def test_a_record_that_is_tried_again_is_no_stall(self) -> None:
        waits = instance("a")
        waits.tasks[1].why, waits.tasks[1].retrying = "a record that failed is tried again in 9 s", True
        shown = text(screen("shop", [waits], NOW))
        assert "retrying" in shown and "stalled" not in shown

    @pytest.mark.parametrize("width", [80, 200])
    @pytest.mark.parametrize("height", [24, 60])
    def test_twenty_instances_with_64_tasks_fit_the_window(self, width: int, height: int) -> None:
        instances = [instance(f"i{n}", tasks=4 if n < 16 else 0) for n in range(20 if height == 60 else 5)]
        for number, one in enumerate(instances):
            for task in one.tasks:
                task.name = f"{task.name}{number}"
        instances[3].tasks[2].why = "waits for something"
        shown = text(screen("shop", instances, NOW, height), width).splitlines()
        assert len(shown) <= height and max(map(len, shown)) <= width
        (header,) = [n for n, line in enumerate(shown) if line.startswith("TASK ")]
        assert "stalled" in shown[header + 1], "what is in trouble comes first"
        assert any("more tasks (--once shows all)" in line for line in shown)

    def test_nobody(self) -> None:
        assert "No instance was heard of" in text(screen("shop", [], NOW))

    @pytest.mark.parametrize(
        "instances,status",
        [([], 1), ([instance("a")], 0), ([instance("a"), instance("b", "restoring")], 1)],
    )
    def test_exit_status(
        self, capsys: pytest.CaptureFixture[str], instances: list[InstanceStatus], status: int
    ) -> None:
        assert run("shop", lambda _: instances, once=True, as_json=False) == status
        capsys.readouterr()
        assert run("shop", lambda _: instances, once=False, as_json=True) == status
        assert [one["instance"] for one in json.loads(capsys.readouterr().out)] == [one.instance for one in instances]


class TestConfig:
    def test_changed_ones(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["config", "--changed", "--json", "--set", "linger=1s", "--set", "kafka.sasl.password=hush"]
        assert main(arguments) == 0
        out = capsys.readouterr().out
        rows = {row["name"]: row for row in json.loads(out)}
        assert set(rows) == {"linger", "kafka.sasl.password"} and "hush" not in out
        assert (rows["linger"]["value"], rows["linger"]["source"]) == ("1s", "command line")

    def test_without_changes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "--changed"]) == 0
        assert capsys.readouterr().out == "All settings are at their defaults.\n"

    @pytest.mark.parametrize("width,doc", [("80", False), ("150", True)])
    def test_as_a_table(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str, doc: bool
    ) -> None:
        monkeypatch.setenv("COLUMNS", width)
        monkeypatch.setenv("KSTREAM_WORKERS", "3")
        assert main(["config"]) == 0
        out = capsys.readouterr().out
        assert "environment KSTREAM_WORKERS" in out and ("Time between commits." in out) is doc
        assert max(map(len, out.splitlines())) <= int(width)

    def test_of_an_app(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "shop_app.py").write_text("import kstream\napp = kstream.App('shop', poll_batch=7)\n")
        assert main(["config", "shop_app:app", "--changed", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["name"], row["value"], row["source"]) == ("poll_batch", "7", "App(...)")


class TestMachine:
    @pytest.mark.parametrize(
        "limit,tasks,state",
        [(256, 10, "error"), (600, 10, "warning"), (1024, 10, "ok"), (1024, None, "warning"), (65536, None, "ok"),
         (resource.RLIM_INFINITY, 9999, "ok")],
    )  # fmt: skip
    def test_open_files(self, limit: int, tasks: int | None, state: str) -> None:
        found = machine.open_files(limit, tasks)
        assert found.state == state and (found.advice != "") == (state != "ok")

    @pytest.mark.parametrize("total,state", [(1 << 30, "error"), ((2 << 30) + 1, "warning"), (4 << 30, "ok")])
    def test_memory(self, total: int, state: str) -> None:
        assert machine.memory(Settings(workers=2, memory=1 << 30), total).state == state
        assert machine.memory(Settings(workers=1, memory=1 << 30), total, groups=2).state == state
        assert machine.available() > 0

    def test_state_directory(self, tmp_path: Path) -> None:
        found = machine.state_directory(tmp_path / "not" / "yet")
        assert found.state == "ok" and "will be made" in found.text
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "file").write_text("")
        assert machine.state_directory(tmp_path / "file").state == "error"
        assert machine.state_directory(tmp_path / "file" / "below").state == "error"

    def test_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import shutil

        total = 100 << 30
        for free, state in ((50 << 30, "ok"), (4 << 30, "warning"), (50 << 20, "error")):
            usage = shutil._ntuple_diskusage(total, total - free, free)
            monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
            assert machine.disk(tmp_path).state == state


class TestBrokers:
    @pytest.mark.parametrize(
        "apis,text,state",
        [
            (
                {1: (4, 18), 9: (1, 10), 11: (0, 9), 22: (0, 5), 28: (0, 5), 68: (0, 1), 88: (0, 0)},
                "4.1 or newer",
                "ok",
            ),
            ({1: (4, 17), 9: (1, 9), 11: (0, 9), 22: (0, 5), 28: (0, 5), 68: (0, 1)}, "Kafka 4.0 or newer", "ok"),
            ({1: (0, 13), 9: (0, 8), 11: (0, 7), 22: (0, 4), 28: (0, 3), 60: (0, 0)}, "Kafka 2.8 or newer", "ok"),
            ({1: (0, 11), 9: (0, 6), 11: (0, 6), 22: (0, 2), 28: (0, 2), 47: (0, 0)}, "without OffsetFetch", "error"),
            ({}, "did not tell", "unknown"),
        ],
    )
    def test_version(self, apis: dict[int, tuple[int, int]], text: str, state: str) -> None:
        found = cluster.broker_version(apis, {"process.roles": "broker"})
        assert text in found.text and found.state == state

    def test_offsets_that_are_forgotten_soon(self) -> None:
        (found,) = cluster.limits(Settings(), {"offsets.retention.minutes": "60"})
        assert found.state == "warning" and "1 h" in found.text

    @pytest.mark.parametrize(
        "server,address",
        [("a:1", ("a", 1)), ("SSL://b.c:9092", ("b.c", 9092)), ("[::1]:3", ("::1", 3))],
    )
    def test_addresses(self, server: str, address: tuple[str, int]) -> None:
        assert cluster._address(server) == address


class TestClocks:
    """An announcement has the sender's clock inside and the broker's outside."""

    @pytest.mark.parametrize("skew,state", [(0.2, "ok"), (-0.2, "ok"), (5.0, "warning"), (-300.0, "error")])
    def test_skew(self, skew: float, state: str) -> None:
        kafka = MemoryCluster(SystemClock())
        kafka.create_topic("shop-instances")
        now = time.time()
        for name, ahead in (("a", 0.0), ("b", skew)):
            said = instance(name)
            said.at = now - ahead
            kafka.append("shop-instances", name.encode(), encode(said, 5.0), timestamp=int(now * 1000))
        found = cluster.clocks(cast(Any, SimpleNamespace(clients=MemoryClients(kafka))), "shop")
        assert found.state == state and "2 instances, none on this machine" in found.text
        assert state == "ok" or "the farthest: b on node" in found.text

    def test_nobody_to_ask(self) -> None:
        found = cluster.clocks(cast(Any, SimpleNamespace(clients=MemoryClients(MemoryCluster()))), "shop")
        assert found.state == "unknown"


class TestTopics:
    def test_changelogs_and_repartition_topics_take_what_may_be_sent(self) -> None:
        app = kstream.App("shop")
        app.stream(app.topic("orders", key=str, value=str)).group_by_key().count(name="n")
        kafka = MemoryCluster()
        admin = MemoryClients(kafka).admin()
        counts = prepare_topics(app.topology(), admin, Settings())
        found = {}
        for size in ("1000000", "5000000"):
            on = SimpleNamespace(settings=Settings(kafka={"message.max.bytes": size}))
            found[size] = Topics(cast(Any, on), app.topology(), cast(Any, None))._large(admin, list(counts))
        assert found["1000000"].state == "ok"
        assert found["5000000"].state == "warning"
        assert "topic shop-n-changelog takes no batches of more than 1048588 bytes" in found["5000000"].text
        assert found["5000000"].advice.endswith("--entity-name shop-n-changelog --add-config max.message.bytes=5242940")


class TestCompletion:
    def complete(self, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
        monkeypatch.setenv("_KSTREAM_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        with pytest.raises(SystemExit) as ended:
            main([])
        assert not ended.value.code
        return capsys.readouterr().out.split()

    def test_commands_and_options(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.complete("kstream do", capsys, monkeypatch) == ["doctor"]
        assert self.complete("kstream lag x:y --m", capsys, monkeypatch) == ["--max"]

    def test_help_is_tidy(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--help"]) == 0
        assert "--install-completion" in capsys.readouterr().out

    def test_no_help_has_what_the_terminal_takes_for_markup(self) -> None:
        """`kstream state sql --help` asked for "the extra kstream": [sql] was taken for a style."""
        above: list[Any] = [get_command(commands)]
        while above:
            command = above.pop()
            for text in (command.help, *(getattr(one, "help", None) for one in command.params)):
                assert text is None or Text.from_markup(text).plain == text
            above += getattr(command, "commands", {}).values()
