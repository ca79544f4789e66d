"""Committed stores on disk: one RocksDB per task, one column family per store. The only importer of rocksdict.

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

Speed, 2 million keys of 15 bytes, values of 60, one core of an AMD EPYC: 1.1 million changes/s written, 0.4 million/s
read when every key is there (a random read is a handful of cache misses), 2.3 million/s when none is. What matters:
writing a batch in key order (twice as fast: a random insert into the memtable is a walk of cache misses), a bloom
filter on the memtable too (without it each miss walks the memtable: 0.7 million/s), the hyper clock cache (a sixth),
blocks of 16 KiB (their index stays in the CPU's cache). Checksums on read, where indexes lie, file size and compaction
style do not.
"""

from __future__ import annotations

import struct
import threading
import weakref
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Checkpoint,
    ColumnFamily,
    DataBlockIndexType,
    DBCompressionType,
    Options,
    Rdict,
    Snapshot,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from kstream.errors import KStreamError, StateDirectoryError, StateError
from kstream.state.backend import Changes, Mark

#: Where a store's mark lies, in the store's own column family. Random, so that no user's key is like it; `write`
#: refuses it all the same. Never change it: stores on disk have it.
MARK_KEY: Final = bytes.fromhex("8f1d6ec2b75a4093d1e65f2c9a3b8870e4c7160d52f9ab3e81cd7a94063fb25d")

_MARK = struct.Struct(">qd")  # offset, wall time in seconds
_PREFIX = "store."  # families are named so: RocksDB has one called "default", and a user's table may be called that too
_key_of = itemgetter(0)

#: What RocksDB says when the fault lies with the machine and not with the data. Nothing is rebuilt for these.
_ENVIRONMENT = {
    "No space left": "the disk is full",
    "Permission denied": "permission denied",
    "Read-only file system": "the file system is read-only",
    "Too many open files": "too many open files: raise `ulimit -n`",
    "Not a directory": "it is not a directory",
    "Disk quota exceeded": "the disk quota is exceeded",
}


class RocksMemory:
    """The memory that all RocksDBs of one worker share: read cache and write buffers. Make one per worker.

    Args:
        block_cache_bytes: blocks, indexes and filters that were read; a hard bound.
        write_buffer_bytes: memtables. Above it the database being written to is flushed, so it may be passed by a few
            memtables for a moment; writes are never stalled for it, because the memory may be held by another task's
            database that nothing would flush.
    """

    def __init__(self, block_cache_bytes: int, write_buffer_bytes: int) -> None:
        self._cache = Cache.new_hyper_clock_cache(block_cache_bytes, 0)
        self._buffers = WriteBufferManager(write_buffer_bytes, False)
        # Small memtables: they fit the CPU's cache (an insert costs half of what it does at 64 MiB).
        self._memtable_bytes = max(min(16 << 20, write_buffer_bytes // 4), 64 << 10)

    def usage(self) -> tuple[int, int]:
        """Bytes in use now: (block cache, write buffers)."""
        return self._cache.get_usage(), self._buffers.get_usage()

    def options(self) -> Options:
        """Options of a database and of each of its families."""
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)  # else they are outside the bound
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        table.set_bloom_filter(10, False)
        table.set_format_version(5)
        table.set_block_size(16 << 10)
        table.set_block_restart_interval(4)
        table.set_data_block_index_type(DataBlockIndexType.binary_and_hash())
        table.set_data_block_hash_ratio(0.75)

        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_atomic_flush(True)
        options.set_block_based_table_factory(table)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(self._memtable_bytes)
        options.set_max_write_buffer_number(4)
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.02)
        options.set_max_background_jobs(2)
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_max_bytes_for_level_base(64 << 20)
        options.set_skip_stats_update_on_db_open(True)
        options.set_manifest_preallocation_size(64 << 10)  # 4 MiB by default, times the number of tasks
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        options.set_stats_dump_period_sec(0)
        return options


class RocksBackend:
    """The committed stores of one task in one RocksDB. Implements `kstream.state.backend.Backend`.

    Not thread-safe, except `flush`.

    Args:
        directory: is made if it is missing. One open backend at a time, on the whole machine.
        stores: missing ones are created, others that exist are left alone.
        memory: the worker's.

    Raises:
        StateDirectoryError: in use by another process, or it cannot be written.
        StateError: damaged; delete the directory and restore from the changelog.
    """

    def __init__(self, directory: Path, stores: Sequence[str], memory: RocksMemory) -> None:
        self._directory = directory
        self._options = memory.options()
        self._lock = threading.Lock()  # held by flush, reset, checkpoint and close: they must not overlap
        self._scans: weakref.WeakSet[_Scan] = weakref.WeakSet()
        self._stores: dict[str, tuple[Rdict, ColumnFamily]] = {}
        self._write_options = WriteOptions()
        self._write_options.disable_wal = True  # type: ignore[assignment, method-assign]  # the stub is wrong: a property
        self._write_options.memtable_insert_hint_per_batch = True  # batches are written in key order
        self._db: Rdict | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            names = [_PREFIX + store for store in stores]
            if (directory / "CURRENT").exists():
                names += [name for name in Rdict.list_cf(str(directory), self._options) if name not in names]
            self._db = Rdict(str(directory), self._options, dict.fromkeys(names, self._options))
            for store in stores:
                self._open(store)
        except Exception as error:
            self._stores.clear()
            self._db = None
            raise self._mapped(error, "open") from error

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

    def scan(self, store: str) -> Iterator[tuple[bytes, bytes]]:
        """All entries in the order of their keys, as they are now. Raises StateError where damaged data begin.

        A scan that is not finished holds old data on disk: drop it. `reset` and `close` end it (it raises then).
        """
        self._check(store)
        scan = _Scan(self, store, self._stores[store][0].snapshot())
        self._scans.add(scan)
        return scan

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
                _fill(batch, store, changes.get(store, ()), marks.get(store))
        finally:
            batch.set_default_column_family(None)  # it would keep the family alive
        assert self._db is not None
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:
            raise self._mapped(error, "write") from error

    def mark(self, store: str) -> Mark | None:
        """None for a store that was never written. Raises StateError when it cannot be read."""
        self._check(store)
        try:
            packed = self._stores[store][0].get(MARK_KEY)
            return None if packed is None else Mark(*_MARK.unpack(packed))
        except Exception as error:
            raise self._mapped(error, f"read of the mark of store {store!r}") from error

    def reset(self, store: str) -> None:
        """Empties a store and forgets its mark. Both go in one step: a crash leaves the store as it was, or none."""
        with self._lock:
            self._check(store)
            self._end_scans(store)
            assert self._db is not None
            del self._stores[store]  # an open handle would keep the dropped family's files
            try:
                self._db.drop_column_family(_PREFIX + store)
                self._db.create_column_family(_PREFIX + store, self._options)
                self._open(store)
            except Exception as error:
                raise self._mapped(error, f"reset of store {store!r}") from error

    def flush(self) -> None:
        """Makes what was written survive a crash. May run on another thread: it lets go of the GIL.

        Does nothing once closed, for `close` flushes. Raises StateError or StateDirectoryError (disk full).
        """
        with self._lock:
            self._flush()

    def checkpoint(self, directory: Path) -> None:
        """A copy by hard links (milliseconds) into `directory`, which must not exist and lies on the same file system.

        Flush first, off the loop: with dirty memtables it flushes them itself and holds the GIL meanwhile.
        """
        with self._lock:
            if self._db is None:
                raise self._closed()
            try:
                Checkpoint(self._db).create_checkpoint(str(directory))
            except Exception as error:
                raise self._mapped(error, "checkpoint") from error

    def entries(self, store: str) -> int:
        """About how many entries: RocksDB counts an overwritten one twice until it is compacted."""
        self._check(store)
        return self._stores[store][0].property_int_value("rocksdb.estimate-num-keys") or 0

    def size_bytes(self, store: str) -> int:
        """About how many bytes the store takes, on disk (compressed) and in memtables."""
        self._check(store)
        names = ("rocksdb.estimate-live-data-size", "rocksdb.cur-size-all-mem-tables")
        return sum(self._stores[store][0].property_int_value(name) or 0 for name in names)

    def close(self) -> None:
        """Flushes and frees everything, the LOCK too. Idempotent. Waits for a flush on another thread.

        Raises StateError or StateDirectoryError when the flush fails; everything is freed even then, and no more is
        lost than in a crash.
        """
        with self._lock:
            if self._db is None:
                return
            try:
                self._flush()
            finally:
                self._end_scans(None)
                with suppress(Exception):  # it is flushed, or that has raised: there is nothing more to lose
                    while self._stores:
                        self._stores.popitem()[1][0].close()
                self._stores.clear()
                with suppress(Exception):
                    self._db.close()
                self._db = None

    def _flush(self) -> None:
        for store in list(self._stores):
            try:
                self._stores[store][0].flush()
            except Exception as error:
                raise self._mapped(error, f"flush of store {store!r}") from error

    def _open(self, store: str) -> None:
        assert self._db is not None
        name = _PREFIX + store
        self._stores[store] = (self._db.get_column_family(name), self._db.get_column_family_handle(name))

    def _check(self, store: str) -> None:
        if self._db is None:
            raise self._closed()
        if store not in self._stores:
            raise KeyError(store)

    def _end_scans(self, store: str | None) -> None:
        for scan in list(self._scans):
            if store is None or scan.store == store:
                scan.end()

    def _closed(self) -> StateError:
        return StateError(f"the state in {self._directory} is closed")

    def _mapped(self, error: Exception, doing: str) -> Exception:
        """What an error of rocksdict means. They all come as plain `Exception`, only the text tells them apart."""
        if isinstance(error, KStreamError):
            return error
        if self._db is None and doing != "open":
            return self._closed()
        text = str(error)
        if "lock hold by current process" in text or "While lock file" in text:
            return StateDirectoryError(
                f"the state directory {self._directory} is in use by another process: stop that one, or give this"
                " instance a name or a state directory of its own"
            )
        for sign, meaning in _ENVIRONMENT.items():
            if sign in text:
                return StateDirectoryError(f"the state directory {self._directory} cannot be used ({doing}): {meaning}")
        if isinstance(error, OSError):
            return StateDirectoryError(f"the state directory {self._directory} cannot be used ({doing}): {error}")
        return StateError(f"the state in {self._directory} is damaged ({doing}): {text}")


def _fill(batch: WriteBatch, store: str, changes: Changes, mark: Mark | None) -> None:
    # Sorted by key alone and stably: values do not compare, and the last of equal keys must stay last.
    ordered = sorted(changes, key=_key_of)
    at = bisect_left(ordered, MARK_KEY, key=_key_of)
    if at < len(ordered) and ordered[at][0] == MARK_KEY:
        raise ValueError(f"store {store!r}: the key {MARK_KEY.hex()} (hex) is reserved by kstream")
    for key, value in ordered:
        if value is None:
            del batch[key]
        else:
            batch[key] = value
    if mark is not None:
        batch[MARK_KEY] = _MARK.pack(*mark)


class _Scan:
    """An iterator over one store, owned by its backend, which can take RocksDB's handles away from it.

    rocksdict's iterators end without a word where damaged data begin; so at the end a second one, on the same snapshot,
    is asked whether the last key really was the last.
    """

    __slots__ = ("__weakref__", "_backend", "_ended", "_items", "_last", "_snapshot", "store")

    def __init__(self, backend: RocksBackend, store: str, snapshot: Snapshot) -> None:
        self.store = store
        self._backend = backend
        self._last: bytes | None = None
        self._ended = False
        self._snapshot: Snapshot | None = snapshot
        self._items: Iterator[Any] | None = snapshot.items()

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
        probe = self._snapshot.iter()
        try:
            if self._last is None:
                probe.seek_to_first()
            else:
                probe.seek(self._last)
                if probe.valid():
                    probe.next()
            probe.status()
            complete = not probe.valid()
        except Exception as error:
            raise self._backend._mapped(error, f"scan of store {self.store!r}") from error
        finally:
            del probe
        if not complete:
            raise StateError(f"the scan of store {self.store!r} broke off before its end")
