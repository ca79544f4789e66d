"""Where savepoints lie, as commands are told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.errors import ConfigError
from kstream.runtime.cluster.reset import Place
from kstream.state.snapshots.storage import Storage, open_storage

PLACES: Final[dict[str, Place]] = {"earliest": "earliest", "latest": "latest"}


def place_of(on: Subject, given: str | None) -> Storage:
    """Raises ConfigError where it is no place."""
    return open_storage(given or on.settings.savepoint_place)


def agreed(question: str) -> bool:
    """Raises ConfigError where nobody is there to say it."""
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to say whether this is meant: --yes says it")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def place_named(given: str | None) -> Place | None:
    """Raises ConfigError for what is none."""
    if given is not None and given not in PLACES:
        raise ConfigError(f"--inputs {given}: is neither earliest nor latest")
    return None if given is None else PLACES[given]


@contextmanager
def told_when_broken_off(app: str, command: str) -> Iterator[Callable[[], None]]:
    """What replaces an app's state calls what this gives when it begins; if it does not come to its end then, it is
    said what that means."""
    begun: list[bool] = []
    try:
        yield lambda: begun.append(True)
    except BaseException:
        if begun:
            human.complain(f"broken off: until {command} is run again, to its end, app {app} does not start")
        raise
