"""What a savepoint is: one file that says what an app had committed at one moment, and in which files its state lies.

It is written last, so a savepoint exists once this file does. It owns its files: they lie below the savepoint's own
folder, and no snapshot shares them. So a folder that is copied to another place is the savepoint there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from typing import Final, Literal

import msgspec

from kstream.codecs.shapes import Shape
from kstream.errors import FileMissing, SnapshotError, UsageError
from kstream.specs.stored import SAVEPOINTS
from kstream.state.snapshots.manifest import Manifest
from kstream.state.snapshots.sealed import Seal
from kstream.state.snapshots.storage import Storage, read
from kstream.state.snapshots.transfer import check_files

FILE: Final = "savepoint"
"""What it is called in the savepoint's folder."""

OWNER: Final = "app"
"""In the folder of an attempt, which is called by the savepoint's id: the name of the app whose it is."""

_OURS: Final = re.compile(r"savepoint|tables/[^/]+/\d+\.parquet|[0-9a-f]{12}/(app|[^/]+/\d+/.+)")
"""What lies in a savepoint's folder, below it."""
_UNFINISHED: Final = re.compile(r"\.[0-9a-f]{12}\.part$")
_SEAL: Final = Seal("savepoint", "a savepoint's", SAVEPOINTS)
NAME: Final = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What a savepoint may be called."""
_NAME: Final = re.compile(NAME)

Format = Literal["native", "canonical"]


class SavedOffset(msgspec.Struct, frozen=True):
    """What was committed of an input. `metadata` is what lay beside the offset in Kafka."""

    topic: str
    partition: int
    offset: int
    metadata: str = ""


class SavedTopic(msgspec.Struct, frozen=True):
    """An input that is not the app's own, as it was: its id (KIP-516; None where brokers have none), its partitions."""

    id: str | None
    partitions: int


class SavedStore(msgspec.Struct, frozen=True):
    """A store: its types as messages call them, its scope, and how many partitions it has."""

    key: str
    value: str
    scope: str
    partitions: int


class SavedType(msgspec.Struct, frozen=True):
    """Types and the layout that a store has had: its entries may be of each of them."""

    store: str
    key: Shape
    value: Shape
    layout: str = ""


class SavedTask(msgspec.Struct, frozen=True):
    """A task.

    Attributes:
        name: `<sub-topology>/<partition>`.
        group: its isolation group.
        own: what lay beside the offsets of the app's own topics, which are empty: how far the task's time was.
        folder: below the savepoint's folder, where the files of its state lie.
        state: which files these are; None where it has no state, or the savepoint is in canonical form.
        stores: what it has, in whichever form.
    """

    name: str
    group: str
    partition: int
    offsets: list[SavedOffset]
    own: list[SavedOffset] = []
    folder: str = ""
    state: Manifest | None = None
    stores: list[str] = []


class SavedTable(msgspec.Struct, frozen=True):
    """A partition of a store in canonical form: a file below the savepoint's folder."""

    store: str
    partition: int
    file: str
    entries: int
    size: int
    sha256: str


class Savepoint(msgspec.Struct, frozen=True, kw_only=True):
    """A savepoint.

    Attributes:
        id: unlike that of any other.
        app: whose it is; `taken`: when, seconds since the epoch; `program`: the version of kstream that wrote it.
        format: "native": files of the backends; "canonical": a Parquet file for each partition of each store.
        topics: the inputs that are not the app's own.
        tables: of the canonical form.
        types: of the stores, as far as they were kept.
    """

    id: str
    name: str
    app: str
    taken: float
    program: str
    format: Format = "native"
    topics: dict[str, SavedTopic]
    stores: dict[str, SavedStore]
    tasks: list[SavedTask]
    tables: list[SavedTable] = []
    types: list[SavedType] = []

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(one.state.size for one in self.tasks if one.state is not None) + sum(one.size for one in self.tables)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Savepoint).decode


def check_name(name: str) -> None:
    """Raises UsageError where a savepoint cannot be called so: it is the name of a folder."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"savepoint {name!r}: a name has letters, digits, '.', '_' and '-', 100 at most")


def write_savepoint(storage: Storage, savepoint: Savepoint) -> None:
    """From here on it exists. Raises StorageError."""
    storage.put(f"{savepoint.name}/{FILE}", [_SEAL.sealed(_encode(savepoint))])


def create_savepoint(storage: Storage, savepoint: Savepoint) -> bool:
    """As `write_savepoint`, unless there is one of this name; returns whether there was none. Raises StorageError."""
    return storage.create(f"{savepoint.name}/{FILE}", _SEAL.sealed(_encode(savepoint)))


def read_savepoint(storage: Storage, name: str) -> Savepoint:
    """Raises:
    UsageError: there is none of this name.
    SnapshotError: it is damaged, or of a later version.
    StorageError: the storage cannot be read.
    """
    check_name(name)
    where = f"{storage.url}: {name}/{FILE}"
    try:
        data = read(storage, f"{name}/{FILE}")
    except FileMissing:
        raise UsageError(f"there is no savepoint {name} in {storage.url}") from None
    body = _SEAL.opened(data, where)
    try:
        found = _decode(body)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"{where} cannot be read: {error}") from error
    if found.name != name:  # the folder was given another name: what it says of itself is what it had
        found = msgspec.structs.replace(found, name=name)
    return found


def savepoints_in(storage: Storage) -> list[str]:
    """The names of the savepoints in a place, those that are damaged too."""
    found = (entry.name.split("/") for entry in storage.list(""))
    return sorted(parts[0] for parts in found if len(parts) == 2 and parts[1] == FILE)


def damages_of(storage: Storage, savepoint: Savepoint) -> Iterator[str]:
    """What is wrong with its files, a line each; every file is read. Raises StorageError."""
    for task in savepoint.tasks:
        if task.state is not None:
            yield from check_files(storage, f"{savepoint.name}/{task.folder}", task.state)
    for table in savepoint.tables:
        name, digest = f"{savepoint.name}/{table.file}", sha256()
        try:
            for chunk in storage.get(name):
                digest.update(chunk)
        except FileMissing:
            yield f"{storage.url}: {name} is missing"
            continue
        if digest.hexdigest() != table.sha256:
            yield f"{storage.url}: {name} is damaged: its checksum does not fit"


def files_of(storage: Storage, name: str) -> list[str]:
    """All that lies in a savepoint's folder, what is not whole too.

    Raises:
        UsageError: something in it is not of a savepoint: the folder is somebody else's.
        StorageError: it cannot be read.
    """
    check_name(name)
    found = []
    for entry in (*storage.list(name), *storage.unfinished(name)):
        if _OURS.fullmatch(_UNFINISHED.sub("", entry.name.removeprefix(f"{name}/"))) is None:
            raise UsageError(
                f"{storage.url}: the folder {name} is not a savepoint's, it has the file {entry.name}; nothing is "
                "deleted"
            )
        found.append(entry.name)
    return found


def delete_savepoint(storage: Storage, name: str) -> int:
    """Deletes all that lies in the folder, that file first: what is left of a deletion that was broken off is none.
    Returns how many files there were.

    Raises:
        UsageError: there is nothing of a savepoint, or also something else; nothing is deleted then.
        StorageError: a file cannot be deleted.
    """
    names = files_of(storage, name)
    if not names:
        raise UsageError(f"there is no savepoint {name} in {storage.url}")
    storage.delete([f"{name}/{FILE}"])
    storage.delete(names)
    return len(names)


def begin_attempt(storage: Storage, name: str, id: str, app: str) -> None:
    """The app makes a savepoint in this folder from here on. Raises StorageError."""
    storage.put(f"{name}/{id}/{OWNER}", [app.encode()])


def left_by_attempts(storage: Storage, name: str, app: str, *, but: str) -> list[str]:
    """Files of earlier attempts of the app, which were broken off.

    Args:
        but: the id of the attempt whose files are not among them.

    Raises:
        UsageError: there is a savepoint of this name, another app makes one in this folder, or the folder is somebody
            else's.
        StorageError: it cannot be read.
    """
    files = files_of(storage, name)
    if f"{name}/{FILE}" in files:
        raise UsageError(f"there is a savepoint {name} in {storage.url}: give another name, or delete it first")
    for file in files:
        if file.endswith(f"/{OWNER}") and file.count("/") == 2:
            with suppress(FileMissing):  # deleted meanwhile
                whose = read(storage, file).decode(errors="replace")
                if whose != app:
                    raise UsageError(
                        f"app {whose} makes a savepoint {name} in {storage.url}, or was broken off: give another name, "
                        "or delete it first"
                    )
    return [file for file in files if not file.startswith(f"{name}/{but}/")]


def taken_apart(storage: Storage, savepoint: Savepoint) -> str | None:
    """Why a savepoint whose file was just written is not safe: another attempt in its folder, which looked before that
    file was there, takes its files for what is left of one that was broken off. None: no attempt does, or will.

    Raises:
        UsageError: the folder is somebody else's. StorageError: it cannot be read.
    """
    own = f"{savepoint.name}/{savepoint.id}/"
    # in this order: an attempt deletes what it found first, and the note of whose it is last
    notes = [file for file in files_of(storage, savepoint.name) if file.endswith(f"/{OWNER}") and file.count("/") == 2]
    if any(not note.startswith(own) for note in notes):
        return f"another one of this name is made in {storage.url} at the same time"
    there = set(files_of(storage, savepoint.name))
    for task in savepoint.tasks:
        for file in task.state.files if task.state is not None else ():
            if (name := f"{savepoint.name}/{task.folder}/{file.at}") not in there:
                return f"{storage.url}: {name} was deleted meanwhile"
    return None


def delete_attempt(storage: Storage, name: str, id: str) -> None:
    """Deletes the files of one attempt. Raises StorageError."""
    at = f"{name}/{id}"
    storage.delete([entry.name for entry in (*storage.list(at), *storage.unfinished(at))])
