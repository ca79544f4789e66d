"""Queries of committed state: what an instance asks its workers over a socket, and how a worker answers.

A worker answers on a thread of its own: whoever asks never waits for its loop, and the loop never for whoever asks. The
thread reads the backends only, so it sees what is committed, and it works for a tenth of the time at most, however much
is asked: what comes meanwhile is looked up together.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from struct import Struct
from typing import Any, Final, Generic, TypeVar

import msgspec

from kstream.errors import KStreamError
from kstream.observe.catalogue import Series
from kstream.observe.throttle import Throttle
from kstream.runtime.process.report import one_line
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
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
PAGE_BYTES: Final = 1 << 20
"""Bytes of a range in one answer; a single entry may have more."""
VALUE_BYTES: Final = 4 << 20
"""The largest value that is answered."""

TOO_LARGE: Final = "too large"
"""`Result.error` of a query whose value has more than VALUE_BYTES."""


class Query(msgspec.Struct, array_like=True):
    """A question for committed entries of a store.

    Attributes:
        number: its result has the same.
        partitions: in which it is looked; none: in all that the worker runs.
        keys: to be looked up, encoded; None: it asks for a range, of the one partition.
        start, stop, limit: of the range; `stop` itself is not in it.
    """

    number: int
    store: str
    partitions: list[int]
    keys: list[bytes] | None = None
    start: bytes = b""
    stop: bytes | None = None
    limit: int = 0


class Result(msgspec.Struct, array_like=True):
    """The answer.

    Attributes:
        partitions: those that were looked at; one that is not among them does not run here, or its state is damaged.
        keys: of the entries that were found; `values` and `found_in` (partitions) go with them.
        more: the range has others.
        error: why there is no answer.
    """

    number: int
    partitions: list[int] = []
    keys: list[bytes] = []
    values: list[bytes] = []
    found_in: list[int] = []
    more: bool = False
    error: str | None = None


_LENGTH: Final = Struct(">I")


class Frames(Generic[T]):
    """Structs over a stream of bytes, each with its length before it."""

    def __init__(self, kind: type[T]) -> None:
        self._decode: Callable[[Any], T] = msgspec.msgpack.Decoder(kind).decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """What is complete by now. Raises msgspec.MsgspecError for what is none of it."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= _LENGTH.size:
                end = at + _LENGTH.size + _LENGTH.unpack_from(buffer, at)[0]
                if len(buffer) < end:
                    return
                begin, at = at + _LENGTH.size, end
                yield self._decode(bytes(buffer[begin:end]))
        finally:
            del buffer[:at]


_encode = msgspec.msgpack.Encoder().encode


def frame(struct: Query | Result) -> bytes:
    data = _encode(struct)
    return _LENGTH.pack(len(data)) + data


class QueryServer:
    """A worker's side.

    Args:
        descriptor: of the socket to the instance; it is closed when that ends.
        tasks: the worker's tasks as of now; called on the server's thread.

    Attributes:
        answered, keys: queries so far, and entries looked up or read for them.
        busy: seconds of processor time that this took.
    """

    def __init__(self, descriptor: int, tasks: Callable[[], Iterable[Task]]) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(True)
        self._tasks = tasks
        self.answered, self.keys, self.busy = 0, 0, 0.0
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
                        self._socket.sendall(b"".join(map(frame, self.answer(queries))))
                        self.answered += len(queries)
                        self.keys += _entries(queries)
                        took = time.thread_time() - began
                        self.busy += took
                        time.sleep(max(REST, took * (1 / SHARE - 1)))
                        began = time.thread_time()
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("queries of state are not answered by this worker any more: %s", error)

    def answer(self, queries: Sequence[Query]) -> list[Result]:
        """Look-ups in the same store are made together. Nothing that goes wrong with one query is another's."""
        tasks = [task for task in list(self._tasks()) if task.state is TaskState.RUNNING]
        results: list[Result] = []
        together: dict[tuple[str, tuple[int, ...]], list[Query]] = {}
        for query in queries:
            if query.keys is None:
                results += _safely([query], partial(_ranges, tasks, [query]))
            else:
                together.setdefault((query.store, tuple(query.partitions)), []).append(query)
        for same in together.values():
            results += _safely(same, partial(_look_up, tasks, same))
        return results


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


def _of(tasks: Iterable[Task], store: str, partitions: Sequence[int]) -> Iterator[Task]:
    for task in tasks:
        if store in task.stores and (not partitions or task.partition in partitions):
            yield task


def _look_up(tasks: Sequence[Task], queries: Sequence[Query]) -> list[Result]:
    """Queries of one store and the same partitions, with one multi-get a task."""
    store, wanted = queries[0].store, queries[0].partitions
    keys = list(dict.fromkeys(key for query in queries for key in query.keys or ()))
    looked: list[int] = []
    found: dict[bytes, tuple[bytes, int]] = {}
    for task in _of(tasks, store, wanted):
        values = _read(task, partial(task.backend.multi_get, store, keys))
        if values is None:
            continue
        looked.append(task.partition)
        seen = task.stores[store].seen
        for key, raw in zip(keys, values, strict=True):
            if raw is not None and (value := seen(raw)) is not None:
                found[key] = value, task.partition
    results = []
    for query in queries:
        result = Result(query.number, looked)
        for key in query.keys or ():
            if (entry := found.get(key)) is not None:
                if len(entry[0]) > VALUE_BYTES:
                    result = Result(query.number, error=TOO_LARGE)
                    break
                result.keys.append(key)
                result.values.append(entry[0])
                result.found_in.append(entry[1])
        results.append(result)
    return results


def _ranges(tasks: Sequence[Task], queries: Sequence[Query]) -> list[Result]:
    return [_range(tasks, query) for query in queries]


def _range(tasks: Sequence[Task], query: Query) -> Result:
    limit = max(1, query.limit)
    for task in _of(tasks, query.store, query.partitions):
        page = _page(task, query, limit)
        if page is None:
            break
        keys, values = [key for key, _ in page.entries], [value for _, value in page.entries]
        if any(len(value) > VALUE_BYTES for value in values):
            return Result(query.number, error=TOO_LARGE)
        return Result(query.number, [task.partition], keys, values, [task.partition] * len(keys), page.more)
    return Result(query.number)


def _page(task: Task, query: Query, limit: int) -> Page | None:
    """The first entries of the range that are to be seen: what has expired is not."""
    read, seen, start = task.backend.page, task.stores[query.store].seen, query.start
    while True:
        page = _read(task, partial(read, query.store, start, query.stop, limit, PAGE_BYTES))
        if page is None:
            return None
        shown = [(key, value) for key, raw in page.entries if (value := seen(raw)) is not None]
        if shown or not page.more:
            return Page(shown, page.more)
        start = page.entries[-1][0] + b"\0"


def _read(task: Task, read: Callable[[], T]) -> T | None:
    """What the backend of a task has; None where it is damaged, or closed by now: what uses it next finds out."""
    try:
        with task.backend.queried:
            return read()
    except KStreamError as error:
        log.warning("task %s: a query is not answered: %s", task.name, error)
        return None


def _safely(queries: Sequence[Query], answer: Callable[[], list[Result]]) -> list[Result]:
    try:
        return answer()
    except Exception as error:
        log.error("queries of store %s failed: %s", queries[0].store, one_line(error), exc_info=error)
        return [Result(query.number, error=f"{type(error).__name__}: {one_line(error)}") for query in queries]
