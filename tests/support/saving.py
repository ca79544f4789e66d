"""An app whose outputs number themselves, to be saved and restored: what must come after a savepoint is known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kstream.cli import main
from kstream.config import Settings
from kstream.runtime.cluster.records import Reading, Row, bounds, looking, to_end
from kstream.state.savepoint import read_savepoint
from kstream.state.snapshots.storage import open_storage
from kstream.types import ProducerClient, TopicPartition
from support.kafka import Reader
from support.running import TESTS, Command, until, write_module

BOTH = ("counts", "seen")

SERVICE = """
import asyncio
from pathlib import Path

import kstream

app = kstream.App({name!r}, default_partitions={partitions})
words = app.topic("{source}", key=str, value=str)
counts = app.topic("{name}.counts", key=str, value=int)
seen = app.topic("{name}.seen", key=str, value=int)
table = app.table("seen", key=str, value=int, default=0)

app.stream(words).group_by(lambda word: word, key=str, name="by-word").count(name={count!r}).to(counts)


@app.agent(words, to=seen)
async def number(stream):
    async for event in stream.events():
        while Path("slow").exists():
            await asyncio.sleep(0.05)
        table[event.key] += 1
        yield table[event.key]
{more}
"""


class Place:
    """A service in a directory of its own, its brokers, and what it wrote."""

    def __init__(self, servers: str, directory: Path, partitions: int = 3, words: int = 7) -> None:
        self.servers, self.directory, self.partitions, self.kinds = servers, directory, partitions, words
        self.name = f"save-{uuid.uuid4().hex[:8]}"
        self.source = f"{self.name}.words"
        self.module = self.name.replace("-", "_")
        self.settings = Settings(bootstrap_servers=servers)
        self.running: list[Command] = []
        self.commands: list[Command] = []
        self.sent = 0
        self.outputs_before: dict[str, int] = {}
        self._readers: dict[str, Reader] = {}
        self.write()

    def write(self, *, count: str = "per-word", more: str = "", name: str | None = None) -> str:
        """Returns the module's name."""
        name = name or self.name
        module = name.replace("-", "_")
        text = SERVICE.format(
            name=name, source=self.source, count=count, more=more, partitions=self.partitions
        )  # fmt: skip
        write_module(self.directory / f"{module}.py", text)
        sys.modules.pop(module, None)
        return module

    @property
    def target(self) -> str:
        return f"{self.module}:app"

    def run(self, instance: str, *options: str, target: str | None = None) -> Command:
        made = Command(
            self.directory / f"{instance}-{len(self.running)}", "run", target or self.target, "--workers", 1,
            "--instance", instance, "--state-dir", self.directory / f"state-{instance}",
            "--set", "web=false", "--set", "on_stop=leave", "--bootstrap-servers", self.servers, *options,
            cwd=self.directory,
        )  # fmt: skip
        self.running.append(made)
        return made

    def send(self, count: int) -> None:
        """Words that number themselves: what comes of each is known."""
        producer = looking(self.settings, "test").producer(None)
        self._send(producer, count)
        producer.close()

    def _send(self, producer: ProducerClient, count: int) -> None:
        for i in range(self.sent, self.sent + count):
            word = f"w{i % self.kinds}"
            producer.produce(self.source, word.encode(), word.encode())
        producer.flush(60)
        self.sent += count

    def records(self, topic: str) -> list[Row]:
        clients = looking(self.settings, "test")
        admin = clients.admin()
        count = admin.topics(60)[topic].partitions
        starts, ends = bounds(admin, [TopicPartition(topic, number) for number in range(count)])
        reading = Reading(clients, admin, starts, ends, waits=True)
        rows = list(to_end(reading))
        reading.close()
        admin.close()
        return rows

    def outputs(self, which: str, name: str | None = None) -> dict[str, list[int]]:
        """The committed values of each key, in order."""
        found: dict[str, list[int]] = defaultdict(list)
        for row in self.records(f"{name or self.name}.{which}"):
            assert row.key is not None and row.value is not None
            found[row.key.decode()].append(int(row.value))
        return found

    def come(self, which: str, name: str | None = None) -> dict[str, list[int]]:
        """`outputs` as far as they have come, for who waits: one reader goes on and on."""
        topic = f"{name or self.name}.{which}"
        if topic not in self._readers:
            self._readers[topic] = Reader(self.servers, [topic])
        reader = self._readers[topic]
        reader.poll()
        found: dict[str, list[int]] = defaultdict(list)
        for row in reader.rows[topic]:
            found[row.key.decode()].append(int(row.value or b""))
        return found

    def before(self, savepoint: str, directory: str = "saved") -> Counter[str]:
        """How often each word lies before the offsets of a savepoint: what it must have counted."""
        found = read_savepoint(open_storage(str(self.directory / directory)), savepoint)
        at = {(one.topic, one.partition): one.offset for task in found.tasks for one in task.offsets}
        assert len(at) == self.partitions
        rows = self.records(self.source)
        return Counter(row.key.decode() for row in rows if row.key and row.offset < at[row.at.topic, row.at.partition])

    @property
    def words(self) -> Counter[str]:
        return Counter(f"w{i % self.kinds}" for i in range(self.sent))

    def settle(self, counts: Mapping[str, Counter[str]], name: str | None = None) -> None:
        """Until the outputs are these many of each key."""
        for which, expected in counts.items():

            def there(which: str = which, expected: Counter[str] = expected) -> bool:
                return {key: len(values) for key, values in self.come(which, name).items()} == dict(expected)

            until(there, f"{which}: {expected}")

    def all_done(self) -> None:
        self.settle(dict.fromkeys(BOTH, self.words))

    def repeated(self, since: Mapping[str, int], name: str | None = None) -> None:
        """After what there was comes what follows on a savepoint, exactly: of each key the next number, to the last."""
        for which in BOTH:
            expected = {key: list(range(since[key] + 1, count + 1)) for key, count in self.words.items()}
            skipped = self.outputs_before if name is None else {}

            def there(which: str = which, expected: dict[str, list[int]] = expected, skipped: Any = skipped) -> bool:
                found = self.come(which, name)
                return all(len(found[key]) - skipped.get(key, 0) >= len(expected[key]) for key in expected)

            until(there, f"{which} to be repeated")
            found = self.outputs(which, name)
            assert {key: values[skipped.get(key, 0) :] for key, values in found.items()} == expected, which

    def go_on(self, count: int = 300) -> None:
        """Runs on after a savepoint, and stops. What comes then is compared with what there was."""
        self.send(count)
        self.all_done()
        self.stop()
        self.outputs_before = dict(self.words)

    def stop(self) -> None:
        for one in self.running:
            if one.process.poll() is None:
                one.process.terminate()
        for one in self.running:
            assert one.wait() == 0, one.err.read_text()
        self.running.clear()

    def start_two(self, *options: str) -> None:
        """Two instances that share the tasks."""
        for one in (self.run("one", *options), self.run("two", *options)):
            until(lambda one=one: "assigned" in one.err.read_text(), "both to have partitions")
        both = [one.err for one in self.running]
        counts = self.counts()
        shared = counts[self.source] // 2 + counts[f"{self.name}-by-word-repartition"] // 2
        until(lambda: any(f"assigned {shared} part" in err.read_text() for err in both), "the tasks to be shared")

    def counts(self) -> dict[str, int]:
        """The partitions of its topics."""
        admin = looking(self.settings, "test").admin()
        found = {name: info.partitions for name, info in admin.topics(60).items() if name.startswith(self.name)}
        admin.close()
        return found

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Records come all the time."""
        done = threading.Event()

        def send() -> None:
            producer = looking(self.settings, "test").producer(None)
            while not done.is_set():
                self._send(producer, 20)
                done.wait(0.05)
            producer.close()

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    @property
    def said(self) -> str:
        return "".join(one.err.read_text() for one in self.running)

    def saving(self, name: str, *options: object) -> Command:
        """The command as a process of its own."""
        made = Command(
            self.directory / f"saving-{name}", "savepoint", "create", self.target, name, "--to",
            self.directory / "saved", "--bootstrap-servers", self.servers, *options, cwd=self.directory,
        )  # fmt: skip
        self.commands.append(made)
        return made

    def end(self) -> None:
        """For clean-up: nothing of it is left."""
        with ExitStack() as ending:
            for reader in self._readers.values():
                ending.callback(reader.close)
            for one in (*self.running, *self.commands):
                ending.callback(one.end)

    def kstream(self, *arguments: object) -> int:
        return main([*map(str, arguments), "--bootstrap-servers", self.servers])

    def killed(self, order: str, *arguments: object) -> None:
        """Runs the command, which dies at the step (faults/savepoint_killed.py)."""
        words = ["faults.savepoint_killed", order, *map(str, arguments), "--bootstrap-servers", self.servers]
        path = os.pathsep.join([str(TESTS), str(TESTS.parent), str(self.directory)])
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=self.directory, env={**os.environ, "PYTHONPATH": path}, timeout=120,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, (order, done.returncode, done.stderr)

    def exact(self) -> None:
        """All that was sent is counted, each record once: of each key the numbers from 1 on, in their order."""
        self.all_done()
        expected = {key: list(range(1, count + 1)) for key, count in self.words.items()}
        for which in BOTH:
            assert self.outputs(which) == expected, which

    def rescale(self, count: int, *options: object) -> int:
        place = ("--in", self.directory / "saved", "--yes")
        return self.kstream("rescale", self.target, "--partitions", count, *place, *options)

    def verify(self, name: str) -> int:
        return main(["savepoint", "verify", name, "--in", str(self.directory / "saved")])

    def save(self, name: str, *options: object) -> int:
        return self.kstream("savepoint", "create", self.target, name, "--to", self.directory / "saved", *options)

    def restore(self, name: str, *options: object, target: str | None = None) -> int:
        place = ("--in", self.directory / "saved")
        return self.kstream("savepoint", "restore", target or self.target, name, *place, "--yes", *options)


def places(
    servers: str, directory: Path, monkeypatch: pytest.MonkeyPatch, *, partitions: int = 3, words: int = 7
) -> Iterator[Place]:
    """For a fixture."""
    monkeypatch.chdir(directory)
    monkeypatch.setattr(sys, "path", [str(directory), *sys.path])
    made = Place(servers, directory, partitions, words)
    assert made.kstream("topics", made.target, "--create") == 0
    yield made
    made.end()
