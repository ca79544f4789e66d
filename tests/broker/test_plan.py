"""`kstream plan` measures real apps on a real broker of its own: what is known beforehand must come out."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from support.kafka import create, ends, write
from support.running import Command

SERVICE = """
import time

import kstream

app = kstream.App({name!r}, kafka={{"sasl.mechanism": "PLAIN", "security.protocol": "SASL_PLAINTEXT"}})
lines = app.topic("{name}.lines", key=str, value=str, config={{"min.insync.replicas": "3"}})
words = app.topic("{name}.words", key=str, value=int)
slept = app.topic("{name}.slept", key=str, value=str)

app.stream(lines).flat_map(str.split).group_by(lambda word: word, key=str, name="by-word").count(name="seen").to(words)


@app.agent(lines, to=slept, group="sleepy")
def sleep(line: str) -> str:
    time.sleep(0.002)
    return line


@app.agent(lines, group="busy")
def work(line: str) -> None:
    end = time.thread_time() + 0.0005
    while time.thread_time() < end:
        pass
"""

SIMPLE = """
import kstream

app = kstream.App({name!r})
lines = app.topic("{name}.lines", key=str, value=str, partitions=3)


def length(line: str) -> int:
    return 10 // len(line)


app.stream(lines).map(length).group_by_key().aggregate(int, lambda total, value: total + value, name="seen")
"""

Planned = Callable[..., Command]


@pytest.fixture
def name() -> str:
    return f"plan-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def planned(name: str, tmp_path: Path, bootstrap_servers: str) -> Iterator[Planned]:
    commands: list[Command] = []

    def plan(service: str, *arguments: object, rate: str = "10k") -> Command:
        (tmp_path / "service.py").write_text(service.format(name=name))
        command = Command(
            tmp_path / f"said-{len(commands)}", "plan", "service:app", "--rate", rate, "--seconds", "1", *arguments,
            cwd=tmp_path, KSTREAM_BOOTSTRAP_SERVERS=bootstrap_servers, TMPDIR=str(tmp_path),
        )  # fmt: skip
        commands.append(command)
        return command

    yield plan
    for command in commands:
        command.end()


def answer(command: Command) -> Any:
    assert command.wait(240) == 0, command.err.read_text()
    assert command.err.read_text() == "", "neither logs nor bars where there is no terminal"
    return json.loads(command.out.read_text())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_known_comes_out(name: str, planned: Planned, tmp_path: Path) -> None:
    """Three words a line; one group sleeps 2 ms a record, another one computes 0.5 ms; 30 keys, 5 words."""
    sample = tmp_path / "sample.jsonl"
    lines = [{"key": f"k{n % 30}", "value": f"w{n % 5} w{n % 5} w{n % 5}"} for n in range(60)]
    sample.write_text("\n".join(map(json.dumps, lines)))
    found = answer(planned(SERVICE, "--records", sample, "--keys", "1M", "--cores", "4", "--json"))

    measured, plan = found["measured"], found["plan"]
    assert (measured["sample"], measured["keys"]) == (60, 30)
    assert measured["hottest"] == pytest.approx(1 / 30)
    assert measured["input_bytes"] == pytest.approx(sum(len(one["key"] + one["value"]) for one in lines) / 60)
    parts = {part["name"].removeprefix(name): part for part in measured["parts"]}
    assert {at: (part["group"], part["records"]) for at, part in parts.items()} == {
        ".lines": ("default", 1.0),
        "-by-word-repartition": ("default", 3.0),
        ".lines@sleepy": ("sleepy", 1.0),
        ".lines@busy": ("busy", 1.0),
    }
    assert parts[".lines@sleepy"]["time"] >= 0.002, "blocking takes a worker's time"
    assert parts[".lines@sleepy"]["cpu"] < 0.001, "and no processor's"
    assert 0.0005 <= parts[".lines@busy"]["cpu"] < 0.002
    assert parts[".lines@busy"]["time"] >= 0.0005
    light = parts[".lines"]["cpu"] + 3 * parts["-by-word-repartition"]["cpu"]
    assert light < 0.0002, "measured by itself, not beside those that hold it up"
    assert parts["-by-word-repartition"]["writes"] == [f"{name}.words"]

    (store,) = measured["stores"]
    assert (store["name"], store["entries"]) == ("seen", 5)
    assert 3 <= store["entry"] <= 12  # a word of two letters, and how often it was seen
    assert plan["state"]["entries"] == 1_000_000 and plan["state"]["bytes"] == pytest.approx(1e6 * store["entry"])
    # three for the repartition topic, three for the words, one for those that slept, and what the changelog takes
    assert measured["written"] - measured["changelog"] == pytest.approx(7.0)
    assert 0 < measured["changelog"] <= 3
    assert measured["read_bytes"] > 3 * measured["input_bytes"], "three groups read the lines"

    groups = {group["name"]: group for group in plan["groups"]}
    assert groups["sleepy"]["needed"] >= 10_000 * 0.002 / 0.7 and groups["sleepy"]["instances"] < 10
    assert groups["sleepy"]["workers_per_instance"] > 4, "those that sleep may be more than the cores"
    assert plan["capacity"] >= 10_000
    assert set(plan["partitions"].values()) <= {group["partitions"] for group in groups.values()}
    assert found["arithmetic"] and found["limits"]
    workers = [one["workers"] for one in found["other_rates"]]
    assert workers == sorted(workers) and "group sleepy" in found["other_rates"][-1]["binds"]
    assert any("said" in note and "times over" in note for note in found["notes"])
    assert not list(tmp_path.glob("kstream-*")), "the broker and the state are gone"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_apps_own_topics_are_read_and_left_alone(name: str, planned: Planned, bootstrap_servers: str) -> None:
    create(bootstrap_servers, f"{name}.lines", 2)
    write(bootstrap_servers, f"{name}.lines", [(f"k{n}", json.dumps(n).encode(), 0) for n in range(100)])
    before = ends(bootstrap_servers, f"{name}.lines")
    command = planned(SIMPLE, rate="1k")
    assert command.wait(240) == 0, command.err.read_text()
    text = command.out.read_text()
    for heading in ("Measured", "Proposal", "Sub-topologies", "Arithmetic", "Limits", "At other rates"):
        assert f"\n{heading}\n" in text
    assert f"the latest records of {name}.lines at {bootstrap_servers}, 100 records with 100 keys" in " ".join(
        text.split()
    )
    assert ends(bootstrap_servers, f"{name}.lines") == before
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    assert [topic for topic in admin.list_topics(timeout=60).topics if topic.startswith(name)] == [f"{name}.lines"]
    groups = admin.list_consumer_groups(request_timeout=60).result().valid
    assert not any(group.group_id.startswith(name) for group in groups)


@pytest.mark.timeout(300)
def test_an_app_that_fails_on_the_sample_says_so(planned: Planned, tmp_path: Path) -> None:
    sample = tmp_path / "sample.jsonl"
    sample.write_text('{"key": "a", "value": "fine"}\n{"key": "b", "value": ""}\n')
    command = planned(SIMPLE, "--records", sample)
    assert command.wait(240) == 1
    (line,) = command.err.read_text().splitlines()
    assert line.startswith("kstream: the app fails on the sample: task ") and "ZeroDivisionError" in line
    assert command.out.read_text() == ""


def test_without_records_anywhere_it_says_what_to_give(name: str, planned: Planned, bootstrap_servers: str) -> None:
    command = planned(SIMPLE)
    assert command.wait(100) == 2
    (line,) = command.err.read_text().splitlines()
    assert f"no sample: {name}.lines are not at {bootstrap_servers}: give a sample with --records FILE" in line
    create(bootstrap_servers, f"{name}.lines", 2)
    command = planned(SIMPLE)
    assert command.wait(100) == 2
    assert f"no sample: nothing is in {name}.lines at {bootstrap_servers}" in command.err.read_text()
