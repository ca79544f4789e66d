"""Which backend keeps a store, and the making of those of a task: the only place that knows all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kstream.state.backend import Backend
from kstream.state.memory import MemoryBackend, MemoryLimit
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.several import SeveralBackends


def backends(
    default: str, of_stores: Mapping[str, str | None], memory: RocksMemory, limit: MemoryLimit | None = None
) -> Callable[[Path, Sequence[str]], Backend]:
    """What makes the backend of one task, given its directory and the names of its stores.

    Args:
        default: the kind of stores that do not say; `of_stores` are those that may, by name.
        memory: what all RocksDBs of the worker share; limit: what all in memory may hold.
    """

    def make(directory: Path, stores: Sequence[str]) -> Backend:
        kinds = {store: of_stores.get(store) or default for store in stores}
        on_disk = [store for store in stores if kinds[store] == "rocksdb"]
        in_memory = [store for store in stores if kinds[store] == "memory"]
        if not on_disk:
            return MemoryBackend(in_memory, limit)
        rocks = RocksBackend(directory, on_disk, memory)
        return SeveralBackends([(rocks, on_disk), (MemoryBackend(in_memory, limit), in_memory)]) if in_memory else rocks

    return make
