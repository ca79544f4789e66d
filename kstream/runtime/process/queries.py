"""Queries of committed state: how a worker answers them (the messages are in questions.py).

A worker answers on a thread of its own: whoever asks never waits for its loop, and the loop never for whoever asks. The
thread reads the backends only, so it sees what is committed, and it works for a tenth of the time at most, however much
is asked: what comes meanwhile is looked up together. What it holds in memory for an answer is bounded, whatever lies
in the store: keys are looked up by groups, smaller ones where values are large.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from threading import Lock
from typing import Final, Protocol, TypeVar

import msgspec

from kstream.errors import KStreamError
from kstream.observe.catalogue import Series
from kstream.observe.throttle import Throttle
from kstream.runtime.process.questions import ANSWER_BYTES, PAGE_BYTES, Frames, Query, Result, frame
from kstream.runtime.process.report import one_line
from kstream.runtime.task.states import TaskState
from kstream.state.backend import Page

log = logging.getLogger(__name__)
log.addFilter(Throttle())

T = TypeVar("T")

SHARE: Final = 0.1
"""Part of the time for which the thread may work."""
REST: Final = 0.002
"""Seconds it rests at least between two turns: queries that come one by one are answered together, and the loop is
interrupted less often."""
TURN: Final = 500
"""Entries looked up, or read of a range, until answers are sent and the share is looked at."""
FIRST: Final = 16
"""Keys of a store that are looked up together at first, before anything is known of the size of its values."""
LOOKED_AT: Final = 5000
"""Entries of a range that are read for one answer at most, where all of them have expired."""


class Rows(Protocol):
    """The part of a backend that is read here (`state.backend.Backend`)."""

    @property
    def queried(self) -> Lock: ...
    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def page(self, store: str, start: bytes, stop: bytes | None, limit: int, most: int) -> Page: ...


class Seen(Protocol):
    """The same of a store."""

    def seen(self, raw: bytes) -> bytes | None: ...


class Asked(Protocol):
    """Who has partitions of stores: a task, or a global table (`worker.global_view`)."""

    @property
    def name(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def state(self) -> TaskState: ...
    @property
    def stores(self) -> Mapping[str, Seen]: ...
    @property
    def backend(self) -> Rows: ...


class Groups:
    """How many keys of each store are looked up together: as many as have ANSWER_BYTES, going by those before."""

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}

    def of(self, store: str) -> int:
        return self._keys.get(store, FIRST)

    def found(self, store: str, keys: int, size: int) -> None:
        """So many keys that were looked up have values of `size` bytes together."""
        fitting = ANSWER_BYTES * keys // max(1, size)
        self._keys[store] = max(1, min(TURN, fitting, 4 * self.of(store)))


class QueryServer:
    """A worker's side.

    Args:
        descriptor: of the socket to the instance; it is closed when that ends.
        tasks: the worker's tasks as of now; called on the server's thread.

    Attributes:
        answered, keys: queries so far, and entries looked up or read for them.
        busy: seconds of processor time that this took.
    """

    def __init__(self, descriptor: int, tasks: Callable[[], Iterable[Asked]]) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(True)
        self._tasks = tasks
        self.answered, self.keys, self.busy = 0, 0, 0.0
        self._groups = Groups()
        self._thread = threading.Thread(target=self._run, name="queries", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def series(self) -> list[Series]:
        return [
            Series("state_queries_total", (), self.answered),
            Series("state_query_entries_total", (), self.keys),
            Series("state_query_busy_seconds_total", (), self.busy),
        ]

    def _run(self) -> None:
        frames = Frames(Query)
        try:
            with self._socket:
                while data := self._socket.recv(1 << 18):
                    began = time.thread_time()
                    for queries in _turns(frames.feed(data)):
                        self._send(self.answer(queries))
                        self.answered += len(queries)
                        self.keys += _entries(queries)
                        took = time.thread_time() - began
                        self.busy += took
                        time.sleep(max(REST, took * (1 / SHARE - 1)))
                        began = time.thread_time()
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("queries of state are not answered by this worker any more: %s", error)

    def _send(self, results: Iterable[Result]) -> None:
        """Together, as long as they are small."""
        unsent = bytearray()
        for result in results:
            unsent += frame(result)
            if len(unsent) > PAGE_BYTES:
                self._socket.sendall(unsent)
                unsent = bytearray()
        self._socket.sendall(unsent)

    def answer(self, queries: Sequence[Query]) -> Iterator[Result]:
        """Look-ups in the same store are made together. Nothing that goes wrong with one query is another's."""
        tasks = [task for task in list(self._tasks()) if task.state is TaskState.RUNNING]
        together: dict[tuple[str, tuple[int, ...]], list[Query]] = {}
        for query in queries:
            if query.keys is None:
                yield from _safely([query], partial(_range, tasks, query))
            else:
                together.setdefault((query.store, tuple(query.partitions)), []).append(query)
        for (store, partitions), same in together.items():
            looking = _Looking(list(_of(tasks, store, partitions)), store, self._groups)
            yield from _safely(same, partial(looking.up, same))


def _turns(queries: Iterable[Query]) -> Iterator[list[Query]]:
    """Queries as they are answered together."""
    turn: list[Query] = []
    entries = 0
    for query in queries:
        turn.append(query)
        entries += _entries([query])
        if entries >= TURN:
            yield turn
            turn, entries = [], 0
    if turn:
        yield turn


def _entries(queries: Sequence[Query]) -> int:
    return sum(query.limit if query.keys is None else len(query.keys) for query in queries)


def _of(tasks: Iterable[Asked], store: str, partitions: Sequence[int]) -> Iterator[Asked]:
    for task in tasks:
        if store in task.stores and (not partitions or task.partition in partitions):
            yield task


class _Looking:
    """Looks for the keys of queries of one store in tasks that run, with one multi-get a task and group of keys."""

    def __init__(self, tasks: list[Asked], store: str, groups: Groups) -> None:
        self._tasks, self._store, self._groups = tasks, store, groups
        self._read: set[bytes] = set()  # the group of keys that is known
        self._found: dict[bytes, tuple[bytes, int]] = {}  # of these

    def up(self, queries: Sequence[Query]) -> Iterator[Result]:
        """Answers as soon as a query's keys are known, and holds no more than its answer and a group of keys."""
        for at, query in enumerate(queries):
            keys, size = list(dict.fromkeys(query.keys or ())), 0
            result = Result(query.number)
            for number, key in enumerate(keys):
                if key not in self._read:
                    behind = (other for each in queries[at + 1 :] for other in each.keys or ())
                    self._look(list(islice(_distinct(keys[number:], behind), self._groups.of(self._store))))
                if (entry := self._found.get(key)) is None:
                    continue
                size += len(entry[0])
                if size > query.most and result.keys:
                    result.left = keys[number:]
                    break
                result.add(key, *entry)
            result.partitions = [task.partition for task in self._tasks]
            yield result

    def _look(self, keys: list[bytes]) -> None:
        self._read, self._found = set(keys), {}
        for task in list(self._tasks):
            values = _read(task, partial(task.backend.multi_get, self._store, keys))
            if values is None:
                self._tasks.remove(task)
                continue
            seen = task.stores[self._store].seen
            for key, raw in zip(keys, values, strict=True):
                if raw is not None and (value := seen(raw)) is not None:
                    self._found[key] = value, task.partition
        self._groups.found(self._store, len(keys), sum(len(value) for value, _ in self._found.values()))


def _distinct(first: Sequence[bytes], behind: Iterable[bytes]) -> Iterator[bytes]:
    seen: set[bytes] = set()
    for key in chain(first, behind):
        if key not in seen:
            seen.add(key)
            yield key


def _range(tasks: Sequence[Asked], query: Query) -> Iterator[Result]:
    task = next(_of(tasks, query.store, query.partitions), None)
    found = None if task is None else _page(task, query)
    yield Result(query.number) if found is None else found


def _page(task: Asked, query: Query) -> Result | None:
    """The first entries of the range that are to be seen: what has expired is not. Where all that was looked at has,
    the page is empty and says where to go on. None: the task's state cannot be read."""
    limit = many = max(1, query.limit)
    seen, start, looked = task.stores[query.store].seen, query.start, 0
    while True:
        page = _read(task, partial(task.backend.page, query.store, start, query.stop, many, PAGE_BYTES))
        if page is None:
            return None
        looked += len(page.entries)
        shown = [(key, value) for key, raw in page.entries if (value := seen(raw)) is not None]
        if shown or not page.more or looked >= LOOKED_AT:
            break
        start, many = page.entries[-1][0] + b"\0", TURN
    result = Result(query.number, [task.partition], more=page.more or len(shown) > limit)
    for key, value in shown[:limit]:
        result.add(key, value, task.partition)
    if result.more:
        result.after = shown[limit - 1][0] if len(shown) > limit else page.entries[-1][0]
    return result


def _read(task: Asked, read: Callable[[], T]) -> T | None:
    """What the backend of a task has; None where it is damaged, or closed by now: what uses it next finds out."""
    try:
        with task.backend.queried:
            return read()
    except KStreamError as error:
        log.warning("task %s: a query is not answered: %s", task.name, error)
        return None


def _safely(queries: Sequence[Query], answer: Callable[[], Iterator[Result]]) -> Iterator[Result]:
    answered = 0
    try:
        for result in answer():
            yield result
            answered += 1
    except Exception as error:
        log.error("queries of store %s failed: %s", queries[0].store, one_line(error), exc_info=error)
        why = f"{type(error).__name__}: {one_line(error)}"
        yield from (Result(query.number, error=why) for query in queries[answered:])
