"""A store of rows that a worker has of a whole topic, as it is seen by user code and joins: it is read only.

What was read is kept as bytes, as it lies in the topic, and each reader gets an object of its own: whatever is done to
it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NoReturn, TypeVar, cast

from kstream.errors import AbortRequired, EntryUnreadable, KStreamError, StateDirectoryError, StateError, TableError
from kstream.specs.global_table import GlobalSpec
from kstream.state.backend import Reads
from kstream.state.noted import Note
from kstream.state.store import Store

V = TypeVar("V")

OVERHEAD: Final = 150
"""What an entry of the cache costs besides its bytes: two objects and a place in a dict."""


class RowUnreadable(EntryUnreadable):
    """A row that is not what the topic's declaration says.

    Attributes:
        key: encoded.
    """

    def __init__(self, text: str, key: bytes) -> None:
        super().__init__(text)
        self.key = key


class GlobalStore(Store[V]):
    """See the module's text.

    Args:
        cache_bytes: about how much memory rows may hold that were read lately.
        note: is given what is raised where the rows cannot be read: user code may catch it.

    Attributes:
        serves: what the backend calls the rows that are read; None: there are none to be read now.
        trouble: why the backend could not read, where it could not.
    """

    def __init__(self, spec: GlobalSpec, backend: Reads, *, cache_bytes: int, note: Note) -> None:
        super().__init__(spec, backend, cache_bytes=cache_bytes)
        self.topic, self._note = spec.topic.name, note
        self.serves: str | None = None
        self.trouble: StateError | None = None
        self._decode = self.value_codec.decode
        self._most = cache_bytes
        self._held = 0  # bytes of `_read`
        self._read: dict[bytes, bytes | None] = {}

    # ---- reading

    def get(self, key: bytes) -> V | None:
        """The row, an object of the caller's own; None where there is none. Raises as `rows`."""
        try:
            raw = self._read[key]
        except KeyError:
            self._fetch_rows([key])
            raw = self._read[key]
        if raw is None:
            return None
        try:
            return self._decode(raw)
        except Exception as error:
            self._unreadable(key, error)

    def rows(self, keys: Sequence[bytes | None]) -> list[Any]:
        """The rows of these keys, None where there are none; each an object of its own.

        Raises:
            RowUnreadable: one is not what the topic's declaration says.
            AbortRequired: there are no rows to be read now.
            StateDirectoryError: they cannot be read, on account of the machine.
        """
        read = self._read
        missing = [key for key in dict.fromkeys(keys) if key is not None and key not in read]
        if missing:
            self._fetch_rows(missing)
        decode, found = self._decode, list[Any]()
        key: bytes | None = None
        try:
            for key in keys:
                raw = None if key is None else read[key]
                found.append(None if raw is None else decode(raw))
        except Exception as error:
            self._unreadable(cast("bytes", key), error)
        return found

    def scan(self, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, V]]:
        """The rows from the key `start` on, before `stop` (None: to the end), in the order of their keys."""
        decode = self._decode
        try:
            for key, raw in self.backend.scan(self._served(), start, stop):
                try:
                    row = decode(raw)
                except Exception as error:
                    self._unreadable(key, error)
                if row is not None:  # JSON's null is no row, as for `get`
                    yield key, row
        except (StateError, StateDirectoryError) as error:
            self._lost(error)

    def _fetch_rows(self, keys: list[bytes]) -> None:
        try:
            found = self.backend.multi_get(self._served(), keys)
        except (StateError, StateDirectoryError) as error:
            self._lost(error)
        self._read.update(zip(keys, found, strict=True))
        self._held += sum(map(len, filter(None, found))) + sum(map(len, keys)) + OVERHEAD * len(keys)

    def _served(self) -> str:
        if self.serves is None:
            self._refuse_rows(AbortRequired(f"global table {self.name!r} is being read anew"))
        return self.serves

    def _lost(self, error: StateError | StateDirectoryError) -> NoReturn:
        """A damaged copy is read anew: what was done with it meanwhile is taken back, and the task's own state is
        sound."""
        if isinstance(error, StateDirectoryError):
            self._refuse_rows(error)
        self.trouble = error
        self._refuse_rows(AbortRequired(f"global table {self.name!r} cannot be read: {error}"), error)

    def _refuse_rows(self, error: KStreamError, cause: KStreamError | None = None) -> NoReturn:
        self._note(error)
        raise error from cause

    def _unreadable(self, key: bytes, error: Exception) -> NoReturn:
        raise RowUnreadable(
            f"{self.entry(key)} cannot be read as {self.spec.value}: {error}; what lies in topic {self.topic} is not "
            "what it is declared to have: write the row anew, or let the type take this form too",
            key,
        ) from error

    def entry(self, key: bytes) -> str:
        """The row as errors name it."""
        return f"global {super().entry(key)}"

    # ---- what changes it

    def changed(self, keys: Iterable[bytes | None]) -> None:
        """The backend has other rows of these keys."""
        for key in self._read.keys() & keys:
            self._read.pop(key)

    def serve(self, family: str | None) -> None:
        """From now on these rows are read; None: none."""
        self.serves, self.trouble = family, None
        self._read, self._held = {}, 0

    @property
    def cached_bytes(self) -> int:
        """About how much memory it takes."""
        return self._held

    def trim(self) -> None:
        """Nobody is reading: what was read first goes where it is too much."""
        if self._held > self._most:
            self._read = dict(islice(reversed(self._read.items()), len(self._read) // 4))
            sizes = (len(key) + len(raw or b"") for key, raw in self._read.items())
            self._held = sum(sizes) + OVERHEAD * len(self._read)

    def put(self, key: bytes, value: Any) -> NoReturn:
        """Raises TableError: always."""
        raise TableError(f"global table {self.name!r} is read only: write to topic {self.topic}")

    def delete(self, key: bytes) -> NoReturn:
        """Raises TableError: always."""
        raise TableError(f"global table {self.name!r} is read only: write to topic {self.topic}")
