"""`kstream run` on a real Kafka: whose lines are in which file, and a trace through the tasks of two workers."""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.observed_service import make_app
from kstream.config import Settings
from support.collector import Collector
from support.kafka import Reader, read, write
from support.running import Command, prepare, until

RECORDS = 40


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, collector: Collector) -> Iterator[tuple[str, Command]]:
    name = f"lines-{uuid.uuid4().hex[:8]}"
    prepare(make_app(name, 2), Settings(bootstrap_servers=bootstrap_servers))
    settings = {
        "bootstrap_servers": bootstrap_servers, "state_dir": tmp_path / "state", "instance": "one", "trace_sample": 1,
        "log_file": tmp_path / "logs" / "x.log", "slow_record": "0.3s", "web": "no",
    }  # fmt: skip
    command = Command(
        tmp_path / "run", "run", "broker.observed_service:app", "--workers", 2,
        *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
        KSTREAM_TEST_APP=name, KSTREAM_TEST_PARTITIONS="2", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )  # fmt: skip
    yield name, command
    command.end()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def given(command: Command) -> dict[str, int]:
    """By worker: the partitions that it was assigned last."""
    said = command.err.read_text()
    whole = said[: said.rfind("\n") + 1].splitlines()  # the last line may be on its way
    told = [line for line in map(json.loads, whole) if line["message"].startswith("assigned ")]
    return {line["worker"]: int(line["message"].split()[1]) for line in told}


def test_lines_and_spans_of_two_workers(
    service: tuple[str, Command], bootstrap_servers: str, tmp_path: Path, collector: Collector
) -> None:
    name, command = service
    # else the first one that is there does all the work
    until(lambda: given(command) == {"0": 2, "1": 2}, "both workers to have their share", 60)
    events = [{"number": number, "group": f"g{number % 5}"} for number in range(RECORDS)]
    events[7]["work"] = 0.5
    now = round(time.time() * 1000)  # records of long ago may be deleted at any time
    write(
        bootstrap_servers,
        f"{name}.events",
        [(f"k{event['number']}", json.dumps(event).encode(), now) for event in events],
    )
    reader = Reader(bootstrap_servers, [f"{name}.groups"])
    until(lambda: len(reader.rows[f"{name}.groups"]) == RECORDS, "the outputs", 60, each=reader.poll)
    reader.close()
    command.process.send_signal(signal.SIGTERM)
    assert command.wait(60) == 0, command.err.read_text()

    # lines: each process has its file, and says who it is
    files = {path.name: lines(path) for path in (tmp_path / "logs").iterdir()}
    assert files.keys() == {"x.log", "x-0.log", "x-1.log"}
    for file, found in files.items():
        worker = {"x.log": None, "x-0.log": "0", "x-1.log": "1"}[file]
        assert found, file
        assert {(line["app"], line.get("worker")) for line in found} == {(name, worker)}
        assert found[-1]["instance"] == "one"
    assert len(lines(command.err)) == sum(map(len, files.values()))  # the same on standard error
    all_lines = [line for found in files.values() for line in found]
    (worked,) = [
        row for row in read(bootstrap_servers, [f"{name}.events"])[f"{name}.events"] if b"work" in (row.value or b"")
    ]
    # what a busy machine holds up for so long is told too
    told = [line for line in all_lines if line["message"].startswith("slow record")]
    assert all(line["seconds"] >= 0.3 for line in told)
    (slow,) = [
        line
        for line in told
        if (line["topic"], line["partition"], line.get("offset")) == (f"{name}.events", worked.partition, worked.offset)
    ]
    assert (slow["level"], slow["marker"]) == ("warning", "PERFORMANCE")
    assert slow["task"] == f"{name}.events/{slow['partition']}"
    assert 0.5 <= slow["seconds"] < 30
    restored = [line for line in all_lines if line["message"].startswith("restored ")]
    assert {line["marker"] for line in restored} == {"PERFORMANCE"}
    assert not [line for line in all_lines if line["level"] in ("error", "critical")]

    # spans: each record is one trace, from its input to the last output, whichever workers had a part in it
    assert [one["service.instance.id"] for one in collector.resources] == ["one-0", "one-1"]
    assert {one["service.name"] for one in collector.resources} == {name}
    repartition = f"{name}-by-group-repartition"
    traces = defaultdict(list)
    for span in collector.spans:
        traces[span.trace_id].append(span)
    expected = sorted(
        [
            f"process {name}.events", "agent see", f"send {name}.seen", f"rekey {name}.events-rekey",
            f"send {repartition}", f"process {repartition}", "aggregate per-group", f"send {name}.groups",
        ]
    )  # fmt: skip
    assert len(traces) == RECORDS
    for spans in traces.values():
        assert sorted(span.name for span in spans) == expected
        by_id = {span.span_id: span for span in spans}
        parents = {span.name: by_id[span.parent_span_id].name for span in spans if span.parent_span_id}
        assert parents[f"process {repartition}"] == f"send {repartition}"
        assert parents[f"send {name}.groups"] == "aggregate per-group"
        assert parents[f"send {name}.seen"] == f"process {name}.events"  # sent in order, when the record is through
        assert len(parents) == len(spans) - 1
    assert not [one for span in collector.spans for one in span.attributes if one.key == "kstream.aborted"]
