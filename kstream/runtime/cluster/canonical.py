"""A savepoint in canonical form: its entries as Parquet, a file for each partition of each store."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from kstream.state.about import form_in
from kstream.state.parquet import write_table
from kstream.state.saved import opened, scan
from kstream.state.savepoint import SavedTable, SavedTask, Savepoint, delete_attempt, write_savepoint
from kstream.state.snapshots.storage import Storage, chunks_of
from kstream.state.snapshots.transfer import read_snapshot
from kstream.topology import Topology


def to_canonical(storage: Storage, savepoint: Savepoint, topology: Topology) -> Savepoint:
    """Writes the entries of a native savepoint as Parquet, and its own file anew; then its other files go. Killed
    before that, it is the native one.

    Raises:
        ConfigError: pyarrow is not installed. SnapshotError, StorageError: it cannot be read or written.
    """
    specs = {store.name: store for part in topology.parts for store in part.stores}
    tables: list[SavedTable] = []
    for task in savepoint.tasks:
        if task.state is not None:
            tables += _of_task(storage, savepoint, task, specs)
    tasks = [msgspec.structs.replace(task, state=None, folder="") for task in savepoint.tasks]
    made = msgspec.structs.replace(savepoint, format="canonical", tasks=tasks, tables=tables)
    write_savepoint(storage, made)
    for task in savepoint.tasks:
        if task.folder:
            storage.delete([entry.name for entry in storage.list(f"{savepoint.name}/{task.folder}")])
    delete_attempt(storage, savepoint.name, savepoint.id)
    return made


def _of_task(storage: Storage, savepoint: Savepoint, task: SavedTask, specs: dict[str, Any]) -> list[SavedTable]:
    assert task.state is not None
    tables = []
    with TemporaryDirectory(prefix="kstream-") as scratch:
        directory = Path(scratch) / "task"
        read_snapshot(storage, f"{savepoint.name}/{task.folder}", task.state, directory)
        with opened(task, directory) as backends:
            for store in task.state.stores:
                path = Path(scratch) / "table.parquet"
                about = {"kstream.app": savepoint.app, "kstream.store": store, "kstream.partition": str(task.partition)}
                form = form_in(task.state.stores[store].mark.about)
                entries = write_table(path, specs[store], lambda store=store: scan(backends, store), about, form)  # type: ignore[misc]
                file, digest = f"tables/{store}/{task.partition}.parquet", sha256()
                storage.put(f"{savepoint.name}/{file}", chunks_of(path, digest.update))
                tables.append(
                    SavedTable(store, task.partition, file, entries, path.stat().st_size, digest.hexdigest())
                )  # fmt: skip
    return tables
