"""Files of the state directory that nobody else made: another user may have prepared a directory that all may write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kstream.errors import StateDirectoryError


def make_private(directory: Path) -> None:
    """Makes a directory that only its owner enters, whatever the umask; one that is there keeps its mode.

    Raises:
        OSError: it cannot be made.
    """
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            if not directory.is_dir():  # another instance was first, or a file is in the way
                raise


def open_own(path: Path, flags: int) -> int:
    """A descriptor of a file of this user, made with mode 0600 if `flags` have O_CREAT. No symbolic link is followed.

    Raises:
        StateDirectoryError: it is no file, or another user's.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    raise StateDirectoryError(
        f"{path} is not a file of this user (its owner is user {found.st_uid}, this is {os.geteuid()}): "
        "remove it, or choose another --state-dir"
    )
