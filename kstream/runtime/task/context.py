"""What user code sees of the current record: the context, and the tables through it.

One context belongs to the synchronous operators of a task and one to each of its async agents. It is found through a
context variable, so that a table used deep inside user code, or after an `await`, resolves to the right task.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextvars import Context as ContextVars
from contextvars import ContextVar, copy_context
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

from kstream.errors import CodecError, KStreamError, TableError, TableUndeclared
from kstream.observe import logs
from kstream.operators.agent import encode_record
from kstream.operators.batch import Batch
from kstream.operators.writer import AFTER_ALL, Writer
from kstream.runtime.cluster.naming import Identity
from kstream.specs.record import Record
from kstream.specs.topic import Topic, check_topic
from kstream.types import Fetch, Headers

if TYPE_CHECKING:  # declaring an app does without it
    from kstream.state.store import Store

K = TypeVar("K")
V = TypeVar("V")
G = TypeVar("G")

_UNSET: Any = object()

OF_TIMERS: Final = ("timer", "cancel", "due")
"""What the context of processors, and of agents with timers, has besides."""


class Worker:
    """What `@app.lifespan` is given, and `ctx.worker` later: a place for clients, models, pools.

    `state` takes any attribute; `name` is what the worker is called within its instance, `index` its number within
    its isolation group `group` there; `metrics` makes metrics.
    """

    class State:
        """Attributes set by the app's lifespan."""

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"worker.state has no {name!r}: set it in the function under @app.lifespan")

    def __init__(self, identity: Identity) -> None:
        from kstream.observe.metrics import Metrics  # declaring an app does without them

        self.app, self.instance, self.index = identity.app, identity.instance, identity.index
        self.group, self.name = identity.isolation, identity.worker
        self.state: Any = self.State()
        self.metrics = Metrics()


class Context(Generic[K]):
    """The record at hand. Valid only inside the call it was given to (or until the next record of an agent).

    Attributes:
        task: `<sub-topology>/<partition>`.
        worker: what the app's lifespan prepared (`ctx.worker.state`).
        metrics: makes metrics: `ctx.metrics.counter("orders").inc()`. This one may be used at any time.
    """

    __slots__ = (
        "_compare_all", "_compared", "_order", "_writer",
        "batch", "cursors", "faults", "fetch", "index", "metrics", "stores", "task", "worker",
    )  # fmt: skip

    def __init__(
        self,
        task: str,
        worker: Worker,
        stores: dict[str, Store[Any]],
        writer: Writer,
        order: int,
        *,
        compare_all: bool = False,
    ) -> None:
        self.task, self.worker, self.stores = task, worker, stores
        self.metrics = worker.metrics.of_task(task)
        self._writer, self._order = writer, order
        self._compare_all = compare_all
        self._compared: set[tuple[str, type]] = set()  # topics, and the classes of what came back exactly as it was
        self.batch: Batch | None = None
        self.index = -1
        # of a task's shared context, for log lines: what it works on, and the contexts that its functions are given
        self.fetch: Fetch | None = None
        self.cursors: Sequence[Context[Any]] = ()
        # what was raised that is no record's fault, in the whole task, since it began or was taken back
        self.faults: list[KStreamError] = []

    def works_on(self, fetch: Fetch | None) -> None:
        """Called on the shared context for each batch; there is no current record yet."""
        self.fetch = fetch
        for cursor in self.cursors:
            cursor.batch, cursor.index = None, -1

    if not TYPE_CHECKING:  # there it is an error without a word more

        def __getattr__(self, name: str) -> Any:
            if name in OF_TIMERS:
                raise AttributeError(
                    f"ctx.{name}: only an agent with timers has it, or a processor: declare what is done when one is "
                    "due, by @the_agent.on_timer; or write a kstream.Processor, and use it by stream.process(...)"
                )
            if name == "emit":
                raise AttributeError(
                    "ctx.emit: only a processor has it: an agent returns or yields its results, and ctx.send writes to "
                    "any topic"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _at(self) -> tuple[Batch, int]:
        if self.batch is None or self.index < 0:
            raise TableError("the context is valid only while a record is processed")
        return self.batch, self.index

    def lacks(self, table: str) -> TableUndeclared:
        """What to raise where this table is used, and is none of the task's. The task remembers it: what catches it
        must not go on as if the table had no such key."""
        declared, within = _users_functions()
        where = declared if declared == within else f"{declared}, by {within},"
        error = TableUndeclared(
            f"{where} uses table {table!r}, which cannot be seen in its code: put @kstream.uses(the table) over "
            f"{declared}, or give its step or agent tables=[the table]"
        )
        self.faults.append(error)
        return error

    def _row(self, batch: Batch, index: int) -> int:
        """Where what is sent now has its place in the order: the input record that causes it."""
        return batch.place(index) if batch.origin else AFTER_ALL

    @property
    def key(self) -> K:
        """That of the record or timer at hand; None where a record has none."""
        batch, index = self._at()
        return cast("K", batch.key_of(index))

    @property
    def timestamp(self) -> int:
        """The event time of the record or timer at hand, in ms since the epoch; -1 where a record has none."""
        batch, index = self._at()
        return batch.timestamps[index]

    @property
    def headers(self) -> Headers | None:
        """Those of the input record; None where it has none, and for a change that no single record caused."""
        batch, index = self._at()
        return batch.origin.headers_of(batch.row(index)) if batch.origin else None

    @property
    def topic(self) -> str:
        """The topic that the input record was read from; "" for a change that no single record caused."""
        batch, _ = self._at()
        return batch.origin.topic if batch.origin else ""

    @property
    def partition(self) -> int:
        """That of the task, and of the input record."""
        return int(self.task.rpartition("/")[2])

    @property
    def offset(self) -> int:
        """The offset of the input record; -1 for a change that no single record caused."""
        batch, index = self._at()
        return batch.origin.offsets[batch.row(index)] if batch.origin else -1

    @property
    def working_on(self) -> str | None:
        """The record, for a message; another thread may ask."""
        batch, index = self.batch, self.index
        if batch is None or batch.origin is None or batch.origin.of_time or index < 0:
            return None
        return (
            f"{batch.origin.topic}[{batch.origin.fetch.at.partition}] offset {batch.origin.offsets[batch.row(index)]}"
        )

    @overload
    def send(
        self,
        topic: Topic[K, V],
        value: V,
        *,
        timestamp: datetime | int | None = None,
        headers: Headers | None = None,
        partition: int = -1,
    ) -> None: ...
    @overload
    def send(
        self,
        topic: Topic[G, V],
        value: V,
        *,
        key: G | None,
        timestamp: datetime | int | None = None,
        headers: Headers | None = None,
        partition: int = -1,
    ) -> None: ...
    def send(
        self,
        topic: Topic[Any, Any],
        value: Any,
        *,
        key: Any = _UNSET,
        timestamp: datetime | int | None = None,
        headers: Headers | None = None,
        partition: int = -1,
    ) -> None:
        """Sends a record in the task's transaction. The key is the input's unless given, the timestamp too.

        Raises:
            KStreamError: a None value for a topic whose values are not declared `| None`.
            CodecError: key, value, timestamp, headers or partition cannot be written, or would not come back as they
                were.
        """
        batch, index = self._at()
        if partition.__class__ is not int:
            raise CodecError(f"ctx.send: partition={partition!r} of {topic!r} is no whole number")
        record = Record(self.key if key is _UNSET else key, value, timestamp, headers)
        try:
            kind = topic.name, value.__class__
            record = encode_record(topic, record, "ctx.send", exact=self._compare_all or kind not in self._compared)
        except AttributeError:
            check_topic(topic, "ctx.send")  # here it costs no record anything
            raise
        self._compared.add(kind)
        self._writer.one(
            self._order,
            self._row(batch, index),
            topic.name,
            record.value,
            record.key,
            batch.timestamps[index] if record.timestamp is None else cast("int", record.timestamp),
            record.headers,
            partition,
            batch.cause(index),
        )


_current: ContextVar[Context[Any]] = ContextVar("kstream-context")


def activate(context: Context[Any]) -> None:
    """What follows on this thread belongs to this context's task."""
    _current.set(context)


def variables_of(context: Context[Any]) -> ContextVars:
    """Context variables for an async agent of its own."""
    variables = copy_context()
    variables.run(_current.set, context)
    return variables


def deactivate() -> None:
    _current.set(_NO_TASK)


_NO_TASK: Any = type("NoTask", (), {"stores": None, "task": ""})()
_current.set(_NO_TASK)


def here() -> dict[str, object]:
    """Task, topic, partition and offset of the current record, for log lines.

    A function without a context does not say at which record of its batch it is: then `first_offset` and `last_offset`
    are the batch's. Outside records only the task is known, outside tasks nothing.
    """
    context = _current.get(_NO_TASK)
    if context is _NO_TASK:
        return {}
    fetch = context.fetch
    for cursor in (*context.cursors, context):
        if cursor.batch is not None and cursor.batch.origin is not None:
            if cursor.batch.origin.of_time:  # of no record
                return {"task": context.task}
            fetch = cursor.batch.origin.fetch
            if cursor.index >= 0:
                return {
                    "task": context.task,
                    "topic": cursor.batch.origin.topic,
                    "partition": fetch.at.partition,
                    "offset": cursor.offset,
                }
    if fetch is None:
        return {"task": context.task}
    place: dict[str, object] = {"task": context.task, "topic": fetch.at.topic, "partition": fetch.at.partition}
    if len(fetch) == 1:
        return place | {"offset": fetch.first_offset}
    return place | {"first_offset": fetch.first_offset, "last_offset": fetch.last_offset}


logs.located_by(here)


def _users_functions() -> tuple[str, str]:
    """What is at work that is not kstream's own: the function that kstream called, and the innermost one."""
    found: list[str] = []
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        own = str(frame.f_globals.get("__name__", "")).partition(".")[0] == "kstream"
        if not own:
            found.append(f"{frame.f_code.co_qualname}()")
        elif found:
            break
        frame = frame.f_back
    return (found[-1], found[0]) if found else ("a function of a step", "a function of a step")


def remember(fault: KStreamError) -> None:
    """State could not be read. The task that runs now remembers it: whatever user code makes of the error, nothing of
    it is committed."""
    context = _current.get(_NO_TASK)
    if context is not _NO_TASK:
        context.faults.append(fault)


def current_store(table: str) -> Store[Any]:
    """The store behind a table, in the task that runs now.

    Raises:
        TableError: no task runs, or the task does not have this table.
    """
    context = _current.get(_NO_TASK)
    try:
        return context.stores[table]  # type: ignore[no-any-return]  # a cast would be a call, twice a record
    except KeyError:
        raise context.lacks(table) from None
    except TypeError:
        raise TableError(
            f"table {table!r} was used outside a task: tables can be read and written only while a record is processed"
        ) from None
