"""Async agents: functions over the stream of a task's records, suspended while there are none.

Which record is *at hand* is one rule: the one that was taken last, until the next one is asked for. Outputs, tables and
the context belong to it; between records there is none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from contextvars import Context as ContextVars
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, NoReturn, TypeVar

from kstream.errors import AgentTooSlow, KStreamError, TableError, text_of
from kstream.operators.agent import Results, prefetch
from kstream.operators.base import Cursor, Operator
from kstream.operators.batch import Batch
from kstream.operators.raised import fair
from kstream.operators.told import of_what
from kstream.operators.turns import turn
from kstream.types import Headers

if TYPE_CHECKING:  # importing it takes 20 ms, and who only declares an app needs no event loop
    import asyncio

    from kstream.state.store import Store

K = TypeVar("K")
V = TypeVar("V")


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

    It is endless: an agent that leaves its loop has failed. It is for one loop: while the asyncio task that asked last
    is alive, no other may ask; an agent in which one does has failed, whatever it catches. A wait for the next record
    may be given up (`asyncio.wait_for`, `asyncio.timeout`) and begun anew.
    """

    def __init__(
        self, agent: str, cursor: Cursor, drained: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._agent, self._cursor, self._drained, self._loop = agent, cursor, drained, loop
        self._values: list[V] = []
        self._taker: asyncio.Task[Any] | None = None  # who asked last
        self._taken_by_agent = False  # whether that was the agent itself, not a task that it started
        self.agent_runs = False  # whether it is at work just now
        self._wake: asyncio.Future[None] | None = None  # of who waits for the next batch
        self.refusal: KStreamError | None = None  # of a second loop; from then on nothing is acknowledged
        self._closed = False
        self._was_told = False  # that it is closed
        cursor.index = -1

    def __aiter__(self) -> AgentStream[K, V]:
        return self

    def __anext__(self) -> Coroutine[Any, Any, V]:
        # No coroutine function: `wait_for` would run that in a task of its own, and who asks could not be seen.
        if not (self.agent_runs and self._taken_by_agent) and not self._may_ask():
            return self._refuse()
        return self._next()

    async def _next(self) -> V:
        cursor = self._cursor
        index = cursor.index + 1
        while index >= len(self._values):
            await self._next_batch()
            index = 0
        cursor.index = index
        return self._values[index]

    def events(self) -> AsyncIterator[Event[K, V]]:
        """The records with key, timestamp, headers and origin."""
        return _Events(self, self._cursor)

    def feed(self, batch: Batch) -> None:
        """The next batch; an agent that waits for it wakes in the event loop's next turn."""
        self._cursor.batch, self._values = batch, batch.values
        self._cursor.index = -1
        if self._wake is not None and not self._wake.done():  # done: the wait was given up, or is over
            self._wake.set_result(None)

    def close(self) -> None:
        """Gives out nothing more: the agent is stopped. What it left running must not take what its successor gets."""
        self._closed, self._values = True, []
        if self._wake is not None:
            self._wake.cancel()

    async def _next_batch(self) -> None:
        """Acknowledges the batch, and waits for the next one."""
        if self._closed:
            await self._gives_no_more()
        if self._wake is not None or self.refusal is not None:
            await self._refuse()
        self._values, self._cursor.index = [], -1
        self._drained()
        if self._values:  # there was another one
            return
        self._wake = self._loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    async def _gives_no_more(self) -> None:
        """Says so once. What catches everything and asks again (`while True`, `except BaseException`) would never let
        go of the event loop: from then on it waits for ever."""
        if self._was_told:
            await self._loop.create_future()
        self._was_told = True
        raise KStreamError(
            f"agent {self._agent!r} was started again: the stream of its earlier run gives no more records"
        )

    async def _refuse(self) -> NoReturn:
        """Raises after a turn of the event loop: what catches it and asks again must let others work."""
        from asyncio import sleep

        if self.refusal is None:
            self.refusal = KStreamError(
                f"agent {self._agent!r} asks for records of its stream in more than one loop: each would acknowledge "
                "those that another still works on. Use one loop; what is to go on in parallel needs more partitions"
            )
        await sleep(0)
        raise self.refusal

    def _may_ask(self) -> bool:
        """Whether no other loop asks for records."""
        from asyncio import current_task  # with Python 3.11 too slow for each record

        task, before = current_task(self._loop), self._taker
        if before is not None and before is not task and not before.done() and not self._closed:
            return False
        self._taker, self._taken_by_agent = task, self.agent_runs
        return True


class _Events(AsyncIterator[Event[K, V]]):
    """`AgentStream.events`. No async generator: that would be at its end once a wait for a record is given up."""

    def __init__(self, stream: AgentStream[K, V], cursor: Any) -> None:
        self._stream, self._cursor = stream, cursor

    def __anext__(self) -> Coroutine[Any, Any, Event[K, V]]:
        return self._event(anext(self._stream))

    async def _event(self, asked: Coroutine[Any, Any, V]) -> Event[K, V]:
        value, cursor = await asked, self._cursor
        return Event(cursor.key, value, cursor.timestamp, cursor.headers, cursor.topic, cursor.partition, cursor.offset)


class _Steps(Coroutine[Any, Any, None]):
    """The coroutine of an agent. Its stream is told while it runs: that costs once a suspension, not once a record."""

    def __init__(self, running: Coroutine[Any, Any, None], stream: AgentStream[Any, Any]) -> None:
        self._running, self._stream = running, stream

    def send(self, value: Any) -> Any:
        self._stream.agent_runs = True
        try:
            return self._running.send(value)
        finally:
            self._stream.agent_runs = False

    def throw(self, *error: Any) -> Any:
        self._stream.agent_runs = True
        try:
            return self._running.throw(*error)
        finally:
            self._stream.agent_runs = False

    def close(self) -> None:
        self._running.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._running.__await__()


class AsyncAgent(Operator):
    """An async generator (or coroutine) over a stream: one asyncio task, suspended only when its batch is through.

    `push` gives it the batch and turns the event loop once. An agent that awaits nothing has then taken the whole
    batch; one that waits for something outside is `busy`, and the worker goes on turning the loop. What is pushed
    meanwhile it gets afterwards: a step before it may emit several batches of one that it was given.
    """

    stream_kind: ClassVar[type[AgentStream[Any, Any]]] = AgentStream

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
        timeout: float | None = None,
    ) -> None:
        super().__init__()
        self.timeout = timeout
        self._at: tuple[Batch | None, int] = (None, -1)  # the record at hand when it was looked at last
        self._since = 0.0  # when it was first seen there
        self.name, self.function, self.cursor, self.results = name, function, cursor, results
        self.stores = stores
        self._tables = cursor.stores
        self._loop, self._wants_context = loop, wants_context
        self._first_variables = variables
        self.variables = variables  # the context variables of the agent that runs now
        self.when_drained: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._batch: Batch | None = None
        self._waiting: deque[Batch] = deque()  # behind that one
        self._stream: AgentStream[Any, Any]

    @property
    def busy(self) -> bool:
        """Whether the agent still works on its batch.

        Raises what the agent raised.
        """
        if self._has_failed:
            self._ended()
        return self._batch is not None

    @property
    def waits(self) -> bool:
        """Whether it is at its batch, as of the event loop's last turn. Raises nothing."""
        return self._batch is not None and self._task is not None and not self._has_failed

    @property
    def _has_failed(self) -> bool:
        return self._task is not None and (self._task.done() or self._stream.refusal is not None)

    @property
    def overdue(self) -> bool:
        """Whether it has been at one record for longer than its timeout. Asked while agents are busy. What they wait
        for goes by real time, in tests too."""
        if self.timeout is None or self._batch is None:
            return False
        batch, index = self._at
        if batch is not self._batch or index != self.cursor.index:
            self._at, self._since = (self._batch, self.cursor.index), monotonic()
        return monotonic() - self._since > self.timeout

    def check_time(self) -> None:
        """Raises AgentTooSlow when it is `overdue`."""
        if self.overdue:
            if self._batch is not None and self.cursor.index >= 0:
                self._batch.blame(self.cursor.index)
            slow = AgentTooSlow(f"agent {self.name!r} has been at one record for more than timeout={self.timeout:g} s")
            raise of_what(self._batch, slow)

    def check(self, task: str) -> None:
        """Called where the agent has been given nothing; `task` is for the message.

        Raises:
            KStreamError: it failed all the same, between records.
        """
        if self._has_failed:
            try:
                self._ended()
            except KeyboardInterrupt:
                raise
            except BaseException as raised:
                error = fair(raised)
                told = f"{type(error).__name__}: {text_of(error)}"
                raise KStreamError(f"task {task}: agent {self.name!r} failed between records: {told}") from error

    def _ended(self) -> NoReturn:
        batch, task, refusal = self._batch, self._task, self._stream.refusal
        if batch is not None and self.cursor.index >= 0:
            batch.blame(self.cursor.index)
        self.close()  # others that it started may go on
        error: BaseException | None = refusal
        if error is None and task is not None:
            by_itself = f"agent {self.name!r} was cancelled by its own code (task.cancel(), or a CancelledError)"
            error = KStreamError(by_itself) if task.cancelled() else task.exception()
        if error is None:
            error = KStreamError(f"agent {self.name!r} returned, and an agent must iterate over its stream for ever")
        raise of_what(batch, error)

    def push(self, batch: Batch) -> None:
        prefetch(self.stores, batch)
        self.start()
        if self._batch is not None:
            self._waiting.append(batch)
            return
        self._feed(batch)
        turn(self._loop)
        _ = self.busy

    def _feed(self, batch: Batch) -> None:
        self._batch = batch
        self.cursor.stores = self._tables
        self._stream.feed(batch)

    def take_back(self) -> bool:
        self._stop()
        self.results.emitted = self._kept
        return super().take_back()

    def reset(self) -> None:
        self._stop()

    def _stop(self) -> None:
        """The next batch starts a new one (its local variables are not durable)."""
        self.close()
        self.results.reset()

    def close(self) -> None:
        task, self._task, self._batch = self._task, None, None
        self._waiting.clear()
        if task is None:
            return
        self._stream.close()
        if not task.done():
            task.cancel()
            for _ in range(100):  # its finally blocks may await a little
                turn(self._loop)
                if task.done():
                    break
        if task.done() and not task.cancelled():
            task.exception()  # asked for, so that asyncio does not complain that nobody did

    def start(self) -> None:
        """Unless it runs."""
        if self._task is not None:
            return
        self.variables = self._first_variables.copy()
        self._stream = self.stream_kind(self.name, self.cursor, self._drained, self._loop)
        arguments = (self._stream, self.cursor) if self._wants_context else (self._stream,)
        steps = _Steps(self.drive(self.function(*arguments)), self._stream)
        self._task = self._loop.create_task(steps, context=self.variables)

    async def drive(self, running: AsyncGenerator[Any, None] | Coroutine[Any, Any, None]) -> None:
        """Runs the agent to its end. (By its frame the watchdog knows which record is worked on.)"""
        if isinstance(running, Coroutine):
            await running
            return
        take, cursor = self.results.take, self.cursor
        async for result in running:
            if cursor.index < 0 and result is not None:
                raise KStreamError(
                    f"agent {self.name!r} yielded {result!r} while it had no record: an output has the key and the "
                    "time of a record, so yield after one was taken and before the next one is asked for"
                )
            take(cursor.index, result)

    def _drained(self) -> None:
        """The agent asks for more than it was given: its batch is through."""
        batch, self._batch = self._batch, None
        if batch is not None:
            self._through(batch)
            if self._waiting:
                self._feed(self._waiting.popleft())
            elif self.when_drained is not None:
                self.when_drained()

    def _through(self, batch: Batch) -> None:
        self.cursor.batch, self.cursor.stores = None, _BETWEEN_RECORDS  # until the next batch
        try:
            self.results.release(batch)
        except BaseException as error:
            found = of_what(batch, error)
            raise found from found.__cause__
        self.emitted = self.results.emitted


class _BetweenRecords(dict[str, Any]):
    """The tables of an agent between records. What it wrote would belong to no record: no commit would
    wait for it, and after an abort nothing would do it again."""

    def __missing__(self, table: str) -> Any:
        raise TableError(
            f"table {table!r} was used between records: tables can be read and written only while a record is processed"
        )


_BETWEEN_RECORDS: dict[str, Any] = _BetweenRecords()
