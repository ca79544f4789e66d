"""The tasks of a worker and the partitions it owns: opened, closed, found by name or input, paused and resumed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from kstream.observe.metrics import Metrics
from kstream.runtime.task.arrivals import LOOK_SECONDS
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.assembly import TaskMaker, WorkerParts
from kstream.runtime.worker.ends import Ends
from kstream.runtime.worker.opening import Opening
from kstream.runtime.worker.turns import Turns
from kstream.state.changelog import Changelog
from kstream.topology import SubTopology
from kstream.types import AdminClient, ConsumerClient, TopicPartition

log = logging.getLogger(__name__)

OPEN_SECONDS: Final = 2.0
"""For so long at least what lies behind an input's end is taken to be of a transaction that is open."""


class Tasks:
    """See the module's text.

    Attributes:
        all: by name, in the order they were opened.
        elsewhere: tasks that cannot run here, because some of their inputs are owned by others, and which inputs.
        owned: the partitions that the group gave to this worker.
        assigned: whether it has ever given any; partitions of a topic that does not exist are none.
        ends: where these end.
        turns: which of them step aside for others.
    """

    def __init__(
        self,
        parts: WorkerParts,
        maker: TaskMaker,
        opening: Opening,
        consumer: ConsumerClient,
        admin: AdminClient,
        measures: Measures,
        metrics: Metrics,
    ) -> None:
        self._topology, self._poll_batch, self._clock = parts.topology, parts.settings.poll_batch, parts.clock
        self._opening = opening
        self._maker, self._consumer, self._measures, self._metrics = maker, consumer, measures, metrics
        self.all: dict[str, Task] = {}
        self.elsewhere: dict[str, list[str]] = {}
        self.owned: frozenset[TopicPartition] = frozenset()
        self.assigned = False
        self._by_input: dict[TopicPartition, Task] = {}
        self._paused: set[TopicPartition] = set()
        self._aside: set[TopicPartition] = set()  # of these: paused so that others are read
        self._open_seconds = max(OPEN_SECONDS, 3 * parts.settings.commit_interval)
        self._at_end: dict[TopicPartition, tuple[int, float]] = {}  # with a backlog all the same: where, and since when
        self._changelogs: dict[tuple[str, str], Changelog] = {}
        self._turn = 0
        self.turns = Turns(parts.clock, self._poll_batch, self._behind, self._set_aside, self._let_in)
        self.ends = Ends(admin, consumer, parts.clock, owned=lambda: self.owned, quiet=lambda: self._paused)
        self._looked = float("-inf")

    def step(self) -> None:
        """Hears of the ends of the inputs, and notes now and then how far they go."""
        self.ends.step()
        self.turns.step()
        now = self._clock.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for task in self.all.values():
            restored = task.restored_at
            for at, one in task.reading.inputs.items():
                position = one.position if restored is None else restored.get(at)
                if at in self.owned and position is not None and (end := self.ends.of(at)) is not None:
                    one.arrivals.heard(end, now, position, one.committed)

    # ---- finding them

    def reading(self, at: TopicPartition) -> Task | None:
        """The task that reads this partition."""
        return self._by_input.get(at)

    @property
    def running(self) -> list[Task]:
        return [task for task in self.all.values() if task.state is TaskState.RUNNING]

    def in_turn(self) -> list[Task]:
        """The running tasks, each time beginning with another one: none starves when functions are slow."""
        tasks = self.running
        self._turn += 1
        first = self._turn % len(tasks) if tasks else 0
        return tasks[first:] + tasks[:first]

    def changelog(self, task: Task, store: str) -> Changelog:
        name = (task.name, store)
        if name not in self._changelogs:
            spec = task.stores[store].spec
            self._changelogs[name] = Changelog(self._topology.changelog(spec), task.partition, spec)
        return self._changelogs[name]

    def lags_of(self, task: Task) -> dict[TopicPartition, int]:
        """Records that wait in each of a task's inputs; inputs are left out whose end was not heard of yet, or of which
        it is not known yet where they are read from."""
        ends = {at: self.ends.of(at) for at in task.inputs if at in self.owned}
        positions = task.reads_from
        return {at: max(0, end - positions[at]) for at, end in ends.items() if end is not None and at in positions}

    def has_lag(self, task: Task) -> bool:
        return bool(task.buffered) or sum(self.lags_of(task).values()) > self.waiting_lag(task)

    def waiting_lag(self, task: Task) -> int:
        """Of these records so many are not due yet: they were set aside, and are processed later."""
        if not (waiting := task.reading.waiting if task.reading.delays else None):
            return 0
        return sum(lag for at, lag in self.lags_of(task).items() if at in waiting)

    # ---- what is owned

    def assign(self, partitions: Sequence[TopicPartition]) -> dict[str, tuple[SubTopology, int]]:
        """Takes the partitions, all of them paused. Returns the tasks that can run; others wait, visibly."""
        self.owned = frozenset(partitions)
        self.assigned = self.assigned or bool(partitions)
        self._paused, self._aside = set(partitions), set()
        self._at_end.clear()
        self.turns.begin_anew()
        self.elsewhere = {}
        wanted: dict[str, tuple[SubTopology, int]] = {}
        for part in self._topology.parts:
            for partition in {at.partition for at in self.owned if at.topic in part.topics}:
                missing = [topic for topic in part.topics if TopicPartition(topic, partition) not in self.owned]
                if missing:
                    self.elsewhere[f"{part.name}/{partition}"] = missing
                    log.warning(
                        "task %s/%d does not run: partition %d of %s belongs to another worker, or is gone",
                        part.name, partition, partition, ", ".join(missing),
                    )  # fmt: skip
                else:
                    wanted[f"{part.name}/{partition}"] = (part, partition)
        return wanted

    def unassign(self) -> None:
        """None of them runs any more."""
        self.owned = frozenset()
        now = self._clock.monotonic()
        for name in self.all:
            self._measures.times[name].rests(now)

    def pause(self, task: Task) -> None:
        """It does not run any more: its inputs are paused."""
        self._measures.times[task.name].rests(self._clock.monotonic())
        self._aside.difference_update(task.inputs)
        self._pause([at for at in task.inputs if at in self.owned and at not in self._paused])

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """The next records of these partitions come from here."""
        self._consumer.seek(positions)

    def go_on_at(self, positions: Mapping[TopicPartition, int]) -> None:
        """These partitions are read from here on: their tasks run."""
        now = self._clock.monotonic()
        for task in {self._by_input[at] for at in positions}:
            self._measures.times[task.name].runs(now)
        self._consumer.seek(positions)
        self._resume(list(positions))

    def hold_back(self, task: Task) -> None:
        """Pauses the inputs of a task that has far more than it can take now, and resumes them when it has little."""
        delays = task.reading.delays
        if not self._paused and not delays and not task.buffered:
            return
        buffered, batch = task.buffered, self._poll_batch
        if buffered > 10 * batch:
            full = [at for at in task.inputs if task.reading.lying(at) > 2 * batch]
            self._pause([at for at in full if at not in self._paused])
        if self._paused:  # one that is empty is always read: the others may wait for it
            held, few = task.reading.held, buffered < batch
            free = [at for at in task.inputs if at in self._paused and at not in delays and at not in held]
            if self._aside and len(task.inputs) - len(delays) == 1:
                free = [at for at in free if at not in self._aside]
            self._resume([at for at in free if few or not task.reading.has(at)])
        for at in delays:  # what lies behind records that wait is not due either
            if task.reading.has(at) != (at in self._paused):
                (self._pause if task.reading.has(at) else self._resume)([at])

    def hold(self, task: Task, partitions: Sequence[TopicPartition]) -> None:
        """Nothing more is taken of these inputs of the task, until `release`."""
        task.reading.hold(partitions)
        self._aside.difference_update(partitions)
        self._pause([at for at in partitions if at in self.owned and at not in self._paused])

    def release(self, task: Task) -> None:
        """The inputs that were held are read on where they were."""
        positions = task.reading.release()
        task.ageing.released()
        if task.state is TaskState.RUNNING and (mine := {at: positions[at] for at in positions if at in self.owned}):
            self._consumer.seek(mine)
            self._resume(list(mine))

    def _behind(self) -> dict[TopicPartition, int] | None:
        """The inputs that may be read and that have a backlog, and how far they are read. Not those that wait until
        their records are due, or whose task has records in work or rests; nor those at whose end a transaction has
        not been open for longer than one of ours takes. None where there is no room for all that is fetched."""
        now = self._clock.monotonic()
        tasks = [task for task in self.running if not task.busy and task.rests_until <= now]
        if sum(task.buffered for task in tasks) > 2 * self._poll_batch:
            return None
        found: dict[TopicPartition, int] = {}
        for task in tasks:
            reading = task.reading
            for at, one in reading.inputs.items():
                if at not in self.owned or at in reading.delays or (at in self._paused and at not in self._aside):
                    continue
                end, reach = self.ends.of(at), reading.reach(at)
                if end is None or end <= max(reach, one.end if one.at_end else 0):
                    continue
                if one.at_end:
                    where, since = self._at_end.get(at, (-1, now))
                    since = now if where != one.end else since
                    self._at_end[at] = one.end, since
                    if now - since < self._open_seconds:
                        continue
                found[at] = reach
        return found

    def _set_aside(self, partitions: Sequence[TopicPartition]) -> None:
        leaving = [at for at in partitions if at in self.owned and at not in self._paused]
        self._pause(leaving)
        self._aside.update(leaving)

    def _let_in(self) -> None:
        self._resume(list(self._aside))

    def _pause(self, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            self._consumer.pause(partitions)
            self._paused.update(partitions)

    def _resume(self, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            self._consumer.resume(partitions)
            self._paused.difference_update(partitions)
            self._aside.difference_update(partitions)

    # ---- opening and closing them

    def open(self, part: SubTopology, partition: int) -> Task:
        task = self._maker.make(part, partition, self._sharing())
        self.all[task.name] = task
        self._by_input.update(dict.fromkeys(task.inputs, task))
        return task

    def close(self, task: Task) -> None:
        task.close()
        self._metrics.forget(task.name)
        self._measures.times[task.name].rests(self._clock.monotonic())
        del self.all[task.name]
        for at in task.inputs:
            del self._by_input[at]
        for name in [name for name in self._changelogs if name[0] == task.name]:
            del self._changelogs[name]

    def wipe(self, task: Task) -> None:
        """Deletes the local state of a task that is closed."""
        self._opening.wipe(task.part, task.partition)

    def _sharing(self) -> int:
        """Tasks with stores among what is owned: they share the object cache."""
        return max(1, sum(1 for at in self.owned if self._topology.part_of(at.topic).stores))
