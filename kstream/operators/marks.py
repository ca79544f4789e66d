"""How time goes through repartition topics: records that say what time it is in the task that writes them.

At each commit the tasks of a worker whose time went on write one to each partition, behind what they wrote there, in
the same transaction: no key, no value, and a header, which is JSON:

    kstream.watermark: {"v":1,"task":3,"time":1769860800000,"others":[{"v":1,"task":4,"time":1769860799000}]}

One for all of them: with one for each, an idle app of 64 partitions would write 64 x 64 each time.

So a partition's time is the least that all tasks before it have said. Kafka Streams takes the largest timestamp seen,
by which records of a slower partition are late whenever an app catches up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec
from msgspec.structs import replace

from kstream.operators.base import Outlet, send_one
from kstream.operators.wrapping import Wrapping
from kstream.specs.stored import TIME_MARKS, number_in
from kstream.state.watermark import IDLE, UNKNOWN, Watermark
from kstream.types import Fetch, Headers

HEADER: Final = "kstream.watermark"
TOGETHER: Final = 1000
"""Tasks that one record speaks for at most: some 60 KiB."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a task says.

    Attributes:
        task: its partition.
        time: in ms since the epoch; IDLE: it waits for nothing, and holds nobody back.
        meanwhile: of IDLE, what time it is all the same, where there is any.
        at_end: it has processed all that there is, and so have those before it.
        others: what tasks beside it say, which were committed with it.
    """

    v: int = TIME_MARKS.number
    task: int
    time: int
    meanwhile: int | msgspec.UnsetType = msgspec.UNSET
    at_end: bool | msgspec.UnsetType = msgspec.UNSET
    others: Sequence[Mark] | msgspec.UnsetType = msgspec.UNSET

    @property
    def all(self) -> Sequence[Mark]:
        """What it and the others say."""
        return (self,) if self.others is msgspec.UNSET else (self, *self.others)


_decode = msgspec.json.Decoder(Mark).decode


def mark_of(headers: Headers | None) -> Mark | None:
    """What a record says of time; None of one that is data."""
    if not headers or headers[-1][0] != HEADER:
        return None
    said = headers[-1][1] or b""
    try:
        return _decode(said)
    except msgspec.MsgspecError:
        found = number_in(said)
        return Mark(v=found, task=-1, time=UNKNOWN) if found > TIME_MARKS.number else None


class Marks(Wrapping):
    """A `types.Fetch` of nothing but marks."""

    __slots__ = ("said",)

    def __init__(self, fetch: Fetch, said: Sequence[Mark]) -> None:
        super().__init__(fetch)
        self.said = said

    def cut(self, start: int, stop: int) -> Marks:
        return Marks(self._fetch.cut(start, stop), self.said[start:stop])

    @property
    def refusal(self) -> str | None:
        """Why they cannot be read: of the first that a later version wrote."""
        for row, mark in enumerate(self.said):
            if mark.v > TIME_MARKS.number:
                return TIME_MARKS.refusal(f"the record of {self.at} at offset {self.offsets()[row]}", mark.v)
        return None


def apart(fetch: Fetch) -> Iterator[Fetch]:
    """Data and marks, in their order."""
    keys = fetch.keys()
    if None not in keys:  # most fetches: nothing else is looked at
        yield fetch
        return
    marks = [mark_of(headers) if key is None else None for key, headers in zip(keys, fetch.headers(), strict=True)]
    start = 0
    for is_mark, run in groupby(marks, key=lambda mark: mark is not None):
        said = list(run)
        part = fetch.cut(start, start + len(said))
        yield Marks(part, [mark for mark in said if mark is not None]) if is_mark else part
        start += len(said)


def write(outlet: Outlet, topic: str, partitions: int, said: Sequence[Mark], stamp: int) -> None:
    """Writes what tasks say to each partition of a topic, behind all that the transaction has of them. Raises as
    `send_one`.

    Args:
        stamp: the time that the marks have as records, in ms.
    """
    for start in range(0, len(said), TOGETHER):
        first, *others = said[start : start + TOGETHER]
        together = replace(first, others=others) if others else first
        headers = [(HEADER, msgspec.json.encode(together))]
        for partition in range(partitions):
            send_one(outlet, topic, None, None, stamp, headers, partition)


class TimeWriter:
    """What a task says of its time to repartition topics, with each commit before which it changed.

    Args:
        topics: with the number of their partitions.
        task: its partition.
        hold: ms by which what it says stays behind, for windows that give their results so long after their end.
        waits: whether its operators still have something to tell when time has gone on.
    """

    def __init__(
        self,
        topics: Mapping[str, int],
        task: int,
        hold: int,
        watermark: Watermark,
        waits: Callable[[], bool],
    ) -> None:
        self.topics, self._task, self._hold = topics, task, hold
        self._watermark, self._waits = watermark, waits
        self._said: Mark | None = None
        self._saying: Mark | None = None

    def _mark(self, *, at_end: bool) -> Mark | None:
        """What there is to say."""
        mark, task = self._watermark, self._task
        time = None if mark.now == UNKNOWN else max(0, mark.now - self._hold)
        if mark.idle and mark.target <= mark.now:
            if time is None:
                return Mark(task=task, time=IDLE)
            # with its time, which those behind it may not have heard: it commits late, or they were started anew
            if not mark.goes_by_clock or not self._waits():
                return Mark(task=task, time=IDLE, meanwhile=time)
        if at_end:  # it may be that there was never anything
            return Mark(task=task, time=UNKNOWN if time is None else time, at_end=True)
        return None if time is None else Mark(task=task, time=time)

    def has_to_say(self, *, at_end: bool) -> bool:
        """Whether it is through, and has not said so."""
        said = self._saying
        return at_end and (said is None or (said.at_end is not True and said.time != IDLE))

    def tell(self, *, at_end: bool = False) -> Mark | None:
        """What it says with the commit that is made now; None: nothing new.

        Args:
            at_end: it has processed all that there is.
        """
        mark = self._mark(at_end=at_end)
        if mark is None or mark == self._saying:
            return None
        self._saying = mark
        return mark

    def repeat(self) -> bool:
        """Says again with the next commit that it is idle or through, where it is. Returns whether it does."""
        at_end = self._said is not None and self._said.at_end is True
        if not self._watermark.idle and not at_end:
            return False
        self._saying = None
        return True

    def committed(self) -> None:
        self._said = self._saying

    def rewind(self) -> None:
        self._saying = self._said
