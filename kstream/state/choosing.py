"""Which backend keeps a store, and the making of those of a task: the only place that knows all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kstream.errors import ConfigError
from kstream.state.backend import Backend
from kstream.state.expiry import store_of
from kstream.state.memory import MemoryBackend, MemoryLimit
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.several import SeveralBackends


def backends(
    default: str, of_stores: Mapping[str, str | None], memory: RocksMemory, limit: MemoryLimit | None = None
) -> Callable[[Path, Sequence[str]], Backend]:
    """What makes the backend of one task, given its directory and the names of its stores, and
    of their indexes.

    Args:
        default: the kind of stores that do not say; `of_stores` are those that may, by name.
        memory: what all RocksDBs of the worker share; limit: what all in memory may hold.
    """

    def make(directory: Path, stores: Sequence[str]) -> Backend:
        kinds = {store: of_stores.get(store_of(store)) or default for store in stores}
        on_disk = [store for store in stores if kinds[store] == "rocksdb"]
        in_memory = [store for store in stores if kinds[store] != "rocksdb"]
        snapshotted = "file" in kinds.values()
        if not on_disk:
            return MemoryBackend(in_memory, limit, snapshotted=snapshotted)
        rocks = RocksBackend(directory, on_disk, memory)
        if not in_memory:
            return rocks
        beside = MemoryBackend(in_memory, limit, snapshotted=snapshotted)
        return SeveralBackends([(rocks, on_disk), (beside, in_memory)])

    return make


def check_durable(of_stores: Mapping[str, str | None], snapshots: str | None) -> None:
    """Raises ConfigError: a store is to live through snapshots, and there is no place for these."""
    for store, kind in of_stores.items():
        if kind == "file" and snapshots is None:
            raise ConfigError(
                f"store {store!r}: backend='file' keeps it in memory and in snapshots: say where, with snapshots"
            )
