"""What lies in the place of a task's snapshots, as the collector sees it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from kstream.errors import FileMissing, SnapshotError
from kstream.state.snapshots.manifest import MANIFESTS, UPLOADS, Manifest, later_version, number_of, unpacked
from kstream.state.snapshots.storage import Entry, Storage, read
from kstream.state.snapshots.transfer import UploadNote

GRACE: Final = 600.0
"""Seconds for which what looks like garbage is left alone: its owner may say otherwise yet, and clocks differ."""

_FILE: Final = re.compile(r"[A-Za-z0-9-]{1,80}/[0-9a-f]{64}")


class Garbage(NamedTuple):
    """A file that may be deleted, and why."""

    entry: Entry
    why: str


@dataclass(frozen=True)
class View:
    """What lies in a place.

    Attributes:
        now: seconds since the epoch.
        retained: snapshots to keep.
        files: those of snapshots, by where they lie below the place.
        snapshots: with the entries of their manifests, the newest first.
        damaged: manifests that cannot be read; lacking: those of snapshots that are not whole, and why; later: those
            of a later version, whose files nobody here knows.
        notes: of uploads, None where they cannot be read.
        unfinished: files that were not stored to their ends.
    """

    now: float
    retained: int
    files: dict[str, Entry]
    snapshots: list[tuple[Entry, Manifest]]
    damaged: list[Entry]
    lacking: list[tuple[Entry, str]]
    later: list[Entry]
    notes: list[tuple[Entry, UploadNote | None]]
    unfinished: list[Entry]

    @property
    def kept(self) -> list[Manifest]:
        return [manifest for _, manifest in self.snapshots[: self.retained]]

    def old(self, entry: Entry) -> bool:
        return self.now - entry.modified > GRACE


def look(
    storage: Storage,
    place: str,
    now: float,
    retained: int,
    known: MutableMapping[str, Manifest],
    bad: Collection[str] = (),
) -> View:
    """What lies in `place`.

    Files are listed first, then notes, then manifests: what is taken for garbage was there before any of those that
    could name it were read.

    Args:
        known: manifests that were read before, by name; those that are read are added.
        bad: files (`StoredFile.at`) that are known not to be what their manifests say.

    Raises:
        StorageError: it cannot be read.
    """
    unfinished = list(storage.unfinished(place))
    files = {entry.name.removeprefix(f"{place}/"): entry for entry in storage.list(place)}
    files = {at: entry for at, entry in files.items() if _FILE.fullmatch(at)}
    notes = list(_notes(storage, place))
    snapshots, damaged, lacking, later = [], [], [], []
    for entry in storage.list(f"{place}/{MANIFESTS}"):
        if number_of(entry.name) is None:
            continue
        try:
            data = b"" if entry.name in known else read(storage, entry.name)
            if later_version(data):
                later.append(entry)
                continue
            manifest = known.get(entry.name) or unpacked(data, entry.name)
        except SnapshotError:
            damaged.append(entry)
        except FileMissing:  # another process collects too
            continue
        else:
            known[entry.name] = manifest
            why = _lacking(storage, place, manifest, files, bad, new=now - entry.modified <= GRACE)
            if why:
                lacking.append((entry, why))
            else:
                snapshots.append((entry, manifest))
    snapshots.sort(key=lambda one: one[1].order, reverse=True)
    return View(now, retained, files, snapshots, damaged, lacking, later, notes, unfinished)


def _lacking(
    storage: Storage, place: str, manifest: Manifest, files: dict[str, Entry], bad: Collection[str], *, new: bool
) -> str:
    """What is wrong with a snapshot, as far as can be seen without reading its files. A new one is taken for whole:
    its files may have come since they were listed."""
    for file in manifest.files:
        if file.at in bad:
            return f"of a snapshot whose file {file.at} is damaged"
        found = files.get(file.at)
        if new or (found is not None and found.size == file.size):
            continue
        if found is not None:
            return f"of a snapshot whose file {file.at} is cut off"
        if not storage.exists(f"{place}/{file.at}"):  # asked once more: a list may lack what is replaced just then
            return f"of a snapshot whose file {file.at} is missing"
    return ""


def _notes(storage: Storage, place: str) -> Iterator[tuple[Entry, UploadNote | None]]:
    for entry in storage.list(f"{place}/{UPLOADS}"):
        with suppress(FileMissing):  # that upload has come to its end
            data = read(storage, entry.name)
            try:
                yield entry, msgspec.json.decode(data, type=UploadNote)
            except msgspec.MsgspecError:
                yield entry, None
