"""Where the pages of this machine's instances are: each writes its address beside its claim in the state directory.

`<state_dir>/instances/<name>.page`, which only its owner reads. So `kstream page` asks nobody, and no token is sent to
whoever listens on a port. Nor does it try the lock of a claim: an instance that starts just then would be refused.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from kstream.errors import StateDirectoryError
from kstream.runtime.instance.claim import FOLDER
from kstream.runtime.instance.owned import open_own

log = logging.getLogger(__name__)


class Page(msgspec.Struct):
    """Of an instance, as it lies there. `pid`: of its process, which may have ended without removing it."""

    pid: int
    url: str


def tell(state_dir: Path, instance: str, url: str) -> None:
    """Writes down where the page of this instance is. An instance that cannot runs all the same."""
    try:
        with open(open_own(_file(state_dir, instance), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(msgspec.json.encode(Page(os.getpid(), url)))
    except (OSError, StateDirectoryError) as error:
        log.warning("kstream page will not find this instance: %s", error)


def forget(state_dir: Path, instance: str) -> None:
    """Removes what `tell` wrote."""
    try:
        _file(state_dir, instance).unlink(missing_ok=True)
    except OSError as error:
        log.debug("the address of this instance stays there: %s", error)


def running(state_dir: Path) -> list[str]:
    """The addresses of the instances of this directory that run and have a page, each once: in containers that share
    the directory all say the same.

    Raises:
        OSError: the directory cannot be read.
        StateDirectoryError: a file there is another user's.
    """
    found: dict[str, None] = {}
    for path in sorted((state_dir / FOLDER).glob("*.page")):
        try:
            with open(open_own(path, os.O_RDONLY), "rb") as file:
                page = msgspec.json.decode(file.read(4096), type=Page)
        except (FileNotFoundError, msgspec.MsgspecError):
            continue  # it stops just now, or is being written
        if _is_alive(page.pid):
            found[page.url] = None
    return list(found)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, as another user
    return True


def _file(state_dir: Path, instance: str) -> Path:
    return state_dir / FOLDER / f"{instance}.page"
