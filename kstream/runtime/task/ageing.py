"""What of a task goes by time: entries with a TTL, windows, and what time it is for them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Final

from kstream.operators.marks import Mark
from kstream.plan import TaskPlan
from kstream.runtime.task.nothing_due import NothingDue
from kstream.runtime.task.reading import Reading
from kstream.specs.ttl import TimeKind
from kstream.state.watermark import UNKNOWN
from kstream.types import Fetch, TopicPartition

log = logging.getLogger(__name__)

AHEAD_SECONDS: Final = 60.0
"""A committed time that is further ahead of the clock is told of."""


class Ageing:
    """Of one task. Where no state has a TTL and nothing keeps event time, there is nothing to do."""

    def __init__(self, plan: TaskPlan, task: str) -> None:
        self._watermark, self._writer = plan.watermark, plan.time_writer
        self._plan, self._time, self._stores = plan, plan.time, plan.timed
        self._processors, self._tellers = plan.processors, plan.tellers
        self._nothing_due = NothingDue(plan.closes_by)
        self._task, self._told = task, False

    @property
    def times(self) -> tuple[int, int]:
        """Event time and wall-clock time, in ms since the epoch; 0 where no state has a TTL."""
        return (0, 0) if self._time is None else (self._time.event, self._time.wall)

    def times_of(self, at: TopicPartition) -> tuple[int, int]:
        """Event time as windows have it, of the task and of this input; 0 where there is none yet."""
        mark = self._watermark
        return (0, 0) if mark is None else (max(0, mark.now), max(0, mark.of_input(at.topic)))

    def waited(self, at: TopicPartition) -> int:
        """For how many ms this input was quiet after that, where its time goes on with the clock then."""
        return 0 if self._watermark is None else self._watermark.waited(at.topic)

    def seen(self) -> tuple[int | None, dict[str, tuple[int | None, bool]]]:
        """What time it is for windows, timers and joins, and in each input, with whether that is idle (ms; None before
        there is any). No inputs where the task keeps no time."""
        mark = self._watermark
        if mark is None:
            return None, {}
        inputs = {topic: (None if time < 0 else time, idle) for topic, (time, idle) in mark.seen().items()}
        return (None if (now := mark.by_clock()) < 0 else now), inputs

    def seed_inputs(self, now: int, inputs: Mapping[str, tuple[int, int]]) -> None:
        """The same as the last commit says."""
        if self._watermark is not None:
            times = {topic: time or UNKNOWN for topic, (time, _) in inputs.items()}
            self._watermark.seed(now or UNKNOWN, times, {topic: waited for topic, (_, waited) in inputs.items()})

    def restored_at(self, ends: Mapping[TopicPartition, int]) -> None:
        """Where its inputs end as it is restored."""
        if self._watermark is not None:
            self._watermark.restored_at = {at.topic: end for at, end in ends.items()}

    def released(self) -> None:
        """Inputs were held, and go on."""
        if self._writer is not None:
            self._writer.repeat()
        if self._watermark is not None and self._time is not None:
            self._watermark.doubt_all(round(self._time.clock.time() * 1000))

    @property
    def _stands(self) -> bool:
        """A timer or a result has failed, and is tried again later. Until then time stands, as no record is taken: what
        comes of it would be late behind it, and after a restart the timer would count as fired."""
        return any([one.rests for one in self._processors]) or self._result_rests

    @property
    def _result_rests(self) -> bool:
        if self._time is None or not (until := max([one.rests_until for one in self._tellers], default=0.0)):
            return False
        return self._time.clock.monotonic() < until

    def is_idle(self, at: TopicPartition, since: float) -> bool:
        """Nothing comes of this input, since then (monotonic). Returns whether that changes anything."""
        mark = self._watermark
        if self._stands:
            return False
        return mark is not None and at.topic in mark.own_inputs and mark.is_idle(at.topic, since)

    def go_by_clock(self, quiet: Collection[TopicPartition], *, carry: bool) -> bool:
        """Where all inputs are idle, and a topic wants it (`idle_advance`), time goes on with the clock: when something
        is due by then, for it takes a commit; or to `carry` it to those behind this task. Returns whether there is
        something to commit: it does, or the wait is worth one, for where restarts came before each, windows would never
        close.

        Args:
            quiet: the inputs of which nothing comes at this moment.
        """
        mark = self._watermark
        if mark is None or self._stands or (then := mark.by_clock()) <= mark.now:
            return False
        if not {at.topic for at in quiet}.issuperset(mark.own_inputs):
            return False
        if not (carry and self._writer is not None) and not self._nothing_due.closes_by(then):
            return mark.wait_is_worth_a_commit and self._nothing_due.waits()
        self._nothing_due.forget()
        mark.go_by_clock()
        return True

    def repeat(self, *, waiting: int) -> bool:
        """Says again with the next commit that it is idle or through, where it is. Returns whether it does.

        Args:
            waiting: records that it has, as where one failed and is tried again later: then it is not idle.
        """
        return self._writer is not None and not waiting and not self._stands and self._writer.repeat()

    def has_to_tell(self, reading: Reading) -> bool:
        """Whether all that there is has been processed, and those who read its results do not know."""
        return self._writer is not None and not self._stands and self._writer.has_to_say(at_end=reading.is_through)

    def tell(self, reading: Reading) -> Mark | None:
        """Before a commit, behind all that was written: what time it is, for those who read it; None: nothing new."""
        if self._writer is None:
            return None
        return self._writer.tell(at_end=reading.is_through and not self._stands)

    @property
    def tells(self) -> Mapping[str, int]:
        """The topics that are told, with the number of their partitions."""
        return {} if self._writer is None else self._writer.topics

    def seed(self, event: int, wall: int) -> None:
        """What the last commit says."""
        if self._time is not None:
            self._time.seed(event, wall)
            self._tell("wall", wall, "the clock has")
            self._tell("event", event, "event times have")

    def _tell(self, kind: TimeKind, at: int, what: str) -> None:
        """Tells once of a committed time that is far ahead."""
        if self._time is None or self._told or all(store.ttl.time != kind for store in self._stores):
            return
        if (ahead := self._time.ahead(at)) > AHEAD_SECONDS:
            self._told = True
            log.warning(
                "task %s: the %s time of its state, as its last commit says, is %.0f s ahead of this machine's clock: "
                "it does not go on until %s caught up, and no entry with a TTL expires until then",
                self._task, kind, ahead, what,
            )  # fmt: skip

    def begin(self) -> None:
        """A batch is pushed next."""
        self._nothing_due.forget()
        if self._time is not None:
            self._time.keep()
            self._time.tick()
        if self._watermark is not None:
            self._watermark.keep()

    def take_back(self) -> None:
        """It comes again."""
        self._nothing_due.forget()
        if self._time is not None:
            self._time.take_back()
        if self._watermark is not None:
            self._watermark.take_back()

    def left_out(self, fetch: Fetch) -> None:
        """A record did not get as far as the state: it is so late all the same."""
        if self._time is not None or self._watermark is not None:
            self._plan.sources[fetch.at.topic].passed(fetch)

    def is_due(self) -> bool:
        """Whether something may have expired that nobody reads, or a timer of the wall clock is due."""
        if self._time is None:
            return False
        self._time.tick()
        if self._result_rests:  # it would be put out again too early, and fail the commit of all tasks
            return False
        return any([store.is_due() for store in self._stores]) or any([one.is_due() for one in self._processors])

    def clean_up(self, records: int) -> None:
        """Before a commit of so many records: what has expired is removed with it."""
        for store in self._stores:
            store.clean_up(records)

    def committed(self) -> None:
        self._nothing_due.forget()
        if self._time is not None:
            self._time.committed()
        if self._watermark is not None:
            self._watermark.committed()
        if self._writer is not None:
            self._writer.committed()

    def rewind(self) -> None:
        self._nothing_due.forget()
        if self._time is not None:
            self._time.rewind()
        if self._watermark is not None:
            self._watermark.rewind()
        if self._writer is not None:
            self._writer.rewind()
