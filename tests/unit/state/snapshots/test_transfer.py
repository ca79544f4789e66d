"""Files travel to a storage and back as they are, or it is noticed; what is there already does not travel again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from kstream.clock import SystemClock
from kstream.errors import SnapshotError, StorageError
from kstream.state.snapshots.manifest import Draft, Manifest, manifests_of, stored_manifest
from kstream.state.snapshots.storage import DirectoryStorage
from kstream.state.snapshots.transfer import Hashes, check_files, read_snapshot, write_snapshot

CLOCK = SystemClock()
PLACE = "shop/snapshots/orders/3"


class Recording(DirectoryStorage):
    """Notes what is put, and fails where it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.puts: list[str] = []
        self.fails_at: str | None = None

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        self.puts.append(name.removeprefix(f"{PLACE}/").partition("/")[0])
        if self.fails_at == self.puts[-1]:
            raise StorageError("out of order")
        super().put(name, chunks)


@pytest.fixture
def storage(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "storage")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    for name, size in (("000001.sst", 3 << 20), ("000002.sst", 100), ("CURRENT", 16), ("empty", 0)):
        (directory / name).write_bytes(os.urandom(size))
    return directory


def draft(number: int = 1) -> Draft:
    return Draft(
        app="shop", part="orders", partition=3, number=number, taken=CLOCK.time(), backend="rocksdb", stores={}
    )


def write(storage: DirectoryStorage, checkpoint: Path, number: int = 1, **named: object) -> Manifest:
    return write_snapshot(storage, PLACE, checkpoint, draft(number), CLOCK, patience=60, **named)  # type: ignore[arg-type]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_snapshot_is_read_back_as_it_was(storage: Recording, checkpoint: Path, tmp_path: Path) -> None:
    manifest = write(storage, checkpoint)
    assert manifest.uploaded == manifest.size == (3 << 20) + 116
    (entry,) = manifests_of(storage, PLACE)
    assert stored_manifest(storage, entry.name) == manifest
    fetched: list[int] = []
    read_snapshot(storage, PLACE, manifest, tmp_path / "back", fetched=fetched.append)
    assert content(tmp_path / "back") == content(checkpoint)
    assert sum(fetched) == manifest.size
    assert list(check_files(storage, PLACE, manifest)) == []
    assert not list(storage.list(f"{PLACE}/uploads")), "nothing is under way any more"


def test_the_manifest_comes_last_and_the_note_first(storage: Recording, checkpoint: Path) -> None:
    write(storage, checkpoint)
    assert storage.puts[0] == "uploads"
    assert storage.puts[-1] == "manifests"
    assert set(storage.puts[1:-1]) == {"files"}


def test_only_new_files_travel(storage: Recording, checkpoint: Path) -> None:
    hashes = Hashes()
    write(storage, checkpoint, hashes=hashes)
    (checkpoint / "000003.sst").write_bytes(b"new")
    (checkpoint / "000002.sst").unlink()
    storage.puts.clear()
    second = write(storage, checkpoint, 2, hashes=hashes)
    assert storage.puts == ["uploads", "files", "manifests"]
    assert second.uploaded == 3
    assert [file.name for file in second.files] == ["000001.sst", "000003.sst", "CURRENT", "empty"]


def test_a_full_snapshot_shares_nothing(storage: Recording, checkpoint: Path) -> None:
    first = write(storage, checkpoint)
    second = write(storage, checkpoint, 2, incremental=False)
    assert second.uploaded == second.size
    assert not {file.at for file in first.files} & {file.at for file in second.files}


def test_a_stored_file_that_was_cut_off_is_stored_again(storage: Recording, checkpoint: Path) -> None:
    first = write(storage, checkpoint)
    large = next(file for file in first.files if file.name == "000001.sst")
    os.truncate(Path(storage.url, PLACE, large.at), 1000)
    second = write(storage, checkpoint, 2)
    assert second.uploaded == large.size
    assert list(check_files(storage, PLACE, first)) == []


def test_what_is_deleted_before_the_manifest_is_there_is_stored_again(storage: Recording, checkpoint: Path) -> None:
    class Collected(Recording):
        def put(self, name: str, chunks: Iterable[bytes]) -> None:
            if "/manifests/" in name:
                self.delete([entry.name for entry in self.list(f"{PLACE}/files")])
            super().put(name, chunks)

    manifest = write(Collected(Path(storage.url)), checkpoint)
    assert list(check_files(storage, PLACE, manifest)) == []


@pytest.mark.parametrize("step", ["uploads", "files", "manifests"])
def test_an_upload_that_fails_leaves_no_snapshot(storage: Recording, checkpoint: Path, step: str) -> None:
    storage.fails_at = step
    with pytest.raises(StorageError, match="out of order"):
        write(storage, checkpoint)
    assert manifests_of(storage, PLACE) == []
    storage.fails_at = None
    assert list(check_files(storage, PLACE, write(storage, checkpoint, 2))) == []


def test_a_directory_on_the_same_file_system_shares_files_that_do_not_change(
    storage: Recording, checkpoint: Path, tmp_path: Path
) -> None:
    manifest, came = write(storage, checkpoint), []
    read_snapshot(storage, PLACE, manifest, tmp_path / "back", link=True, fetched=came.append)
    assert content(tmp_path / "back") == content(checkpoint) and sum(came) == manifest.size
    for file in manifest.files:
        there, here = Path(storage.url, PLACE, file.at), tmp_path / "back" / file.name
        assert (there.stat().st_ino == here.stat().st_ino) is file.name.endswith(".sst"), file.name


def test_where_no_link_can_be_made_files_are_copied(
    storage: Recording, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    manifest = write(storage, checkpoint)
    monkeypatch.setattr("kstream.state.snapshots.storage.os.link", refuse)
    read_snapshot(storage, PLACE, manifest, tmp_path / "back", link=True)
    assert content(tmp_path / "back") == content(checkpoint)


def test_both_ways_are_stopped_from_outside(storage: Recording, checkpoint: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        write(storage, checkpoint, go_on=stop)
    manifest = write(storage, checkpoint)
    with pytest.raises(Stop):
        read_snapshot(storage, PLACE, manifest, tmp_path / "back", go_on=stop)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "flipped": (flip, "is damaged: its checksum does not fit"),
    "truncated": (lambda path: os.truncate(path, 50), "has 50 bytes instead of 100"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"."), "has 101 bytes instead of 100"),
    "deleted": (Path.unlink, r"\(000002.sst\) is missing"),
}


@pytest.mark.parametrize("at", [0, 700_000, (3 << 20) - 1])
def test_a_single_flipped_bit_of_a_large_shared_file_is_noticed(
    storage: Recording, checkpoint: Path, tmp_path: Path, at: int
) -> None:
    manifest = write(storage, checkpoint)
    file = next(file for file in manifest.files if file.name == "000001.sst")
    path = Path(storage.url, PLACE, file.at)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(SnapshotError, match="its checksum does not fit"):
        read_snapshot(storage, PLACE, manifest, tmp_path / "back", link=True)


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("link", [True, False], ids=["shared", "copied"])
def test_damage_is_noticed(storage: Recording, checkpoint: Path, tmp_path: Path, kind: str, link: bool) -> None:
    damage, said = DAMAGE[kind]
    manifest = write(storage, checkpoint)
    file = next(file for file in manifest.files if file.name == "000002.sst")
    damage(Path(storage.url, PLACE, file.at))  # type: ignore[operator]
    with pytest.raises(SnapshotError, match=said):
        read_snapshot(storage, PLACE, manifest, tmp_path / "back", link=link)
    (problem,) = check_files(storage, PLACE, manifest)
    assert file.at in problem


def test_hashes_are_of_what_is_there_now(checkpoint: Path) -> None:
    hashes, nothing = Hashes(), lambda: None
    first = hashes.of(checkpoint, nothing)
    assert hashes.of(checkpoint, nothing) == first
    os.link(checkpoint / "000001.sst", checkpoint / "linked.sst")
    linked = {path.name: digest for path, _, digest in hashes.of(checkpoint, nothing)}
    assert linked["linked.sst"] == linked["000001.sst"]
    (checkpoint / "CURRENT").unlink()
    (checkpoint / "CURRENT").write_bytes(os.urandom(16))
    changed = {path.name: digest for path, _, digest in hashes.of(checkpoint, nothing)}
    assert changed["CURRENT"] != linked["CURRENT"]
