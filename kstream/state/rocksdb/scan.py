"""Scans of a store, which its backend can end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from rocksdict import ReadOptions, Snapshot

from kstream.errors import StateError

#: Where a store's mark lies, in the store's own column family. Random, so that no user's key is like it; `write`
#: refuses it all the same. Never change it: stores on disk have it.
MARK_KEY: Final = bytes.fromhex("8f1d6ec2b75a4093d1e65f2c9a3b8870e4c7160d52f9ab3e81cd7a94063fb25d")


class Scan:
    """An iterator over one store, owned by its backend, which can take RocksDB's handles away from it.

    rocksdict's iterators end without a word where damaged data begin; so at the end a second one, on the same snapshot,
    is asked whether the last key really was the last.
    """

    __slots__ = ("__weakref__", "_ended", "_items", "_last", "_mapped", "_options", "_snapshot", "_start", "store")

    def __init__(
        self,
        store: str,
        snapshot: Snapshot,
        mapped: Callable[[Exception, str], Exception],
        start: bytes = b"",
        stop: bytes | None = None,
    ) -> None:
        self.store = store
        self._mapped = mapped  # what an error of rocksdict means
        self._start = start
        self._last: bytes | None = None
        self._ended = False
        self._snapshot: Snapshot | None = snapshot
        self._options: ReadOptions | None = None
        if (
            stop is not None
        ):  # with a bound RocksDB does not look for a next entry among those that were deleted behind it
            self._options = ReadOptions()
            self._options.set_iterate_upper_bound(stop)
        self._items: Iterator[Any] | None = (
            iter(())
            if stop is not None and stop <= start
            else snapshot.items(from_key=start or None, read_opt=self._options)
        )

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        if self._items is None:
            if self._ended:
                raise StopIteration
            raise StateError(f"the scan of store {self.store!r} was ended by a reset or by closing the store")
        for item in self._items:
            key: bytes = item[0]
            self._last = key
            if key != MARK_KEY:
                return item  # type: ignore[no-any-return]
        self._check_complete()
        self.end()
        self._ended = True
        raise StopIteration

    def end(self) -> None:
        """Lets go of everything that belongs to RocksDB."""
        self._items = self._snapshot = None

    def _check_complete(self) -> None:
        assert self._snapshot is not None
        probe = self._snapshot.iter(self._options)
        try:
            if self._last is None and not self._start:
                probe.seek_to_first()
            elif self._last is None:
                probe.seek(self._start)
            else:
                probe.seek(self._last)
                if probe.valid():
                    probe.next()
            probe.status()
            complete = not probe.valid()
        except Exception as error:
            raise self._mapped(error, f"scan of store {self.store!r}") from error
        finally:
            del probe
        if not complete:
            raise StateError(f"the scan of store {self.store!r} ended before the last entry")
