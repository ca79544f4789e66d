"""The stores of one task in more than one backend: each store says which, or the app does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

from kstream.errors import StateDirectoryError
from kstream.state.backend import Backend, Changes, Mark, Page


class _Part(Backend, Protocol):
    """A backend that can share its lock."""

    queried: Lock


class SeveralBackends:
    """Hands each call to the backend that has the store. Implements `kstream.state.backend.Backend`.

    A write is one step in each backend, and not over all of them: a crash in between leaves stores with marks of
    different checkpoints, and each of them is replayed from its own.

    Args:
        parts: backends, each with the names of its stores. They are written to in this order.
    """

    def __init__(self, parts: Sequence[tuple[_Part, Sequence[str]]]) -> None:
        self.parts = [backend for backend, _ in parts]
        self.queried = self.parts[0].queried
        for backend in self.parts:
            backend.queried = self.queried
        self._of: dict[str, Backend] = {store: backend for backend, stores in parts for store in stores}

    @property
    def kind(self) -> str:
        return "+".join(backend.kind for backend in self.parts)

    @property
    def snapshotted(self) -> bool:
        return any(backend.snapshotted for backend in self.parts)

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._of[store].multi_get(store, keys)

    def scan(self, store: str, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        return self._of[store].scan(store, start, stop)

    def page(self, store: str, start: bytes, stop: bytes | None, limit: int, most: int) -> Page:
        return self._of[store].page(store, start, stop, limit, most)

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

    def bulk(self, stores: Sequence[str], *, on: bool) -> None:
        owners = {store: self._of[store] for store in stores}
        for backend in self.parts:
            backend.bulk([store for store, owner in owners.items() if owner is backend], on=on)

    def mark(self, store: str) -> Mark | None:
        return self._of[store].mark(store)

    def reset(self, store: str) -> None:
        self._of[store].reset(store)

    def flush(self) -> None:
        for backend in self.parts:
            backend.flush()

    def freeze(self, directory: Path) -> Callable[[], None]:
        """A copy of each backend, in one directory: the names of its files begin with its kind."""
        try:
            directory.mkdir()
        except OSError as error:
            raise StateDirectoryError(f"the state cannot be copied into {directory}: {error.strerror}") from error
        finishing = [(backend.kind, backend.freeze(directory / backend.kind)) for backend in self.parts]

        def finish() -> None:
            for kind, complete in finishing:
                complete()
                for file in (directory / kind).iterdir():
                    file.rename(directory / f"{kind}.{file.name}")
                (directory / kind).rmdir()

        return finish

    def checkpoint(self, directory: Path) -> None:
        self.freeze(directory)()

    def detach(self) -> None:
        for backend in self.parts:
            backend.detach()

    def attach(self, directory: Path | None) -> None:
        """All of them, or none: they may be attached to others then."""
        try:
            self._attach(directory)
        except Exception:
            self.detach()
            raise

    def _attach(self, directory: Path | None) -> None:
        for backend in self.parts:
            own = None
            if directory is not None:
                own = directory / backend.kind
                own.mkdir()
                for file in directory.glob(f"{backend.kind}.*"):
                    file.rename(own / file.name.removeprefix(f"{backend.kind}."))
            backend.attach(own)
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

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
