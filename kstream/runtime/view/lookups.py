"""Look-ups in the tables of an instance: asked of its workers as a command, answered in their next reports.

Any thread may ask; what was heard comes on the supervisor's.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from kstream.codecs.text import decoded, from_text
from kstream.errors import UsageError
from kstream.observe.status import TableEntry
from kstream.runtime.process.handle import WorkerProcess
from kstream.runtime.process.report import Answer, Command, Lookup
from kstream.runtime.view.watched import Watched
from kstream.specs.store import StoreSpec
from kstream.topology import Topology

Found = tuple[bytes | None, list[int]]
"""The committed value, and the partitions that were looked at."""


@dataclass(slots=True)
class _Pending:
    waiting: set[str]
    future: Future[Found] = field(default_factory=Future)
    value: bytes | None = None
    partitions: list[int] = field(default_factory=list)


class Lookups:
    """See the module's text."""

    def __init__(self, watched: Watched, topology: Topology) -> None:
        self._watched = watched
        self._stores: Mapping[str, StoreSpec] = {store.name: store for part in topology.parts for store in part.stores}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._pending: dict[int, _Pending] = {}

    def ask(self, table: str, key: str) -> Future[TableEntry]:
        """The committed entry of a key, written as on the command line; who has waited for long enough cancels it.

        Raises:
            UsageError: there is no such table, or the key is not of its type.
        """
        store = self._stores.get(table)
        if store is None:
            raise UsageError(f"there is no table {table!r}; there are: {', '.join(self._stores) or 'none'}")
        encoded = from_text(store.key.codec, key, f"the key of table {table}")
        if encoded is None:
            raise UsageError(f"a key of table {table} cannot be null")
        entry: Future[TableEntry] = Future()

        def read(done: Future[Found]) -> None:
            if entry.set_running_or_notify_cancel():
                entry.set_result(_entry(store, encoded, *done.result()))

        found = self._ask(table, encoded)
        found.add_done_callback(read)
        return entry

    def _ask(self, table: str, key: bytes) -> Future[Found]:
        number = next(self._numbers)
        pending = _Pending({worker.name for worker in self._running()})
        if not pending.waiting:
            pending.future.set_result((None, []))
            return pending.future
        with self._lock:
            self._pending[number] = pending
            for old in list(self._pending)[:-MOST]:  # nobody waits for those any more
                del self._pending[old]
        self._watched.tell(Command(lookups=[Lookup(number, table, key)]))
        return pending.future

    def _running(self) -> Sequence[WorkerProcess]:
        return [worker for worker in self._watched.workers if worker.runs]

    def heard(self, worker: str, answers: Sequence[Answer]) -> None:
        for answer in answers:
            self._update(answer.number, worker, answer)

    def ended(self, worker: str) -> None:
        """It will not answer what it was asked; its successor was not asked."""
        with self._lock:
            numbers = list(self._pending)
        for number in numbers:
            self._update(number, worker, None)

    def _update(self, number: int, worker: str, answer: Answer | None) -> None:
        with self._lock:
            pending = self._pending.get(number)
            if pending is None:
                return
            pending.waiting.discard(worker)
            if answer is not None:
                pending.partitions += answer.partitions
                pending.value = pending.value if answer.value is None else answer.value
            if pending.waiting and pending.value is None:
                return
            del self._pending[number]
        pending.future.set_result((pending.value, sorted(pending.partitions)))


MOST = 1000
"""Look-ups that are kept: of more, the oldest have been given up by whoever asked."""


def _entry(store: StoreSpec, key: bytes, value: bytes | None, partitions: list[int]) -> TableEntry:
    shown, of_key = decoded(store.value.codec, value), decoded(store.key.codec, key)
    error = None if value is None else shown.error
    plain = None if value is None else shown.plain
    return TableEntry(store.name, of_key.plain, value is not None, plain, partitions, error)
