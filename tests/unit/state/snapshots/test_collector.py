"""The collector deletes what nobody needs, and nothing else, whatever died in between."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from kstream.errors import StorageError
from kstream.state.snapshots.collector import collect
from kstream.state.snapshots.collector.view import GRACE
from kstream.state.snapshots.manifest import Draft, Manifest, manifests_of, packed, stored_manifest
from kstream.state.snapshots.storage import DirectoryStorage
from kstream.state.snapshots.transfer import UploadNote, check_files, write_snapshot
from kstream.testing import ManualClock

PLACE = "shop/snapshots/orders/3"


class Place:
    """A task's snapshots in a directory, with a clock; `local` is what the task has."""

    def __init__(self, root: Path) -> None:
        self.storage, self.local, self.clock = DirectoryStorage(root / "storage"), root / "local", ManualClock()
        self.local.mkdir()
        self.number = 0

    def change(self, name: str, content: bytes | None = None) -> None:
        (self.local / name).write_bytes(os.urandom(40) if content is None else content)

    def snapshot(self, storage: DirectoryStorage | None = None) -> Manifest:
        self.number += 1
        draft = Draft(
            app="shop", part="orders", partition=3, number=self.number, taken=self.clock.time(), backend="x", stores={}
        )
        manifest = write_snapshot(storage or self.storage, PLACE, self.local, draft, self.clock, patience=60)
        self.age()
        return manifest

    def age(self) -> None:
        """What was stored so far was stored now, by the clock."""
        for entry in [*self.storage.list(""), *self.storage.unfinished("")]:
            path = Path(self.storage.url, entry.name)
            if path.stat().st_mtime > self.clock.time():
                os.utime(path, (self.clock.time(), self.clock.time()))

    def collect(self, retained: int = 2, *, dry_run: bool = False) -> list[str]:
        found = collect(self.storage, PLACE, retained, self.clock, dry_run=dry_run)
        return [one.entry.name.removeprefix(f"{PLACE}/") for one in found]

    @property
    def names(self) -> set[str]:
        found = [*self.storage.list(PLACE), *self.storage.unfinished(PLACE)]
        return {entry.name.removeprefix(f"{PLACE}/") for entry in found}

    def check(self) -> None:
        """Every snapshot that is left is whole."""
        for entry in manifests_of(self.storage, PLACE):
            assert list(check_files(self.storage, PLACE, stored_manifest(self.storage, entry.name))) == []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_newest_are_kept_with_the_files_they_share(place: Place) -> None:
    place.change("shared")
    made = []
    for _ in range(4):
        place.change("own")
        made.append(place.snapshot())
        place.clock.advance(GRACE + 1)
    gone = place.collect(2)
    assert {one.name for one in made[:2]} < set(gone)
    assert place.names == {one.name for one in made[2:]} | {file.at for one in made[2:] for file in one.files}
    place.check()
    assert place.collect(2) == []


def test_a_dry_run_says_what_a_real_one_deletes(place: Place) -> None:
    for _ in range(3):
        place.change("own")
        place.snapshot()
        place.clock.advance(GRACE + 1)
    before = place.names
    said = place.collect(1, dry_run=True)
    assert place.names == before
    assert place.collect(1) == said != []


def test_files_that_are_new_are_left_for_a_while(place: Place) -> None:
    place.change("own")
    place.storage.put(f"{PLACE}/files/{'ab' * 32}", [b"of an upload that died"])
    place.age()
    assert place.collect() == []
    place.clock.advance(GRACE + 1)
    assert place.collect() == [f"files/{'ab' * 32}"]


def test_what_an_upload_under_way_has_noted_is_left(place: Place) -> None:
    at = f"files/{'cd' * 32}"
    place.storage.put(f"{PLACE}/{at}", [b"old, and needed again"])
    place.age()
    place.clock.advance(GRACE * 10)
    note = UploadNote("abc", "orders/3", place.clock.time() + 300, [at])
    place.storage.put(f"{PLACE}/uploads/abc", [msgspec.json.encode(note)])
    assert place.collect() == []
    place.clock.advance(300 + GRACE - 1)
    assert place.collect() == []
    place.clock.advance(2)
    assert place.collect() == [at, "uploads/abc"]


def test_a_note_that_cannot_be_read_protects_everything_for_a_while(place: Place) -> None:
    at = f"files/{'cd' * 32}"
    place.storage.put(f"{PLACE}/{at}", [b"old"])
    place.age()
    place.clock.advance(GRACE + 1)
    place.storage.put(f"{PLACE}/uploads/abc", [b"{"])
    place.age()
    assert place.collect() == []
    place.clock.advance(GRACE + 1)
    assert place.collect() == [at, "uploads/abc"]


def test_files_that_are_not_whole_go_when_they_are_old(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "storage" / PLACE / "files" / f"{'ab' * 32}.0123456789ab.part"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    place.age()
    assert place.collect() == []
    place.clock.advance(GRACE + 1)
    assert place.collect() == [f"files/{path.name}"]
    assert place.names == set()


def test_damaged_manifests_do_not_count_and_go(place: Place) -> None:
    place.change("own")
    good = place.snapshot()
    place.change("own")
    bad = place.snapshot()
    Path(place.storage.url, PLACE, bad.name).write_bytes(b"junk")
    place.age()
    assert place.collect(1) == [], "it is new, and the good one is the newest that counts"
    place.clock.advance(GRACE + 1)
    gone = place.collect(1)
    assert bad.name in gone
    assert good.name in place.names
    place.check()


@pytest.mark.parametrize("how", ["missing", "cut off"])
def test_snapshots_that_lack_a_file_do_not_count_and_go(place: Place, how: str) -> None:
    place.change("own")
    good = place.snapshot()
    place.change("own")
    bad = place.snapshot()
    path = Path(place.storage.url, PLACE, next(file.at for file in bad.files if file.at not in str(good.files)))
    path.unlink() if how == "missing" else os.truncate(path, 3)
    place.age()
    assert place.collect(1) == [good.name], "it is new: it may be stored just now"
    place.change("own")
    newest = place.snapshot()
    place.clock.advance(GRACE + 1)
    assert bad.name in place.collect(3)
    assert {file.at for file in newest.files} < place.names and bad.name not in place.names
    place.check()


def test_snapshots_with_a_file_that_is_known_to_be_damaged_go_at_once(place: Place) -> None:
    place.change("own", b"first")
    good = place.snapshot()
    place.change("own", b"other")
    bad = place.snapshot()
    (at,) = [file.at for file in bad.files]
    found = collect(place.storage, PLACE, 1, place.clock, damaged={at})
    assert [one.entry.name for one in found] == [f"{PLACE}/{bad.name}"]
    assert found[0].why == f"of a snapshot whose file {at} is damaged"
    assert good.name in place.names, "it is the newest of those that count"
    place.clock.advance(GRACE + 1)
    assert place.collect(1) == [at]


def test_a_manifest_of_a_later_version_protects_all_files(place: Place) -> None:
    place.change("own")
    later = place.snapshot()
    path = Path(place.storage.url, PLACE, later.name)
    path.write_bytes(packed(later).replace(b"kstream-snapshot 1 ", b"kstream-snapshot 9 ", 1))
    place.change("own")
    place.snapshot()
    place.clock.advance(GRACE * 9)
    before = place.names
    assert place.collect(1) == []
    assert place.names == before


def test_what_others_put_there_is_left(place: Place) -> None:
    place.storage.put(f"{PLACE}/README", [b"mine"])
    place.storage.put(f"{PLACE}/manifests/notes.txt", [b"mine"])
    place.storage.put(f"{PLACE}/files/mine", [b"mine"])
    place.storage.put("shop/savepoints/before/orders/3/files/" + "ab" * 32, [b"of a savepoint"])
    place.age()
    place.clock.advance(GRACE + 1)
    before = {entry.name for entry in place.storage.list("")}
    assert place.collect(0) == []
    assert {entry.name for entry in place.storage.list("")} == before


class Dying(DirectoryStorage):
    """Its process dies after some puts and deletes."""

    def __init__(self, root: str, left: int) -> None:
        super().__init__(Path(root))
        self.left = left

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StorageError("dead")

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        self._live()
        super().put(name, chunks)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._live()
            super().delete([name])


@pytest.mark.parametrize("seed", range(30))
def test_whatever_dies_in_between_snapshots_that_are_there_are_whole(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        match chance.randrange(4):
            case 0:
                place.change(f"file-{chance.randrange(4)}", bytes([chance.randrange(3)] * 40))
            case 1:
                try:
                    place.snapshot(Dying(place.storage.url, chance.randrange(12)))
                except StorageError:
                    place.age()
            case 2:
                try:
                    collect(Dying(place.storage.url, chance.randrange(8)), PLACE, chance.randrange(1, 3), place.clock)
                except StorageError:
                    place.age()
            case 3:
                place.clock.advance(chance.choice([1, 60, GRACE, 3 * GRACE]))
        place.check()
    place.clock.advance(10 * GRACE)
    place.collect(1)
    named = {
        file.at
        for entry in manifests_of(place.storage, PLACE)
        for file in stored_manifest(place.storage, entry.name).files
    }
    assert {name for name in place.names if not name.startswith("manifests/")} == named, "nothing is left behind"
