"""The start of a chain: a fetch becomes a batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from operator import length_hint
from typing import Any, Final

from msgspec import UNSET

from kstream.codecs import ColumnError, JsonBounds, decode_column, is_nullable
from kstream.errors import text_of
from kstream.operators.base import Operator, Waiting
from kstream.operators.batch import Batch
from kstream.operators.bounds import NONE, Bounds, check_values
from kstream.operators.closing import Closing
from kstream.operators.marks import Marks
from kstream.operators.origin import Origin
from kstream.operators.raised import readable
from kstream.specs.topic import Topic
from kstream.specs.ttl import FOREVER
from kstream.state.time import TaskTime
from kstream.state.watermark import UNKNOWN, Watermark
from kstream.types import Fetch

log = logging.getLogger(__name__)

SECONDS: Final = 10**9, 10**10
"""Times from 2001 to 2286 in seconds; as ms they are of the first months of 1970."""

_told: set[str] = set()  # topics


def _warn_of_seconds(topic: str, at: int) -> None:
    """Windows would be of a thousand times as much time as they say, and nothing else would show it."""
    if topic not in _told:
        _told.add(topic)
        log.warning(
            "timestamp= of topic %r gives %d, which as ms since the epoch is %s: if these are seconds, give it a "
            "function that multiplies them by 1000",
            topic, at, datetime.fromtimestamp(at // 1000, UTC).date(),
        )  # fmt: skip


class Source(Operator):
    """A record that is not within `bounds` fails. `time` and `watermark` are moved on by event times, where these are
    wanted. Where only the order of inputs goes by them (`ordered`), one that is too far ahead of the clock does not
    fail, and counts as the earliest."""

    traceless = True

    def __init__(
        self, topic: Topic[Any, Any], bounds: Bounds = NONE, time: TaskTime | None = None,
        watermark: Watermark | None = None, ordered: TaskTime | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._ordered = ordered
        self.topic, self._bounds, self._time, self._watermark = topic, bounds, time, watermark
        self.waiting: list[Waiting] = []  # for the end of a batch, parents first
        self.windows: list[Closing] = []  # those that go by its time
        self.origin: Origin | None = None  # of the fetch that was pushed last
        self.due_first: Callable[[Sequence[int]], None] | None = None  # raises DueFirst (see runtime/task/overdue.py)
        self.leave_out: Callable[[int, BaseException], bool] | None = None  # see Origin: of the next fetch

    @property
    def at_fault(self) -> int | None:
        """The row of the fetch that was pushed last on which something failed, where that is known."""
        return None if self.origin is None else self.origin.at_fault

    def timestamps(self, fetch: Fetch) -> list[int]:
        """Event times in ms, without a batch: what inputs are ordered by."""
        topic = self.topic
        if topic.timestamp is None:
            return self._plausible(fetch.timestamps())
        raw, json = self._values(fetch)
        if json is not None and (found := json.outside(topic.value.codec, raw)) is not None:
            raise found[1]
        return self._plausible(self._event_times(decode_column(topic.value.codec, raw), fetch))

    def _plausible(self, times: list[int]) -> list[int]:
        return times if self._ordered is None else self._ordered.plausible(times)

    def push_fetch(self, fetch: Fetch, places: Sequence[int] | None = None) -> None:
        """See Origin for the places: `leave_out` is asked by them."""
        if isinstance(fetch, Marks):
            self._heard(fetch)
            return
        topic = self.topic
        self.origin = origin = Origin(fetch, bounds=self._bounds, topic=topic.name)
        raw, json = self._values(fetch)
        batch = Batch(len(fetch), topic.key.codec, topic.value.codec, origin=origin, raw_values=raw, json=json)
        if topic.timestamp is not None:
            values = batch.values
            try:
                times = self._event_times(values, fetch)
            except ColumnError as error:
                batch.blame(error.index)
                raise
            self.origin = batch.origin = origin = Origin(fetch, times, self._bounds, topic.name)
        origin.leave_out = leave_out = self.leave_out
        if places is not None:
            origin.places = places
            origin.leave_out = leave_out and (lambda row, error: leave_out(places[row], error))
        if self._time is not None:
            try:
                origin.times = self._time.running(origin.timestamps)
            except ColumnError as error:
                batch.blame(error.index)
                raise
        if self._watermark is not None:
            origin.watermarks = self._watermark.running(topic.name, self._plausible(origin.timestamps))
            if self.due_first is not None:
                self.due_first(origin.watermarks)
        self.emit(batch)
        self._through(origin)

    def passed(self, fetch: Fetch) -> None:
        """A record is left out: time is moved on by it all the same, as it is where it fails within its batch. Not by
        one that has no time, or none that can be."""
        if isinstance(fetch, Marks):
            self._hear(fetch)
            return
        with suppress(Exception):  # it is left out, perhaps for that
            times = self.timestamps(fetch)
            if self._time is not None:
                self._time.running(times)
            if self._watermark is not None:
                now = self._watermark.running(self.topic.name, times)[-1]
                for windows in self.windows:
                    windows.left_out(now)

    def time_passed(self) -> None:
        """Time has gone on by itself."""
        self._through(None)

    def _heard(self, marks: Marks) -> None:
        """The tasks before have said what time it is there."""
        self.origin = None
        self._hear(marks)
        self._through(None)

    def _through(self, origin: Origin | None) -> None:
        """A batch is through all ways. Where ways meet windows close behind what was held there, and what those put out
        that lie before is held there, too."""
        for one in self.waiting:
            one.through(origin)

    def _hear(self, marks: Marks) -> None:
        if self._watermark is None:
            return
        for said, offset, at in zip(marks.said, marks.offsets(), marks.timestamps(), strict=True):
            *_, last = said.all
            old = self._watermark.is_old(marks.at.topic, offset, at)
            for mark in said.all:
                meanwhile = UNKNOWN if mark.meanwhile is UNSET else mark.meanwhile
                self._watermark.heard(
                    marks.at.topic, mark.task, mark.time, meanwhile, at_end=mark.at_end is True,
                    more=mark is not last, old=old,
                )  # fmt: skip

    def _values(self, fetch: Fetch) -> tuple[list[bytes | None], JsonBounds | None]:
        """And the bounds they are to be held to, where one of them may be beyond."""
        values = fetch.values()
        return values, self._bounds.json_beyond(check_values(fetch, values, self._bounds.size))

    def _event_times(self, values: Sequence[Any], fetch: Fetch) -> list[int]:
        """Those of the values; a tombstone has that of its record, and 0 where that has none.

        Raises:
            ColumnError: a record has none, or one that cannot be.
        """
        time_of: Any = self.topic.timestamp
        left = iter(values)
        try:
            if is_nullable(self.topic.value.codec):
                pairs = zip(left, fetch.timestamps(), strict=True)
                times = [max(own, 0) if value is None else time_of(value) for value, own in pairs]
            else:
                times = list(map(time_of, left))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the function raises, `sys.exit` too
            index = len(values) - length_hint(left) - 1
            text = f"timestamp= of topic {self.topic.name!r}: {type(error).__name__}: {text_of(error)}"
            error = readable(error)
            raise ColumnError(text, index, reading=True) from (error.__cause__ or error)
        if times and SECONDS[0] <= times[0] < SECONDS[1]:
            _warn_of_seconds(self.topic.name, times[0])
        if times and not (min(times) >= 0 and max(times) < FOREVER):
            index = next(index for index, at in enumerate(times) if not 0 <= at < FOREVER)
            raise ColumnError(
                f"timestamp= of topic {self.topic.name!r} is {times[index]}: event times are ms since the epoch, "
                f"from 0 to {FOREVER - 1}",
                index,
                reading=True,
            )
        return times
