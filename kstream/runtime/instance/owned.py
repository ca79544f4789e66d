"""Files of the state directory that nobody else made: another user may have prepared a directory that all may write."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Final

from kstream.errors import StateDirectoryError

log = logging.getLogger(__name__)

ROOT: Final = 0
"""The user whom everybody has to trust anyway: volumes are often root's."""


def make_private(directory: Path) -> None:
    """Makes a directory that only its owner enters, whatever the umask; one that is there keeps its mode.

    A link is followed: where it leads to is looked at. It has to be this user's, or root's.

    Raises:
        StateDirectoryError: it is another user's.
        OSError: it cannot be made.
    """
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            if not directory.is_dir():  # another instance was first, or a file is in the way
                raise
    found = directory.stat()
    if found.st_uid not in (os.geteuid(), ROOT):
        raise _of_another(directory, found.st_uid)
    if found.st_mode & stat.S_IWOTH:
        log.warning(
            "every user of this machine may write to the directory %s: make it one that only user %d enters (0700)",
            directory, os.geteuid(),
        )  # fmt: skip


def tighten(directory: Path) -> None:
    """Takes the rights of others to a directory that kstream uses already, where it is this user's.

    Raises:
        StateDirectoryError: something in it is another user's. What is root's (`lost+found`) does no harm.
        OSError: it cannot be read, or changed.
    """
    for entry in os.scandir(directory):
        owner = entry.stat(follow_symlinks=False).st_uid
        if owner not in (os.geteuid(), ROOT):
            raise _of_another(Path(entry.path), owner)
    found = directory.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == os.geteuid() and mode & 0o077:
        directory.chmod(mode & ~0o077)
        log.info("the directory %s was open to others (%o): now only its owner enters it", directory, mode)


def _of_another(path: Path, owner: int) -> StateDirectoryError:
    return StateDirectoryError(
        f"{path} belongs to user {owner}, this is user {os.geteuid()}: give it to this user, remove it, or choose "
        "another --state-dir"
    )


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
