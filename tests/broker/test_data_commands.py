"""`kstream send`, `tail` and `table` on a real Kafka, beside an app that runs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kafka import create, write
from support.running import Command, until

SERVICE = """
import kstream

app = kstream.App({name!r})
clicks = app.topic("{name}.clicks", key=str, value=dict, partitions=2)
counts = app.topic("{name}.counts", key=str, value=int, partitions=2)
app.stream(clicks).group_by(lambda click: click["page"], key=str, name="by-page").count(name="seen").to(counts)
"""


class Place:
    def __init__(self, path: Path, servers: str) -> None:
        self.path, self.servers, self.name = path, servers, f"data-{uuid.uuid4().hex[:8]}"
        (path / "service.py").write_text(SERVICE.format(name=self.name))
        self.commands: list[Command] = []

    def start(self, *arguments: str) -> Command:
        made = Command(
            self.path / f"said-{len(self.commands)}", *arguments, "--bootstrap-servers", self.servers, cwd=self.path
        )
        self.commands.append(made)
        return made

    def kstream(self, name: str, *arguments: str, input: str = "", status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "kstream.cli", name, "service:app", *arguments, "--bootstrap-servers", self.servers],
            cwd=self.path, input=input, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == status, (done.stdout, done.stderr)
        if status == 2:
            assert done.stdout == "" and done.stderr.count("\n") == 1
            return done.stderr
        return done.stdout


@pytest.fixture
def place(bootstrap_servers: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, bootstrap_servers)
    yield made
    for command in made.commands:
        command.end()


def test_what_is_sent_comes_out_at_the_other_end(place: Place) -> None:
    clicks, counts = f"{place.name}.clicks", f"{place.name}.counts"
    assert f"topic {clicks} is not at" in place.kstream("send", clicks, "{}", status=2)
    assert "kstream topics service:app --create" in place.kstream("tail", clicks, status=2)
    running = place.start(
        "run", "service:app", "--workers", "1", "--set", "web_port=0", "--set", "web_token=secret",
        "--set", "announce_interval=500ms", "--set", "session_timeout=60s",
    )  # fmt: skip
    until(lambda: "status page" in running.err.read_text(), "the topics to be made")
    follower = place.start("tail", "service:app", counts, "--from", "beginning", "--count", "3", "--json")

    sent = place.kstream(
        "send", clicks, '{"page": "home"}', '{"page": "news"}', "--key", "ann", "--header", "from=test"
    )
    assert sent == f"2 records sent to {clicks}\n"
    assert place.kstream("send", clicks, "--timestamp", "2026-01-31T12:00:00Z", input='{"page": "home"}\n') == (
        f"1 record sent to {clicks}\n"
    )
    assert follower.wait() == 0
    rows = [json.loads(row) for row in follower.out.read_text().splitlines()]
    assert sorted((row["key"], row["value"]) for row in rows) == [("home", 1), ("home", 2), ("news", 1)]

    seen = [
        json.loads(row) for row in place.kstream("tail", clicks, "--from", "beginning", "--once", "--json").splitlines()
    ]
    assert {row["key"] for row in seen} == {"ann", None}
    assert [row["headers"] for row in seen if row["key"]] == [[["from", "test"]]] * 2
    assert [row["timestamp"] for row in seen if row["key"] is None] == [1_769_860_800_000]
    later = place.kstream("tail", clicks, "--from", "2026-02-01", "--once", "--grep", "news")
    assert later.count("\n") == 1 and '{"page":"news"}  from=test' in later
    assert place.kstream("tail", f"{place.name}-by-page-repartition", "--once") == ""
    changes = place.kstream("tail", f"{place.name}-seen-changelog", "--from", "beginning", "--once", "--grep", "^news")
    assert changes.rstrip().endswith("news  1")

    assert place.kstream("table", "seen", "home") == "2\n"
    assert place.kstream("table", "seen", "never", status=1) == ""
    entries = [json.loads(row) for row in place.kstream("table", "seen", "--json").splitlines()]
    assert entries == [{"key": "home", "value": 2}, {"key": "news", "value": 1}]
    assert "2 keys" in place.kstream("table", "seen")
    found = re.search(r"status page: (http://[\d.:]+)", running.err.read_text())
    assert found is not None
    page = ("--url", found[1], "--token", "secret")
    assert place.kstream("table", "seen", "home", *page) == "2\n"
    assert json.loads(place.kstream("table", "seen", "news", "--json", *page)) == {"key": "news", "value": 1}
    assert place.kstream("table", "seen", "never", *page, status=1) == ""
    assert "wants another token" in place.kstream("table", "seen", "home", "--url", found[1], status=2)
    assert "which key?" in place.kstream("table", "seen", *page, status=2)
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    rows = map(json.loads, running.err.read_text().splitlines())
    lines = [row["message"] for row in rows if row["logger"] != "kstream.kafka"]  # librdkafka has its own to tell
    assert lines[0].startswith(f"app {place.name} with kstream 0.") and place.servers in lines[0]
    assert lines[1].startswith("created topics, with partitions: ") and f"{place.name}-seen-changelog (2)" in lines[1]
    assert lines[2].startswith(f"4 tasks; reads, with partitions: {clicks} (2), ")
    assert sum(line.startswith("restored 4 tasks, all of them run") for line in lines) == 1, lines
    assert lines[-1] == "stopped" and len(lines) <= 8, lines


def test_records_that_cannot_be_decoded_and_that_kafka_refuses(place: Place) -> None:
    clicks = f"{place.name}.clicks"
    create(place.servers, clicks, 2, max_message_bytes="1000")
    write(place.servers, clicks, [("ann", b"{no", 1_700_000_000_000), ("ann", b'{"page":"home"}', 1_700_000_001_000)])
    shown = place.kstream("tail", clicks, "--from", "beginning", "--once").splitlines()
    assert len(shown) == 2 and "{no  value cannot be decoded: " in shown[0]
    (tiny, long) = ({"page": "x"}, {"page": uuid.uuid4().hex * 200})
    said = place.kstream("send", clicks, json.dumps(tiny), json.dumps(long), "--set", "compression=none", status=2)
    assert f"a record to {clicks} was not delivered: " in said and "arge" in said
    assert "--partition 2: topic" in place.kstream("send", clicks, "{}", "--partition", "2", status=2)
    said = place.kstream("send", clicks, input='{"page": "a"}\n7\n', status=2)
    assert "standard input:2: the value is not dict" in said and said.rstrip().endswith("; 1 record before it sent")


def test_tail_ends_with_who_reads_it_and_with_ctrl_c(place: Place) -> None:
    clicks = f"{place.name}.clicks"
    create(place.servers, clicks, 1)
    write(place.servers, clicks, [("ann", b'{"page":"home"}', 1_700_000_000_000)] * 20_000)
    command = f"{sys.executable} -m kstream.cli tail service:app {clicks} --json" \
        f" --bootstrap-servers {place.servers}"  # fmt: skip
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} --from beginning | head -n 2"],
        cwd=place.path, capture_output=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, 2, b"")
    following = subprocess.Popen(
        # what a shell starts in the background ignores Ctrl-C, with all below
        ["env", "--default-signal=INT", *command.split(), "--from", "19999"],
        cwd=place.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert following.stdout is not None and b'"offset":19999' in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=60) == (b"", b"") and following.returncode == 0
