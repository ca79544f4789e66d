"""Records of several inputs that alternate, pushed by input.

A task reads the input whose next record is earliest. Where the records of two topics alternate, that gives batches of
one or two, at ten times the cost of a record. In a part of the app that only changes, filters and writes records
(`neighbours.by_input`), a record makes no difference to another one, and only what is written shows an order. So what
would come in many batches is pushed in one for each input, what it causes is staged, and goes out in the order of the
batches that it would have come in.

While something is amiss (a record failed, one is looked for, or set aside), records come as they do elsewhere.
"""

from __future__ import annotations

from typing import Any

from kstream.operators.pieces import Pieces
from kstream.operators.raised import fair
from kstream.operators.writer import OrderedWriter
from kstream.plan import TaskPlan
from kstream.runtime.task.context import Context
from kstream.runtime.task.failures import PASSES, PushFailed, Search
from kstream.runtime.task.handling import Handling
from kstream.runtime.task.measures import PartMeasures
from kstream.runtime.task.pace import Chunk
from kstream.runtime.task.reading import Reading
from kstream.runtime.task.slow import SlowRecords
from kstream.types import Clock, Fetch, TopicPartition


class Together:
    """Of one task, whose plan goes `by_input`."""

    def __init__(
        self, plan: TaskPlan, reading: Reading, handling: Handling, clock: Clock, measures: PartMeasures,
        slow: SlowRecords, chunk: Chunk, search: Search,
    ) -> None:  # fmt: skip
        assert isinstance(plan.writer, OrderedWriter)
        self._search = search
        self._plan, self._writer, self._reading, self._handling = plan, plan.writer, reading, handling
        self._clock, self._measures, self._slow, self._chunk = clock, measures, slow, chunk
        self._context: Context[Any] = plan.cursor  # type: ignore[assignment]

    @property
    def goes(self) -> bool:
        """Whether nothing is amiss."""
        handling = self._handling
        return not (handling.care or handling.care.advised or handling.verdicts or self._search)

    def push(self, first: Fetch, uncommitted: int) -> int:
        """Processes these records, and those that come next.

        Args:
            first: what was taken of the input that is next.
            uncommitted: records that the task has processed since the last commit.

        Returns:
            How many.

        Raises:
            PushFailed: one of them failed.
        """
        pieces, places, total = self._taken(first)
        fetches = {at: some[0] if len(some) == 1 else Pieces(some) for at, some in pieces.items()}
        self._writer.watched = False
        began = self._clock.monotonic()
        fetch, staged = first, 0
        try:
            for at, fetch in fetches.items():
                source = self._plan.sources[at.topic]
                source.leave_out = None  # a record that fails is found with care
                self._context.works_on(fetch)
                then = self._clock.monotonic()
                source.push_fetch(fetch)
                staged = self._writer.moved(staged, places[at])
                self._slow.look(fetch, self._clock.monotonic() - then)
            if refused := self._writer.heed():
                raise refused[0].error
            self._handling.release()
        except BaseException as raised:
            if isinstance(error := fair(raised), PASSES):
                raise
            try:
                self._handling.taken_back(fetch, error, False, uncommitted)
            except PushFailed as failed:
                failed.records = total
                raise
            raise
        finally:
            self._context.works_on(None)
        seconds = self._clock.monotonic() - began
        for fetch in fetches.values():
            self._measures.processed(fetch.at.topic, self._reading.processed(fetch), seconds * len(fetch) / total)
        self._chunk.managed(total, seconds, care=False)
        return total

    def _taken(self, first: Fetch) -> tuple[dict[TopicPartition, list[Fetch]], dict[TopicPartition, list[int]], int]:
        """What comes next, by input: as much as the task manages at a time; which place each of its records has among
        all of them; and how many there are.

        A record by which an idle input holds time back again is the last of them: of the others, what comes behind it
        must not move time on as if there were none."""
        size, fetch = self._chunk.size, first
        asleep = () if self._plan.watermark is None else self._plan.watermark.asleep
        pieces: dict[TopicPartition, list[Fetch]] = {}
        places: dict[TopicPartition, list[int]] = {}
        total = 0
        while True:
            count = len(fetch)
            pieces.setdefault(fetch.at, []).append(fetch)
            places.setdefault(fetch.at, []).extend(range(total, total + count))
            total += count
            if total >= size or fetch.at.topic in asleep or (following := self._reading.take(size - total)) is None:
                return pieces, places, total
            fetch = following
