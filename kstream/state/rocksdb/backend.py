"""Committed stores on disk: one RocksDB per task, one column family per store.

What holds it together:

- **The write-ahead log is off**, for the changelog is the log. What was written since the last flush is lost in a crash
  and replayed from the changelog.
- **The mark of a store lies in the store's own column family**, so a flush of that family, which keeps a prefix of its
  writes, keeps mark and data in step. rocksdict's `flush()` flushes one family only, even with atomic flush on, so a
  mark in a family of its own would get ahead of the data. Two stores may come back with marks of different
  checkpoints; each is replayed from its own.
- **Every object that refers to the database is owned here** (families, handles, snapshots, iterators): RocksDB keeps
  its LOCK file until the last one is gone, and a rebalance hands the directory to the next owner at once.

Families of stores that the topology no longer has are opened (RocksDB demands it) and left alone: their marks say how
old they are, so a store that comes back goes on where it was, or is refused for its age.

No exception may hold one of them in a frame of its traceback either: `except StateError` is where one closes, wipes and
opens again. Hence no local variables for them where something may raise.
"""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from rocksdict import (
    Checkpoint,
    ColumnFamily,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from kstream.errors import KStreamError, StateError, StateInUse
from kstream.state import lock
from kstream.state.backend import Changes, Mark, Page
from kstream.state.expiry import store_of
from kstream.state.rocksdb.batch import fill, unpacked_mark
from kstream.state.rocksdb.bulk import BulkLoads
from kstream.state.rocksdb.memory import RocksMemory
from kstream.state.rocksdb.problems import meaning
from kstream.state.rocksdb.scan import MARK_KEY, Scan

FAMILY = "store."  # families are named so: RocksDB has one called "default", and a user's table may be called that too
_IN_MEMORY = ("num-entries-active-mem-table", "num-entries-imm-mem-tables")
_DELETES_IN_MEMORY = ("num-deletes-active-mem-table", "num-deletes-imm-mem-tables")


class RocksBackend:
    """The committed stores of one task in one RocksDB. Implements `kstream.state.backend.Backend`.

    Not thread-safe, except `flush`.

    Args:
        directory: is made if it is missing. One open backend at a time, on the whole machine.
        stores: missing ones are created, others that exist are left alone; but an expiry index is dropped when its
            store comes without it: what is done to the store from then on would be missing in it.
        memory: the worker's.

    Raises:
        StateDirectoryError: in use by another process, or it cannot be written.
        StateError: damaged; delete the directory and restore from the changelog.
    """

    def __init__(self, directory: Path, stores: Sequence[str], memory: RocksMemory) -> None:
        self._directory, self._names = directory, tuple(stores)
        self._options, self._unused = memory.options(), memory.unused()
        self._lock = threading.Lock()  # held by flush, reset, checkpoint, attach and close: they must not overlap
        self.queried = threading.Lock()
        self._bulk = BulkLoads(memory)
        self._scans: weakref.WeakSet[Scan] = weakref.WeakSet()
        self._stores: dict[str, tuple[Rdict, ColumnFamily]] = {}
        self._write_options = WriteOptions()
        self._write_options.disable_wal = True  # type: ignore[assignment, method-assign]  # the stub is wrong: a property
        self._write_options.memtable_insert_hint_per_batch = True  # batches are written in key order
        self._db: Rdict | None = None
        self._ended = False
        self._open_all()

    @property
    def kind(self) -> str:
        return "rocksdb"

    @property
    def snapshotted(self) -> bool:
        return True

    def _open_all(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            names = [FAMILY + store for store in self._names]
            if (self._directory / "CURRENT").exists():
                there = Rdict.list_cf(str(self._directory), self._options)
                names += [name for name in there if name not in names]
            loading = self._bulk.options() if self._bulk.loaded else self._options
            loaded = {FAMILY + store for store in self._bulk.loaded}
            families = {name: loading if name in loaded else self._options for name in names}
            families["default"] = self._unused
            self._db = Rdict(str(self._directory), loading, families)
            for name in names:
                family = name.removeprefix(FAMILY)
                if family not in self._names and store_of(family) in self._names:
                    self._db.drop_column_family(name)
            for store in self._names:
                self._open(store)
            lock.opened(self._directory)
        except Exception as error:
            self._stores.clear()
            self._db = None
            raise self._mapped(error, "open") from error

    def _open_again(self) -> None:
        """Whoever has it open now has taken it, while it was not open here."""
        try:
            self._open_all()
        except StateInUse as error:
            raise self._taken() from error

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The committed values of these keys, in their order. Raises StateError when the data are damaged."""
        listed = keys if isinstance(keys, list) else list(keys)
        self._check(store)
        values: list[bytes | None]
        try:
            values = self._stores[store][0].get(listed)  # type: ignore[assignment]
        except Exception as error:
            raise self._mapped(error, f"read of store {store!r}") from error
        if MARK_KEY in listed:
            values = [None if key == MARK_KEY else value for key, value in zip(listed, values, strict=True)]
        return values

    def scan(self, store: str, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """All entries from the key `start` on, before `stop` (None: to the end), in the order of their keys, as they
        are now.

        Raises StateError where damaged data begin.
        A scan that is not finished holds old data on disk: drop it. `reset` and `close` end it (it raises then).
        """
        self._check(store)
        scan = Scan(store, self._stores[store][0].snapshot(), self._mapped, start, stop)
        self._scans.add(scan)
        return scan

    def page(self, store: str, start: bytes, stop: bytes | None, limit: int, most: int) -> Page:
        """The first entries of a range, as they are now. Raises StateError where they are damaged."""
        self._check(store)
        scan = Scan(store, self._stores[store][0].snapshot(), self._mapped, start)
        self._scans.add(scan)
        entries: list[tuple[bytes, bytes]] = []
        size = 0
        try:
            for key, value in scan:
                if stop is not None and key >= stop:
                    break
                size += len(key) + len(value)
                if len(entries) >= limit or (entries and size > most):
                    return Page(entries, True)
                entries.append((key, value))
            return Page(entries, False)
        finally:
            scan.end()

    def write(self, changes: Mapping[str, Changes], marks: Mapping[str, Mark]) -> None:
        """Applies changes and marks of all stores in one atomic step; of a key that comes twice the last value counts.

        Holds the GIL throughout (rocksdict does), for about a microsecond a change. Nothing is applied when it raises.

        Raises:
            ValueError: a key is the reserved one.
            StateError: the data are damaged, or the backend is closed.
            StateDirectoryError: the disk is full or cannot be written.
        """
        for store in (*changes, *marks):
            self._check(store)
        batch = WriteBatch(raw_mode=True)
        try:
            for store in {**changes, **marks}:
                batch.set_default_column_family(self._stores[store][1])
                fill(batch, store, changes.get(store, ()), marks.get(store))
        finally:
            batch.set_default_column_family(None)  # it would keep the family alive
        assert self._db is not None
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:
            raise self._mapped(error, "write") from error

    def bulk(self, stores: Sequence[str], *, on: bool) -> None:
        """Much is written to them and nothing read, until it is told otherwise (bulk.py). The database is opened anew
        for that, once. Raises StateError where somebody took its files meanwhile, and as `write`."""
        for store in stores:
            self._check(store)
        changed = {store for store in stores if (store in self._bulk.loaded) is not on}
        if not changed:
            return
        before = {name: self.mark(name) for name in self._names}
        with self._lock:
            self._free()
            (self._bulk.loaded.update if on else self._bulk.loaded.difference_update)(changed)
            self._open_again()
        if {name: self.mark(name) for name in self._names} != before:
            raise StateError(f"the state in {self._directory} was changed by another process while it was opened again")

    def mark(self, store: str) -> Mark | None:
        """None for a store that was never written. Raises StateError when it cannot be read."""
        self._check(store)
        try:
            packed: bytes | None = self._stores[store][0].get(MARK_KEY)
            if packed is None:
                return None
            return unpacked_mark(packed)
        except Exception as error:
            raise self._mapped(error, f"read of the mark of store {store!r}") from error

    def reset(self, store: str) -> None:
        """Empties a store and forgets its mark. Both go in one step: a crash leaves the store as it was, or none."""
        with self._lock, self.queried:
            self._check(store)
            self._end_scans(store)
            assert self._db is not None
            self._bulk.loaded.discard(store)
            del self._stores[store]  # an open handle would keep the dropped family's files
            try:
                self._db.drop_column_family(FAMILY + store)
                self._db.create_column_family(FAMILY + store, self._options)
                self._open(store)
            except Exception as error:
                raise self._mapped(error, f"reset of store {store!r}") from error

    def flush(self) -> None:
        """Makes what was written survive a crash. May run on another thread: it lets go of the GIL.

        Does nothing once closed, for `close` flushes. Raises StateError or StateDirectoryError (disk full).
        """
        with self._lock:
            self._flush()

    def freeze(self, directory: Path) -> Callable[[], None]:
        """A copy by hard links (milliseconds) into `directory`, which must not exist and lies on the same file system.
        It is complete at once.

        Flush first, off the loop: with dirty memtables it flushes them itself and holds the GIL meanwhile.
        """
        with self._lock:
            if self._db is None:
                raise self._closed()
            try:
                Checkpoint(self._db).create_checkpoint(str(directory))
            except Exception as error:
                raise self._mapped(error, "checkpoint") from error
        return _nothing

    def checkpoint(self, directory: Path) -> None:
        """As `freeze`."""
        self.freeze(directory)()

    def detach(self) -> None:
        """Lets go of its files, which `attach` is to replace. Until then each call raises StateError."""
        with self._lock:
            self._free()

    def attach(self, directory: Path | None) -> None:
        """Goes on with the files of a checkpoint, which are moved to where its own were (the same file system); with
        none at all where that is None. After `detach`; on any thread.

        Raises:
            StateError: they are damaged, somebody else has the directory, or the backend was closed. It may be attached
                to others.
            StateDirectoryError: the directory cannot be written.
        """
        with self._lock:
            if self._ended or self._db is not None:
                raise self._closed()
            try:
                with lock.locked(self._directory) as free:  # it is not to be moved in between
                    if not free and self._directory.exists():
                        raise self._taken()
                    shutil.rmtree(self._directory, ignore_errors=True)
                    if directory is not None:
                        directory.rename(self._directory)
            except OSError as error:
                raise self._mapped(error, "move of files") from error
            self._open_again()

    def count(self, store: str, most: int) -> int | None:
        """Exactly how many entries, a microsecond each; None when they are more than `most`, or not merged yet."""
        if self._bulk.gathers(store):
            return None
        counted = sum(1 for _ in islice(self.scan(store), most + 1))
        return None if counted > most else counted

    def entries(self, store: str) -> int:
        """About how many entries.

        RocksDB's own estimate counts every write since the last flush (ten keys that were written 20 000 times are
        200 000), the mark's too. So it is those that lie on disk, unless nothing does; what several files have, which
        are still to be compacted, counts several times.
        """
        self._check(store)
        whole, *memory = (self._property(store, name) for name in ("estimate-num-keys", *_IN_MEMORY))
        deletes = sum(self._property(store, name) for name in _DELETES_IN_MEMORY)
        return max(0, whole - sum(memory) + 2 * deletes - 1) or max(0, whole - 1)

    def _property(self, store: str, name: str) -> int:
        return self._stores[store][0].property_int_value(f"rocksdb.{name}") or 0

    def size_bytes(self, store: str) -> int:
        """About how many bytes the store takes, on disk (compressed) and in memtables."""
        self._check(store)
        return sum(self._property(store, name) for name in ("estimate-live-data-size", "cur-size-all-mem-tables"))

    def close(self) -> None:
        """Flushes and frees everything, the LOCK too. Idempotent. Waits for a flush on another thread.

        Raises StateError or StateDirectoryError when the flush fails; everything is freed even then, and no more is
        lost than in a crash.
        """
        with self._lock:
            self._ended = True
            self._free()

    def _free(self) -> None:
        if self._db is None:
            return
        try:
            self._flush()
        finally:
            with self.queried:
                self._let_go()

    def _let_go(self) -> None:
        assert self._db is not None
        self._end_scans(None)
        with suppress(Exception):  # it is flushed, or that has raised: there is nothing more to lose
            while self._stores:
                self._stores.popitem()[1][0].close()
        self._stores.clear()
        with suppress(Exception):
            self._db.close()
        self._db = None
        lock.closed(self._directory)

    def _flush(self) -> None:
        for store in list(self._stores):
            try:
                self._stores[store][0].flush()
                self._bulk.look(store, self._stores[store][0])
            except Exception as error:
                raise self._mapped(error, f"flush of store {store!r}") from error

    def _open(self, store: str) -> None:
        assert self._db is not None
        name = FAMILY + store
        self._stores[store] = (self._db.get_column_family(name), self._db.get_column_family_handle(name))
        self._bulk.opened(store, self._stores[store][0])

    def _check(self, store: str) -> None:
        if self._db is None:
            raise self._closed()
        if store not in self._stores:  # while it is opened again, a query may come in between
            raise self._closed() if store in self._names else KeyError(store)

    def _end_scans(self, store: str | None) -> None:
        for scan in list(self._scans):
            if store is None or scan.store == store:
                scan.end()

    def _taken(self) -> StateError:
        return StateError(f"the state in {self._directory} was taken by somebody else while it was opened again")

    def _closed(self) -> StateError:
        return StateError(f"the state in {self._directory} is closed")

    def _mapped(self, error: Exception, doing: str) -> Exception:
        if self._db is None and doing not in ("open", "move of files") and not isinstance(error, KStreamError):
            return self._closed()
        return meaning(error, self._directory, doing)


def _nothing() -> None:
    return
