"""What errors of RocksDB mean. rocksdict raises plain `Exception` for all of them: only the text tells them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kstream.errors import KStreamError, StateDirectoryError, StateError, StateInUse

_ENVIRONMENT: Final = {
    "No space left": "the disk is full",
    "Permission denied": "permission denied",
    "Read-only file system": "the file system is read-only",
    "Too many open files": "too many open files: raise `ulimit -n`",
    "Not a directory": "it is not a directory",
    "Disk quota exceeded": "the disk quota is exceeded",
}
"""What RocksDB says when the fault lies with the machine and not with the data. Nothing is rebuilt for these."""


def meaning(error: Exception, directory: Path, doing: str) -> KStreamError:
    """One of ours, for an error of a database in this directory."""
    if isinstance(error, KStreamError):
        return error
    text = str(error)
    if "lock hold by current process" in text or "While lock file" in text:
        return StateInUse(
            f"the state directory {directory} is in use by another process: stop that one, or give this"
            " instance a name or a state directory of its own"
        )
    for sign, said in _ENVIRONMENT.items():
        if sign in text:
            return StateDirectoryError(f"the state directory {directory} cannot be used ({doing}): {said}")
    if isinstance(error, OSError):
        return StateDirectoryError(f"the state directory {directory} cannot be used ({doing}): {error}")
    return StateError(f"the state in {directory} is damaged ({doing}): {text}")
