"""Where savepoints lie, as commands are told."""

from __future__ import annotations

import sys

from kstream.cli.operate import Subject
from kstream.errors import ConfigError
from kstream.state.snapshots.storage import Storage, open_storage


def place_of(on: Subject, given: str | None) -> Storage:
    """Raises ConfigError where it is no place."""
    return open_storage(given or on.settings.savepoint_place)


def agreed(question: str) -> bool:
    """Raises ConfigError where nobody is there to say it."""
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to say whether this is meant: --yes says it")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
