"""Workers are killed between the move of a record into its delay topic and the commit, and while records wait there:
each record is processed or a dead letter in the end, once, as it was. Read with plain clients."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from faults.delaying_service import lasting, make_app, passing
from kstream.config import Settings
from support.kafka import Reader, write
from support.running import Instance, kill, prepare, until
from support.scenario import QUICK

COUNT, KEYS = 280, 10
AT = ["send_offsets:before", "commit_transaction:before", "commit_transaction:after", "apply_to_state:before"]


class Delaying:
    """The service, its input and its output."""

    def __init__(self, servers: str, directory: Path, monkeypatch: pytest.MonkeyPatch, fault: str = "") -> None:
        self.servers, self.directory, self.name = servers, directory, f"delaying-{uuid.uuid4().hex[:8]}"
        monkeypatch.setenv("KSTREAM_TEST_APP", self.name)
        monkeypatch.setenv("KSTREAM_TEST_DIR", str(directory))
        if fault:
            monkeypatch.setenv("KSTREAM_TEST_KILL", fault)
        settings = Settings(bootstrap_servers=servers, state_dir=str(directory / "state"), instance="a", **QUICK)
        app = make_app(self.name)
        partitions = prepare(app, settings)
        self.orders, self.paid, self.letters = f"{self.name}.orders", f"{self.name}.paid", f"{self.name}-dead-letters"
        self.delays = [delay.topic for delay in app.topology().parts[0].delays]
        self.output = Reader(servers, [self.paid, self.letters, *self.delays])
        self.instance = Instance("faults.delaying_service:app", self.name, "a", settings, partitions)
        self.fed = 0

    def feed(self, count: int) -> None:
        numbers = range(self.fed, self.fed + count)
        now = round(time.time() * 1000)
        write(self.servers, self.orders, ((f"k{n % KEYS}", json.dumps(n).encode(), now) for n in numbers))
        self.fed += count

    def poll(self) -> None:
        self.instance.poll()
        self.output.poll(0.0)

    def mend(self) -> None:
        """Once some of what passes was set aside."""
        first = self.output.rows[self.delays[0]]
        until(
            lambda: any(passing(json.loads(row.value or b"")) for row in first), "a record to be set aside",
            each=self.poll,
        )  # fmt: skip
        (self.directory / "mended").touch()

    def seen(self, topic: str) -> int:
        return len(self.output.rows[topic])

    def finish(self, killed: int) -> None:
        """All that was fed is through, once."""
        until(lambda: self.seen(self.paid) + self.seen(self.letters) >= self.fed, "all records", each=self.poll)
        self.instance.stop()
        self.output.poll(1.0)
        bad = [n for n in range(self.fed) if lasting(n)]
        rows = self.output.rows
        assert Counter(json.loads(row.value or b"") for row in rows[self.letters]) == Counter(bad)
        good = Counter(f"k{n % KEYS}".encode() for n in range(self.fed) if not lasting(n))
        assert Counter(row.key for row in rows[self.paid]) == good
        for key, count in good.items():  # state has nothing of attempts that failed, or were undone
            counts = [json.loads(row.value or b"") for row in rows[self.paid] if row.key == key]
            assert sorted(counts) == list(range(1, count + 1))
        for letter in rows[self.letters]:
            said = dict(letter.headers)
            assert (said["kstream.attempts"], said["__streams.errors.topic"]) == (b"3", self.orders.encode())
            assert letter.key == f"k{json.loads(letter.value or b'') % KEYS}".encode()
        moved = [Counter(json.loads(row.value or b"") for row in rows[topic]) for topic in self.delays]
        assert all(set(one.values()) <= {1} for one in moved)
        assert set(bad) <= set(moved[0]) and set(bad) <= set(moved[1])
        assert any(passing(n) for n in moved[0])
        assert self.instance.restarts == killed


@pytest.mark.parametrize("at", AT)
def test_killed_between_the_move_and_the_commit(
    at: str, bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Delaying(bootstrap_servers, tmp_path, monkeypatch, f"{at}:2")
    try:
        (tmp_path / "armed").touch()
        service.feed(COUNT // 2)
        until((tmp_path / "struck").exists, "the fault to strike", each=service.poll)
        service.feed(COUNT // 2)
        service.mend()
        service.finish(killed=1)
    finally:
        service.output.close()
        service.instance.kill()


def test_killed_while_records_wait(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Delaying(bootstrap_servers, tmp_path, monkeypatch)
    try:
        service.feed(COUNT)
        service.mend()
        for nth, topic in enumerate(service.delays):
            until(lambda: service.seen(topic) > 0, f"records in {topic}", each=service.poll)  # noqa: B023
            (pid,) = service.instance.pids
            kill(pid)
            until(lambda: service.instance.restarts == nth + 1, "the worker to be started again", each=service.poll)  # noqa: B023
        service.finish(killed=2)
    finally:
        service.output.close()
        service.instance.kill()
