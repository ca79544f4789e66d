"""Every stored form with a number one higher than this version writes: one line that says what it is, where it lies and
what to do, and nothing of it is taken for something else."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
import pytest

import kstream
from kstream.clock import SystemClock
from kstream.codecs.buffered import Part
from kstream.codecs.foreign import Asked, Subscription
from kstream.codecs.versioned import Versions
from kstream.config import Settings
from kstream.errors import KStreamError, SnapshotError, StateDirectoryError, StateError, StoredTypeChanged, UsageError
from kstream.observe.status import InstanceStatus
from kstream.operators import delayed, marks
from kstream.operators.delayed import Note
from kstream.operators.marks import Mark as TimeMark
from kstream.runtime.cluster.announcement import encode, heard
from kstream.runtime.cluster.control import (
    Answer,
    Control,
    Request,
    RestoreNote,
    Unread,
    ensure_topic,
    refuse_unfinished_restore,
    topic_of,
)  # fmt: skip
from kstream.runtime.cluster.dead_letters import Place, letter_of
from kstream.runtime.cluster.directory import is_unread
from kstream.runtime.cluster.handled import Handled, key_of
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.cluster.records import Row
from kstream.runtime.cluster.routes import Routes
from kstream.runtime.cluster.stored_types import check_types, misfits_of, types_of
from kstream.runtime.cluster.stored_types import topic_of as types_topic
from kstream.runtime.instance.claim import claim
from kstream.runtime.task.states import TaskState
from kstream.specs import stored
from kstream.specs.stored import FORMS, StoredForm
from kstream.state.about import About, form_in
from kstream.state.backend import Mark
from kstream.state.dump import NAME, dump, load
from kstream.state.parquet import NUMBER, read_table, write_table
from kstream.state.savepoint import FILE, Savepoint, read_savepoint, write_savepoint
from kstream.state.snapshots.manifest import packed, unpacked
from kstream.state.snapshots.storage import open_storage
from kstream.testing import MemoryCluster, TestDriver
from kstream.testing.clients import MemoryClients
from kstream.types import TopicPartition
from unit.runtime.harness import Counting, Fleet
from unit.runtime.instance.test_savepoints import Bench
from unit.state.snapshots.test_manifest import manifest
from unit.state.test_parquet import spec as store
from unit.test_carried_time import app_of

PAGE = Path(__file__).parents[2] / "docs/upgrading.md"

Case = Callable[[Path, Callable[[bytes], bytes]], str]
CASES: dict[str, Case] = {}


def later(form: StoredForm) -> Callable[[bytes], bytes]:
    """Makes of what this version writes what a later one does, which says more besides."""
    number = form.number

    def change(said: bytes) -> bytes:
        told = json.loads(said)
        assert told.pop("v", 1) == number or form is stored.LOCAL_STATE
        return json.dumps({"v": number + 1, **told, "of a later version": [1]}, separators=(",", ":")).encode()

    return change


def case(form: StoredForm) -> Callable[[Case], Case]:
    def keep(function: Case) -> Case:
        CASES[form.name] = function
        return function

    return keep


def line_of(expected: type[Exception], call: Callable[[], Any]) -> str:
    with pytest.raises(expected) as raised:
        call()
    return str(raised.value)


@case(stored.OFFSETS)
def offsets(path: Path, change: Callable[[bytes], bytes]) -> str:
    counting = Counting()
    fleet = Fleet(counting.app, path, partitions=1)
    fleet.start("a")
    fleet.send(counting.source, ["k"])
    fleet.settle()
    fleet.leave("a")
    known = fleet.cluster.group("counting").offsets
    for at, (offset, text) in list(known.items()):
        known[at] = offset, change(text.encode()).decode()
    fleet.send(counting.source, ["k"])
    worker = fleet.start("a")
    fleet.step(times=20)
    (task,) = worker.tasks.values()
    assert task.state is TaskState.FAILED and fleet.outputs(counting.by_dsl) == {"k": [1]}
    line = str(task.error)
    fleet.close()
    assert "in[0]" in line
    return line


@case(stored.TYPES)
def types(path: Path, change: Callable[[bytes], bytes]) -> str:
    cluster = MemoryCluster()
    clients, topology = MemoryClients(cluster), Counting().app.topology()
    admin = clients.admin()
    prepare_topics(topology, admin, Settings(default_partitions=1))

    def start(*, go_on: bool = False) -> None:
        check_types(topology, clients, admin, SystemClock(), replication=1, go_on=go_on)

    start()
    cluster.append("counting-n-changelog", b"k", b"1")
    for record in cluster.records(types_topic("counting")):
        if json.loads(record.value or b"")["store"] == "n":
            cluster.append(types_topic("counting"), record.key, change(record.value or b""))
    line = line_of(StoredTypeChanged, start)
    assert misfits_of(topology, clients, admin) == [line] == [line_of(StoredTypeChanged, lambda: types_of(
        topology, clients, admin))]  # fmt: skip
    start(go_on=True)
    start()
    assert "store 'n'" in line
    return line


@case(stored.TIME_MARKS)
def time_marks(path: Path, change: Callable[[bytes], bytes]) -> str:
    app, source, _ = app_of()
    with TestDriver(app) as driver:
        driver.send(source, 1, key="k", timestamp=1000, partition=0)
        before = driver.cluster.log(TopicPartition("carried-by-repartition", 0)).end
        said = change(msgspec.json.encode(TimeMark(task=0, time=99_000)))
        driver.cluster.append("carried-by-repartition", None, None, 1000, [(marks.HEADER, said)], 0)
        line = line_of(KStreamError, driver.process)
        assert f"carried-by-repartition[0] at offset {before}" in line and not driver.cluster.records("out")
    return line


@case(stored.DELAYED)
def delays(path: Path, change: Callable[[bytes], bytes]) -> str:
    app = kstream.App("failing", on_error=[kstream.RetryLater([5]), kstream.Skip()])
    seen: list[int] = []
    app.stream(app.topic("in", key=str, value=int, partitions=1)).peek(seen.append)
    with TestDriver(app) as driver:
        said = change(msgspec.json.encode(Note(topic="in", partition=0, offset=0)))
        driver.cluster.append("failing-in-retry-5s", b"k", b"1", headers=[(delayed.HEADER, said)])
        line = line_of(KStreamError, driver.process)
        assert "failing-in-retry-5s[0] at offset 0" in line and not seen
    return line


@case(stored.LETTERS)
def letters(path: Path, change: Callable[[bytes], bytes]) -> str:
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=1)
    app.stream(source).map(lambda n: 1 // n).to(app.topic("out", key=str, value=int))
    with TestDriver(app) as driver:
        driver.send(source, 0, key="k")
        driver.commit()
        (written,) = driver.cluster.records("failing-dead-letters")
    said = dict(written.headers or ())
    assert said["kstream.letter"] == b"1"
    row = Row(TopicPartition("dead", 0), 7, 5, b"k", b"v", list({**said, "kstream.letter": b"2"}.items()))
    letter = letter_of(row)
    assert letter.source is None
    line = Routes(["in"], {"in": 1}).of(letter)
    assert isinstance(line, str) and line == letter.refusal == letter.message
    return line


@case(stored.HANDLED)
def handled(path: Path, change: Callable[[bytes], bytes]) -> str:
    value = change(b'{"v":1,"what":"replayed","at":5}')
    line = line_of(UsageError, lambda: Handled().hear(key_of(Place("dead", 0, 7)), value))
    assert "dead:0:7" in line
    return line


@case(stored.ANNOUNCEMENTS)
def announcements(path: Path, change: Callable[[bytes], bytes]) -> str:
    status = InstanceStatus("shop", "one", "running", 1.0, 1.0, ready=True)
    found = heard("shop", "one", change(encode(status, 5.0)), 1.0, 2.0)
    assert found is not None and found.said.state == "silent" and not found.said.ready and is_unread(found.said)
    known = heard("shop", "one", encode(status, 5.0), 1.0, 2.0)
    assert known is not None and not is_unread(known.said) and not is_unread(status)
    (line,) = found.said.reasons
    assert "instance one" in line
    return line


@case(stored.CONTROL)
def control(path: Path, change: Callable[[bytes], bytes]) -> str:
    cluster = MemoryCluster()
    clients = MemoryClients(cluster)
    ensure_topic(clients.admin(), "shop", 1)
    cluster.append(topic_of("shop"), b"restore", change(msgspec.json.encode(RestoreNote("kstream x", "y", 1.0))))
    line = line_of(UsageError, lambda: refuse_unfinished_restore(clients, clients.admin(), "shop"))
    assert "topic shop-control" in line and "state of app shop" in line
    return line


@case(stored.SNAPSHOTS)
def snapshots(path: Path, change: Callable[[bytes], bytes]) -> str:
    data = packed(manifest()).replace(b"kstream-snapshot 1 ", b"kstream-snapshot 2 ", 1)
    return line_of(SnapshotError, lambda: unpacked(data, "here"))


@case(stored.SAVEPOINTS)
def savepoints(path: Path, change: Callable[[bytes], bytes]) -> str:
    storage = open_storage(str(path))
    write_savepoint(storage, Savepoint(id="x", name="one", app="shop", taken=1.0, program="1", topics={}, stores={},
                                       tasks=[]))  # fmt: skip
    file = path / "one" / FILE
    file.write_bytes(file.read_bytes().replace(b"kstream-savepoint 1 ", b"kstream-savepoint 2 ", 1))
    line = line_of(SnapshotError, lambda: read_savepoint(storage, "one"))
    assert "one/savepoint" in line
    return line


@case(stored.PARQUET)
def parquet(path: Path, change: Callable[[bytes], bytes]) -> str:
    spec, file = store(str, int), path / "entries.parquet"
    write_table(file, spec, lambda: [(b"k", b"1")], {})
    table = pyarrow.parquet.read_table(file)
    assert table.schema.metadata[NUMBER.encode()] == b"1"
    pyarrow.parquet.write_table(table.replace_schema_metadata({NUMBER: b"2"}), file)
    line = line_of(UsageError, lambda: list(read_table(file, spec)))
    assert "entries.parquet" in line
    return line


@case(stored.LOCAL_STATE)
def local_state(path: Path, change: Callable[[bytes], bytes]) -> str:
    said = change(About(form="wall").packed())
    line = About(form="wall").misfit(said)
    with pytest.raises(SnapshotError, match="a later version of kstream wrote these entries"):
        form_in(said)
    assert line is not None
    return line


@case(stored.GLOBAL_ROWS)
def global_rows(path: Path, change: Callable[[bytes], bytes]) -> str:
    lines = Lines("kstream.runtime.worker.global_copy")
    app = kstream.App("shop")
    customers = app.topic("customers", key=str, value=str, partitions=1)
    known = app.global_table(customers)
    orders = app.topic("orders", key=str, value=str, partitions=1)
    app.stream(orders).join(known, lambda order, name: name, on=lambda order: order)
    with lines, TestDriver(app, backend="rocksdb") as driver:
        driver.send(customers, "A", key="a")
        driver.commit()
        copy = driver.worker.tables.copies["customers"]
        real = copy._mark

        def mark(*, whole: bool) -> Mark:
            made = real(whole=whole)
            return made._replace(about=change(made.about))

        copy._mark = mark  # type: ignore[method-assign]
        driver.send(customers, "B", key="a")
        driver.crash()
        assert driver.worker.tables.copies["customers"].applied == 2, "it was read anew"
    (line,) = (one for one in lines.said if "the local copy is not used" in one)
    assert "global table customers" in line
    return line


class Lines(logging.Handler):
    """What a logger says meanwhile."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self._logger = logging.getLogger(name)

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def __enter__(self) -> None:
        self._before = self._logger.level, self._logger.filters
        self._logger.setLevel(logging.INFO)
        self._logger.filters = []
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before[0])
        self._logger.filters = self._before[1]


@case(stored.MEMORY)
def memory(path: Path, change: Callable[[bytes], bytes]) -> str:
    dump(path / "made", {"n": (Mark(1, 1.0), {b"k": b"v"})})
    file = path / "made" / NAME
    assert load(path / "made") == {"n": (Mark(1, 1.0), {b"k": b"v"})}
    file.write_bytes(file.read_bytes().replace(b"kstream-stores 1\n", b"kstream-stores 2\n", 1))
    line = line_of(StateError, lambda: load(path / "made"))
    assert str(file) in line
    return line


@case(stored.DIRECTORY)
def directory(path: Path, change: Callable[[bytes], bytes]) -> str:
    claim(path, "shop", None).release()
    assert (path / "layout").read_text() == "1"
    (path / "layout").write_text("2")
    line = line_of(StateDirectoryError, lambda: claim(path, "shop", None))
    assert str(path) in line
    (path / "layout").write_text("")
    with pytest.raises(StateDirectoryError, match="no number of a layout: delete that file"):
        claim(path, "shop", None)
    (path / "layout").unlink()
    claim(path, "shop", None).release()
    return line


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_later_form_is_refused_in_one_line(form: StoredForm, tmp_path: Path) -> None:
    line = CASES[form.name](tmp_path, later(form))
    said = f"a later version of kstream wrote it ({form.name} of form {form.number + 1}, this one reads up to "
    assert said in line and form.mend in line and "\n" not in line


TAGS = {1: {"Versions": 1, "Part": 1, "Subscription": 1, "Asked": 1}}
"""What joins keep of entries, by the number of the types of a store. An entry of a tag that is not known fails its
record, and only when it is read; the types are looked at before any task runs. So who raises a tag raises that number,
and adds a row."""


def test_a_tag_of_what_joins_keep_goes_up_with_the_types_of_stores() -> None:
    kept = {kind.__name__: kind.__struct_config__.tag for kind in (Versions, Part, Subscription, Asked)}
    assert TAGS[stored.TYPES.number] == kept


def test_this_version_reads_what_it_writes_and_what_came_before() -> None:
    assert all(form.refusal("x", number) is None for form in FORMS for number in range(form.number + 1))


def test_an_instance_answers_a_later_savepoint_that_it_cannot_take_part() -> None:
    bench = Bench()
    change = later(stored.CONTROL)
    asked = change(msgspec.json.encode(Request("7", "first", "hold")))
    bench.cluster.append(topic_of("app"), b"savepoint", asked)
    bench.participant._converse(Control(bench.clients, bench.clients.admin(), "app", 0))
    found = [said for said in bench.control.read(0.0) if isinstance(said, Answer)]
    assert [(one.id, one.worker, one.phase) for one in found] == [("7", "one", "refused")]
    assert "a later version of kstream wrote it" in found[0].why and bench.supervisor.told == []


def test_what_a_later_worker_answers_is_heard_as_such() -> None:
    bench = Bench()
    said = later(stored.CONTROL)(msgspec.json.encode(Answer("7", "shop-a-0", "holding")))
    bench.cluster.append(topic_of("app"), b"savepoint/shop-a-0", said)
    (found,) = bench.control.read(0.0)
    assert isinstance(found, Unread) and (found.id, found.worker) == ("7", "shop-a-0")


def test_the_page_lists_each_form_with_its_number() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [(form.name, str(form.number)) for form in FORMS]
