"""A service on a real Kafka that is rolled from an earlier version of kstream to this one and back, and one that meets
what a later version wrote; exactly once throughout."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from kstream import Windowed
from kstream.specs.schema import schema
from support.kafka import SECONDS, Reader, create, ends, read, write
from support.running import TESTS, Command, until

EARLIER = "9f7e8bfc4b8de271ab6203dabe580294564a071b"
"""The last commit whose announcements, dead letters and control topic had no numbers."""
TARGET = "broker.upgraded_service:app"
WORDS = ("a", "b", "c", "d", "e")
STEP = 10_000
"""Milliseconds of event time that one phase is after the other: a window's length."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as it was."""
    git = ["git", "-C", str(TESTS.parent)]
    if subprocess.run([*git, "cat-file", "-e", f"{EARLIER}^{{commit}}"], capture_output=True, check=False).returncode:
        pytest.skip("the history of the repository is not here")
    archive = subprocess.run([*git, "archive", EARLIER, "kstream"], capture_output=True, check=True).stdout
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


class Service:
    """Instances by name, and what they are given: each phase is some of each word, ten seconds after the last."""

    def __init__(self, servers: str, directory: Path) -> None:
        self.servers, self.directory = servers, directory
        self.name = f"upgraded-{uuid.uuid4().hex[:8]}"
        self.running: dict[str, Command] = {}
        self.started: list[Command] = []
        self.expected: list[Counter[str]] = []
        self._base = int(time.time()) // 10 * STEP - 100 * STEP
        for topic in ("lines", "counts", "windows"):
            create(servers, f"{self.name}.{topic}", 2)
        until(lambda: f"{self.name}.counts" in self.topics(), "topics to be known")
        self.reader = Reader(servers, [f"{self.name}.counts"])

    def topics(self) -> set[str]:
        """All that there are."""
        return set(AdminClient({"bootstrap.servers": self.servers}).list_topics(timeout=SECONDS).topics)

    def start(self, instance: str, package: Path = TESTS.parent, **environment: str) -> Command:
        self.running[instance] = self.command(
            package, "run", TARGET, "--instance", instance, "--workers", "1", **environment
        )
        return self.running[instance]

    def command(self, package: Path, *arguments: object, **environment: str) -> Command:
        given = {
            "PYTHONPATH": os.pathsep.join([str(package), str(TESTS)]), "KSTREAM_TEST_APP": self.name,
            "KSTREAM_BOOTSTRAP_SERVERS": self.servers, "KSTREAM_STATE_DIR": str(self.directory / "state"),
            "KSTREAM_COMMIT_INTERVAL": "50ms", "KSTREAM_WEB": "false", "KSTREAM_ANNOUNCE_INTERVAL": "500ms",
            "KSTREAM_ON_STOP": "leave", "KSTREAM_LOG_FORMAT": "json", "KSTREAM_RESTART_INITIAL": "1s", **environment,
        }  # fmt: skip
        folder = self.directory / f"run{len(self.started)}"
        folder.mkdir()
        self.started.append(Command(folder, *arguments, cwd=folder, **given))
        return self.started[-1]

    def stop(self, instance: str) -> None:
        one = self.running.pop(instance)
        one.process.terminate()
        assert one.wait() == 0, one.err.read_text()

    def feed(self, *, bad: int = 1) -> None:
        """A phase."""
        number = len(self.expected)
        at, share = self._base + number * STEP, Counter({word: 3 + place for place, word in enumerate(WORDS)})
        rows = [(f"k{n}", word.encode(), at) for n, word in enumerate(share.elements())]
        write(self.servers, f"{self.name}.lines", [*rows, *((f"k{n}", b"bad", at) for n in range(bad))])
        self.expected.append(share)

    def settle(self) -> None:
        """Until all that was fed is counted."""
        total = sum(share.total() for share in self.expected)
        rows = self.reader.rows[f"{self.name}.counts"]
        until(lambda: len(rows) >= total, f"{total} counts", 120, each=self.reader.poll)

    def check(self) -> None:
        """Each record was counted once, in order; each bad one is a dead letter; windows that are over have all."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        letters, closed = f"{self.name}-dead-letters", f"{self.name}.windows"
        until(lambda: len(read(self.servers, [letters])[letters]) >= len(self.expected), "the dead letters")
        over = (len(self.expected) - 1) * len(WORDS)
        until(lambda: len(read(self.servers, [closed])[closed]) >= over, "windows to close")
        topics = read(self.servers, [f"{self.name}.counts", closed, letters])
        for row in topics[f"{self.name}.counts"]:
            found[row.key.decode()].append(int(row.value or b""))
        sums = Counter[str]()
        for share in self.expected:
            sums += share
        assert found == {word: list(range(1, count + 1)) for word, count in sums.items()}
        assert [row.value for row in topics[letters]] == [b"bad"] * len(self.expected)
        decode, windows = schema(Windowed[str], "key", key=True).codec.decode, dict[tuple[str, int], int]()
        for row in topics[closed]:
            key = decode(row.key)
            assert (key.key, key.start) not in windows, "a window has one result"
            windows[key.key, key.start] = int(row.value or b"")
        assert windows == {
            (word, self._base + number * STEP): count
            for number, share in enumerate(self.expected[:-1])
            for word, count in share.items()
        }

    def lines(self) -> list[str]:
        """What instances said that is worse than information."""
        told = (line for one in self.started for line in one.err.read_text().splitlines() if line.startswith("{"))
        return [line for line in told if json.loads(line).get("level", "").lower() in ("warning", "error")]

    def end(self) -> None:
        self.reader.close()
        for one in self.started:
            one.end()


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path) -> Iterator[Service]:
    made = Service(bootstrap_servers, tmp_path)
    yield made
    made.end()


@pytest.mark.more
def test_a_roll_from_an_earlier_version_and_back(service: Service, earlier: Path) -> None:
    """One instance after the other, with records at each step: both versions read what the other wrote."""
    now = TESTS.parent
    for instance in ("one", "two"):
        service.start(instance, earlier)
    service.feed()
    service.settle()
    for package in (now, earlier):
        for instance in ("one", "two"):
            service.feed()
            service.stop(instance)
            service.feed()
            service.start(instance, package)
            service.settle()
    service.feed()
    service.settle()
    service.check()
    assert not [line for line in service.lines() if "later version" in line or "late" in line], service.lines()


@pytest.mark.more
def test_what_a_later_version_wrote_stops_the_tasks_and_no_more(service: Service) -> None:
    """The version before has a number less: it says so in a line, counts nothing, and the later one goes on."""
    service.feed()
    service.start("one")
    service.settle()
    service.stop("one")
    service.feed()
    less = service.start("one", KSTREAM_TEST_LESS="1")
    said = "a later version of kstream wrote it (offset metadata of form 1, this one reads up to 0)"
    until(lambda: said in less.err.read_text(), "the line")
    rows = service.reader.rows[f"{service.name}.counts"]
    service.reader.poll()
    assert len(rows) == service.expected[0].total()
    assert all("run the later version again" in line for line in service.lines() if said in line)
    service.stop("one")
    service.start("one")
    service.settle()
    service.feed()
    service.settle()
    service.check()


@pytest.mark.more
def test_doctor_asks_whether_a_store_was_renamed(service: Service) -> None:
    service.feed()
    service.start("one")
    service.settle()
    announced = f"{service.name}-instances"
    until(lambda: announced in service.topics() and any(end for _, end in ends(service.servers, announced)), "its word")
    running = service.command(TESTS.parent, "doctor", TARGET, "--json")
    running.wait()
    found = {one["name"]: one for one in json.loads(running.out.read_text())}
    mine = ("restore", "left topics", "names of stores", "state and offsets", "running versions")
    assert {name: found[name]["state"] for name in mine} == dict.fromkeys(mine, "ok"), found
    assert "1 instance of kstream" in found["running versions"]["text"]
    service.stop("one")
    renamed = service.command(TESTS.parent, "doctor", TARGET, "--json", KSTREAM_TEST_STORE="readers")
    renamed.wait()
    found = {one["name"]: one for one in json.loads(renamed.out.read_text())}
    assert found["names of stores"]["state"] == "warning"
    text = found["names of stores"]["text"]
    assert "store seen is gone" in text and "readers is new" in text
    assert {found[name]["state"] for name in ("left topics", "state and offsets", "stored types")} == {"ok"}
