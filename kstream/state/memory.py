"""Committed stores in a dict: for state that may be lost with the process and is restored from the changelog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kstream.errors import StateError
from kstream.state.backend import Changes, Mark


class MemoryBackend:
    """Keeps the stores of one task in memory. Implements `kstream.state.backend.Backend`.

    Nothing survives `close`. `scan` sorts all keys first: time and memory for n log n of them.
    """

    def __init__(self, stores: Sequence[str]) -> None:
        self._data: dict[str, dict[bytes, bytes]] = {store: {} for store in stores}
        self._marks: dict[str, Mark] = {}
        self._closed = False

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The committed values of these keys, in their order."""
        return list(map(self._store(store).get, keys))

    def scan(self, store: str) -> Iterator[tuple[bytes, bytes]]:
        """All entries in the order of their keys, as they are now."""
        return iter(sorted(self._store(store).items()))

    def write(self, changes: Mapping[str, Changes], marks: Mapping[str, Mark]) -> None:
        """Applies changes and marks of all stores; nothing when a store is unknown or an iterable raises."""
        listed = [(self._store(store), list(entries)) for store, entries in changes.items()]
        for store in marks:
            self._store(store)
        for data, entries in listed:
            for key, value in entries:
                if value is None:
                    data.pop(key, None)
                else:
                    data[key] = value
        self._marks.update(marks)

    def mark(self, store: str) -> Mark | None:
        """None for a store that was never written."""
        self._store(store)
        return self._marks.get(store)

    def reset(self, store: str) -> None:
        """Empties a store and forgets its mark."""
        self._store(store).clear()
        self._marks.pop(store, None)

    def flush(self) -> None:
        """Nothing to do: the changelog is the only copy."""

    def size_bytes(self, store: str) -> int:
        """Bytes of keys and values; Python's objects take about 130 more an entry."""
        return sum(map(len, self._store(store))) + sum(map(len, self._store(store).values()))

    def close(self) -> None:
        """Drops everything. Idempotent."""
        self._closed = True
        self._data.clear()
        self._marks.clear()

    def _store(self, store: str) -> dict[bytes, bytes]:
        if self._closed:
            raise StateError("the state in memory is closed")
        return self._data[store]
