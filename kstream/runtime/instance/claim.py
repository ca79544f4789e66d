"""The identity of an instance and its claim on the state directory.

A name is claimed by a lock on `<state_dir>/instances/<name>.lock`, held until the process ends, however it ends. An
instance without a name takes one that is kept there and free, so that a restart is the same instance again, or makes
a new one. The file `<state_dir>/app` says whose directory it is, `<state_dir>/layout` which number its layout has.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import IO, Final

from kstream.errors import IdentityInUse, StateDirectoryError
from kstream.runtime.instance.owned import make_private, open_own, tighten
from kstream.specs.stored import DIRECTORY

FOLDER: Final = "instances"
"""Of the state directory: a file of each instance's name."""


class Claim:
    """A held claim. `name` is the instance's name."""

    def __init__(self, name: str, lock: IO[str]) -> None:
        self.name = name
        self._lock = lock

    def release(self) -> None:
        self._lock.close()


def claim(state_dir: Path, app: str, name: str | None) -> Claim:
    """Claims a name in the state directory, making both if need be.

    Raises:
        StateDirectoryError: the directory cannot be written, belongs to another app or user, or a later version of
            kstream made it.
        IdentityInUse: the wanted name is taken by a running instance.
    """
    folder = state_dir / FOLDER
    try:
        make_private(state_dir)
        if (state_dir / "app").exists():
            tighten(state_dir)
        make_private(folder)
        if folder.is_symlink():
            raise StateDirectoryError(f"{folder} is a symbolic link: remove it, or choose another --state-dir")
        _check_owner(state_dir, app)
        _check_layout(state_dir)
        if name is not None:
            held = _lock(folder, name)
            if held is None:
                raise IdentityInUse(
                    f"an instance named {name!r} runs already on {state_dir}: "
                    "stop it, or give this one another --instance"
                )
            return held
        for known in sorted(folder.glob("*.lock")):
            held = _lock(folder, known.stem)
            if held is not None:
                return held
        held = _lock(folder, secrets.token_hex(4))
        assert held is not None  # nobody else has just thought of the same 32 bits
        return held
    except OSError as error:
        raise StateDirectoryError(
            f"state directory {state_dir} cannot be written: {error.strerror}; choose another --state-dir"
        ) from error


def _check_owner(state_dir: Path, app: str) -> None:
    found = _kept(state_dir / "app", app)
    if found != app:
        raise StateDirectoryError(
            f"state directory {state_dir} belongs to app {found!r}, this is {app!r}: choose another --state-dir"
        )


def _check_layout(state_dir: Path) -> None:
    found = _kept(state_dir / "layout", str(DIRECTORY.number))
    number = int(found) if found.isascii() and found.isdigit() else 0
    if number < 1:
        raise StateDirectoryError(
            f"{state_dir / 'layout'} says {found!r}, which is no number of a layout: delete that file"
        )
    if refusal := DIRECTORY.refusal(f"state directory {state_dir}", number):
        raise StateDirectoryError(refusal)


def _kept(file: Path, text: str) -> str:
    """What a small file says. One that is not there yet says this from now on."""
    if not file.exists():
        temporary = file.with_name(f".{file.name}-{os.getpid()}")
        temporary.unlink(missing_ok=True)
        with open(open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as made:
            made.write(text)
        temporary.rename(file)
    with open(open_own(file, os.O_RDONLY)) as there:
        return there.read().strip()


def _lock(folder: Path, name: str) -> Claim | None:
    descriptor = open_own(folder / f"{name}.lock", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    lock = os.fdopen(descriptor, "a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return Claim(name, lock)
