"""`kstream dlq` on a real Kafka, beside an app that runs: from a record that fails to one that does not.

Kills and two at a time are in tests/faults/test_dlq.py.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from kstream.cli import main
from support.kafka import SECONDS, create, ends, read, write
from support.running import Command, until

SERVICE = """
from pathlib import Path

import kstream

app = kstream.App({name!r}, on_error=[kstream.DeadLetter()])
forever = {{"retention.ms": "-1"}}
orders = app.topic("{name}.orders", key=str, value=int, partitions=2, config=forever)
prices = app.topic("{name}.prices", key=str, value=int, partitions=2, config=forever)
mended = Path(__file__).with_name("mended")


def price(n: int) -> int:
    if n < 0 and not mended.exists():
        raise ValueError("no price\\x1b[2J for " + str(n))
    return n


app.stream(orders).map(price).to(prices)
plain = kstream.App("{name}-plain")
plain.stream(plain.topic("{name}.orders", key=str, value=int)).to(plain.topic("{name}.x", key=str, value=int))
"""


class Place:
    def __init__(self, path: Path, servers: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.servers, self.capsys = path, servers, capsys
        self.name = f"dlq{uuid.uuid4().hex[:8]}"
        (path / f"{self.name}.py").write_text(SERVICE.format(name=self.name))
        self.orders, self.prices, self.letters = (
            f"{self.name}.orders",
            f"{self.name}.prices",
            f"{self.name}-dead-letters",
        )
        self.running: Command | None = None

    def start(self) -> None:
        self.running = Command(
            self.path / "said", "run", f"{self.name}:app", "--workers", "1", "--bootstrap-servers", self.servers,
            "--set", "announce_interval=0", "--set", "web_port=0", "--set", "web_token=secret", cwd=self.path,
        )  # fmt: skip

    def stop(self) -> None:
        assert self.running is not None
        self.running.process.send_signal(signal.SIGTERM)
        assert self.running.wait() == 0

    def dlq(self, *arguments: str, status: int = 0, app: str = "app") -> str:
        self.capsys.readouterr()
        name, *more = arguments
        found = main(["dlq", name, f"{self.name}:{app}", *more, "--bootstrap-servers", self.servers])
        out, err = self.capsys.readouterr()
        assert found == status, (found, out, err)
        if status == 2:
            assert out == "" and err.count("\n") == 1
            return str(err)
        return str(out)

    def page(self, path: str) -> Any:
        """What the status page's API says of the dead letters."""
        assert self.running is not None
        (url,) = set(re.findall(r"status page: (http://[\d.:]+)", self.running.err.read_text()))
        request = urllib.request.Request(f"{url}/api/dead-letters{path}", headers={"Authorization": "Bearer secret"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def rows(self, *arguments: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.dlq("list", "--json", *arguments).splitlines()]

    def put_out(self) -> list[int]:
        return sorted(int(row.value or b"") for row in read(self.servers, [self.prices])[self.prices])


@pytest.fixture
def place(
    bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")  # whatever terminal the tests run in
    monkeypatch.setattr(sys, "path", sys.path[:])
    made = Place(tmp_path, bootstrap_servers, capsys)
    yield made
    sys.modules.pop(made.name, None)
    if made.running is not None:
        made.running.end()


def test_from_a_record_that_fails_to_one_that_does_not(place: Place) -> None:
    assert "is made when the app starts" in place.dlq("list", status=2)
    place.start()
    until(lambda: place.running and "all of them run" in place.running.err.read_text(), "the app")
    old = 1_500_000_000_000  # a letter about it would be deleted at once, were it kept for a week
    write(place.servers, place.orders, [("a", b"1", old), ("a", b"-1", old), ("b", b"x", old), ("a", b"2", old)])
    until(lambda: len(place.rows()) == 2, "the letters", each=lambda: None)
    assert place.put_out() == [1, 2]

    by_key = {row["key"]: row for row in place.rows()}
    failed, unread = by_key["a"], by_key["b"]
    assert (failed["exception"], failed["value"], failed["timestamp"]) == ("builtins.ValueError", -1, old)
    assert unread["value"] == "x" and "undecodable" in unread
    source = failed["source"]
    assert isinstance(source, dict) and (source["topic"], source["offset"]) == (place.orders, 1)
    assert (failed["phase"], unread["phase"]) == ("process", "decode") and failed["attempts"], failed
    assert failed["agent"]
    assert "a" in {row["key"] for row in place.rows("--agent", str(failed["agent"]).rpartition(" ")[2])}
    listed = place.dlq("list")
    assert "2 dead letters" in listed and "no price\\u001b[2J for -1" in listed and "\x1b" not in listed
    assert place.dlq("list", "--reason", "ValueError").count("no price") == 1
    assert "\n1 dead letter\n" in place.dlq("list", "--reason", "ValueError", "--source", place.orders)
    assert "\n0 dead letters\n" in place.dlq("list", "--until", "2020-01-01")
    name = f"{failed['partition']}:{failed['offset']}"
    shown = place.dlq("show", name)
    assert f"from           {place.orders}[" in shown and "value          -1\n" in shown and ", in price\n" in shown
    assert json.loads(place.dlq("show", name, "--json"))["message"] == "no price\x1b[2J for -1"

    seen = place.page("")
    assert (seen["topics"], seen["looked"], len(seen["letters"])) == ([place.letters], 2, 2)
    one = place.page(f"/{place.letters}/{failed['partition']}/{failed['offset']}")
    assert (one["value"], one["message"], one["letter"]["handled"]) == ("-1", "no price\x1b[2J for -1", None)
    assert ", in price\n" in one["stacktrace"]

    # replayed without being mended it fails again, as a new letter that says so
    assert place.dlq("replay", name, "--dry-run") == f"would replay 1 dead letter to {place.orders}\n"
    assert place.dlq("replay", name) == f"replayed 1 dead letter to {place.orders}\n"
    until(lambda: [row.get("replays") for row in place.rows("--reason", "ValueError")] == [1], "the new letter")
    place.stop()
    (place.path / "mended").touch()
    assert place.dlq("replay", "--reason", "ValueError").startswith(f"replayed 1 dead letter to {place.orders}\n")
    place.start()
    until(lambda: place.put_out() == [-1, 1, 2], "the record that is mended")

    handled = place.rows("--all")
    marks: list[Any] = [row.get("handled", {"what": "-"}) for row in handled]
    assert sorted(mark["what"] for mark in marks) == ["-", "replayed", "replayed"]
    assert "would give up 1 dead letter of " in place.dlq("purge", "--dry-run")
    out = place.dlq("purge", "--yes")
    assert out.startswith("gave up 1 dead letter\n2 dead letters handled before\ndeleted what is before offset ")
    assert place.rows("--all") == []
    assert all(start > 0 for start, end in ends(place.servers, place.letters) if end)
    place.stop()


def test_what_is_wrong_is_one_line_and_status_2(place: Place) -> None:
    create(place.servers, place.orders, 1)
    create(place.servers, place.letters, 2, retention_ms="-1")
    said = place.dlq("list", app="plain", status=2)
    assert f"app {place.name}-plain has no policy that writes dead letters" in said and "--topic" in said
    assert "there is no topic nowhere" in place.dlq("list", "--topic", "nowhere", status=2)
    for bad in ("x", "1:", "1:x", "nowhere:1:2"):
        place.dlq("show", bad, status=2)
        place.dlq("replay", bad, status=2)
    assert "there is no dead letter 1:7" in place.dlq("show", "1:7", status=2)
    assert "there is no dead letter 1:7, 9:0" in place.dlq("replay", "9:0", "1:7", status=2)
    assert "--since noon: not a time" in place.dlq("list", "--since", "noon", status=2)
    assert "--to nowhere: there is no such topic" in place.dlq("replay", "--to", "nowhere", status=2)
    assert "name another topic" in place.dlq("replay", "--to", place.letters, status=2)


def test_letters_of_another_program_go_where_one_says(place: Place) -> None:
    """Kafka Streams': its headers only, and no codec of ours."""
    other, fixed = f"{place.name}.streams-dlq", f"{place.name}.fixed"
    for topic in (other, fixed):
        create(place.servers, topic, 1)
    producer = Producer({"bootstrap.servers": place.servers})
    producer.produce(other, b"\xff\x1b[2J", b"k", headers=[
        ("__streams.errors.exception", b"java.lang.NullPointerException"), ("__streams.errors.topic", b"in"),
    ])  # fmt: skip
    assert producer.flush(SECONDS) == 0
    listed = place.dlq("list", "--topic", other, app="plain")
    assert "java.lang.NullPointerException" in listed
    assert "\\xff\\u001b[2J" in place.dlq("show", "0:0", "--topic", other, app="plain")
    left = place.dlq("replay", "--topic", other, app="plain", status=1)
    assert left == "left 1 dead letter: in is no input of the app: give --to (0:0)\n"
    assert place.dlq("replay", "--topic", other, "--to", fixed, app="plain") == f"replayed 1 dead letter to {fixed}\n"
    (row,) = read(place.servers, [fixed])[fixed]
    assert (row.key, row.value) == (b"k", b"\xff\x1b[2J")


def test_the_list_ends_with_who_reads_it(place: Place) -> None:
    create(place.servers, place.letters, 1, retention_ms="-1")
    write(place.servers, place.letters, [("k", b"v" * 100, 1_700_000_000_000)] * 5000)
    command = f"{sys.executable} -m kstream.cli dlq list {place.name}:app --json --bootstrap-servers {place.servers}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -n 2"], cwd=place.path, capture_output=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, 2, b"")
