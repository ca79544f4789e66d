"""The backend of a task until its local state is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NoReturn

from kstream.state.backend import Changes, Mark, Page


class Unopened:
    """Stands where a backend will be: a task is made in a rebalance, which must not wait for files; its restore opens
    its local state (`runtime/worker/opening.py`). Implements `kstream.state.backend.Backend`: it has nothing, and
    reading or writing it is a defect of kstream."""

    def __init__(self) -> None:
        self.queried = Lock()

    @property
    def kind(self) -> str:
        return "unopened"

    @property
    def snapshotted(self) -> bool:
        return False

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        self._refuse(store)

    def scan(self, store: str, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        self._refuse(store)

    def page(self, store: str, start: bytes, stop: bytes | None, limit: int, most: int) -> Page:
        self._refuse(store)

    def write(self, changes: Mapping[str, Changes], marks: Mapping[str, Mark]) -> None:
        self._refuse(", ".join(changes))

    def bulk(self, stores: Sequence[str], *, on: bool) -> None:
        self._refuse(", ".join(stores))

    def mark(self, store: str) -> Mark | None:
        self._refuse(store)

    def reset(self, store: str) -> None:
        self._refuse(store)

    def flush(self) -> None:
        return

    def freeze(self, directory: Path) -> Callable[[], None]:
        self._refuse("of a copy")

    def checkpoint(self, directory: Path) -> None:
        self._refuse("of a copy")

    def detach(self) -> None:
        self._refuse("of a copy")

    def attach(self, directory: Path | None) -> None:
        self._refuse("of a copy")

    def count(self, store: str, most: int) -> int | None:
        return 0

    def entries(self, store: str) -> int:
        return 0

    def size_bytes(self, store: str) -> int:
        return 0

    def close(self) -> None:
        return

    def _refuse(self, store: str) -> NoReturn:
        raise RuntimeError(f"store {store!r} is used before its local state is open")
