"""How much of each store a worker has: entries and bytes, looked at now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kstream.errors import StateError
from kstream.observe.status import PartStatus
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.loop import StreamWorker

STORES_SECONDS: Final = 5.0
"""Between two looks at the sizes of the stores: RocksDB estimates them, which takes about 10 microseconds a store."""
COUNTED: Final = 1_000
"""Entries up to which a store of a task is counted, where an estimate would be wrong by far."""
COUNTED_AT_ONCE: Final = 10_000
"""Entries that are counted in one look, over all stores: about 15 ms."""


class StoreSize:
    """One store over the tasks of this worker. `exact` says whether all of its entries were counted."""

    __slots__ = ("entries", "exact", "parts", "size")

    def __init__(self) -> None:
        self.entries = self.size = 0
        self.exact = True
        self.parts: list[PartStatus] = []


class StoreSizes:
    """Entries and bytes by store, looked at now and then: counted where they are few, else as the backends estimate."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = float("-inf")
        self._tasks: list[Task] = []
        self._sizes: dict[str, StoreSize] = {}

    @property
    def parts(self) -> dict[str, list[PartStatus]]:
        """What each task has of a store."""
        return {name: size.parts for name, size in self._sizes.items()}

    @property
    def estimated(self) -> list[str]:
        """Stores whose entries were not all counted."""
        return [name for name, size in self._sizes.items() if not size.exact]

    def of(self, worker: StreamWorker) -> dict[str, StoreSize]:
        tasks = [task for task in worker.tasks.values() if task.state is TaskState.RUNNING]
        if self._clock() - self._at >= STORES_SECONDS or tasks != self._tasks:
            self._at, self._tasks = self._clock(), tasks
            self._sizes = {}
            left = COUNTED_AT_ONCE
            for task in worker.tasks.values():
                for store in task.stores:
                    try:
                        size = task.backend.size_bytes(store)
                        counted = task.backend.count(store, min(COUNTED, left))
                        entries = task.backend.entries(store) if counted is None else counted
                    except StateError:  # damaged: what uses it next finds out, and rebuilds it
                        continue
                    left -= min(COUNTED, left) if counted is None else min(counted, left)
                    one = self._sizes.setdefault(store, StoreSize())
                    one.entries += entries
                    one.size += size
                    one.parts.append(PartStatus(task.partition, entries, size))
                    one.exact = one.exact and counted is not None
        return self._sizes
