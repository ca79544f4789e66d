"""Queries of an instance's committed state: who has a partition, and what its workers answer.

Everything here is called on the event loop of the web server. Which worker runs a task is known from its reports, and
who else has one from the announcements of the others: both may be a moment old. A worker answers for tasks that it runs
only, so what is old leads to a refusal, never to a wrong answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kstream.errors import StateUnavailable, UsageError
from kstream.observe.queried import Owner, QueriedStore, StateOverview
from kstream.observe.status import InstanceStatus, TaskStatus
from kstream.partitioning import partition_of
from kstream.runtime.process.channel import Channel
from kstream.runtime.process.handle import Process, WorkerProcess
from kstream.runtime.process.questions import ANSWER_BYTES, Query, Result
from kstream.runtime.process.report import Report
from kstream.runtime.task.states import TaskState
from kstream.runtime.view.watched import Watched
from kstream.specs.global_table import ASKED, asked_as
from kstream.specs.store import StoreSpec
from kstream.table_nodes import TableNode
from kstream.topology import AggregateNode, Topology

ANSWER_SECONDS: Final = 5.0
"""For an answer of a worker. Its loop is not waited for, only its processor and its disk."""
OTHERS_SECONDS: Final = 0.5
"""For which what the others said is not looked at anew."""

RUNNING: Final = TaskState.RUNNING.value


@dataclass(frozen=True, slots=True)
class Served:
    """A store that can be asked.

    Attributes:
        part: the sub-topology that has it; partitions: how many there are.
        exact: a key lies in the partition that its hash says: it is an aggregation's, behind a repartition topic. Not
            so where producers that are not ours choose the partition of the input, and may do so by another hash; nor
            where an agent writes by any key (whether `check_keys` refuses that may have changed since).
    """

    spec: StoreSpec
    part: str
    partitions: int
    exact: bool

    def task(self, partition: int) -> str:
        return f"{self.part}/{partition}"

    def home(self, key: bytes) -> int:
        return partition_of(self.spec.home_key(key), self.partitions)


@dataclass(slots=True)
class Answered:
    """What was found, by key: value and partition; and the partitions that were looked at.

    Attributes:
        too_large: bytes of the values that have too many to be answered, by key; in `found` they are empty.
        left: keys for which the answer had no room: they are to be asked for again.
        unasked: why partitions could not be looked at, where somebody was asked who should have them.
        unavailable: keys that were not found, and may lie where nobody could look; each with the reason.
    """

    found: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    looked: set[int] = field(default_factory=set)
    too_large: dict[bytes, int] = field(default_factory=dict)
    left: set[bytes] = field(default_factory=set)
    unasked: dict[int, str] = field(default_factory=dict)
    unavailable: dict[bytes, str] = field(default_factory=dict)

    def add(self, other: Answered) -> None:
        self.found.update(other.found)
        self.looked |= other.looked
        self.too_large.update(other.too_large)
        self.left |= other.left
        self.unasked.update(other.unasked)

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of the keys that were not found where it was looked."""
        return [key for key in keys if key not in self.found and key not in self.left]


class Queries:
    """See the module's text.

    Args:
        partitions: of every topic.
        instance: this one's name; `others` are the app's other instances.
    """

    def __init__(
        self,
        watched: Watched,
        topology: Topology,
        partitions: Mapping[str, int],
        instance: str,
        others: Callable[[], Iterable[InstanceStatus]],
    ) -> None:
        self._watched, self._app, self._instance, self._others = watched, topology.app, instance, others
        self.stores: dict[str, Served] = {}
        for part in topology.parts:
            ours = all(source.topic.internal for source in part.sources)
            aggregated = {node.stores[0].name for node in part.nodes if isinstance(node, AggregateNode | TableNode)}
            for spec in part.stores:
                count = partitions[part.topics[0]]
                self.stores[spec.name] = Served(spec, part.name, count, ours and spec.name in aggregated)
        for table in topology.tables:  # each worker has all of it
            self.stores[table.name] = Served(table, f"{ASKED}/{table.name}", 1, True)
        self._channels: dict[str, tuple[Process, asyncio.Task[Channel] | None]] = {}
        self._states: dict[str, tuple[Report, dict[str, str]]] = {}
        self._elsewhere: dict[str, tuple[InstanceStatus, TaskStatus]] = {}
        self._looked = float("-inf")
        self.url: str | None = None

    def store(self, name: str) -> Served:
        """Raises UsageError when there is none of that name; it says which there are."""
        found = self.stores.get(name)
        if found is None:
            raise UsageError(f"there is no store {name!r}; there are: {', '.join(self.stores) or 'none'}")
        return found

    # ---- who has what

    def worker_of(self, task: str) -> WorkerProcess | None:
        """The worker of this instance that runs the task."""
        for worker in self._watched.workers:
            if worker.runs and self._reported(worker).get(task) == RUNNING:
                return worker
        return None

    def _reported(self, worker: WorkerProcess) -> dict[str, str]:
        """The states of a worker's tasks, as it reported them last."""
        known = self._states.get(worker.name)
        if known is None or known[0] is not worker.report:
            states = {task.name: task.state for task in worker.report.tasks}
            states |= {asked_as(table.name): RUNNING for table in worker.report.tables if table.there}
            known = self._states[worker.name] = worker.report, states
        return known[1]

    def elsewhere(self, task: str) -> tuple[InstanceStatus, TaskStatus] | None:
        """The other instance that has it, as it said last; one that runs it before one that does not."""
        now = time.monotonic()
        if now - self._looked >= OTHERS_SECONDS:
            self._looked, self._elsewhere = now, {}
            for one in self._others():
                if one.state == "silent" or one.instance == self._instance:
                    continue
                tables = [TaskStatus(asked_as(each.name), each.worker, RUNNING) for each in one.tables if each.there]
                for status in (*one.tasks, *tables):
                    known = self._elsewhere.get(status.name)
                    if known is None or known[1].state != RUNNING:
                        self._elsewhere[status.name] = one, status
        return self._elsewhere.get(task)

    def nobody(self, store: Served, partition: int) -> StateUnavailable:
        """Why nobody can be asked for a partition now."""
        name, other = store.task(partition), self.elsewhere(store.task(partition))
        state = next((s for w in self._watched.workers if w.runs and (s := self._reported(w).get(name))), None)
        if state is not None:
            why = f"its task is {state} in this instance"
        elif other is not None:
            why = f"its task is {other[1].state} in instance {other[0].instance}"
        else:
            why = "no instance has said that it has it"
        return StateUnavailable(
            f"partition {partition} of store {store.spec.name} cannot be asked now: {why}; try again"
        )

    def overview(self) -> StateOverview:
        return StateOverview(self._app, self._instance, [self._told(one) for one in self.stores.values()])

    def _told(self, one: Served) -> QueriedStore:
        spec, found = one.spec, (self._owner(one, number) for number in range(one.partitions))
        owners = [owner for owner in found if owner is not None]
        return QueriedStore(spec.name, str(spec.key), str(spec.value), spec.scope, one.partitions, owners)

    def _owner(self, store: Served, partition: int) -> Owner | None:
        name = store.task(partition)
        here = [state for one in self._watched.workers if one.runs and (state := self._reported(one).get(name))]
        other = self.elsewhere(name)
        if here and (RUNNING in here or other is None or other[1].state != RUNNING):
            return Owner(partition, self._instance, self.url, RUNNING if RUNNING in here else here[0])
        return None if other is None else Owner(partition, other[0].instance, other[0].url, other[1].state)

    # ---- asking the workers

    async def look_up(
        self, store: Served, keys: Sequence[bytes], partitions: Sequence[int], most: int = ANSWER_BYTES
    ) -> Answered:
        """Looks for keys in those of the partitions that this instance runs; which these were, the answer says. Those
        of a worker that does not answer are `unasked`.

        Args:
            most: bytes of the values that each worker answers; one value may have more.
        """
        workers: dict[str, tuple[WorkerProcess, list[int]]] = {}
        for partition in partitions:
            if (worker := self.worker_of(store.task(partition))) is not None:
                workers.setdefault(worker.name, (worker, []))[1].append(partition)
        answered = Answered()

        async def ask(worker: WorkerProcess, wanted: list[int]) -> Result:
            try:
                return await self._ask(worker, Query(0, store.spec.name, wanted, list(keys), most=most))
            except StateUnavailable as error:
                answered.unasked.update(dict.fromkeys(wanted, str(error)))
                return Result(0)

        asked = [ask(*one) for one in workers.values()]
        for result in [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked):
            answered.looked.update(result.partitions)
            for key, value, partition in zip(result.keys, result.values, result.found_in, strict=True):
                answered.found[key] = value, partition
            answered.too_large.update(result.too_large)
            answered.left.update(result.left)
        return answered

    async def page(self, store: Served, partition: int, start: bytes, stop: bytes | None, limit: int) -> Result | None:
        """Entries of a partition that this instance runs; None where it does not.

        Raises:
            StateUnavailable: its worker does not answer.
        """
        worker = self.worker_of(store.task(partition))
        if worker is None:
            return None
        result = await self._ask(worker, Query(0, store.spec.name, [partition], None, start, stop, limit))
        return result if result.partitions else None

    async def _ask(self, worker: WorkerProcess, query: Query) -> Result:
        channel = await self._channel(worker)
        try:
            result = await channel.ask(query, ANSWER_SECONDS)
        except StateUnavailable as error:
            raise StateUnavailable(f"store {query.store} cannot be asked now: {error}; try again") from None
        if result.error is not None:
            raise StateUnavailable(f"store {query.store} cannot be asked now: {result.error}")
        return result

    async def _channel(self, worker: WorkerProcess) -> Channel:
        process = worker.process
        if process is None:
            raise StateUnavailable("its worker is being started; try again")
        known = self._channels.get(worker.name)
        if known is None or known[0] is not process:
            if known is not None and known[1] is not None and known[1].done() and known[1].exception() is None:
                known[1].result().close()
            taken = process.take_queries()
            connecting = None if taken is None else asyncio.ensure_future(Channel.over(taken))
            known = self._channels[worker.name] = process, connecting
        if known[1] is None:
            raise StateUnavailable(f"worker {worker.name} answers no queries")
        return await asyncio.shield(known[1])
