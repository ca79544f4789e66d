"""What `kstream snapshots` shows, finds damaged, and deletes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.cli import reset
from kstream.cli.operate import Subject
from kstream.cli.snapshots import keeping, listing
from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.errors import ConfigError
from kstream.runtime.cluster.naming import snapshot_place
from kstream.state.backend import Mark
from kstream.state.snapshots.manifest import Draft, Manifest, StoredInput, StoredStore
from kstream.state.snapshots.storage import DirectoryStorage
from kstream.state.snapshots.transfer import write_snapshot
from kstream.testing import MemoryCluster
from kstream.testing.clients import MemoryClients


class Kept:
    """Snapshots of two tasks of app shop: three of orders/2, one of a/b/10."""

    def __init__(self, directory: Path) -> None:
        self.root, self.local = directory / "kept", directory / "local"
        self.local.mkdir()
        self.storage = DirectoryStorage(self.root)
        self.on = Subject(kstream.App("shop"), Settings(snapshots=str(self.root)), {})
        self.made: list[Manifest] = []
        (self.local / "000001.sst").write_bytes(os.urandom(5000))
        for number in (1, 2, 3):
            (self.local / "CURRENT").write_bytes(b"%d" % number)
            self.made.append(self.write("orders", 2, number))
        self.other = self.write("a/b", 10, 1)

    def write(self, part: str, partition: int, number: int) -> Manifest:
        draft = Draft(
            app="shop", part=part, partition=partition, number=number, taken=time.time(), backend="rocksdb",
            stores={"totals": StoredStore.of(Mark(1234, time.time(), b'{"changelog":"xyz"}'))},
            inputs=[StoredInput("orders", partition, 77)],
        )  # fmt: skip
        place = snapshot_place("shop", part, partition)
        return write_snapshot(self.storage, place, self.local, draft, SystemClock(), patience=60)

    def path(self, manifest: Manifest, at: str) -> Path:
        return self.root / snapshot_place("shop", manifest.part, manifest.partition) / at

    def age(self) -> None:
        for path in self.root.rglob("*"):
            os.utime(path, (time.time() - 3600,) * 2)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("COLUMNS", "160")
    return Kept(tmp_path)


def out(capsys: pytest.CaptureFixture[str]) -> str:
    return str(capsys.readouterr().out)


def as_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(out(capsys))


def test_they_are_listed_by_task_the_newest_first(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.run(kept.on, None, as_json=False) == 0
    lines = out(capsys).splitlines()
    assert lines[0].split() == ["task", "number", "id", "taken", "age", "size", "stored", "took"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["a/b/10", "1", kept.other.id],
        *(["orders/2", str(one.number), one.id] for one in reversed(kept.made)),
    ]
    assert "4.9 KiB" in lines[-1]
    assert "1 B" in lines[2], "of the newest only one byte was stored"
    listing.run(kept.on, "orders/2", as_json=True)
    found = as_json(capsys)
    assert [(one["task"], one["number"], one["stored"]) for one in found] == [
        ("orders/2", 3, 1), ("orders/2", 2, 1), ("orders/2", 1, 5001),
    ]  # fmt: skip


def test_one_that_cannot_be_read_is_listed_as_such(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    kept.path(kept.made[1], kept.made[1].name).write_bytes(b"junk")
    listing.run(kept.on, "orders/2", as_json=False)
    assert "cannot be read" in out(capsys).splitlines()[2]


def test_everything_of_one(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.show(kept.on, kept.made[2].id[:6], as_json=False) == 0
    shown = out(capsys)
    for words in (f"snapshot {kept.made[2].id} of task orders/2 of shop, number 3", "1,234", "xyz", "77", "000001.sst"):
        assert words in shown
    listing.show(kept.on, kept.made[2].id, as_json=True)
    assert as_json(capsys)["stores"]["totals"]["offset"] == 1234


def test_what_is_not_there_is_said(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="ffffffffffff0: there is no such snapshot"):
        listing.show(kept.on, "ffffffffffff0", as_json=False)
    with pytest.raises(ConfigError, match="several snapshots begin so"):
        listing.show(kept.on, "", as_json=False)
    with pytest.raises(ConfigError, match="a task is called SUB-TOPOLOGY/PARTITION"):
        listing.run(kept.on, "orders", as_json=False)
    with pytest.raises(ConfigError, match=r"--task orders/77: .* there are of a/b/10, orders/2"):
        listing.run(kept.on, "orders/77", as_json=False)
    with pytest.raises(ConfigError, match="the app keeps none"):
        listing.run(Subject(kept.on.app, Settings(), {}), None, as_json=False)
    assert listing.run(Subject(kept.on.app, Settings(snapshots=str(tmp_path / "no")), {}), None, as_json=False) == 0
    assert "shop has no snapshots in" in out(capsys)


def test_verify_reads_every_file(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    assert keeping.verify(kept.on, [], None, newest=False, as_json=False) == 0
    assert out(capsys).count(": whole") == 4
    own = next(file for file in kept.made[1].files if file.name == "CURRENT")
    kept.path(kept.made[1], own.at).write_bytes(b"x")
    assert keeping.verify(kept.on, [], None, newest=False, as_json=False) == 1
    told = out(capsys)
    assert told.count(": whole") == 3
    assert f"orders/2 2 {kept.made[1].id}: damaged" in told
    assert "(CURRENT) is damaged: its checksum does not fit" in told
    assert keeping.verify(kept.on, [], None, newest=True, as_json=False) == 0, "the newest are whole"
    assert out(capsys).count(": whole") == 2
    assert keeping.verify(kept.on, [kept.made[1].id], None, newest=False, as_json=True) == 1
    assert len(as_json(capsys)[0]["problems"]) == 1


def test_prune_reads_what_it_keeps_where_it_is_told_to(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    newest = kept.made[-1]
    (own,) = [file.at for file in newest.files if file.name == "CURRENT"]
    kept.path(newest, own).write_bytes(b"x")
    kept.age()
    keeping.prune(kept.on, 2, "orders/2", dry_run=True, as_json=False)
    assert newest.name not in out(capsys), "its size is what it should be"
    keeping.prune(kept.on, 2, "orders/2", dry_run=False, as_json=False, verify=True)
    said = out(capsys)
    assert f"{newest.name}  " in said and f"of a snapshot whose file {own} is damaged" in said
    assert keeping.verify(kept.on, [], "orders/2", newest=False, as_json=False) == 0
    assert out(capsys).count(": whole") == 2


def test_prune_says_first_and_deletes_then(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    kept.age()
    assert keeping.prune(kept.on, 1, None, dry_run=True, as_json=False) == 0
    said = out(capsys).splitlines()
    assert said[-1].startswith("4 files, ")
    assert said[-1].endswith(": would be deleted")
    keeping.prune(kept.on, 1, None, dry_run=False, as_json=False)
    assert out(capsys).splitlines()[:-1] == said[:-1]
    keeping.prune(kept.on, 1, None, dry_run=False, as_json=False)
    assert out(capsys) == "0 files, 0 B: deleted\n"
    assert keeping.verify(kept.on, [], None, newest=False, as_json=False) == 0
    assert out(capsys).count(": whole") == 2


def test_a_reset_takes_the_apps_snapshots_along_or_leaves_them(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Subject, "clients", MemoryClients(MemoryCluster()))
    app = kstream.App("shop")
    app.stream(app.topic("orders", key=str, value=int)).group_by_key().count(name="totals")
    on = Subject(app, Settings(snapshots=str(kept.root), state_dir=str(tmp_path / "state")), {})
    kept.storage.put("shop2/snapshots/orders/0/manifests/1", [b"of another app"])

    def left() -> int:
        return len(list(kept.storage.list("shop/snapshots")))

    there = left()
    assert there > 4
    assert reset.run(on, None, dry_run=True, yes=True) == 0
    assert f"Delete {there} files of snapshots in" in out(capsys) and left() == there
    assert reset.run(on, None, dry_run=False, yes=True, keep_snapshots=True) == 0
    assert "snapshots" not in out(capsys) and left() == there
    assert reset.run(on, None, dry_run=False, yes=True) == 0
    assert left() == 0
    assert [entry.name for entry in kept.storage.list("shop2")] == ["shop2/snapshots/orders/0/manifests/1"]
