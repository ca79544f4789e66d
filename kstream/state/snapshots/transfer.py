"""How the files of a snapshot travel: from a directory to a storage, and back.

To a storage: a note of what is being uploaded, then each file that is not there yet, under its hash, then the manifest.
A process that dies in between leaves files that no manifest names, and the note, which the collector finds. From a
storage: each file is checked by its size and hash on its way. Both are stopped from outside by what `go_on` raises.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from kstream.errors import FileMissing, SnapshotError
from kstream.state.snapshots.manifest import FILES, UPLOADS, Draft, Manifest, StoredFile, packed
from kstream.state.snapshots.storage import Storage, chunks_of, views_of
from kstream.types import Clock

Piece = TypeVar("Piece", bytes, memoryview)

UNCHANGING: Final = ".sst"
"""What the names of files end with that no backend ever writes into again: RocksDB makes them and deletes them."""

AT_ONCE: Final = 4
"""Files that are fetched at the same time."""


class UploadNote(msgspec.Struct, frozen=True):
    """That files are being uploaded, or were when their process ended: the collector leaves them alone until `until`
    (seconds since the epoch)."""

    id: str
    task: str
    until: float
    files: list[str]


class Hashes:
    """The hashes of local files that do not change, remembered by what a hard link shares: they are read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int], str] = {}

    def of(self, directory: Path, go_on: Callable[[], None]) -> list[tuple[Path, int, str]]:
        """Path, size and SHA-256 of each file of a directory, in the order of their names. Those that it no longer has
        are forgotten."""
        now: dict[tuple[int, int, int, int], str] = {}
        found = []
        for path in sorted(directory.iterdir()):
            at = path.stat()
            same = at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns
            now[same] = digest = self._known.get(same) or _digest(path, go_on)
            found.append((path, at.st_size, digest))
        self._known = now
        return found


def _digest(path: Path, go_on: Callable[[], None]) -> str:
    digest = sha256()
    for piece in views_of(path):
        go_on()
        digest.update(piece)
    return digest.hexdigest()


def write_snapshot(
    storage: Storage,
    place: str,
    directory: Path,
    draft: Draft,
    clock: Clock,
    *,
    patience: float,
    id: str | None = None,
    incremental: bool = True,
    hashes: Hashes | None = None,
    anew: Collection[str] = (),
    go_on: Callable[[], None] = lambda: None,
) -> Manifest:
    """Stores the files of a directory as a snapshot, and returns its manifest, which is stored too.

    Args:
        place: the folder of this task's snapshots in the storage.
        directory: a backend's checkpoint. Its files must not change meanwhile.
        patience: seconds that it may take, as far as its caller knows: for so long its files are not taken for garbage.
        id: 12 hexadecimal digits, unlike that of any other snapshot; None: random ones.
        incremental: files that the storage has already are not stored again. Otherwise the snapshot shares none.
        hashes: those of the files of earlier calls for the same task.
        anew: files (`StoredFile.at`) that are stored again though they are there: they are known to be damaged.
        go_on: called often; what it raises ends the upload.

    Raises:
        StorageError: the storage cannot be written.
        SnapshotError: a local file changed while it was stored.
    """
    from importlib.metadata import version

    began = clock.monotonic()
    id = id or secrets.token_hex(6)
    folder = FILES if incremental else id
    local = (hashes or Hashes()).of(directory, go_on)
    files = [StoredFile(path.name, size, digest, f"{folder}/{digest}") for path, size, digest in local]
    note = UploadNote(id, draft.task, clock.time() + patience, sorted({file.at for file in files}))
    note_name = f"{place}/{UPLOADS}/{id}"
    go_on()
    storage.put(note_name, [msgspec.json.encode(note)])
    uploaded = _upload_missing(storage, place, directory, files, go_on, anew)
    manifest = Manifest(
        **{name: getattr(draft, name) for name in Draft.__struct_fields__},
        id=id,
        files=files,
        uploaded=uploaded,
        seconds=clock.monotonic() - began,
        program=version("kstream"),
    )
    go_on()
    storage.put(f"{place}/{manifest.name}", [packed(manifest)])
    # What another process took for garbage before it could see this snapshot is stored again, while it is still here.
    _upload_missing(storage, place, directory, files, go_on)
    storage.delete([note_name])
    return manifest


def _upload_missing(
    storage: Storage,
    place: str,
    directory: Path,
    files: Iterable[StoredFile],
    go_on: Callable[[], None],
    anew: Collection[str] = (),
) -> int:
    """Stores files that are not there, have another size there, or are to be stored anew. Returns their bytes."""
    there: dict[str, int] = {}
    uploaded = 0
    for folder in {file.at.partition("/")[0] for file in files}:
        there |= {entry.name: entry.size for entry in storage.list(f"{place}/{folder}")}
    for file in files:
        name = f"{place}/{file.at}"
        if there.get(name) == file.size and file.at not in anew:
            continue
        storage.put(name, _checked(chunks_of(directory / file.name), file, f"{directory / file.name}", go_on))
        there[name] = file.size
        uploaded += file.size
    return uploaded


def read_snapshot(
    storage: Storage,
    place: str,
    manifest: Manifest,
    directory: Path,
    *,
    link: bool = False,
    go_on: Callable[[], None] = lambda: None,
    fetched: Callable[[int], object] = lambda size: None,
    damaged: Callable[[str], object] = lambda at: None,
) -> None:
    """Brings the files of a snapshot into a directory, which is made. What is there when it raises is of no use.

    Args:
        link: files that do not change are shared with a storage on the same file system. They are checked all the same.
        go_on: called often; what it raises ends it.
        fetched: told the bytes of each piece that came. Called on several threads.
        damaged: told which file (`StoredFile.at`) is missing or not what the manifest says. Called on several threads.

    Raises:
        SnapshotError: a file is missing, or is not what the manifest says.
        StorageError: the storage cannot be read, or the directory not be written.
    """
    directory.mkdir(parents=True)

    def fetch(file: StoredFile) -> None:
        try:
            bring(file)
        except SnapshotError:
            damaged(file.at)
            raise

    def bring(file: StoredFile) -> None:
        path, where = directory / file.name, f"{storage.url}: {place}/{file.at}"
        if link and file.name.endswith(UNCHANGING) and _linked(storage, place, file, path):
            for view in _checked(views_of(path), file, where, go_on):
                fetched(len(view))
            return
        pieces = _checked(_pieces(storage, place, file), file, where, go_on)
        with path.open("xb") as out:
            for piece in pieces:
                out.write(piece)
                fetched(len(piece))

    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch-snapshot")
    try:
        # the largest first, so that no thread is left alone with it
        for done in [pool.submit(fetch, file) for file in sorted(manifest.files, key=lambda one: -one.size)]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def check_files(
    storage: Storage, place: str, manifest: Manifest, go_on: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """What is wrong with the files of a snapshot: each is read. Raises StorageError: the storage cannot be read."""
    for _, problem in problems_of(storage, place, manifest.files, go_on):
        yield problem


def problems_of(
    storage: Storage, place: str, files: Iterable[StoredFile], go_on: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, str]]:
    """Those of these files that are missing or damaged (`StoredFile.at`), and what is wrong with them. Raises
    StorageError: the storage cannot be read."""
    for file in files:
        try:
            for _ in _checked(_pieces(storage, place, file), file, f"{storage.url}: {place}/{file.at}", go_on):
                pass
        except SnapshotError as error:
            yield file.at, str(error)


def _pieces(storage: Storage, place: str, file: StoredFile) -> Iterator[bytes]:
    try:
        yield from storage.get(f"{place}/{file.at}")
    except FileMissing as error:
        raise _missing(storage, place, file) from error


def _linked(storage: Storage, place: str, file: StoredFile, path: Path) -> bool:
    try:
        return storage.link(f"{place}/{file.at}", path)
    except FileMissing as error:
        raise _missing(storage, place, file) from error


def _missing(storage: Storage, place: str, file: StoredFile) -> SnapshotError:
    return SnapshotError(f"{storage.url}: {place}/{file.at} ({file.name}) is missing")


def _checked(pieces: Iterable[Piece], file: StoredFile, where: str, go_on: Callable[[], None]) -> Iterator[Piece]:
    """The pieces as they are. Raises SnapshotError where they are not what they should be, at the latest before the
    last one would be followed by the end."""
    digest, size = sha256(), 0
    for piece in pieces:
        go_on()
        digest.update(piece)
        size += len(piece)
        yield piece
    if size != file.size:
        raise SnapshotError(f"{where} ({file.name}) has {size:,} bytes instead of {file.size:,}")
    if digest.hexdigest() != file.sha256:
        raise SnapshotError(f"{where} ({file.name}) is damaged: its checksum does not fit")
