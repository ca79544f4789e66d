"""Manifests are read as they were written, or refused by name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kstream.errors import FileMissing, SnapshotError
from kstream.state.about import About
from kstream.state.backend import Mark
from kstream.state.snapshots.manifest import (
    Manifest,
    StoredFile,
    StoredInput,
    StoredStore,
    manifests_of,
    packed,
    stored_manifest,
    unpacked,
)
from kstream.state.snapshots.storage import DirectoryStorage

DIGEST = "ab" * 32
MARK = Mark(42, 1_700_000_000.5, About(changelog="some-id").packed())


def manifest(number: int = 7, *, file: str = "000012.sst", at: str = f"files/{DIGEST}") -> Manifest:
    return Manifest(
        app="shop",
        part="orders",
        partition=3,
        number=number,
        taken=1_700_000_001.0,
        backend="rocksdb",
        stores={"totals": StoredStore.of(MARK), "seen": StoredStore.of(Mark(0, 1.0))},
        inputs=[StoredInput("orders", 3, 99)],
        id=f"{number:012x}",
        files=[StoredFile(file, 10, DIGEST, at)],
        uploaded=10,
    )


def test_a_manifest_comes_back_as_it_was() -> None:
    one = manifest()
    back = unpacked(packed(one), "here")
    assert packed(back) == packed(one)
    assert back.stores["totals"].mark == MARK
    assert back.stores["seen"].mark == Mark(0, 1.0)
    assert (back.task, back.name, back.size) == ("orders/3", "manifests/0000000007-000000000007", 10)


def test_every_bit_and_every_cut_is_noticed() -> None:
    whole = packed(manifest())
    for at in range(0, len(whole), 3):
        for bit in (1, 0x80):
            with pytest.raises(SnapshotError):
                unpacked(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :], "here")
        with pytest.raises(SnapshotError):
            unpacked(whole[:at], "here")


def test_what_a_later_version_wrote_is_refused_by_name() -> None:
    later = packed(manifest()).replace(b"kstream-snapshot 1 ", b"kstream-snapshot 2 ", 1)
    with pytest.raises(
        SnapshotError, match=r"here: a later version of kstream wrote it \(a snapshot of form 2, this one reads up to 1"
    ):
        unpacked(later, "here")


@pytest.mark.parametrize(
    ("file", "at"),
    [
        ("../x", f"files/{DIGEST}"),
        ("a/b", f"files/{DIGEST}"),
        ("..", f"files/{DIGEST}"),
        ("ok", "../secrets"),
        ("ok", f"a/b/{DIGEST}"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(file: str, at: str) -> None:
    with pytest.raises(SnapshotError, match="names a file that no snapshot has"):
        unpacked(packed(manifest(file=file, at=at)), "here")


def test_fields_that_a_later_version_added_are_passed_over() -> None:
    body = msgspec.json.decode(packed(manifest()).partition(b"\n")[2])
    from hashlib import sha256

    more = msgspec.json.encode({**body, "new": 1})
    assert unpacked(b"kstream-snapshot 1 %s\n" % sha256(more).hexdigest().encode() + more, "here").number == 7


def test_manifests_are_found_newest_first(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    for number in (9, 10, 2):
        one = manifest(number)
        storage.put(f"place/{one.name}", [packed(one)])
    storage.put("place/manifests/readme", [b"not one"])
    found = manifests_of(storage, "place")
    assert [stored_manifest(storage, entry.name).number for entry in found] == [10, 9, 2]
    with pytest.raises(FileMissing):
        stored_manifest(storage, "place/manifests/0000000011-000000000011")
