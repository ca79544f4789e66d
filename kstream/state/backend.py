"""What a state backend must do: hold the committed stores of one task, as bytes.

A backend never sees uncommitted data: `write` is called after the transaction was committed (checkpoint step 5),
and by restore. `state/rocksdb/` keeps the data on disk, `state/memory.py` in a dict; one conformance suite
(tests/unit/state/test_backends.py) runs over both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol


class Mark(NamedTuple):
    """How far a store has applied its changelog.

    `offset` is the next changelog offset to read; `wall_time` (seconds since the epoch) is when it was current:
    a store that is older than the changelog's `delete.retention.ms` may have missed tombstones and is refused.
    `about` says what the entries are (state/about.py), packed; empty in marks of older versions.
    """

    offset: int
    wall_time: float
    about: bytes = b""


Changes = Iterable[tuple[bytes, bytes | None]]
"""Keys with their new values; None deletes."""


class Page(NamedTuple):
    """Entries of a store that follow each other by their keys (bytewise); `more` says that the range has others."""

    entries: list[tuple[bytes, bytes]]
    more: bool


class Reads(Protocol):
    """The part of a backend that stores read."""

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The committed values of these keys, in their order."""
        ...

    def scan(self, store: str, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """All entries from the key `start` on, before `stop` (None: to the end), in the order of their keys (bytewise),
        as they were when the scan began. Nothing where `stop` is not behind `start`."""
        ...


class Backend(Reads, Protocol):
    """The committed stores of one task. Not thread-safe, except `flush` and `attach`; and `multi_get` and `page` on
    another thread that holds `queried` meanwhile.

    Attributes:
        kind: which files it has: a checkpoint is of use to backends of its kind only.
        snapshotted: whether snapshots are taken of it, where the app has a place for them.
        queried: `reset`, `attach` and `close` wait for it: whoever reads on another thread holds it for a moment.
    """

    @property
    def kind(self) -> str: ...
    @property
    def snapshotted(self) -> bool: ...
    @property
    def queried(self) -> Lock: ...
    def page(self, store: str, start: bytes, stop: bytes | None, limit: int, most: int) -> Page:
        """The first entries from `start` on, before `stop` (None: to the end): `limit` of them, or fewer where they
        have more than `most` bytes together (one at least)."""
        ...

    def write(self, changes: Mapping[str, Changes], marks: Mapping[str, Mark]) -> None:
        """Applies changes and marks of all stores in one atomic step."""
        ...

    def bulk(self, stores: Sequence[str], *, on: bool) -> None:
        """From now on much is written to these stores and nothing read, or no more. Costs nothing where it is so
        already. May raise StateError: then the state is to be opened or restored anew."""
        ...

    def mark(self, store: str) -> Mark | None:
        """None for a store that was never written."""
        ...

    def reset(self, store: str) -> None:
        """Empties a store and forgets its mark."""
        ...

    def flush(self) -> None:
        """Makes what was written survive a crash. May run on another thread."""
        ...

    def freeze(self, directory: Path) -> Callable[[], None]:
        """Begins a copy of all stores as they are now, with their marks, in `directory`, which must not exist; where
        there are files, it lies on the same file system. What it returns completes the copy, on any thread. Flush
        first, off the loop."""
        ...

    def checkpoint(self, directory: Path) -> None:
        """Such a copy, complete."""
        ...

    def detach(self) -> None:
        """Everything is about to be replaced by `attach`; until then calls may raise StateError."""
        ...

    def attach(self, directory: Path | None) -> None:
        """Goes on with what a checkpoint holds; with nothing where that is None. The directory is used up. May run on
        another thread. Raises StateError where it is damaged."""
        ...

    def count(self, store: str, most: int) -> int | None:
        """Exactly how many entries the store has; None when they are more than `most` and would have to be counted,
        or when a look at them takes long: much is written, or was and is not merged yet."""
        ...

    def entries(self, store: str) -> int:
        """About how many entries the store has."""
        ...

    def size_bytes(self, store: str) -> int:
        """About how many bytes the store takes."""
        ...

    def close(self) -> None:
        """Flushes and frees everything, the lock on the directory too. Idempotent."""
        ...
