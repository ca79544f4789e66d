"""Where snapshots lie: files by name, in a directory, or in a bucket of an object store (objects.py).

Names are relative, with "/" between their parts. A file is stored whole or not at all, under whatever name it gets:
that is what a manifest that is written last rests on.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from kstream.config import snapshots as config
from kstream.errors import ConfigError, FileMissing, StorageError

CHUNK: Final = 1 << 20
"""Bytes that are read and written at a time."""

_VIEW: Final = 256 << 10
"""The same where they are only looked at. What is hashed lies in the processor's cache then, and no memory is asked of
the system for each piece: a gigabyte takes 0.85 s of the processor where pieces of CHUNK took 1.28."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
"""What file systems without hard links say (some of networks): there two who try at the same time may both succeed."""

_UNFINISHED: Final = ".part"
"""What the names of files end with that are not whole yet. No name of ours does."""


class Entry(NamedTuple):
    """A file in a storage: its name, its size in bytes, when it was stored (seconds since the epoch)."""

    name: str
    size: int
    modified: float


class Storage(Protocol):
    """Files by name. Any thread may use it, and several at once.

    Every call raises StorageError where the storage cannot be reached, refuses, or is full.
    """

    @property
    def url(self) -> str:
        """What it is called in messages. There are no secrets in it."""
        ...

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """Stores a file, in one atomic step; one of the same name is replaced. What `chunks` raises comes out, and
        then nothing was stored."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Stores a small file unless there is one of this name, in one atomic step. Returns whether it did: of several
        who try at the same time, one only did."""
        ...

    def get(self, name: str) -> Iterator[bytes]:
        """The content of a file, piece by piece. Raises FileMissing, from the first piece on."""
        ...

    def link(self, name: str, path: Path) -> bool:
        """Makes `path` another name of a file, where it lies on the same file system as the storage: nothing is
        copied, and what is written into one is in the other. False: it cannot be done. Raises FileMissing."""
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """The files below `prefix`, in any order; none where there is no such folder."""
        ...

    def exists(self, name: str) -> bool: ...

    def delete(self, names: Iterable[str]) -> None:
        """Deletes files; those that are not there are passed over."""
        ...

    def unfinished(self, prefix: str) -> Iterator[Entry]:
        """What was left below `prefix` of files that were not stored to their ends; `delete` takes their names. Object
        stores do not list such: a rule of the bucket deletes them."""
        ...


def open_storage(url: str) -> Storage:
    """The storage that a URL means: a path, `file:///path`, `s3://bucket/prefix`, `gs://bucket/prefix`,
    `az://container/prefix`. Nothing is read or written yet.

    Raises:
        ConfigError: it is none of these, it has a password in it, or the extra `objects` is not installed.
    """
    scheme, rest = kind_of(url)
    if scheme == "file":
        return DirectoryStorage(Path(rest))
    from kstream.state.snapshots.objects import ObjectStorage

    return ObjectStorage(scheme, rest)


def kind_of(url: str) -> tuple[str, str]:
    """As that of kstream.config.snapshots. Raises ConfigError: it is none that could be one."""
    try:
        return config.kind_of(url)
    except ValueError as error:
        raise ConfigError(f"{config.shown_url(url)!r} {error}") from None


def read(storage: Storage, name: str) -> bytes:
    """The whole of a small file. Raises FileMissing, StorageError."""
    return b"".join(storage.get(name))


def chunks_of(path: Path, watch: Callable[[bytes], object] | None = None) -> Iterator[bytes]:
    """A local file, piece by piece, each of them shown to `watch`."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if watch is not None:
                watch(chunk)
            yield chunk


def views_of(path: Path) -> Iterator[memoryview]:
    """A local file, piece by piece, for who only looks at them: all lie in one buffer, so a piece is gone when the next
    is asked for."""
    buffer = memoryview(bytearray(_VIEW))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            yield buffer[:size]


class DirectoryStorage:
    """A directory, that of a network's file system too. Implements `Storage`.

    A file is written beside its name, flushed to the disk and renamed; then its folder is flushed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def url(self) -> str:
        return str(self._root)

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        path = self._at(name)
        unfinished = path.with_name(f"{path.name}.{secrets.token_hex(6)}{_UNFINISHED}")
        try:
            self._write(unfinished, chunks)
            unfinished.replace(path)
            _flush_directory(path.parent)
        except BaseException as error:
            with suppress(OSError):
                unfinished.unlink()
            if isinstance(error, OSError):
                raise self._failed("written", name, error) from error
            raise

    def create(self, name: str, data: bytes) -> bool:
        path = self._at(name)
        unfinished = path.with_name(f"{path.name}.{secrets.token_hex(6)}{_UNFINISHED}")
        try:
            self._write(unfinished, [data])
            try:
                os.link(unfinished, path)  # a rename would replace what is there
            except FileExistsError:  # NFS may tell it of our own link, where the answer to the first attempt was lost
                return path.read_bytes() == data
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if path.exists():
                    return False
                os.replace(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
            _flush_directory(path.parent)
        except OSError as error:
            raise self._failed("written", name, error) from error
        return True

    def _write(self, path: Path, chunks: Iterable[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("xb")
        except FileNotFoundError:  # somebody deleted the last file of the folder, and with it the folder
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        with file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def get(self, name: str) -> Iterator[bytes]:
        try:
            yield from chunks_of(self._at(name))
        except FileNotFoundError as error:
            raise FileMissing(f"{self.url}: there is no file {name}") from error
        except OSError as error:
            raise self._failed("read", name, error) from error

    def link(self, name: str, path: Path) -> bool:
        try:
            os.link(self._at(name), path)
        except FileNotFoundError as error:
            raise FileMissing(f"{self.url}: there is no file {name}") from error
        except OSError:  # another file system, one without links, or another user's file
            return False
        return True

    def list(self, prefix: str) -> Iterator[Entry]:
        return self._below(prefix, finished=True)

    def unfinished(self, prefix: str) -> Iterator[Entry]:
        return self._below(prefix, finished=False)

    def exists(self, name: str) -> bool:
        try:
            return self._at(name).is_file()
        except OSError as error:
            raise self._failed("looked for", name, error) from error

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self._at(name)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise self._failed("deleted", name, error) from error
            with suppress(OSError):  # the folder goes with its last file
                while path.parent != self._root:
                    path = path.parent
                    path.rmdir()

    def _below(self, prefix: str, *, finished: bool) -> Iterator[Entry]:
        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise self._failed("listed", prefix, error) from error

        for folder, _, files in os.walk(self._at(prefix) if prefix else self._root, onerror=refuse):
            for file in files:
                if file.endswith(_UNFINISHED) is finished:
                    continue
                path = Path(folder, file)
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found = path.stat()
                    yield Entry(path.relative_to(self._root).as_posix(), found.st_size, found.st_mtime)

    def _at(self, name: str) -> Path:
        if name.startswith("/") or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise StorageError(f"{self.url}: {name!r} is not a name within it")
        return self._root / name

    def _failed(self, done: str, name: str, error: OSError) -> StorageError:
        return StorageError(f"{self.url}: {name} cannot be {done}: {error.strerror or error}")


def _flush_directory(path: Path) -> None:
    """A rename survives a loss of power once its folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
