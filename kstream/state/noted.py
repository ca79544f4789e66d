"""What a task reads of its state, where user code may catch what is raised.

`except Exception` around a table catches that the disk is damaged, too. What the function makes of that would be
committed as if the table had no such key. So each failed read is told to the task (`runtime/task/context.py`), which
then commits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kstream.errors import KStreamError
from kstream.state.backend import Reads

Note = Callable[[KStreamError], None]


class NotedReads:
    """A backend as the stores of a task see it. `note` is given what its reads raise."""

    def __init__(self, backend: Reads, note: Note) -> None:
        self._backend, self._note = backend, note

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            return self._backend.multi_get(store, keys)
        except KStreamError as error:
            self._note(error)
            raise

    def scan(self, store: str, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        try:
            found = self._backend.scan(store, start, stop)
        except KStreamError as error:
            self._note(error)
            raise
        return self._rest(found)

    def _rest(self, found: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from found
        except KStreamError as error:
            self._note(error)
            raise
