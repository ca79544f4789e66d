"""A task: one partition of one sub-topology. Pushes batches through operators; knows what is done and what is not.

A task never commits: it hands the checkpoint what belongs in one (`runtime/worker/checkpoint.py`), and is told the end.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kstream.errors import KStreamError, ProcessingError
from kstream.operators.base import Operator
from kstream.operators.raised import fair
from kstream.operators.told import of_others
from kstream.plan import TaskPlan
from kstream.runtime.task.ageing import Ageing
from kstream.runtime.task.context import Context, activate, deactivate
from kstream.runtime.task.deciding import Deciding
from kstream.runtime.task.emitting import emit
from kstream.runtime.task.failures import PASSES, PushFailed, Search
from kstream.runtime.task.handling import Handling
from kstream.runtime.task.measures import PartMeasures
from kstream.runtime.task.mixed import Mixed, parts_of, where
from kstream.runtime.task.overdue import Overdue
from kstream.runtime.task.pace import Chunk, Pace
from kstream.runtime.task.reading import Reading
from kstream.runtime.task.slow import SlowRecords
from kstream.runtime.task.states import TASK_MOVES, TaskState, move
from kstream.runtime.task.together import Together
from kstream.runtime.task.verdicts import LeftOut
from kstream.state.backend import Backend
from kstream.state.store import Store
from kstream.topology import SubTopology
from kstream.types import Clock, Fetch, TopicPartition

log = logging.getLogger(__name__)


class Task:
    """See the module's text. `name` is `<sub-topology>/<partition>`."""

    def __init__(
        self,
        part: SubTopology,
        partition: int,
        plan: TaskPlan,
        backend: Backend,
        clock: Clock,
        *,
        max_idle: float = 0.0,
        target_seconds: float = 0.2,
        measures: PartMeasures | None = None,
        slow_record: float = 0.0,
        heeds_waits: bool = True,
        deciding: Deciding | None = None,
    ) -> None:
        self.part, self.partition, self.plan, self.backend = part, partition, plan, backend
        self.measures = measures or PartMeasures(part)
        self.name, self.state = f"{part.name}/{partition}", TaskState.CREATED
        self.error: KStreamError | None = None
        self.search, self.pace = Search(), Pace(heeds_waits)
        self.records, self.commits = 0, 0  # the number of its last commit, whoever made it
        self.touched = False  # whether it did anything that is not committed
        self.restored_at: dict[TopicPartition, int] | None = {}  # where a restore leaves it; {}: not known yet
        self.topic_ids: dict[TopicPartition, str] = {}  # of its inputs, where the broker gives topics any
        self.changelog_ids: dict[str, str] = {}  # the same of its changelogs, by topic
        self.changelog_note = ""  # how its commits name them (runtime/cluster/covered.py)
        self.ageing, self._clock = Ageing(plan, self.name), clock
        self.reading = Reading(
            [TopicPartition(topic, partition) for topic in part.topics],
            lambda fetch: plan.sources[fetch.at.topic].timestamps(fetch),
            clock,
            max_idle,
            {TopicPartition(one.topic, partition): one.seconds for one in part.delays},
            [TopicPartition(one.topic.name, partition) for one in part.sources if one.topic.internal],
            plan.step,
            plan.watermark,
        )
        self.inputs: Sequence[TopicPartition] = list(self.reading.inputs)
        self.stores: Mapping[str, Store[Any]] = plan.stores
        self.handling = Handling(self.name, plan, clock, deciding, self.reading.note, self.search)
        self._working: Fetch | None = None  # delivered to an agent that is still at it
        self._started, self._sent = 0.0, False  # whether anything of the batch left the task
        self._emitting = False  # agents are still at what operators emitted for the commit
        self._chunk = Chunk(target_seconds, agents=bool(plan.agents))
        self._waited = self._released = False  # agents took more than a turn for `_working`; see `has_put_out`
        self.slow = SlowRecords(self.name, slow_record)
        self._context: Context[Any] = plan.cursor  # type: ignore[assignment]
        self._together = Together(plan, self.reading, self.handling.verdicts) if plan.by_input else None

    # ---- state

    def go(self, to: TaskState) -> None:
        move(f"task {self.name}", self.state, to, TASK_MOVES)
        self.state = to

    @property
    def positions(self) -> dict[TopicPartition, int]:
        return self.reading.positions

    @property
    def committed(self) -> dict[TopicPartition, int]:
        return self.reading.committed

    @property
    def busy(self) -> bool:
        """An agent is still at work on what it was given."""
        return self._working is not None or self._emitting

    @property
    def waits(self) -> bool:
        """Agents wait, and nothing of it is in the transaction: a commit leaves it out, an abort leaves it alone."""
        return bool(self.plan.agents) and self.busy and not self._released

    @property
    def rests_until(self) -> float:
        """A record that failed is tried again then (monotonic), and nothing is done before."""
        return self.handling.rests_until

    @property
    def buffered(self) -> int:
        return self.reading.buffered + self.handling.overdue.behind  # it has to run

    @property
    def overlay_bytes(self) -> int:
        return sum(store.overlay_bytes for store in self.plan.stores.values())

    @property
    def reads_from(self) -> dict[TopicPartition, int]:
        """Where its inputs are read next, once it runs; empty while that is not known."""
        return self.positions if self.restored_at is None else self.restored_at

    @property
    def takes_part(self) -> bool:
        """Whether something of it is, or may be, in the open transaction."""
        return self.touched and not self.waits

    @property
    def has_put_out(self) -> bool:
        """Whether anything since the last commit is in the transaction, or may be."""
        return self._released or self._working is not None

    @property
    def working(self) -> Fetch | None:
        """What its agents are at."""
        return self._working

    @property
    def awaiting(self) -> list[str]:
        """The agents that wait for something outside."""
        return [agent.name for agent in self.plan.agents if agent.waits]

    def start_from(self, positions: Mapping[TopicPartition, int]) -> None:
        """The task's state is that of these committed offsets; nothing is buffered."""
        self.reading.start_from(positions)
        self._drop_work()

    # ---- input

    @property
    def working_on(self) -> str | None:
        """The records it was given last, for a message; another thread may ask."""
        return None if (fetch := self._working) is None else where(fetch)

    def add(self, fetch: Fetch) -> None:
        self.reading.add(fetch, self._working)

    def reached_end(self, at: TopicPartition, offset: int) -> None:
        self.reading.reached_end(at, offset, busy=self._working is not None and self._working.at == at)

    # ---- processing

    @property
    def wants_commit(self) -> bool:
        """It takes nothing more before it is committed."""
        return self.touched and not self.busy and self._is_full

    @property
    def _is_full(self) -> bool:
        most = self.search.limit if self.search else math.inf
        return self.uncommitted >= (min(most, 1) if self.pace.cautious else most)

    def run(self, until: float = math.inf) -> None:
        """Processes what is buffered, until an agent has to wait or a commit must come first.

        Args:
            until: the clock's monotonic time at which to stop, at the next batch's end: slow functions must not
                keep a transaction open beyond its time.

        Raises:
            PushFailed: a record failed, or one among several; or an agent, between records.
        """
        self.check_agents()
        activate(self._context)
        apart = bool(self.search)
        try:
            while apart or not self.search:  # else it goes on apart from others
                if self._working is not None and not self._finished(self._working):
                    self._waited = True
                    return
                if self._is_full or self._clock.monotonic() >= until:
                    return
                fetch = self._next()
                if self.handling.overdue:
                    fetch = self._time_first(fetch)
                if fetch is None:
                    return
                verdict = self.handling.on(fetch)
                if isinstance(verdict, LeftOut):
                    self._leave_out(fetch, verdict)
                elif verdict is not None and self.handling.rests(verdict):
                    self.reading.put_back(fetch)
                    return
                else:
                    self._push(fetch)
        finally:
            deactivate()

    def _time_first(self, fetch: Fetch | None) -> Fetch | None:
        """What may be processed of it now. None: event time went on by a piece, and the loop is to turn."""
        waits = self.handling.waits()
        size = 1 if waits else self.handling.overdue.aim(fetch)
        if fetch is not None:
            if size and not waits:
                return self.reading.cut(fetch, size)
            self.reading.put_back(fetch)
        if not size:
            self.touched = True
            self.flush((self.handling.overdue,))
        return None

    def check_agents(self) -> None:
        """Raises PushFailed of no record where one failed between records, as when a time-out is up."""
        try:
            for agent in () if self.busy else self.plan.agents:
                agent.check(self.name)
        except KStreamError as error:
            raise PushFailed(0, error) from error

    def finish_work(self) -> None:
        """Looks whether the agents are through with what they have; takes nothing new."""
        if self._working is not None:
            activate(self._context)
            try:
                self._finished(self._working)
            finally:
                deactivate()
        elif self._emitting:
            self._finish_emitting(())

    def _push(self, fetch: Fetch) -> None:
        self.touched, self._working = True, fetch
        self.ageing.begin()
        self._waited = self._emitting = self._sent = False
        self.handling.begin(fetch, self.uncommitted, fetch.at in self.reading.delays)
        self._context.works_on(fetch)
        self._started = self._clock.monotonic()
        try:
            if isinstance(fetch, Mixed):
                fetch.push(self.plan.sources, self._context.works_on)
            else:
                self.plan.sources[fetch.at.topic].push_fetch(fetch)
        except BaseException as raised:
            if isinstance(error := fair(raised), PASSES):
                raise
            self._failed(fetch, error)

    def _finished(self, fetch: Fetch) -> bool:
        """Whether all agents are through with the fetch; if so it counts as processed."""
        try:
            if any([agent.busy for agent in self.plan.agents]):
                for agent in self.plan.agents:
                    agent.check_time()
                return False
            if self.pace.cautious and not self._emitting and self.plan.agents:
                self._emitting = self._sent = True  # agents are given now what they would be given at the commit
                for operator in self.plan.operators:
                    operator.flush()
                if any([agent.busy for agent in self.plan.agents]):
                    return False
            self.handling.heed(fetch, self._sent)
            self._released = self._sent = True
            self.handling.finish()
            self.handling.release()
        except BaseException as raised:
            if isinstance(error := fair(raised), (*PASSES, PushFailed)):
                raise
            self._failed(fetch, error)
            return True
        self._working, self._emitting = None, False
        self.pace.finished(self._waited)
        self._context.works_on(None)
        records, seconds = 0, self._clock.monotonic() - self._started
        for part in parts_of(fetch):
            count = self.reading.processed(part)
            self.measures.processed(part.at.topic, count, seconds * (len(part) / len(fetch)))
            records += count
        self.records += records
        self.slow.look(fetch, seconds)
        self._chunk.managed(records, seconds, care=bool(self.handling.care))
        if self.handling.care:
            self.handling.care.passed(records)
        return True

    def _failed(self, fetch: Fetch, error: BaseException) -> None:
        """The fetch failed: it is taken back by itself, and comes again (see `Handling.taken_back`)."""
        self.handling.taken_back(fetch, error, self._sent, self.uncommitted)
        self.ageing.take_back()
        self._working = None
        self._context.works_on(None)
        self.reading.put_back(fetch)
        self._chunk.failed(len(fetch))

    def located(self, error: BaseException) -> ProcessingError:
        """The error of the last record that was processed."""
        return self.handling.located(error, *self.reading.last_record)

    def _next(self) -> Fetch | None:
        size = 1 if self.plan.one_at_a_time else self._chunk.size
        if self.search:
            size = 1 if self.search.singly else min(size, self.search.limit - self.uncommitted)
        fetch, verdicts = self.reading.take(size), self.handling.verdicts
        if fetch is not None and verdicts:
            fetch = self.reading.cut(fetch, max(1, verdicts.sound(fetch)))
        return fetch if fetch is None or self._together is None else self._together.with_next(fetch, size)

    def _leave_out(self, fetch: Fetch, verdict: LeftOut) -> None:
        self.touched = self._released = True
        self.handling.write(verdict, fetch, self.uncommitted)
        self.ageing.left_out(fetch)
        self.reading.processed(fetch)
        self.records += 1
        self.measures.processed(fetch.at.topic, 1, 0.0)

    # ---- the end of a transaction

    def flush(self, by: Sequence[Operator | Overdue] | None = None) -> None:
        """Before a commit: operators emit what they hold back. Agents behind them may then be busy with it."""
        self._emitting = self._released = True
        self.handling.flushing(whole=by is None)
        self._finish_emitting(self.plan.operators if by is None else by)

    def _finish_emitting(self, operators: Sequence[Operator | Overdue]) -> None:
        activate(self._context)
        try:
            self._emitting = not emit(self.plan, self.handling, operators)
        except BaseException as raised:
            if isinstance(error := of_others(fair(raised)), (*PASSES, PushFailed)):
                raise
            raise self.handling.held_back(error) from error
        finally:
            deactivate()

    def was_committed(self, now: float) -> None:
        """`now` is the wall clock: how old the records are at their commit is counted."""
        if self.search:
            self.search.committed(self.uncommitted)
        self.handling.committed(self.positions, self.uncommitted)
        self.reading.was_committed()
        self.plan.committed()
        self.commits += 1
        self.ageing.committed()
        for at, one in self.reading.inputs.items():
            if one.runs.records:
                self.measures.was_committed(at.topic, one.runs, now, one.within)
        self.touched = self._released = False

    @property
    def uncommitted(self) -> int:
        """Records processed since the last commit."""
        return self.reading.uncommitted

    def rewind(self) -> dict[TopicPartition, int]:
        """After an abort: everything since the last commit is forgotten. Returns where reading starts again."""
        if self._working is not None:  # an agent was not through with it: it gets less the next time
            self._chunk.size = max(1, len(self._working) // 4)
        self.plan.reset()
        self.ageing.rewind()
        self.start_from(self.committed)
        return self.committed

    def close(self) -> None:
        self._drop_work()
        self.measures.closed(self)
        for operator in self.plan.operators:
            operator.close()
        try:
            self.backend.close()
        except KStreamError as error:  # the directory is free all the same, and the changelog has everything
            log.warning("task %s: its local state was not closed properly: %s", self.name, error)
        self.go(TaskState.CLOSED)

    def _drop_work(self) -> None:
        self.handling.rests_until = 0.0
        self.touched = self._released = self._emitting = False
        self._working = None
        self._context.works_on(None)
        self.reading.drop()
