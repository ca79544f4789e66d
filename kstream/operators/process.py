"""A processor of the user's: it is given each record, with what it keeps of the record's key, and timers when due."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

from kstream.codecs import Codec
from kstream.errors import KStreamError
from kstream.operators.base import Push
from kstream.operators.batch import Batch
from kstream.operators.closing import Closing, TooManyDue, task_times
from kstream.operators.dropping import Dropping, Lines
from kstream.operators.emitting import Output
from kstream.operators.fired import TimersOrigin
from kstream.operators.origin import Origin
from kstream.operators.raised import fair
from kstream.operators.skips import Skips
from kstream.operators.told import AT_ONCE, Teller, Telling
from kstream.operators.user_processor import PASSES, ProcessorCursor, UserProcessor, closed, opened
from kstream.specs.timers import Due, TimerClock
from kstream.specs.ttl import FOREVER
from kstream.state.store import Store
from kstream.state.time import TaskTime
from kstream.state.timers import Fired, TimerStore
from kstream.state.watermark import Watermark


class Process(Dropping, Closing, Telling):
    """Calls a user's processor for each record, and for each timer that is due.

    A timer of event time fires when the time of the task has passed it, before the record that moved time there: a
    batch is cut in such places, so how the input was cut does not show. As in Flink, one that is set for a time that
    has passed already fires when time goes on next, and what timers set while they fire belongs to those that fire.
    Timers of the wall clock fire before a batch, and before a commit.

    Args:
        make: makes the user's processor, which finds its state by the context.
        ctx: the context, for all calls.
        outputs: its ways out, by name; None is the first.
        stores: of its state; each has the key of the record.
        timers: None where it has none.
        time: of the task; `wall` has the clock.
    """

    kind: ClassVar[str] = "processor"
    """What it is, for messages."""

    def __init__(
        self,
        name: str,
        make: Callable[[], UserProcessor],
        ctx: ProcessorCursor,
        key_codec: Codec[Any],
        outputs: dict[str | None, Output],
        stores: Sequence[Store[Any]],
        timers: TimerStore | None,
        time: Watermark | None,
        wall: TaskTime | None,
        lines: Lines,
    ) -> None:
        super().__init__(lines)
        self.name, self._make, self._ctx, self._key_codec = name, make, ctx, key_codec
        self._outputs, self._stores, self._timers, self._time, self._wall = outputs, stores, timers, time, wall
        ctx.processor = self
        self.teller = Teller(f"the result of a timer of {self.kind} {name!r}", key_codec)
        self._user: UserProcessor | None = None
        self._times: Sequence[int] = ()  # of the task, at each record of the batch at hand
        self._place: int | None = None  # of the timer at hand, among those that fire
        self._clock: TimerClock = "event"  # of that
        self._spoilt: tuple[int, Exception] | None = None  # see `spoil`
        self._reached: int | None = None  # timers before are fired; None: as far as the last commit says
        self._kept_reached: int | None = None
        self.skipped = Skips()  # timers that a policy leaves out
        self.stepwise = False  # time goes on by pieces, however many are due
        self.rests_until = 0.0  # no timer fires before (monotonic): one has failed, and is tried again then

    def side(self, name: str) -> list[Push]:
        """The children of a side output."""
        return self._outputs[name].children

    # ---- records

    def push(self, batch: Batch) -> None:
        user = self._user or self._opened()
        batch, keys = self._keyed(batch, self._key_codec)
        if not batch.size:
            return
        for store in self._stores:
            store.batch_keys = keys
            store.load(keys)
        if self._timers is None:
            self._records(user, batch, cast("list[bytes]", keys), 0)
            return
        self._fire_wall(batch.origin, batch.row(0))
        assert self._time is not None
        self._times, start = task_times(batch, self._time.now), 0
        while (start := self._records(user, batch, cast("list[bytes]", keys), start)) < batch.size:
            self._fire(self._times[start], batch.origin)

    def _records(self, user: UserProcessor, batch: Batch, keys: list[bytes], start: int) -> int:
        """Processes the records from `start` on, up to one before which a timer is due. Returns where that is."""
        ctx, process, values, stop = self._ctx, user.process, batch.values, batch.size
        index = start
        ctx.batch = batch
        try:
            if self._timers is None:
                for index in range(start, stop):
                    ctx.index, ctx.raw_key = index, keys[index]
                    if process(values[index], ctx) is not None:
                        raise self._returned()
            else:
                events, times = self._timers.events, self._times
                for index in range(start, stop):
                    if times[index] > events.next and self._is_due(times[index]):
                        stop = index
                        break
                    ctx.index, ctx.raw_key = index, keys[index]
                    if process(values[index], ctx) is not None:
                        raise self._returned()
            if self._spoilt is not None:
                index, error = self._spoilt
                raise error
        except BaseException:
            batch.blame(index)
            self._spoilt = None
            raise
        finally:
            ctx.batch = ctx.raw_key = None
        for output in self._outputs.values():
            if output.values:
                raw, places = output.taken()
                out = batch if places == list(range(batch.size)) else batch.at(places)
                self._pass_on(output, out.with_encoded_values(raw, output.codec))
        return stop

    def _returned(self) -> KStreamError:
        return KStreamError(f"process of processor {self.name!r} returned a value, which goes nowhere: ctx.emit(value)")

    def _pass_on(self, output: Output, batch: Batch) -> None:
        output.check(batch)
        if output is self._outputs[None]:
            self.emit(batch)
        else:
            output.emit(batch)

    # ---- what the context is asked for

    def take(self, value: Any, to: str | None) -> None:
        """A result. Raises KStreamError where there is no such way out, CodecError where it cannot be written."""
        output = self._outputs.get(to)
        if output is None:
            raise KStreamError(
                f"ctx.emit(to={to!r}): processor {self.name!r} has no such side output: declare it behind "
                f"process(...), as side({to!r}, value=...)"
            )
        output.take(self._ctx.index if self._place is None else self._place, value)

    def spoil(self, error: Exception) -> None:
        """State of the key at hand may be half changed: the record or timer fails, even where the user's code goes on
        after the error."""
        if self._spoilt is None:
            self._spoilt = self._ctx.index, error

    def set_timer(self, name: str, clock: TimerClock | None, at: int | None, after: int) -> None:
        """For the key at hand.

        Args:
            clock: None: that of the timer at hand, and of event time at a record.
            at: ms since the epoch; None: `after` ms from now, or from the time of the record or timer at hand.

        Raises:
            KStreamError: the processor has no on_timer, or that is no time.
        """
        timers, ctx = self._timers_of("timer"), self._ctx
        if clock is None:
            clock = "event" if self._place is None else self._clock
        if at is None:
            assert ctx.batch is not None and self._wall is not None
            now = ctx.batch.timestamps[ctx.index] if clock == "event" else self._wall.wall
            if now < 0:
                raise KStreamError(
                    "ctx.timer: after= counts from the time of the record, and this one has none: say at=, or "
                    "clock='wall'"
                )
            at = after + now
        if not 0 < at < FOREVER:
            raise KStreamError(f"ctx.timer: {at} is no time of a timer: ms since the epoch, from 1 to {FOREVER - 1}")
        if clock == "event" and self._place is None and at < (now := self._times[ctx.index]):
            self._reached = max(self.reached, now)  # until time goes on
        timers.set(cast("bytes", ctx.raw_key), name, Due(clock, at))

    def cancel_timer(self, name: str) -> None:
        self._timers_of("cancel").cancel(cast("bytes", self._ctx.raw_key), name)

    def timer_of(self, name: str) -> Due | None:
        return self._timers_of("due").of(cast("bytes", self._ctx.raw_key), name)

    def _timers_of(self, call: str) -> TimerStore:
        if self._timers is None:
            raise KStreamError(f"ctx.{call}: processor {self.name!r} has no on_timer(self, timer, ctx): define it")
        if self._ctx.raw_key is None:
            raise KStreamError(f"ctx.{call}: use it in process() and on_timer(): a timer belongs to a key")
        return self._timers

    # ---- timers

    @property
    def reached(self) -> int:
        """Timers of event time before this are fired."""
        assert self._time is not None
        return self._time.committed_now if self._reached is None else self._reached

    def _is_due(self, time: int) -> bool:
        return time > self.reached and self.due_by(time) is not None and not self.rests

    def is_due(self) -> bool:
        """Whether a timer is, without a record, so that a commit is worth while."""
        if self._timers is None or self._time is None or self.rests:
            return False
        return self._timers.is_due("wall", self._wall_now + 1) or self._is_due(self._time.now)

    @property
    def _wall_now(self) -> int:
        assert self._wall is not None
        return self._wall.wall

    @property
    def rests(self) -> bool:
        """A timer or what one put out has failed, and none fires until it is tried again."""
        until, wall = max(self.rests_until, self.teller.rests_until), self._wall
        return until > 0 and wall is not None and wall.clock.monotonic() < until

    @property
    def has_timers(self) -> bool:
        return self._timers is not None

    def has_many_due(self, before: int) -> bool:
        """Whether more timers of event time are due before this time than fire in a row."""
        timers = self._timers
        if timers is None or before <= timers.events.next or before <= self.reached or self.rests:
            return False
        return timers.has_more_due(AT_ONCE, before)

    def closes_by(self, time: int) -> bool:
        return self._timers is not None and self._timers.is_due("event", time)

    def due_by(self, before: int) -> int | None:
        """When its first timer of event time is due, where that is before this time."""
        timers = self._timers
        return timers.events.next if timers is not None and timers.is_due("event", before) else None

    def fire_some(self, before: int, most: int) -> int:
        """Fires what is due before this time, so many at most, ahead of the task's time. Returns how many."""
        return 0 if self.due_by(before) is None else self._fire_all("event", before, None, None, most)

    def time_passed(self, origin: Origin | None) -> None:
        if self._timers is not None and self._time is not None:
            self._fire(self._time.now, origin)

    def _fire(self, now: int, origin: Origin | None) -> None:
        """Fires what is due before `now`. What it emits is caused by the records that moved time there."""
        if now <= self.reached:
            return
        if self.rests:
            self._reached = self.reached  # a commit that comes meanwhile says more
            return
        if self._timers is not None and self._timers.events.next < now:
            self._fire_all("event", now, origin, None)
        self._reached = now

    def _fire_wall(self, origin: Origin | None, row: int | None) -> None:
        if self._timers is not None and not self.rests and self._timers.is_due("wall", self._wall_now + 1):
            self._fire_all("wall", self._wall_now + 1, origin, row)

    def _fire_all(
        self, clock: TimerClock, before: int, origin: Origin | None, row: int | None, most: int | None = None
    ) -> int:
        """Args:
        row: of the record that comes next; None: it is the one that moved time to where the timer is due.
        most: that fire, where the others can wait. Raises TooManyDue where they cannot.
        """
        user = self._user or self._opened()
        assert self._timers is not None
        fired: list[Fired] = []
        rows: list[int] = []
        behind, last, count = self._behind(fired, origin, rows), 0, 0
        try:
            while (one := self._timers.pop(clock, before)) is not None:
                if self.skipped and self.skipped.takes(one.entry):
                    continue
                if origin is not None:
                    if row is None:
                        due = bisect_right(origin.watermarks, max(one.timer.at, self.reached))
                        last = max(last, min(due, len(origin.watermarks) - 1))
                    else:
                        last = row
                    rows.append(last)
                fired.append(one)
                self._call(user, one, behind, last if origin is not None else None)
                count += 1
                if count >= (most or AT_ONCE):
                    if clock == "wall" or most or not self._timers.is_due(clock, before):
                        break
                    if not self.stepwise:
                        key, timer = self.teller.shown(one.key), one.timer
                        raise TooManyDue(self.kind, self.name, key, timer.name, timer.at, before)
                    count = 0
                if not count or self.teller.singly:
                    self._tell(fired, behind)
                    behind = self._behind(fired := [], origin, rows := [])
        finally:
            self._place = self._ctx.batch = self._ctx.raw_key = self._ctx.row = None
        self._tell(fired, behind)
        return count

    def _behind(self, fired: list[Fired], origin: Origin | None, rows: list[int]) -> TimersOrigin:
        return TimersOrigin(self.kind, self.name, self.teller, fired, origin, rows)

    def _call(self, user: UserProcessor, one: Fired, behind: TimersOrigin, row: int | None) -> None:
        ctx, at, place = self._ctx, one.timer.at, len(behind.fired) - 1
        ctx.batch = Batch(
            1, self._key_codec, self._outputs[None].codec, origin=behind, rows=(place,), raw_keys=[one.key],
            timestamps=[at],
        )  # fmt: skip
        ctx.index, ctx.raw_key, ctx.row, self._place, self._clock = 0, one.key, row, place, one.timer.clock
        try:
            user.on_timer(one.timer, ctx)
            if self._spoilt is not None:
                raise self._spoilt[1]
        except BaseException as raised:
            if isinstance(error := fair(raised), PASSES):
                raise
            self._spoilt = None
            raise behind.blamed(place, error) from error

    def _tell(self, fired: list[Fired], behind: TimersOrigin) -> None:
        """Passes on what these timers have emitted."""
        origin = behind.moved
        for output in self._outputs.values():
            if not output.values:
                continue
            raw, places = output.taken()
            keys, stamps = [fired[place].key for place in places], [fired[place].timer.at for place in places]
            rows = None if origin is None else [behind.rows[place] for place in places]
            self.teller.tell_encoded(output.codec, keys, raw, stamps, origin, rows, partial(self._pass_on, output))

    # ---- the user's processor

    def _opened(self) -> UserProcessor:
        self._user = user = opened(self._make, self._ctx, self.name)
        return user

    def close(self) -> None:
        super().close()
        user, self._user = self._user, None
        if user is not None:
            closed(user, self.name)

    # ---- the end of a batch, and of a transaction

    def flush(self) -> None:
        super().flush()
        if self._timers is not None and self._time is not None:
            self._fire_wall(None, None)
            self._fire(self._time.now, None)

    def keep(self) -> None:
        super().keep()
        for output in self._outputs.values():
            output.keep()
        self._kept_reached = self._reached
        self.skipped.keep()

    def take_back(self) -> bool:
        self._reached = self._kept_reached
        self.skipped.take_back()
        self._forget()
        for output in self._outputs.values():
            output.take_back()
        return super().take_back()

    def reset(self) -> None:
        super().reset()
        self._reached = self._kept_reached = None
        self.skipped.reset()
        self._forget()

    def committed(self) -> None:
        super().committed()
        self.skipped.committed()

    def _forget(self) -> None:
        self._spoilt = None
        for output in self._outputs.values():
            output.forget()
