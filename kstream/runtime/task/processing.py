"""What a processor, or an agent with timers, sees of the record or timer at hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kstream.errors import CodecError, KStreamError, TopologyError
from kstream.operators.batch import Batch
from kstream.runtime.task.context import Context
from kstream.specs.fields import whole_milliseconds
from kstream.specs.record import milliseconds
from kstream.specs.timers import LONGEST_NAME, TimerClock

if TYPE_CHECKING:
    from kstream.operators.process import Process
    from kstream.operators.user_processor import Timers

K = TypeVar("K")
R = TypeVar("R")

_CLOCKS = ("event", "wall")


class TimerContext(Context[K]):
    """The record or the timer at hand of an agent with timers, as `kstream.Context` has it: `key`, `timestamp` (of a
    timer, when it was due), `send`, `worker`, `metrics`. A timer has no headers and no offset. Valid only inside the
    call it was given to, or until the next record of an async agent.
    """

    __slots__ = ("processor", "raw_key", "row")

    raw_key: bytes | None
    row: int | None
    processor: Timers

    def timer(
        self,
        *,
        at: datetime | int | None = None,
        after: timedelta | None = None,
        name: str = "",
        clock: TimerClock | None = None,
    ) -> None:
        """Sets a timer of the key at hand: `on_timer` is called when it is due. A key has one timer of each name:
        setting it again moves it.

        Args:
            at: when it is due: a datetime (naive means UTC) or ms since the epoch.
            after: or so long after the time of the record or timer at hand; of the clock "wall": from now.
            name: what it is called.
            clock: "event": it fires when event time has passed it. "wall": by the clock, within a commit interval.
                None: the clock of the timer at hand, so that one which sets itself again goes on as it was; "event" at
                a record.

        Raises:
            KStreamError: the processor has no `on_timer`, an argument is none of these, `after=` counts from a record
                that has no time, or the record has no key.
        """
        self.processor.set_timer(_named(name), None if clock is None else _known(clock), *_when(at, after))

    def cancel(self, name: str = "") -> None:
        """The key's timer of this name is no more. It is no error where there is none."""
        self.processor.cancel_timer(_named(name))

    def due(self, name: str = "") -> int | None:
        """When the key's timer of this name is due, in ms since the epoch; None where there is none."""
        due = self.processor.timer_of(_named(name))
        return None if due is None else due.at

    def _row(self, batch: Batch, index: int) -> int:
        return super()._row(batch, index) if self.row is None else self.row


class ProcessorContext(TimerContext[K], Generic[K, R]):
    """The same of a processor, which gives its results by it. Valid only inside the call it was given to."""

    __slots__ = ()

    processor: Process

    def emit(self, value: R | Any, *, to: str | None = None) -> None:
        """Gives a result, with the key and the time of the record or timer. It is taken as it is now.

        Args:
            to: the side output that it goes to; None: what comes behind `process(...)`.

        Raises:
            KStreamError: there is no such side output.
            CodecError: the value cannot be written, or would not come back as it is.
        """
        self._at()
        self.processor.take(value, to)


def _named(name: object) -> str:
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        raise KStreamError(f"name={name!r} of a timer: it is text, of {LONGEST_NAME} characters at most")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise KStreamError(
                f"name={name!r} of a timer: it has half of a surrogate pair, which is not UTF-8"
            ) from None
    return name


def _known(clock: object) -> Any:
    if clock not in _CLOCKS:
        raise KStreamError(f"ctx.timer: clock={clock!r} is neither 'event' nor 'wall'")
    return clock


def _when(at: datetime | int | None, after: timedelta | None) -> tuple[int | None, int]:
    if at is None and after.__class__ is timedelta:  # by hand: dividing by a timedelta takes longer than the rest
        length, rest = after.days * 86_400_000 + after.seconds * 1000 + after.microseconds // 1000, after.microseconds
        if length > 0 and not rest % 1000:
            return None, length
    if (at is None) == (after is None):
        raise KStreamError("ctx.timer: say when it is due, by at= or after=, and by one of them")
    if at is not None:
        try:
            return milliseconds(at), 0
        except CodecError:
            raise KStreamError(
                f"ctx.timer: at={at!r} is neither a datetime nor a whole number of ms since the epoch"
            ) from None
    try:
        return None, whole_milliseconds(after, "ctx.timer: after=", least=1)
    except TopologyError as error:
        raise KStreamError(str(error)) from None
