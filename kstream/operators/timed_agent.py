"""Agents with timers: a function that is called for each record, and one that is called for each timer that is due.

Timers, and how far they have fired, are those of processors (process.py): one code for both. What is an agent's own is
what becomes of results: they are returned or yielded, and go to its topic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context as ContextVars
from functools import partial
from typing import Any, ClassVar, ParamSpec, TypeVar

from kstream.codecs import Codec
from kstream.errors import KStreamError
from kstream.operators.agent import Results, prefetch
from kstream.operators.batch import Batch
from kstream.operators.dropping import Lines
from kstream.operators.emitting import Output
from kstream.operators.fired import TimersOrigin
from kstream.operators.origin import Origin
from kstream.operators.process import Process
from kstream.operators.raised import fair
from kstream.operators.told import PASSES, ToldFailed
from kstream.operators.user_processor import ProcessorCursor, UserProcessor
from kstream.state.store import Store
from kstream.state.time import TaskTime
from kstream.state.timers import Fired, Order, TimerStore
from kstream.state.watermark import Watermark

P = ParamSpec("P")
R = TypeVar("R")

Function = tuple[Callable[..., Any], bool]
"""One of a value or timer and the context, and whether it is a generator function: it yields its results."""


class _Functions:
    """An agent as processors are to their operator (`UserProcessor`)."""

    def __init__(self, process: Callable[[Any, Any], None], on_timer: Callable[[Any, Any], None]) -> None:
        self.process, self.on_timer = process, on_timer

    def open(self, ctx: Any, /) -> None:
        return

    def close(self) -> None:
        return


class AgentTimers(Process):
    """What fires the timers of an agent.

    Args:
        on_timer: the agent's function for timers.
        ctx: of that one.
        process: the one for records, where they come here: an async agent is given its own.
        tables: that it uses.
        variables: in which `on_timer` is called, where it may be while another context is at hand.
    """

    kind: ClassVar[str] = "agent"

    def __init__(
        self,
        name: str,
        on_timer: Function,
        ctx: ProcessorCursor,
        key_codec: Codec[Any],
        results: Results,
        timers: TimerStore,
        time: Watermark | None,
        wall: TaskTime | None,
        lines: Lines,
        *,
        process: Function | None = None,
        tables: Sequence[Store[Any]] = (),
        variables: ContextVars | None = None,
    ) -> None:
        self.results, self._tables = results, list(tables)
        fires = self._calls(on_timer) if variables is None else _within(variables, self._calls(on_timer))
        records = _come_elsewhere if process is None else self._calls(process)

        def make() -> UserProcessor:
            return _Functions(records, fires)

        none: dict[str | None, Output] = {None: Output(key_codec, name)}  # what it puts out goes by `results`
        super().__init__(name, make, ctx, key_codec, none, (), timers, time, wall, lines)

    def _calls(self, function: Function) -> Callable[[Any, Any], None]:
        """What calls it, and takes its results."""
        given, many = function
        return partial(_take_all if many else _take_one, given, self.take)

    def take(self, value: Any, to: str | None = None) -> None:
        self.results.take(self._ctx.index if self._place is None else self._place, value)

    def _timers_of(self, call: str) -> TimerStore:
        if self._ctx.batch is not None and self._ctx.raw_key is None:
            raise KStreamError(f"ctx.{call}: this record has no key, and a timer belongs to one (agent {self.name!r})")
        return super()._timers_of(call)

    def _tell(self, fired: list[Fired], behind: TimersOrigin) -> None:
        if not self.results:
            return
        codec = self._key_codec
        batch = Batch(
            len(fired), codec, codec, origin=behind, raw_keys=[one.key for one in fired],
            timestamps=[one.timer.at for one in fired],
        )  # fmt: skip
        try:
            self.results.release(batch)
        except BaseException as raised:  # of which timer is seen where they fire one at a time
            if isinstance(error := fair(raised), PASSES):
                raise
            raise behind.blamed(0, error) if len(fired) == 1 else ToldFailed(self.teller, None, None, error) from error
        self.emitted = self.results.emitted

    def _forget(self) -> None:
        super()._forget()
        self.results.reset()

    def take_back(self) -> bool:
        self.results.emitted = self._kept
        return super().take_back()

    # ---- what an async agent asks of it

    @property
    def now(self) -> int:
        """The time of the task."""
        assert self._time is not None
        return self._time.now

    @property
    def events(self) -> Order:
        """Its timers of event time. None is due before its `next`."""
        assert self._timers is not None
        return self._timers.events

    def is_due_by(self, time: int) -> bool:
        """Whether a timer of event time fires before a record at this time of the task."""
        return time > self.events.next and self._is_due(time)

    def fire(self, time: int, origin: Origin | None) -> None:
        """Fires what is due before this event time."""
        self._fire(time, origin)

    def fire_wall(self, origin: Origin | None, row: int) -> None:
        """Fires what is due by the clock, before the record at this row of the origin."""
        self._fire_wall(origin, row)

    def at_record(
        self, batch: Batch, index: int, times: Sequence[int], call: Callable[P, R], *args: P.args, **named: P.kwargs
    ) -> R:
        """What a context is asked for (`set_timer` and the others), at this record.

        Args:
            times: of the task, at each record of the batch.
        """
        ctx = self._ctx
        ctx.batch, ctx.index, self._times = batch, index, times
        ctx.raw_key = batch.encoded_keys(self._key_codec)[index]
        try:
            return call(*args, **named)
        finally:
            ctx.batch = ctx.raw_key = None


class TimedFunctionAgent(AgentTimers):
    """A plain function, or a generator function, of one value."""

    def push(self, batch: Batch) -> None:
        prefetch(self._tables, batch)
        super().push(batch)

    def _keyed(self, batch: Batch, key_codec: Codec[Any]) -> tuple[Batch, list[bytes | None]]:
        """An agent is given records without a key, too."""
        return batch, batch.encoded_keys(key_codec)

    def _records(self, user: UserProcessor, batch: Batch, keys: list[bytes], start: int) -> int:
        stop = super()._records(user, batch, keys, start)
        self.results.release(batch)
        self.emitted = self.results.emitted
        return stop


def _take_one(function: Callable[..., Any], take: Callable[[Any], None], value: Any, ctx: Any) -> None:
    take(function(value, ctx))


def _take_all(function: Callable[..., Any], take: Callable[[Any], None], value: Any, ctx: Any) -> None:
    for result in function(value, ctx):
        take(result)


def _within(variables: ContextVars, call: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def called(timer: Any, ctx: Any) -> None:
        variables.run(call, timer, ctx)

    return called


def _come_elsewhere(value: Any, ctx: Any) -> None:
    raise AssertionError
