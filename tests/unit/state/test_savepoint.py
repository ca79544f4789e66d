"""What a savepoint is in its place: read back, whatever the backends; damage is found and named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kstream.clock import SystemClock
from kstream.errors import FileMissing, SnapshotError, UsageError
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.state.about import About
from kstream.state.backend import Backend, Mark
from kstream.state.choosing import backends
from kstream.state.forms import WALL, headers_of, packed
from kstream.state.rocksdb import RocksMemory
from kstream.state.saved import entries_of
from kstream.state.savepoint import (
    FILE,
    SavedOffset,
    SavedStore,
    SavedTask,
    SavedTopic,
    Savepoint,
    begin_attempt,
    damages_of,
    delete_attempt,
    delete_savepoint,
    left_by_attempts,
    read_savepoint,
    savepoints_in,
    write_savepoint,
)
from kstream.state.snapshots.manifest import Draft, StoredStore
from kstream.state.snapshots.storage import Storage, open_storage
from kstream.state.snapshots.transfer import write_snapshot

ID = "0123456789ab"
ROCKS = RocksMemory(8 << 20, 8 << 20)
SPECS: dict[str, Any] = {
    name: StoreSpec(name, schema(str, "key", key=True), schema(int, "value")) for name in ("plain", "timed")
}
ENTRIES = {b"a": b"1", b"b": b"22"}
TIMED = {b"k": packed(1_700_000_000_000) + b"7"}


def made(tmp_path: Path, kinds: dict[str, str]) -> tuple[Storage, Savepoint]:
    """A savepoint of one task with a plain store, one with a TTL, and one that was never written to."""
    storage = open_storage(str(tmp_path / "saved"))
    stores = ["plain", "timed", "empty"]
    backend: Backend = backends("rocksdb", kinds, ROCKS)(tmp_path / "task", stores)
    about = About(changelog="id").packed()
    backend.write(
        {"plain": ENTRIES.items(), "timed": TIMED.items()},
        {"plain": Mark(5, 1.0, about), "timed": Mark(6, 1.0, About(changelog="id", form=WALL).packed())},
    )
    backend.flush()
    backend.checkpoint(tmp_path / "copy")
    draft = Draft(
        app="shop", part="in", partition=2, number=1, taken=1.0, backend=backend.kind,
        stores={store: StoredStore.of(mark) for store in stores if (mark := backend.mark(store)) is not None},
    )  # fmt: skip
    backend.close()
    manifest = write_snapshot(storage, f"first/{ID}/in/2", tmp_path / "copy", draft, SystemClock(), patience=60.0)
    savepoint = Savepoint(
        id=ID, name="first", app="shop", taken=1.0, program="0.1.0", topics={"in": SavedTopic("x", 3)},
        stores={name: SavedStore("str", "int", "keyed", 3) for name in stores},
        tasks=[
            SavedTask("in/2", "default", 2, [SavedOffset("in", 2, 7, "{}")], [], f"{ID}/in/2", manifest),
            SavedTask("other/0", "default", 0, []),
        ],
    )  # fmt: skip
    write_savepoint(storage, savepoint)
    return storage, savepoint


KINDS = [
    pytest.param({}, id="rocksdb"),
    pytest.param(dict.fromkeys(("plain", "timed", "empty"), "memory"), id="memory"),
    pytest.param({"plain": "memory"}, id="both"),
]


def entries(storage: Storage, savepoint: Savepoint, scratch: Path) -> dict[str, list[Any]]:
    scratch.mkdir()
    found = entries_of(storage, savepoint, frozenset({"plain", "timed", "empty"}), SPECS, scratch)
    return {f"{store}/{partition}": list(rows) for store, partition, rows in found}


@pytest.mark.parametrize("kinds", KINDS)
def test_what_was_saved_is_read_back_with_its_form(tmp_path: Path, kinds: dict[str, str]) -> None:
    storage, savepoint = made(tmp_path, kinds)
    assert read_savepoint(storage, "first") == savepoint
    assert entries(storage, savepoint, tmp_path / "scratch") == {
        "plain/2": [(key, value, None) for key, value in ENTRIES.items()],
        "timed/2": [(key, value, headers_of(WALL)) for key, value in TIMED.items()],
    }
    assert not list(damages_of(storage, savepoint))
    assert savepoints_in(storage) == ["first"]


def test_the_folder_under_another_name_and_in_another_place_is_the_savepoint_there(tmp_path: Path) -> None:
    made(tmp_path, {})
    shutil.copytree(tmp_path / "saved" / "first", tmp_path / "elsewhere" / "second")
    shutil.rmtree(tmp_path / "saved")
    storage = open_storage(str(tmp_path / "elsewhere"))
    savepoint = read_savepoint(storage, "second")
    assert savepoint.name == "second" and not list(damages_of(storage, savepoint))
    assert entries(storage, savepoint, tmp_path / "scratch")["plain/2"]


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_damaged_files_are_found(tmp_path: Path, harm: str) -> None:
    storage, savepoint = made(tmp_path, {})
    state = savepoint.tasks[0].state
    assert state is not None
    file = max(state.files, key=lambda one: one.size)
    path = tmp_path / "saved" / "first" / savepoint.tasks[0].folder / file.at
    data = path.read_bytes()
    if harm == "flip":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif harm == "cut":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    (line,) = damages_of(storage, savepoint)
    assert file.name in line
    with pytest.raises(SnapshotError):
        entries(storage, savepoint, tmp_path / "scratch")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda data: data[:-1], "is damaged or cut off"),
        (lambda data: data.replace(b'"shop"', b'"shap"'), "is damaged or cut off"),
        (lambda data: b"x" + data, "is not a savepoint's"),
        (lambda data: b"", "is not a savepoint's"),
        (lambda data: data.replace(b"kstream-savepoint 1", b"kstream-savepoint 9"), "a later version"),
    ],
    ids=["cut", "changed", "foreign", "empty", "later"],
)
def test_its_own_file_is_checked(tmp_path: Path, harm: Any, says: str) -> None:
    storage, _ = made(tmp_path, {})
    path = tmp_path / "saved" / "first" / FILE
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(SnapshotError, match=says):
        read_savepoint(storage, "first")
    assert savepoints_in(storage) == ["first"]  # it is listed, with why


def test_a_folder_without_that_file_is_no_savepoint_and_can_be_deleted(tmp_path: Path) -> None:
    storage, _ = made(tmp_path, {})
    (tmp_path / "saved" / "first" / FILE).unlink()
    with pytest.raises(UsageError, match="there is no savepoint first"):
        read_savepoint(storage, "first")
    assert savepoints_in(storage) == []
    assert delete_savepoint(storage, "first") > 1
    assert not (tmp_path / "saved" / "first").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "a b", ".hidden", "x" * 101])
def test_a_name_is_that_of_a_folder(tmp_path: Path, name: str) -> None:
    storage, savepoint = made(tmp_path, {})
    with pytest.raises(UsageError, match="a name has letters"):
        read_savepoint(storage, name)
    with pytest.raises(UsageError, match="a name has letters"):
        delete_savepoint(storage, name)
    assert read_savepoint(storage, "first") == savepoint


def test_a_deletion_that_is_broken_off_leaves_no_savepoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, _ = made(tmp_path, {})
    real, calls = storage.delete, []

    def once(names: Any) -> None:
        if calls:
            raise FileMissing("the process dies")
        calls.append(names)
        real(names)

    monkeypatch.setattr(storage, "delete", once)
    with pytest.raises(FileMissing):
        delete_savepoint(storage, "first")
    with pytest.raises(UsageError, match="there is no savepoint"):
        read_savepoint(storage, "first")


def test_fields_that_a_later_version_adds_are_passed_over(tmp_path: Path) -> None:
    storage, savepoint = made(tmp_path, {})
    more = msgspec.json.decode(msgspec.json.encode(savepoint)) | {"news": 1}
    assert msgspec.json.decode(msgspec.json.encode(more), type=Savepoint) == savepoint
    assert storage.exists(f"first/{FILE}")


FOREIGN = ["main.py", "0123456789ab/notes.txt", "tables/seen/about.md", "savepoint.txt", f"deadbeef0123/in/x/{FILE}"]


@pytest.mark.parametrize("file", FOREIGN)
@pytest.mark.parametrize("beside", [True, False], ids=["beside a savepoint", "alone"])
def test_a_folder_with_files_of_somebody_else_is_not_touched(tmp_path: Path, file: str, beside: bool) -> None:
    storage = made(tmp_path, {})[0] if beside else open_storage(str(tmp_path / "saved"))
    path = tmp_path / "saved" / "first" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("somebody's")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="is not a savepoint's"):
        delete_savepoint(storage, "first")
    with pytest.raises(UsageError, match="is not a savepoint's"):
        left_by_attempts(storage, "first", "shop", but=ID)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_not_there_cannot_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "never"):
        with pytest.raises(UsageError, match="there is no savepoint"):
            delete_savepoint(open_storage(str(tmp_path)), name)
    assert (tmp_path / "empty").exists()


def test_an_attempt_that_is_given_up_takes_its_own_files_only(tmp_path: Path) -> None:
    storage, savepoint = made(tmp_path, {})
    begin_attempt(storage, "first", "aaaaaaaaaaaa", "shop")
    storage.put("first/aaaaaaaaaaaa/in/2/files/x", [b"x"])
    (tmp_path / "saved/first/aaaaaaaaaaaa/in/2/files/y.0123456789ab.part").write_bytes(b"y")
    delete_attempt(storage, "first", "aaaaaaaaaaaa")
    assert not (tmp_path / "saved/first/aaaaaaaaaaaa").exists()
    assert not list(damages_of(storage, savepoint))


def test_what_is_left_of_earlier_attempts_is_that_of_the_same_app(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    begin_attempt(storage, "first", ID, "shop")
    begin_attempt(storage, "first", "aaaaaaaaaaaa", "shop")
    assert left_by_attempts(storage, "first", "shop", but=ID) == ["first/aaaaaaaaaaaa/app"]
    begin_attempt(storage, "first", "bbbbbbbbbbbb", "other")
    with pytest.raises(UsageError, match="app other makes a savepoint first"):
        left_by_attempts(storage, "first", "shop", but=ID)


def test_where_there_is_a_savepoint_nothing_is_left_over(tmp_path: Path) -> None:
    storage, _ = made(tmp_path, {})
    with pytest.raises(UsageError, match="there is a savepoint first"):
        left_by_attempts(storage, "first", "shop", but="aaaaaaaaaaaa")
