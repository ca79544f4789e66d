"""The entries of a savepoint, whatever form it has: from the files of backends, or from Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from kstream.errors import SnapshotError
from kstream.state.about import form_in
from kstream.state.backend import Backend
from kstream.state.forms import headers_of
from kstream.state.memory import MemoryBackend
from kstream.state.savepoint import SavedTask, Savepoint
from kstream.state.snapshots.storage import Storage
from kstream.state.snapshots.transfer import read_snapshot
from kstream.types import Headers

Entry = tuple[bytes, bytes, Headers | None]
"""Key, value, and the headers of its record in the changelog."""
Entries = Iterator[tuple[str, int, Iterator[Entry]]]


def entries_of(
    storage: Storage, savepoint: Savepoint, stores: frozenset[str], specs: Mapping[str, Any], scratch: Path
) -> Entries:
    """Store, partition and entries of these stores, in the order of their keys. Read each part before the next.

    Args:
        specs: what the stores are now: for the canonical form.
        scratch: an empty directory for what is brought here, a task at a time.

    Raises:
        SnapshotError: a file is missing or damaged. StorageError: it cannot be read.
    """
    if savepoint.format == "canonical":
        from kstream.state.parquet import read_table

        for table in savepoint.tables:
            if table.store in stores:
                path = scratch / "table.parquet"
                with path.open("wb") as out:
                    for chunk in storage.get(f"{savepoint.name}/{table.file}"):
                        out.write(chunk)
                yield table.store, table.partition, read_table(path, specs[table.store], table.sha256)
        return
    for task in savepoint.tasks:
        if task.state is None or stores.isdisjoint(task.state.stores):
            continue
        directory = scratch / "task"
        read_snapshot(storage, f"{savepoint.name}/{task.folder}", task.state, directory)
        with opened(task, directory) as backends:
            for store, kept in task.state.stores.items():
                if store in stores:
                    headers = headers_of(form_in(kept.mark.about))
                    entries = _with(scan(backends, store), headers)
                    yield store, task.partition, entries
        rmtree(directory, ignore_errors=True)


def _with(entries: Iterator[tuple[bytes, bytes]], headers: Headers | None) -> Iterator[Entry]:
    for key, value in entries:
        yield key, value, headers


@contextmanager
def opened(task: SavedTask, directory: Path) -> Iterator[list[Backend]]:
    """The backends whose files these are: each of them may have some of the task's stores."""
    assert task.state is not None
    kinds, stores, found = task.state.backend.split("+"), list(task.state.stores), []
    with ExitStack() as stack:
        for kind in kinds:
            own = directory
            if len(kinds) > 1:  # as kstream.state.several.SeveralBackends lays them down
                own = directory.with_name(f"{directory.name}-{kind}")
                own.mkdir()
                for file in directory.glob(f"{kind}.*"):
                    file.rename(own / file.name.removeprefix(f"{kind}."))
            found.append(_open(kind, stores, own))
            stack.callback(rmtree, own, ignore_errors=True)
            stack.callback(found[-1].close)
        yield found


def scan(backends: list[Backend], store: str) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a store, from the backend that has it."""
    return next((one.scan(store) for one in backends if one.mark(store) is not None), iter(()))


def _open(kind: str, stores: list[str], directory: Path) -> Backend:
    if kind == "memory":
        in_memory = MemoryBackend(stores)
        in_memory.attach(directory)
        return in_memory
    if kind != "rocksdb":
        raise SnapshotError(f"its files are of a backend {kind}, which this version does not know")
    from kstream.state.rocksdb import RocksBackend, RocksMemory

    return RocksBackend(directory, stores, RocksMemory(32 << 20, 8 << 20))
