"""Committed stores in a dict: for state that may be lost with the process and is restored from the changelog."""

from __future__ import annotations

import heapq
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kstream.config.units import show_size
from kstream.errors import StateError, StateTooLarge
from kstream.state.backend import Changes, Mark, Page
from kstream.state.dump import dump, load
from kstream.state.scanning import FEW, KeyOrder

ENTRY_OVERHEAD = 130
"""What Python's objects and the dict's slot take for an entry besides its bytes."""


class MemoryLimit:
    """What the memory backends of one worker may hold together, in bytes (objects included)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()  # snapshots are loaded on other threads

    def add(self, size: int) -> None:
        """Counts what a backend took, or gave back where `size` is negative.

        Raises:
            StateTooLarge: it took more than there was. It is counted all the same, until it is given back.
        """
        with self._lock:
            self.used += size
        if size > 0 and self.used > self.limit:
            raise StateTooLarge(
                f"the memory backend holds more than memory_backend_limit ({show_size(self.limit)}): "
                "raise it, run more workers, or set backend=rocksdb"
            )


class MemoryBackend:
    """Keeps the stores of one task in memory. Implements `kstream.state.backend.Backend`.

    Nothing survives `close` but what was copied into a checkpoint. `scan` sorts all keys first: time and memory for
    n log n of them; one with a `stop` does so the first time only.

    Args:
        snapshotted: whether snapshots are taken of it: the backend `file`.
    """

    def __init__(self, stores: Sequence[str], limit: MemoryLimit | None = None, *, snapshotted: bool = False) -> None:
        self.snapshotted = snapshotted
        self._limit = limit or MemoryLimit(1 << 62)
        self._held = 0
        self._data: dict[str, dict[bytes, bytes]] = {store: {} for store in stores}
        self._orders: dict[str, KeyOrder] = {}  # of stores whose ranges are asked for
        self._marks: dict[str, Mark] = {}
        self._closed = False
        self.queried = threading.Lock()

    @property
    def kind(self) -> str:
        return "memory"

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The committed values of these keys, in their order."""
        return list(map(self._store(store).get, keys))

    def scan(self, store: str, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """All entries from the key `start` on, before `stop` (None: to the end), in the order of their keys, as they
        are now. Where there is a `stop`, the order of all keys is kept from then on."""
        if stop is not None:
            data, order = self._store(store), self._orders.get(store)
            if order is None or len(order) > 2 * len(data) + FEW:  # it keeps those that were deleted, too
                order = self._orders[store] = KeyOrder(data)
            return iter({key: data[key] for key in order.between(start, stop) if key in data}.items())
        entries = self._store(store).items()
        return iter(sorted([entry for entry in entries if entry[0] >= start] if start else entries))

    def page(self, store: str, start: bytes, stop: bytes | None, limit: int, most: int) -> Page:
        """The first entries of a range. Looks at all keys, a microsecond each or less, in steps that other threads can
        come between."""
        data = self._store(store)
        keys = [key for key in list(data) if key >= start and (stop is None or key < stop)]
        entries: list[tuple[bytes, bytes]] = []
        size = 0
        for key in (first := heapq.nsmallest(limit + 1, keys))[:limit]:
            value = data.get(key)
            if value is not None:  # deleted since the keys were listed
                size += len(key) + len(value)
                if entries and size > most:
                    return Page(entries, True)
                entries.append((key, value))
        return Page(entries, len(first) > limit)

    def write(self, changes: Mapping[str, Changes], marks: Mapping[str, Mark]) -> None:
        """Applies changes and marks of all stores; nothing when a store is unknown or an iterable raises.

        Raises:
            StateTooLarge: all backends of the worker hold more than they may. The changes were applied, for they are
                committed: only a worker with a higher limit can go on.
        """
        listed = [(self._store(store), list(entries), self._orders.get(store)) for store, entries in changes.items()]
        for store in marks:
            self._store(store)
        held = 0
        for data, entries, order in listed:
            for key, value in entries:
                before = data.pop(key, None) if value is None else data.get(key)
                if before is not None:
                    held -= len(key) + len(before) + ENTRY_OVERHEAD
                if value is not None:
                    data[key] = value
                    if order is not None and before is None:
                        order.added.append(key)
                    held += len(key) + len(value) + ENTRY_OVERHEAD
        self._marks.update(marks)
        self._take(held)

    def _take(self, size: int) -> None:
        self._held += size
        self._limit.add(size)

    def bulk(self, stores: Sequence[str], *, on: bool) -> None:
        """Nothing to do."""
        for store in stores:
            self._store(store)

    def mark(self, store: str) -> Mark | None:
        """None for a store that was never written."""
        self._store(store)
        return self._marks.get(store)

    def reset(self, store: str) -> None:
        """Empties a store and forgets its mark."""
        data = self._store(store)
        self._take(-sum(len(key) + len(value) + ENTRY_OVERHEAD for key, value in data.items()))
        with self.queried:
            data.clear()
        self._marks.pop(store, None)
        self._orders.pop(store, None)

    def flush(self) -> None:
        """Nothing to do: the changelog is the only copy."""

    def freeze(self, directory: Path) -> Callable[[], None]:
        """Begins a copy: the dicts are copied now (a tenth of a microsecond an entry), and written when what is
        returned is called."""
        if self._closed:
            raise StateError("the state in memory is closed")
        frozen = {store: (self._marks.get(store), dict(data)) for store, data in self._data.items()}
        return lambda: dump(directory, frozen)

    def checkpoint(self, directory: Path) -> None:
        """A copy of all stores with their marks in one file of `directory`, which is made."""
        self.freeze(directory)()

    def detach(self) -> None:
        """Nothing: what is there can be read until it is replaced."""

    def attach(self, directory: Path | None) -> None:
        """Takes what a checkpoint holds of its stores in place of what it has; the directory is deleted.

        Raises:
            StateError: it is damaged, or the backend was closed.
            StateTooLarge: it is more than memory may hold.
        """
        found = {} if directory is None else load(directory)
        data = {store: found[store][1] if store in found else {} for store in self._data}
        held = sum(len(key) + len(value) + ENTRY_OVERHEAD for one in data.values() for key, value in one.items())
        if self._closed:
            raise StateError("the state in memory is closed")
        self._marks = {store: mark for store in data if store in found and (mark := found[store][0]) is not None}
        self._data, self._orders = data, {}
        self._take(held - self._held)
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def count(self, store: str, most: int) -> int:
        """However many: nothing has to be counted."""
        return len(self._store(store))

    def entries(self, store: str) -> int:
        """Exactly how many."""
        return len(self._store(store))

    def size_bytes(self, store: str) -> int:
        """Bytes of keys and values; Python's objects take about 130 more an entry."""
        return sum(map(len, self._store(store))) + sum(map(len, self._store(store).values()))

    def close(self) -> None:
        """Drops everything. Idempotent."""
        self._closed = True
        self._take(-self._held)
        with self.queried:
            self._data.clear()
        self._marks.clear()
        self._orders.clear()

    def _store(self, store: str) -> dict[bytes, bytes]:
        if self._closed:
            raise StateError("the state in memory is closed")
        return self._data[store]
