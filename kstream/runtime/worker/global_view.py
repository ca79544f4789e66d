"""A global table as queries of state see it: a task that has one store, in partition 0, and runs while it is there."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Final

from kstream.errors import StateError
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.global_copy import GlobalCopy
from kstream.specs.global_table import asked_as
from kstream.state.backend import Page
from kstream.state.global_store import GlobalStore


class _Rows:
    """What the backend has of the place that is read. Whoever reads holds `queried`, so it is not emptied meanwhile."""

    def __init__(self, copy: GlobalCopy) -> None:
        self._copy = copy

    @property
    def queried(self) -> Lock:
        return self._copy.backend.queried

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._copy.backend.multi_get(self._place(), keys)

    def page(self, store: str, start: bytes, stop: bytes | None, limit: int, most: int) -> Page:
        return self._copy.backend.page(self._place(), start, stop, limit, most)

    def _place(self) -> str:
        if (place := self._copy.store.serves) is None:
            raise StateError(f"global table {self._copy.name} is not read yet")
        return place


class GlobalView:
    """See the module's text. Implements `runtime.process.queries.Asked`."""

    partition: Final = 0

    def __init__(self, copy: GlobalCopy) -> None:
        self._copy, self.name = copy, asked_as(copy.name)
        self.stores: dict[str, GlobalStore[object]] = {copy.name: copy.store}
        self.backend = _Rows(copy)

    @property
    def state(self) -> TaskState:
        return TaskState.RUNNING if self._copy.serves else TaskState.RESTORING
