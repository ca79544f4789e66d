"""What a snapshot is: one file that says which task's state it holds, as of when, and in which files.

It is written when all of its files are there, so a snapshot exists once its manifest does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from kstream.errors import SnapshotError
from kstream.specs.stored import SNAPSHOTS
from kstream.state.backend import Mark
from kstream.state.snapshots.sealed import Seal
from kstream.state.snapshots.storage import Entry, Storage, read

MANIFESTS: Final = "manifests"
FILES: Final = "files"
UPLOADS: Final = "uploads"
"""Folders below a task's place: manifests; files under their hashes; what is being uploaded."""

NONE_SAID: Final = msgspec.Raw(b"null")

_SEAL: Final = Seal("snapshot", "the manifest of a snapshot", SNAPSHOTS)
_NAME: Final = re.compile(r"(\d{10})-([0-9a-f]{12})")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}")
_AT: Final = re.compile(r"[A-Za-z0-9-]{1,80}/[0-9a-f]{64}")


class StoredFile(msgspec.Struct, frozen=True):
    """One file of a snapshot.

    Attributes:
        name: in the directory of the backend.
        size: in bytes.
        sha256: of its content, in hex.
        at: where it lies, below the task's place. Snapshots of one task may share it.
    """

    name: str
    size: int
    sha256: str
    at: str


class StoredStore(msgspec.Struct, frozen=True, omit_defaults=True):
    """A store in a snapshot: its mark (`kstream.state.backend.Mark`), as JSON has it.

    Attributes:
        families: what the backend keeps of it, by name: its expiry index may be missing. None: not known.
    """

    offset: int
    wall_time: float
    about: msgspec.Raw = NONE_SAID
    families: list[str] | None = None

    @classmethod
    def of(cls, mark: Mark, families: list[str] | None = None) -> StoredStore:
        return cls(mark.offset, mark.wall_time, msgspec.Raw(mark.about) if mark.about else NONE_SAID, families)

    def has(self, families: Iterable[str]) -> bool:
        """Whether these are in the snapshot, as far as that is known."""
        return self.families is None or set(families) <= set(self.families)

    @property
    def mark(self) -> Mark:
        said = bytes(self.about)
        return Mark(self.offset, self.wall_time, b"" if said == b"null" else said)


class StoredInput(msgspec.Struct, frozen=True):
    """What was committed of an input partition when the snapshot was taken."""

    topic: str
    partition: int
    offset: int


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a snapshot before its files are stored.

    Attributes:
        app, part, partition: whose state it is.
        number: snapshots of a task are numbered; the newest has the highest. Two owners of a task, one after the other,
            may use one number.
        taken: when, in seconds since the epoch.
        backend: which one can read its files.
        stores: those that had been written to. A store of the task that is missing was empty and never written.
        inputs: committed offsets. What a restore goes by are those of the consumer group.
    """

    app: str
    part: str
    partition: int
    number: int
    taken: float
    backend: str
    stores: dict[str, StoredStore]
    inputs: list[StoredInput] = []

    @property
    def task(self) -> str:
        return f"{self.part}/{self.partition}"


class Manifest(Draft, frozen=True, kw_only=True):
    """A snapshot.

    Attributes:
        id: unlike that of any other.
        kind: "native": the files are the backend's own.
        files: in the order of their names.
        uploaded: bytes that were stored for it; the others were there already.
        seconds: that it took, from its beginning to its last file.
        program: the version of kstream that wrote it.
    """

    id: str
    kind: Literal["native"] = "native"
    files: list[StoredFile]
    uploaded: int = 0
    seconds: float = 0.0
    program: str = ""

    @property
    def name(self) -> str:
        """Of the manifest's own file, below the task's place."""
        return f"{MANIFESTS}/{self.number:010d}-{self.id}"

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def order(self) -> tuple[int, float, str]:
        """By which the newest is the largest."""
        return self.number, self.taken, self.id


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Manifest).decode


def packed(manifest: Manifest) -> bytes:
    """As it lies in a storage."""
    return _SEAL.sealed(_encode(manifest))


def unpacked(data: bytes, where: str) -> Manifest:
    """A manifest as it was written.

    Args:
        where: what it is called in messages.

    Raises:
        SnapshotError: it is damaged, no manifest, or of a later version.
    """
    body = _SEAL.opened(data, where)
    try:
        manifest = _decode(body)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"{where} cannot be read: {error}") from error
    for file in manifest.files:  # names become paths
        if not (_PLAIN.fullmatch(file.name) and _AT.fullmatch(file.at)):
            raise SnapshotError(f"{where} names a file that no snapshot has: {file.name!r} at {file.at!r}")
    return manifest


def later_version(data: bytes) -> bool:
    """Whether a later version of kstream wrote this manifest: what it names is not known then."""
    return _SEAL.is_later(data)


def stored_manifest(storage: Storage, name: str) -> Manifest:
    """The manifest in this file of a storage. Raises SnapshotError, FileMissing, StorageError."""
    return unpacked(read(storage, name), f"{storage.url}: {name}")


def manifests_of(storage: Storage, place: str) -> list[Entry]:
    """The files of a task's manifests, those with the highest numbers first. They are not read."""
    found = [entry for entry in storage.list(f"{place}/{MANIFESTS}") if number_of(entry.name) is not None]
    return sorted(found, key=lambda entry: (number_of(entry.name), entry.modified, entry.name), reverse=True)


def number_of(name: str) -> int | None:
    """The number of a snapshot, from the name of its manifest; None where it is not such a name."""
    match = _NAME.fullmatch(name.rpartition("/")[2])
    return None if match is None else int(match[1])
