"""Savepoints of an app of several instances, on a real Kafka."""

from __future__ import annotations

import sys
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kstream.cli import main
from kstream.config import Settings
from kstream.runtime.cluster import restoring
from kstream.runtime.cluster.records import Reading, Row, bounds, looking, to_end
from kstream.runtime.kafka.admin import KafkaAdmin
from kstream.state.savepoint import read_savepoint
from kstream.state.snapshots.storage import open_storage
from kstream.types import TopicPartition
from support.running import Command, kill, until

BOTH = ("counts", "seen")

SERVICE = """
import asyncio
from pathlib import Path

import kstream

app = kstream.App({name!r}, default_partitions=3)
words = app.topic("{source}", key=str, value=str, partitions=3)
counts = app.topic("{name}.counts", key=str, value=int, partitions=3)
seen = app.topic("{name}.seen", key=str, value=int, partitions=3)
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

    def __init__(self, servers: str, directory: Path) -> None:
        self.servers, self.directory = servers, directory
        self.name = f"save-{uuid.uuid4().hex[:8]}"
        self.source = f"{self.name}.words"
        self.module = self.name.replace("-", "_")
        self.settings = Settings(bootstrap_servers=servers)
        self.running: list[Command] = []
        self.commands: list[Command] = []
        self.sent = 0
        self.outputs_before: dict[str, int] = {}
        self.write()

    def write(self, *, count: str = "per-word", more: str = "", name: str | None = None) -> str:
        """Returns the module's name."""
        name = name or self.name
        module = name.replace("-", "_")
        text = SERVICE.format(name=name, source=self.source, count=count, more=more)
        (self.directory / f"{module}.py").write_text(text)
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
        for i in range(self.sent, self.sent + count):
            word = f"w{i % 7}"
            producer.produce(self.source, word.encode(), word.encode())
        producer.flush(60)
        producer.close()
        self.sent += count

    def records(self, topic: str) -> list[Row]:
        clients = looking(self.settings, "test")
        admin = clients.admin()
        starts, ends = bounds(admin, [TopicPartition(topic, number) for number in range(3)])
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

    def before(self, savepoint: str, directory: str = "saved") -> Counter[str]:
        """How often each word lies before the offsets of a savepoint: what it must have counted."""
        found = read_savepoint(open_storage(str(self.directory / directory)), savepoint)
        at = {(one.topic, one.partition): one.offset for task in found.tasks for one in task.offsets}
        assert len(at) == 3
        rows = self.records(self.source)
        return Counter(row.key.decode() for row in rows if row.key and row.offset < at[row.at.topic, row.at.partition])

    @property
    def words(self) -> Counter[str]:
        return Counter(f"w{i % 7}" for i in range(self.sent))

    def settle(self, counts: Mapping[str, Counter[str]], name: str | None = None) -> None:
        """Until the outputs are these many of each key."""
        for which, expected in counts.items():

            def there(which: str = which, expected: Counter[str] = expected) -> bool:
                return {key: len(values) for key, values in self.outputs(which, name).items()} == dict(expected)

            until(there, f"{which}: {expected}")

    def all_done(self) -> None:
        self.settle(dict.fromkeys(BOTH, self.words))

    def repeated(self, since: Mapping[str, int], name: str | None = None) -> None:
        """After what there was comes what follows on a savepoint, exactly: of each key the next number, to the last."""
        for which in BOTH:
            expected = {key: list(range(since[key] + 1, count + 1)) for key, count in self.words.items()}
            skipped = self.outputs_before if name is None else {}

            def there(which: str = which, expected: dict[str, list[int]] = expected, skipped: Any = skipped) -> bool:
                found = self.outputs(which, name)
                return all(len(found[key]) - skipped.get(key, 0) >= len(expected[key]) for key in expected)

            until(there, f"{which} to be repeated")
            found = self.outputs(which, name)
            assert {key: values[skipped.get(key, 0) :] for key, values in found.items()} == expected, which

    def stop(self) -> None:
        for one in self.running:
            if one.process.poll() is None:
                one.process.terminate()
        for one in self.running:
            assert one.wait() == 0, one.err.read_text()
        self.running.clear()

    def start_two(self) -> None:
        """Two instances that share the tasks."""
        for one in (self.run("one"), self.run("two")):
            until(lambda one=one: "assigned" in one.err.read_text(), "both to have partitions")
        both = [one.err for one in self.running]
        until(lambda: any("assigned 2 part" in err.read_text() for err in both), "the tasks to be shared")

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Records come all the time."""
        done = threading.Event()

        def send() -> None:
            while not done.is_set():
                self.send(20)
                done.wait(0.05)

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

    def kstream(self, *arguments: object) -> int:
        return main([*map(str, arguments), "--bootstrap-servers", self.servers])

    def verify(self, name: str) -> int:
        return main(["savepoint", "verify", name, "--in", str(self.directory / "saved")])

    def save(self, name: str, *options: object) -> int:
        return self.kstream("savepoint", "create", self.target, name, "--to", self.directory / "saved", *options)

    def restore(self, name: str, *options: object, target: str | None = None) -> int:
        place = ("--in", self.directory / "saved")
        return self.kstream("savepoint", "restore", target or self.target, name, *place, "--yes", *options)


@pytest.fixture
def place(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    made = Place(bootstrap_servers, tmp_path)
    assert made.kstream("topics", made.target, "--create") == 0
    yield made
    for one in (*made.running, *made.commands):
        one.end()


def go_on(place: Place, count: int = 300) -> None:
    """Runs on after a savepoint, and stops. What comes then is compared with what there was."""
    place.send(count)
    place.all_done()
    place.stop()
    place.outputs_before = dict(place.words)


def test_what_comes_after_a_savepoint_repeats_exactly(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Two instances; run, savepoint while records come, run on, stop, restore, run again. And once more."""
    place.start_two()
    place.send(600)
    place.all_done()
    with place.sending():
        assert place.save("first") == 0, place.said
    since = place.before("first")
    assert 0 < since.total() < place.sent
    go_on(place)
    assert place.verify("first") == 0
    assert place.restore("first") == 0
    place.run("one"), place.run("two")
    place.repeated(since)
    place.stop()

    place.outputs_before = {key: len(values) for key, values in place.outputs("counts").items()}
    assert place.restore("first") == 0  # it was not claimed
    assert "--claim" not in capsys.readouterr().out
    place.run("one")
    place.repeated(since)
    place.stop()
    assert place.restore("first", "--claim") == 0
    assert place.restore("first") == 2
    assert "there is no savepoint first" in capsys.readouterr().err


def test_a_savepoint_with_stop_has_all_that_was_processed(place: Place) -> None:
    place.start_two()
    with place.sending():
        assert place.save("last", "--stop") == 0, place.said
    for one in place.running:
        assert one.wait() == 0, one.err.read_text()
    since = place.before("last")
    for which in BOTH:
        assert {key: len(values) for key, values in place.outputs(which).items()} == dict(since), which
    place.outputs_before = dict(since)
    assert place.restore("last") == 0
    place.run("one")
    place.repeated(since)
    place.stop()


def test_copied_elsewhere_restored_as_another_app_in_canonical_form_too(place: Place) -> None:
    place.start_two()
    place.send(300)
    assert place.save("native") == 0, place.said
    assert place.save("readable", "--format", "canonical") == 0, place.said
    sinces = {name: place.before(name) for name in ("native", "readable")}
    go_on(place)

    (place.directory / "saved").rename(place.directory / "elsewhere")
    for name, since in sinces.items():
        other = f"{place.name}-{name}"
        module = place.write(name=other)
        assert place.kstream("topics", f"{module}:app", "--create") == 0
        options = ("--in", place.directory / "elsewhere", "--yes")
        assert place.kstream("savepoint", "restore", f"{module}:app", name, *options) == 2
        assert place.kstream("savepoint", "restore", f"{module}:app", name, "--as", other, *options) == 0
        place.run(other, target=f"{module}:app")
        place.repeated(since, name=other)
        place.stop()

    import pyarrow.parquet

    folder = place.directory / "elsewhere" / "readable" / "tables"
    rows = [row for file in folder.glob("seen/*.parquet") for row in pyarrow.parquet.read_table(file).to_pylist()]
    assert {row["key"]: row["value"] for row in rows} == dict(sinces["readable"])
    assert not [path for path in folder.parent.rglob("*.sst")]


def test_stores_that_came_are_gone_or_have_another_name(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.start_two()
    place.send(300)
    assert place.save("it") == 0, place.said
    since = place.before("it")
    go_on(place)
    place.write(
        count="of-words",
        more="""
lengths = app.topic("{name}.lengths", key=str, value=int, partitions=3)
app.stream(words).group_by_key().count(name="again").to(lengths)
""".replace("{name}", place.name),
    )
    capsys.readouterr()
    assert place.restore("it") == 2
    refused = capsys.readouterr().err
    assert "has state of per-word, which app" in refused and "--rename" in refused
    assert place.restore("it", "--rename", "nothing=of-words") == 2
    assert place.restore("it", "--rename", "per-word=seen") == 2
    assert place.restore("it", "--rename", "per-word=of-words") == 0
    assert "store again: empty" in capsys.readouterr().out
    place.run("one")
    place.repeated(since)
    total = {key: count - since[key] for key, count in place.words.items()}
    place.settle({"lengths": Counter(total)})
    assert {key: values[-1] for key, values in place.outputs("lengths").items()} == total
    place.stop()


def test_what_cannot_be_restored_is_refused_before_anything_changes(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    first = place.run("one")
    place.send(60)
    place.all_done()
    assert place.save("it") == 0, place.said
    assert place.save("it") == 2
    assert "there is a savepoint it" in capsys.readouterr().err
    assert place.restore("it") == 2
    assert "stop all instances" in capsys.readouterr().err
    place.stop()
    assert place.save("other") == 2
    assert "has no members" in capsys.readouterr().err

    saved = place.directory / "saved" / "it"
    file = next(path for path in saved.rglob("*") if path.is_file() and "/files/" in str(path) and path.stat().st_size)
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert place.verify("it") == 1
    assert "checksum does not fit" in capsys.readouterr().err
    assert place.restore("it") == 1
    assert "is damaged, nothing was changed" in capsys.readouterr().err
    file.write_bytes(data)

    assert place.restore("it", "--dry-run") == 0
    place.run("one")
    place.send(30)
    place.all_done()  # it went on where it was
    place.stop()
    assert "rebuilt" not in first.err.read_text()


def test_a_worker_that_dies_ends_it_and_the_app_goes_on(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.start_two()
    place.send(300)
    (place.directory / "slow").touch()  # an agent that takes its time: the inputs are held long enough
    command = place.saving("it")
    until(lambda: "inputs are held" in place.running[1].err.read_text(), "two to hold")
    (worker,) = place.running[1].children
    kill(worker)
    assert command.wait() == 1
    said = command.err.read_text()
    assert "its process ended (killed)" in said or "shared out anew" in said, said
    (place.directory / "slow").unlink()
    place.all_done()
    assert not list((place.directory / "saved").rglob("savepoint"))
    until(lambda: place.save("it") == 0, "one, once no task is being restored any more")
    place.stop()


def test_a_command_that_is_killed_leaves_the_app_running(place: Place) -> None:
    place.start_two()
    (place.directory / "slow").touch()
    place.send(60)
    command = place.saving("it", "--timeout", "3")
    until(lambda: "inputs are held" in place.running[1].err.read_text(), "two to hold")
    command.process.kill()
    (place.directory / "slow").unlink()
    place.send(60)
    place.all_done()
    for one in place.running:
        said = one.err.read_text()
        assert "savepoint it is given up: the time is over" in said, said
    assert place.save("it") == 0, place.said
    place.stop()


def test_a_time_out_says_what_was_waited_for(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.start_two()
    (place.directory / "slow").touch()
    place.send(300)
    assert place.save("it", "--timeout", "3") == 1
    said = capsys.readouterr().err
    assert "the app goes on: " in said and "after 3 s (--timeout)" in said, said
    assert ".words/" in said or "-by-word-repartition/" in said, said
    (place.directory / "slow").unlink()
    place.all_done()
    place.stop()


def test_a_restore_that_was_killed_keeps_the_app_from_starting_until_it_is_run_again(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.start_two()
    place.send(300)
    assert place.save("it") == 0, place.said
    since = place.before("it")
    go_on(place)
    for step in ("delete_group", "delete_topics", "prepare_topics", "_write_entries", "_commit_offsets"):
        with monkeypatch.context() as broken:
            break_at(broken, step)
            with pytest.raises(Killed):
                place.restore("it")
        refused = place.run("one")
        assert refused.wait() == 2, step
        assert "is being restored from savepoint it" in refused.err.read_text(), step
        place.running.clear()
    assert place.restore("it") == 0
    place.run("one"), place.run("two")
    place.repeated(since)
    place.stop()


class Killed(BaseException):
    """Nothing after it is done, as with SIGKILL."""


def break_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The step is done, and the process ends."""
    owner: Any = restoring if hasattr(restoring, step) else KafkaAdmin
    real = getattr(owner, step)

    def done_and_killed(*arguments: Any, **named: Any) -> Any:
        real(*arguments, **named)
        raise Killed

    monkeypatch.setattr(owner, step, done_and_killed)
