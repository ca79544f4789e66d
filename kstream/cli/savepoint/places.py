"""Where savepoints lie, as commands are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.state.snapshots.storage import Storage, open_storage


def place_of(on: Subject, given: str | None) -> Storage:
    """Raises ConfigError where it is no place."""
    return open_storage(given or on.settings.savepoint_place)


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
