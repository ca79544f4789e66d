"""The bearer token: the one that was set, or one that is made once and kept beside the state."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from kstream.errors import StateDirectoryError
from kstream.runtime.instance.owned import make_private, open_own

FILE: Final = "web-token"


def token_for(settings_token: str | None, state_dir: Path) -> str:
    """The token of this instance: `settings_token`, else that of `<state_dir>/web-token`, which only its owner reads.

    Raises:
        StateDirectoryError: the file cannot be read or made.
    """
    if settings_token:
        return settings_token
    path = state_dir / FILE
    try:
        make_private(state_dir)
        return _kept(path) or _made(path)
    except (OSError, UnicodeError) as error:
        raise StateDirectoryError(f"the token file {path}: {error}; correct the file, or set web_token") from None


def _kept(path: Path) -> str:
    """The token of the file, or '' when there is none in it."""
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    with open(descriptor, encoding="ascii") as file:
        if os.fstat(descriptor).st_mode & 0o077:  # copied or unpacked with a looser mode
            os.fchmod(descriptor, 0o600)
        return file.read(4096).strip()


def _made(path: Path) -> str:
    """A new token, in the file all at once: several instances may share the directory and start together."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(24) + "\n")
    try:
        if path.exists() and not _kept(path):
            path.unlink()  # there, and empty
        os.link(new, path)
    except FileExistsError:
        pass  # another instance was first: its token holds
    finally:
        new.unlink()
    return _kept(path)
