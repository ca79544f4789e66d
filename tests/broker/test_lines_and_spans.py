"""`kstream run` on a real Kafka: whose lines are in which file, and a trace through the tasks of two workers."""

from __future__ import annotations

import json
import signal
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.observed_service import make_app
from kstream.config import Settings
from support.collector import Collector
from support.kafka import Reader, write
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


def test_lines_and_spans_of_two_workers(
    service: tuple[str, Command], bootstrap_servers: str, tmp_path: Path, collector: Collector
) -> None:
    name, command = service
    events = [{"number": number, "group": f"g{number % 5}"} for number in range(RECORDS)]
    events[7]["work"] = 0.5
    write(
        bootstrap_servers,
        f"{name}.events",
        [(f"k{event['number']}", json.dumps(event).encode(), 1_700_000_000_000) for event in events],
    )
    reader = Reader(bootstrap_servers, [f"{name}.groups"])
    until(lambda: len(reader.rows[f"{name}.groups"]) == RECORDS, "the outputs", 60, each=reader.poll)
    reader.close()
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0, command.err.read_text()

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
    (slow,) = [line for line in all_lines if line["message"].startswith("slow record")]
    assert (slow["level"], slow["marker"], slow["topic"]) == ("warning", "PERFORMANCE", f"{name}.events")
    assert slow["task"] == f"{name}.events/{slow['partition']}"
    assert "offset" in slow and 0.5 <= slow["seconds"] < 5
    restored = [line for line in all_lines if "of restore" in line["message"]]
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
