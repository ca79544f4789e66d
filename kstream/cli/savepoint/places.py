"""Where savepoints lie, as commands are told."""

from __future__ import annotations

import sys
from pathlib import Path

from kstream.cli.operate import Subject
from kstream.config import Settings
from kstream.errors import ConfigError
from kstream.state.snapshots.storage import Storage, open_storage


def place_of(on: Subject, given: str | None) -> Storage:
    """Raises ConfigError where it is no place."""
    return open_storage(given or default_place(on.settings))


def default_place(settings: Settings) -> str:
    return settings.savepoints or str(Path(settings.state_dir) / "savepoints")


def agreed(question: str) -> bool:
    """Raises ConfigError where nobody is there to say it."""
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to say whether this is meant: --yes says it")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
