"""A store as Parquet, and a stopped app's store filled from it: times and what has expired."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow.parquet
import pytest

import kstream
from kstream.errors import TopicError, UsageError
from kstream.partitioning import partition_of
from kstream.runtime.cluster import filling
from kstream.runtime.cluster.control import Control, RestoreNote, unfinished_restore
from kstream.runtime.cluster.filling import Filling, export
from kstream.state.forms import headers_of, stamp_of
from kstream.testing.clients import MemoryClients
from unit.runtime.harness import Fleet

HOUR = 3600.0
OLD, NEW = [f"old{n}" for n in range(8)], [f"new{n}" for n in range(8)]


class Bench:
    """An app with a table whose entries live for an hour, OLD ones written 40 minutes before NEW ones."""

    def __init__(
        self, directory: Path, time: str, scope: Literal["keyed", "partition"] = "keyed", *, second: bool = False
    ) -> None:
        self.app = kstream.App("shop")
        self.source = self.app.topic("in", key=str, value=int)
        ttl = kstream.TTL(hours=1, time=time)  # type: ignore[arg-type]
        self.table = table = self.app.table("seen", key=str, value=int, default=0, scope=scope, ttl=ttl)

        other = self.app.table("other", key=str, value=int, default=0) if second else None

        @self.app.agent(self.source)
        def count(value: int, ctx: kstream.Context[str]) -> None:
            table[ctx.key] += value
            if other is not None:
                other[ctx.key] += value

        self.fleet = Fleet(self.app, directory / "state", partitions=2)
        self.out = directory / "out"
        self.fleet.start("a")
        self.fleet.settle()
        for keys in (OLD, NEW):
            self.fleet.send(self.source, keys)
            self.fleet.settle()
            if keys is OLD:
                self.fleet.clock.advance(2 * HOUR / 3)
        self.before = self.fleet.stores("seen")

    def export(self, later: float) -> int:
        clients = MemoryClients(self.fleet.cluster)
        now = self.fleet.clock.time() + later
        return sum(dict(export(self.fleet.topology, self.table.spec, clients, clients.admin(), self.out, now)).values())

    def fill(self) -> int:
        clients, files = MemoryClients(self.fleet.cluster), sorted(self.out.iterdir())
        return Filling(
            self.fleet.topology, self.table.spec, clients, clients.admin(), self.fleet.settings, files,
            replace=True, inputs="latest",
        ).fill()  # fmt: skip


@pytest.fixture(params=["wall", "event"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, request.param)
    yield made
    made.fleet.close()


def test_entries_of_a_store_with_a_ttl_come_back_with_their_times(bench: Bench) -> None:
    assert len({stamp_of(raw) for raw in bench.before.values()}) > 1
    assert bench.export(0.0) == len(OLD + NEW)
    bench.fleet.leave("a")
    assert bench.fill() == len(OLD + NEW)
    records = bench.fleet.cluster.records("shop-seen-changelog")
    assert {str(record.headers) for record in records} == {str(headers_of(bench.table.spec.form))}
    bench.fleet.start("b")
    bench.fleet.settle()
    assert bench.fleet.stores("seen") == bench.before


def test_what_has_expired_is_left_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "wall")
    assert bench.export(HOUR / 2) == len(NEW)
    bench.fleet.close()


def test_event_time_stands_still_where_no_records_come(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "event")
    assert bench.export(100 * HOUR) == len(OLD + NEW)
    bench.fleet.clock.advance(HOUR / 2)
    bench.fleet.send(bench.source, [f"more{n}" for n in range(20)])
    bench.fleet.settle()
    assert bench.export(0.0) == len(NEW) + 20
    bench.fleet.close()


def test_a_file_of_a_partition_that_is_not_there_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "wall", scope="partition")
    bench.export(0.0)
    (bench.out / "1.parquet").unlink()
    table = pyarrow.parquet.read_table(bench.out / "0.parquet")
    said = {**(table.schema.metadata or {}), b"kstream.partition": b"2"}
    pyarrow.parquet.write_table(table.replace_schema_metadata(said), bench.out / "0.parquet")
    bench.fleet.leave("a")
    before = bench.fleet.cluster.records("shop-seen-changelog")
    with pytest.raises(UsageError, match="is of partition 2, and store seen has 2 partitions"):
        bench.fill()
    assert bench.fleet.cluster.records("shop-seen-changelog") == before
    bench.fleet.close()


def test_keys_that_another_partitioner_has_put_elsewhere_are_refused_before_anything_is_changed(tmp_path: Path) -> None:
    """They went to where Kafka's default partitioner puts them: their records found nothing of them any more."""
    bench = Bench(tmp_path, "wall")
    home = partition_of(b"stray", 2)
    bench.fleet.cluster.append("in", b"stray", b"1", partition=1 - home)
    bench.fleet.settle()
    bench.export(0.0)
    bench.fleet.leave("a")
    before = bench.fleet.cluster.records("shop-seen-changelog")
    with pytest.raises(UsageError, match=rf"a key lay in partition {1 - home}, and .* puts it into {home} of 2: what"):
        bench.fill()
    assert bench.fleet.cluster.records("shop-seen-changelog") == before
    bench.fleet.close()


def test_an_export_that_fails_leaves_the_file_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, "wall")
    bench.export(0.0)
    whole = (bench.out / "0.parquet").read_bytes()

    def full(path: Path, *_: object) -> int:
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filling, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        bench.export(0.0)
    assert (bench.out / "0.parquet").read_bytes() == whole
    assert [path.name for path in sorted(bench.out.glob("*.parquet"))] == ["0.parquet", "1.parquet"]
    bench.fleet.close()


def test_an_export_takes_no_place_of_files_that_are_none(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "wall")
    bench.out.mkdir()
    (bench.out / "letters.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"letters\.txt is no file of an export"):
        bench.export(0.0)
    assert [path.name for path in bench.out.iterdir()] == ["letters.txt"]
    bench.fleet.close()


def test_an_entry_that_kafka_would_refuse_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "wall")
    bench.fleet.leave("a")
    before = bench.fleet.cluster.records("shop-seen-changelog")
    bench.out.mkdir()
    large = pyarrow.table({"key": ["small", "x" * 1_100_000], "value": [1, 2]})
    pyarrow.parquet.write_table(large, bench.out / "0.parquet")
    with pytest.raises(
        UsageError, match=r"an entry of seen has 1,100,\d+ bytes, and kafka.message.max.bytes lets us send"
    ):
        bench.fill()
    assert bench.fleet.cluster.records("shop-seen-changelog") == before
    bench.fleet.close()


def test_an_import_whose_topics_cannot_be_made_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    """The input was given more partitions, and a second store has its state in as many as before."""
    bench = Bench(tmp_path, "wall", second=True)
    bench.export(0.0)
    bench.fleet.leave("a")
    cluster = bench.fleet.cluster
    cluster.add_partitions("in", 6)
    before = cluster.records("shop-seen-changelog")
    with pytest.raises(UsageError, match=r"reads in \(6 partitions\), its state has shop-other-changelog .* nothing"):
        bench.fill()
    assert cluster.records("shop-seen-changelog") == before
    clients = MemoryClients(cluster)
    assert unfinished_restore(clients, clients.admin(), "shop") is None
    bench.fleet.close()


def test_of_two_at_once_the_first_to_end_does_not_end_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, "wall")
    bench.export(0.0)
    bench.fleet.leave("a")
    clients, real = MemoryClients(bench.fleet.cluster), Filling._commit_missing

    def overtaken(*arguments: object) -> None:
        monkeypatch.undo()
        with closing(Control(clients, clients.admin(), "shop")) as control:
            control.write(RestoreNote("kstream state import", "seen in more.parquet", 1.0, ["seen"]))
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Filling, "_commit_missing", overtaken)
    with pytest.raises(UsageError, match="any more: kstream state import replaces it by that of seen"):
        bench.fill()
    assert unfinished_restore(clients, clients.admin(), "shop") is not None
    assert bench.fill() == len(OLD + NEW)
    bench.fleet.close()


@pytest.mark.parametrize("time", ["wall", "event"])
def test_a_deleted_changelog_comes_back_from_the_state_directory(tmp_path: Path, time: str) -> None:
    """The local state of the stopped instance is the only copy."""
    from kstream.cli.state.stopped import stopped
    from kstream.runtime.cluster.filling import Stored, export_stored

    bench = Bench(tmp_path, time)
    bench.fleet.leave("a")
    bench.fleet.backend = "rocksdb"
    bench.fleet.start("a")
    bench.fleet.settle()
    bench.fleet.leave("a")
    bench.fleet.cluster.delete_topic("shop-seen-changelog")
    (tmp_path / "state" / "app").write_text("shop")
    with stopped(tmp_path / "state", "shop", "wait") as here:
        parts = [
            Stored(one.partition, one.reader.form("seen"), partial(one.reader.stored, "seen"))
            for one in here.parts_of("seen")
        ]
        written = export_stored("shop", bench.table.spec, parts, bench.out, bench.fleet.clock.time())
    assert sum(written.values()) == len(OLD + NEW)
    assert bench.fill() == len(OLD + NEW)
    worker = bench.fleet.start("a")
    bench.fleet.settle()
    assert all(task.error is None for task in worker.tasks.values())
    assert bench.fleet.stores("seen") == bench.before
    bench.fleet.close()


@pytest.mark.parametrize("lost_offsets", ["stop", "continue"])
def test_offsets_that_were_lost_are_not_set_by_an_import_into_another_store(tmp_path: Path, lost_offsets: str) -> None:
    """The stores that had counted the input would count it twice, and no task stopped any more."""
    bench = Bench(tmp_path, "wall", second=True)
    bench.export(0.0)
    bench.fleet.leave("a")
    bench.fleet.settings = replace(bench.fleet.settings, lost_offsets=lost_offsets)
    bench.fleet.cluster.group("shop").offsets.clear()
    if lost_offsets == "stop":
        with pytest.raises(TopicError, match="task in/0 has entries in other, but group shop has no"):
            bench.fill()
        assert not bench.fleet.cluster.group("shop").offsets
    else:
        assert bench.fill() == len(OLD + NEW)
    bench.fleet.close()
