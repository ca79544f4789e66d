"""Async agents with timers.

A timer fires between two records of the agent: when it asks for a record before which one is due, or when it has none.
Then it is suspended, and what its timers do can meet nothing that it is in the middle of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

from kstream.errors import KStreamError
from kstream.operators.agent import prefetch
from kstream.operators.async_agent import AgentStream, AsyncAgent, K, V
from kstream.operators.batch import Batch
from kstream.operators.closing import Closing, task_times
from kstream.operators.origin import Origin
from kstream.operators.timed_agent import AgentTimers
from kstream.operators.told import Telling
from kstream.operators.turns import turn
from kstream.specs.timers import Due, TimerClock
from kstream.state.timers import Order


class TimedStream(AgentStream[K, V]):
    """A batch ends for the agent where a timer is due before the next record.

    Attributes:
        alarms: what knows that. None is due before the `next` of its `order`.
        times: of the task, at each record of the batch.
        place: of the record that the agent asked for last.
    """

    alarms: AgentTimers
    order: Order
    times: Sequence[int] = ()
    place = 0

    async def _next(self) -> V:
        cursor = self._cursor
        index = cursor.index + 1
        while index >= len(self._values) or (
            self.times[index] > self.order.next and self.alarms.is_due_by(self.times[index])
        ):
            self.place = index
            await self._next_batch()
            index = 0
        cursor.index = index
        return self._values[index]


class TimedAsyncAgent(AsyncAgent, Closing, Telling):
    """What comes while the agent is at its batch (batches, and time that goes on) waits, in order.

    Args:
        alarms: what fires its timers.
    """

    stream_kind: ClassVar[type[AgentStream[Any, Any]]] = TimedStream

    def __init__(self, *args: Any, alarms: AgentTimers, **named: Any) -> None:
        super().__init__(*args, **named)
        self.alarms, self.teller = alarms, alarms.teller
        self._times: Sequence[int] = ()  # of the task, at each record of the batch at hand
        self._jobs: deque[Callable[[], None]] = deque()
        self._failure: BaseException | None = None  # of a timer, while the agent asked for a record

    # ---- records

    def push(self, batch: Batch) -> None:
        if not batch.size:
            return
        prefetch(self.stores, batch)
        self.start()
        self._jobs.append(partial(self.alarms.fire_wall, batch.origin, batch.row(0)))
        self._jobs.append(partial(self._give, batch, task_times(batch, self.alarms.now)))
        if self._batch is None:
            self._go_on()
            turn(self._loop)
            _ = self.busy

    def start(self) -> None:
        is_new = self._task is None
        super().start()
        if is_new:
            self._timed_stream.alarms, self._timed_stream.order = self.alarms, self.alarms.events

    @property
    def _timed_stream(self) -> TimedStream[Any, Any]:
        return cast("TimedStream[Any, Any]", self._stream)

    def _give(self, batch: Batch, times: Sequence[int]) -> None:
        """The agent's next batch, after what is due before its first record."""
        if self.alarms.is_due_by(times[0]):
            self.alarms.fire(times[0], batch.origin)
        self._timed_stream.times = self._times = times
        self._feed(batch)

    def _go_on(self) -> bool:
        """Does what waits, until the agent has a batch. Returns whether it has none."""
        try:
            while self._jobs and self._batch is None:
                self._jobs.popleft()()
        except BaseException as error:  # the agent may be the caller, and is not what failed
            self._failure = error
        self.emitted = self.results.emitted
        return self._batch is None

    def _drained(self) -> None:
        """The agent asks for a record: its batch is through, or as far as a timer is due."""
        batch, times = self._batch, self._times
        if batch is None:
            return
        self._batch = None
        self._through(batch)
        place = self._timed_stream.place
        if place < batch.size:
            self._jobs.appendleft(partial(self._give, batch.cut(place, batch.size), times[place:]))
        if self._go_on() and self.when_drained is not None:
            self.when_drained()

    @property
    def busy(self) -> bool:
        if self._failure is not None:
            failure = self._failure
            self.close()
            raise failure
        return super().busy

    # ---- time

    def time_passed(self, origin: Origin | None) -> None:
        self._jobs.append(partial(self.alarms.fire, self.alarms.now, origin))
        self._when_idle()

    def flush(self) -> None:
        self._jobs.append(self.alarms.flush)
        self._when_idle()

    def _when_idle(self) -> None:
        if self._batch is None:
            self._go_on()
            _ = self.busy

    def closes_by(self, time: int) -> bool:
        return self.alarms.closes_by(time)

    # ---- what the context is asked for

    def set_timer(self, name: str, clock: TimerClock | None, at: int | None, after: int) -> None:
        self.alarms.at_record(*self._at_hand("timer"), self.alarms.set_timer, name, clock, at, after)

    def cancel_timer(self, name: str) -> None:
        self.alarms.at_record(*self._at_hand("cancel"), self.alarms.cancel_timer, name)

    def timer_of(self, name: str) -> Due | None:
        return self.alarms.at_record(*self._at_hand("due"), self.alarms.timer_of, name)

    def _at_hand(self, call: str) -> tuple[Batch, int, Sequence[int]]:
        if self._batch is None or self.cursor.index < 0:
            raise KStreamError(
                f"ctx.{call}: agent {self.name!r} has no record now, and a timer belongs to the key of one"
            )
        return self._batch, self.cursor.index, self._times

    # ---- the end of a batch, and of a transaction

    def keep(self) -> None:
        self.emitted = self.results.emitted  # with what timers put out since
        super().keep()
        self.alarms.keep()

    def take_back(self) -> bool:
        self.alarms.take_back()
        return super().take_back()

    def reset(self) -> None:
        super().reset()
        self.alarms.reset()

    def committed(self) -> None:
        self.emitted = self.results.emitted
        super().committed()
        self.alarms.committed()

    def close(self) -> None:
        super().close()
        self._jobs.clear()
        self._failure = None
