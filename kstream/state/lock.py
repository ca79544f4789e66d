"""RocksDB's lock on a directory, seen from outside: whether somebody has the database open.

RocksDB locks the file LOCK with a POSIX record lock, which belongs to a process and is lost as soon as that process
closes any descriptor of the file. So what this process has open itself is known here, and not looked for in the file.
Who looks takes a lock of another kind (of an open file description, Linux), which conflicts with RocksDB's: while it is
held nobody can open the database.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_here: set[Path] = set()


def opened(directory: Path) -> None:
    """This process has the database in `directory` open from now on."""
    _here.add(directory.resolve())


def closed(directory: Path) -> None:
    _here.discard(directory.resolve())


@contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Inside, nobody can open the database in `directory`, which may be moved or deleted. False where somebody has it
    open, this process included, or where it is gone."""
    if directory.resolve() in _here:
        yield False
        return
    try:
        descriptor = os.open(directory / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # it is gone
        yield False
        return
    try:
        yield _lock(descriptor) and _is_at(descriptor, directory / "LOCK")
    finally:
        os.close(descriptor)


@contextmanager
def alone(file: Path) -> Iterator[bool]:
    """Inside, nobody else is in such a block with this file, on this host; False where somebody is. The file is made,
    and stays."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # the disk is full, say: who goes on will meet it too, and says so
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        if hasattr(fcntl, "F_OFD_SETLK"):
            # struct flock of 64-bit Linux: type, whence, start, length, pid
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        else:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether the file is still there: its directory may have been moved before it was locked."""
    try:
        there = os.stat(file)
    except OSError:
        return False
    mine = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
