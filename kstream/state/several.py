"""The stores of one task in more than one backend: each store says which, or the app does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kstream.state.backend import Backend, Changes, Mark


class SeveralBackends:
    """Hands each call to the backend that has the store. Implements `kstream.state.backend.Backend`.

    A write is one step in each backend, and not over all of them: a crash in between leaves stores with marks of
    different checkpoints, and each of them is replayed from its own.

    Args:
        parts: backends, each with the names of its stores. They are written to in this order.
    """

    def __init__(self, parts: Sequence[tuple[Backend, Sequence[str]]]) -> None:
        self.parts = [backend for backend, _ in parts]
        self._of: dict[str, Backend] = {store: backend for backend, stores in parts for store in stores}

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._of[store].multi_get(store, keys)

    def scan(self, store: str) -> Iterator[tuple[bytes, bytes]]:
        return self._of[store].scan(store)

    def write(self, changes: Mapping[str, Changes], marks: Mapping[str, Mark]) -> None:
        # all of it is there before the first backend is written to: an iterable that raises leaves no trace
        listed = {store: list(entries) for store, entries in changes.items()}
        owners = {store: self._of[store] for store in (*changes, *marks)}
        for backend in self.parts:
            mine = {store for store, owner in owners.items() if owner is backend}
            if mine:
                backend.write(
                    {store: entries for store, entries in listed.items() if store in mine},
                    {store: mark for store, mark in marks.items() if store in mine},
                )

    def mark(self, store: str) -> Mark | None:
        return self._of[store].mark(store)

    def reset(self, store: str) -> None:
        self._of[store].reset(store)

    def flush(self) -> None:
        for backend in self.parts:
            backend.flush()

    def count(self, store: str, most: int) -> int | None:
        return self._of[store].count(store, most)

    def entries(self, store: str) -> int:
        return self._of[store].entries(store)

    def size_bytes(self, store: str) -> int:
        return self._of[store].size_bytes(store)

    def close(self) -> None:
        """Frees all of them, even where one fails. Raises what the first raised that did."""
        failed: Exception | None = None
        for backend in self.parts:
            try:
                backend.close()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed
