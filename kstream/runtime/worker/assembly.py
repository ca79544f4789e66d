"""What a worker is made of, and the making of its tasks: plan, contexts, traces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context as ContextVars
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kstream.codecs import SAMPLE, JsonBounds
from kstream.config import Settings
from kstream.errors import KStreamError
from kstream.operators.base import Cursor
from kstream.operators.bounds import Bounds
from kstream.operators.refusals import Refusals
from kstream.operators.user_processor import ProcessorCursor
from kstream.operators.writer import Writer
from kstream.partitioning import partition_of
from kstream.plan import plan_task
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.kafka import largest_sent
from kstream.runtime.task.context import Context, Worker, variables_of
from kstream.runtime.task.deciding import Deciding
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.processing import ProcessorContext, TimerContext
from kstream.runtime.task.task import Task
from kstream.runtime.worker.eventloop import Lifespan
from kstream.runtime.worker.transaction import Transaction
from kstream.specs.listener import CheckpointListeners
from kstream.state.backend import Backend
from kstream.state.snapshots.storage import Storage
from kstream.state.store import Store
from kstream.state.time import TaskTime
from kstream.state.unopened import Unopened
from kstream.topology import SubTopology, Topology
from kstream.types import Clients, Clock

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from kstream.runtime.task.tracing import TaskTraces, Tracing

C = TypeVar("C", bound=Context[Any])
T = TypeVar("T", bound=TimerContext[Any])

Backends = Callable[[Path, Sequence[str]], Backend]


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker is made of; the supervisor's child fills it with the real things, tests with others.

    Attributes:
        backends: makes the backend of one task, given its directory and the names of its stores.
        storage: for snapshots, where there is a place for them.
        memory_use: bytes of the backends' own memory, by use.
        give_back: gives memory that is free back to the system; called after each flush, on its thread.
        verify: stores fail on "mutated without assignment" (TestDriver).
        raise_failures: a failed task ends the worker with its error, instead of being tried again after a pause.
        commits_wait: commits wait for agents, however long these wait for something outside (TestDriver).
        tracer_provider: OpenTelemetry's, where records are traced.
        whole: the topology with all isolation groups; None: there are no others.
        listeners: the user's, who are told of checkpoints.
    """

    topology: Topology
    partitions: Mapping[str, int]
    settings: Settings
    identity: Identity
    clients: Clients
    clock: Clock
    backends: Backends
    storage: Storage | None = None
    lifespan: Lifespan | None = None
    memory_use: Callable[[], Mapping[str, int]] = dict
    give_back: Callable[[], None] | None = None
    verify: bool = False
    raise_failures: bool = False
    commits_wait: bool = False
    tracer_provider: TracerProvider | None = None
    whole: Topology | None = None
    listeners: CheckpointListeners = field(default_factory=CheckpointListeners)


class TaskMaker:
    """Makes the tasks of one worker, which use its global `tables`."""

    def __init__(
        self,
        parts: WorkerParts,
        worker: Worker,
        transaction: Transaction,
        loop: asyncio.AbstractEventLoop,
        measures: Measures,
        tables: Mapping[str, Store[Any]],
    ) -> None:
        self._tables = tables
        self._parts, self._worker, self._transaction, self._loop = parts, worker, transaction, loop
        self._measures = measures
        settings = parts.settings
        self._refusals = Refusals(parts.clock, largest_sent(settings.kafka))
        self._deciding = {
            part.name: Deciding(
                parts.identity.app, part, parts.clock, measures, self._refusals, settings.max_error_rate
            )
            for part in parts.topology.parts
        }  # fmt: skip
        self._tracing = _tracing(parts)

    def make(self, part: SubTopology, partition: int, sharing: int) -> Task:
        """A task in state CREATED, its local state not open yet (see `opening`).

        Args:
            sharing: how many tasks share the memory for live objects.
        """
        settings = self._parts.settings
        traces = self._traces_of(part, partition)
        backend = Unopened()
        plan = plan_task(
            part,
            backend=backend,
            outlet=self._transaction if traces is None else traces,
            contexts=_Contexts(f"{part.name}/{partition}", self._worker, compare_all=settings.check_values == "always"),
            loop=self._loop,
            cache_bytes=(settings.state_memory // 2 - (settings.state_memory // 8 if self._tables else 0))
            // max(1, sharing),
            check_every=1 if settings.check_values == "always" else SAMPLE,
            bounds=Bounds(settings.max_record_bytes, JsonBounds(settings.max_json_depth, settings.max_number_length)),
            verify=self._parts.verify,
            around=None if traces is None else traces.around,
            time=TaskTime(self._parts.clock, int(settings.max_event_time_ahead * 1000)),
            large_entry=settings.large_entry,
            on_large_state=self._parts.topology.on_large_state,
            refusals=self._refusals,
            partition=partition,
            counts=self._parts.partitions,
            lease=3 * (settings.idle_timeout + settings.commit_interval),
            tables=self._tables,
        )
        self._check_homes(part, partition, plan.stores)
        return self._class_of(traces)(
            part,
            partition,
            plan,
            backend,
            self._parts.clock,
            max_idle=settings.max_task_idle,
            target_seconds=settings.commit_interval,
            slow_record=settings.slow_record,
            heeds_waits=not self._parts.commits_wait,
            measures=self._measures.parts[part.name],
            deciding=self._deciding.get(part.name),
        )

    def _traces_of(self, part: SubTopology, partition: int) -> TaskTraces | None:
        if self._tracing is None:
            return None
        from kstream.runtime.task.tracing import TaskTraces

        return TaskTraces(self._tracing, part, f"{part.name}/{partition}", self._transaction)

    def _class_of(self, traces: TaskTraces | None) -> Callable[..., Task]:
        if traces is None:
            return Task
        from kstream.runtime.task.tracing import TracedTask

        return partial(TracedTask, traces)

    def _check_homes(self, part: SubTopology, partition: int, stores: Mapping[str, Store[Any]]) -> None:
        """Tables that user code writes by any key get a check that the key's home is this partition."""
        how = self._parts.settings.check_keys
        if how == "off":
            return
        written = {store.name for node in part.nodes for store in node.stores[node.by_column :]}
        count = self._parts.partitions[part.topics[0]]
        for store in stores.values():
            if store.name in written and store.spec.scope == "keyed":
                store.check = lambda key, home=store.spec.home_key: partition_of(home(key), count) == partition
                store.check_each = how == "always"


def _tracing(parts: WorkerParts) -> Tracing | None:
    if parts.tracer_provider is None:
        return None
    from kstream.runtime.task.tracing import Tracing

    share, identity = parts.settings.trace_sample, parts.identity
    return Tracing(parts.tracer_provider, share, identity.group, identity.member)


class _Contexts:
    """Makes the contexts of one task."""

    def __init__(self, task: str, worker: Worker, *, compare_all: bool) -> None:
        self._task, self._worker, self._compare_all = task, worker, compare_all
        self._cursors: list[Context[Any]] = []
        self._faults: list[KStreamError] = []

    def new(self, stores: dict[str, Store[Any]], writer: Writer, order: int) -> Cursor:
        return self._made(Context, stores, writer, order)

    def processing(self, stores: dict[str, Store[Any]], writer: Writer, order: int) -> ProcessorCursor:
        return self._timed(ProcessorContext, stores, writer, order)

    def timing(self, stores: dict[str, Store[Any]], writer: Writer, order: int) -> ProcessorCursor:
        return self._timed(TimerContext, stores, writer, order)

    def _timed(self, kind: type[T], stores: dict[str, Store[Any]], writer: Writer, order: int) -> T:
        made = self._made(kind, stores, writer, order)
        made.raw_key = made.row = None
        return made

    def _made(self, kind: type[C], stores: dict[str, Store[Any]], writer: Writer, order: int) -> C:
        made = kind(self._task, self._worker, stores, writer, order, compare_all=self._compare_all)
        made.cursors, made.faults = self._cursors, self._faults
        self._cursors.append(made)
        return made

    def variables(self, cursor: Cursor) -> ContextVars:
        own = cast("Context[Any]", cursor)
        self._cursors.remove(own)  # it is current in its agent only
        own.cursors = ()
        return variables_of(own)
