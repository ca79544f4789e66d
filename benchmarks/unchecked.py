"""The engine without the checks that what is written can be read back (docs/decisions/0013-read-back.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from kstream.codecs import columns
from kstream.operators import agent, emitting
from kstream.state import entries, store


def _good(*_: object) -> bool:
    return True


def _nothing(*_: object) -> None: ...


_CHECKS: Final[list[tuple[Any, str, Callable[..., Any]]]] = [
    (columns, "_is_good", _good),
    (columns, "check_entries", _nothing),
    (store, "check_entries", _nothing),
    (store, "check_column", _nothing),
    (entries, "check_entries", _nothing),
    (agent, "check_column", _nothing),
    (emitting, "check_column", _nothing),
]
"""Where the checks are called, and what takes their place."""
_USUAL: Final = [(module, name, getattr(module, name)) for module, name, _ in _CHECKS]


@contextmanager
def unchecked() -> Iterator[None]:
    """Within the block nothing is checked. Costs some microseconds."""
    for module, name, instead in _CHECKS:
        setattr(module, name, instead)
    try:
        yield
    finally:
        for module, name, usual in _USUAL:
            setattr(module, name, usual)


class Unchecked:
    """What is measured (`micro.Measured`), without the checks."""

    def __init__(self, path: Any) -> None:
        self._path = path

    def begin(self) -> None:
        self._path.begin()

    def batch(self, messages: list[Any]) -> None:
        with unchecked():
            self._path.batch(messages)

    def commit(self) -> None:
        with unchecked():
            self._path.commit()
