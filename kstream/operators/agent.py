"""Agents: user functions with outputs, tables and contexts of their own.

What an agent returns or yields is encoded at once ("a yielded value is taken when it is yielded"), because it may be
a live state object, and goes out when the batch is through.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context as ContextVars
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from kstream.codecs import encode_value
from kstream.errors import CodecError, KStreamError
from kstream.operators.base import Cursor, Operator
from kstream.operators.batch import Batch
from kstream.operators.writer import Writer
from kstream.specs.record import Record
from kstream.specs.topic import Topic
from kstream.state.store import Store
from kstream.types import Headers

if TYPE_CHECKING:  # importing it takes 20 ms, and who only declares an app needs no event loop
    import asyncio

K = TypeVar("K")
V = TypeVar("V")


class Results:
    """What an agent put out for one batch, encoded, with the input record of each."""

    def __init__(self, to: Topic[Any, Any] | None, writer: Writer, order: int, name: str) -> None:
        self._to, self._writer, self._order, self._name = to, writer, order, name
        self._values: list[bytes | None] = []
        self._indices: list[int] = []
        self._records: list[tuple[int, Record[Any, Any]]] = []
        self._encode = to.value.codec.encode if to else _nowhere(name)
        self._nulls = to is not None and getattr(to.value.codec, "nulls", False)
        self.emitted = 0
        self._class: type | None = None  # of the output before: the same class needs no second look

    def take(self, index: int, result: Any) -> None:
        """One output of the record at `index`; None is none."""
        if result is None:
            return
        if isinstance(result, Record):
            # Order among the outputs of a batch is kept: once a Record came, all go one by one.
            self._flush_plain_into_records()
            self._records.append((index, self._encoded(result)))
        elif result.__class__ is not self._class and self._to is not None:
            encode_value(self._to.value.codec, result)  # raises when it would not come back as it is
            self._class = result.__class__
            self.take(index, result)
        elif self._records:
            self._records.append((index, Record(_INPUT_KEY, self._encode(result))))
            self._refuse_nulls([self._records[-1][1].value])
        else:
            self._values.append(self._encode(result))
            self._indices.append(index)

    def release(self, batch: Batch) -> None:
        """Hands the outputs of the batch over."""
        to = self._to
        if to is None:
            return
        if self._values:
            values, self._values = self._values, []
            indices, self._indices = self._indices, []
            self._refuse_nulls(values)
            self.emitted += len(values)
            one_of_each = indices == list(range(batch.size))
            out = batch if one_of_each else batch.at(indices)
            self._writer.column(self._order, out, to.name, values, out.encoded_keys(to.key.codec))
        elif self._records:
            records, self._records = self._records, []
            self.emitted += len(records)
            keys = None
            for index, record in records:
                key = record.key
                if key is _INPUT_KEY:
                    keys = keys or batch.encoded_keys(to.key.codec)
                    key = keys[index]
                timestamp = batch.timestamps[index] if record.timestamp is None else record.timestamp
                self._writer.one(
                    self._order, batch.row(index), to.name, record.value, key, timestamp, record.headers, -1
                )

    def reset(self) -> None:
        self._values, self._indices, self._records = [], [], []

    def _refuse_nulls(self, values: list[bytes | None]) -> None:
        if self._nulls and b"null" in values:
            raise CodecError(f"agent {self._name!r} put out NaN or infinity: JSON has neither")

    def _flush_plain_into_records(self) -> None:
        self._refuse_nulls(self._values)
        for index, value in zip(self._indices, self._values, strict=True):
            self._records.append((index, Record(_INPUT_KEY, value)))
        self._values, self._indices = [], []

    def _encoded(self, record: Record[Any, Any]) -> Record[Any, Any]:
        return encode_record(self._to, record, self._name)


_INPUT_KEY: Any = object()  # the key of the input record, encoded when the batch goes out


def _nowhere(name: str) -> Callable[[Any], bytes]:
    def refuse(value: Any) -> bytes:
        raise KStreamError(f"agent {name!r} put out {value!r}, but has no topic to send it to: declare to=")

    return refuse


def encode_record(to: Topic[Any, Any] | None, record: Record[Any, Any], who: str) -> Record[Any, Any]:
    """The record with key and value as bytes.

    Raises:
        KStreamError: there is no topic, or a tombstone goes to a topic not declared `T | None`.
    """
    if to is None:
        _nowhere(who)(record)
        raise AssertionError
    key = None if record.key is None else encode_value(to.key.codec, record.key)
    if record.value is None:
        if not getattr(to.value.codec, "nullable", False):
            raise KStreamError(f"a tombstone (value None) for {to.name!r}, whose values are not declared `| None`")
        value = None
    else:
        value = encode_value(to.value.codec, record.value)
    return Record(key, value, record.timestamp, record.headers)


class FunctionAgent(Operator):
    """A plain function of one value, or a generator function of one value (`many`)."""

    def __init__(
        self,
        function: Callable[..., Any],
        cursor: Cursor | None,
        results: Results,
        stores: list[Store[Any]],
        *,
        many: bool,
    ) -> None:
        super().__init__()
        self.function, self.cursor, self.results, self.many = function, cursor, results, many
        self.stores = stores

    def push(self, batch: Batch) -> None:
        prefetch(self.stores, batch)
        function, take = self.function, self.results.take
        arguments: tuple[Any, ...] = ()
        cursor: Any = self.cursor
        if cursor is not None:
            cursor.batch, arguments = batch, (cursor,)
        else:
            cursor = _Nowhere
        if self.many:
            for cursor.index, value in enumerate(batch.values):
                for result in function(value, *arguments):
                    take(cursor.index, result)
        else:
            for cursor.index, value in enumerate(batch.values):
                take(cursor.index, function(value, *arguments))
        cursor.batch = None
        self.results.release(batch)
        self.emitted = self.results.emitted

    def reset(self) -> None:
        self.results.reset()


class _Nowhere:
    """A cursor nobody reads."""

    batch = None
    index = 0


def prefetch(stores: list[Store[Any]], batch: Batch) -> None:
    """One multi-get for the whole batch: the key of a keyed table is the key of the record."""
    for store in stores:
        if store.spec.scope == "keyed":
            store.load(batch.encoded_keys(store.key_codec))


class Event(NamedTuple, Generic[K, V]):
    """A record as `AgentStream.events()` gives it. `timestamp` is in ms since the epoch."""

    key: K
    value: V
    timestamp: int
    headers: Headers | None
    topic: str
    partition: int
    offset: int


class AgentStream(Generic[K, V]):
    """The stream an async agent iterates over. Asking for the next value acknowledges the one before.

    It is endless: an agent that leaves its loop has failed.
    """

    def __init__(self, cursor: Cursor, drained: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._cursor = cursor
        self._drained = drained
        self._loop = loop
        self._values: list[V] = []
        self._wake: asyncio.Future[None] | None = None
        cursor.index = -1

    def __aiter__(self) -> AgentStream[K, V]:
        return self

    async def __anext__(self) -> V:
        cursor = self._cursor
        index = cursor.index + 1
        while index >= len(self._values):
            self._wake = self._loop.create_future()
            self._drained()
            await self._wake
            index = 0
        cursor.index = index
        return self._values[index]

    async def events(self) -> AsyncGenerator[Event[K, V], None]:
        """The records with key, timestamp, headers and origin."""
        cursor: Any = self._cursor
        async for value in self:
            yield Event(
                cursor.key, value, cursor.timestamp, cursor.headers, cursor.topic, cursor.partition, cursor.offset
            )

    def feed(self, batch: Batch) -> None:
        """The next batch; the agent wakes in the event loop's next turn."""
        self._cursor.batch, self._values = batch, batch.values
        self._cursor.index = -1
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.set_result(None)


class AsyncAgent(Operator):
    """An async generator (or coroutine) over a stream: one asyncio task, suspended only when its batch is through.

    `push` gives it the batch and turns the event loop once. An agent that awaits nothing has then taken the whole
    batch; one that waits for something outside is `busy`, and the worker goes on turning the loop.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        cursor: Cursor,
        results: Results,
        stores: list[Store[Any]],
        loop: asyncio.AbstractEventLoop,
        variables: ContextVars,
        *,
        wants_context: bool,
    ) -> None:
        super().__init__()
        self.name, self.function, self.cursor, self.results = name, function, cursor, results
        self.stores = stores
        self._loop, self._wants_context = loop, wants_context
        self._first_variables = variables
        self.variables = variables  # the context variables of the agent that runs now
        self.when_drained: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._batch: Batch | None = None
        self._stream: AgentStream[Any, Any]

    @property
    def busy(self) -> bool:
        """Whether the agent still works on its batch.

        Raises what the agent raised.
        """
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            self._batch = None
            error = None if task.cancelled() else task.exception()
            if error is not None:
                raise error
            raise KStreamError(f"agent {self.name!r} ended: an agent iterates over its stream for ever")
        return self._batch is not None

    def push(self, batch: Batch) -> None:
        prefetch(self.stores, batch)
        self.start()
        self._batch = batch
        self._stream.feed(batch)
        turn(self._loop)
        _ = self.busy

    def reset(self) -> None:
        """The agent is stopped; the next batch starts a new one (its local variables are not durable)."""
        self.close()
        self.results.reset()

    def close(self) -> None:
        task, self._task, self._batch = self._task, None, None
        if task is not None and not task.done():
            task.cancel()
            for _ in range(100):  # its finally blocks may await a little
                turn(self._loop)
                if task.done():
                    break
        if task is not None and task.done() and not task.cancelled():
            task.exception()  # asked for, so that asyncio does not complain that nobody did

    def start(self) -> None:
        """Unless it runs."""
        if self._task is not None:
            return
        self.variables = self._first_variables.copy()
        self._stream = AgentStream(self.cursor, self._drained, self._loop)
        arguments = (self._stream, self.cursor) if self._wants_context else (self._stream,)
        self._task = self._loop.create_task(self._drive(self.function(*arguments)), context=self.variables)

    async def _drive(self, running: AsyncGenerator[Any, None] | Coroutine[Any, Any, None]) -> None:
        if isinstance(running, Coroutine):
            await running
            return
        take, cursor = self.results.take, self.cursor
        async for result in running:
            take(cursor.index, result)

    def _drained(self) -> None:
        """The agent asks for more than it was given: its batch is through."""
        batch, self._batch = self._batch, None
        if batch is not None:
            self.cursor.batch = None  # no record is at hand until the next batch
            self.results.release(batch)
            self.emitted = self.results.emitted
            if self.when_drained is not None:
                self.when_drained()


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """One turn of the event loop: all that is ready now runs, nothing is waited for."""
    loop.call_soon(loop.stop)
    loop.run_forever()
