"""The TestDriver: one worker of an app on an in-memory Kafka, moved by hand."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast, overload

from kstream.app import App
from kstream.aside import Aside
from kstream.building import tell_untyped
from kstream.codecs import decode_keys, decode_value, encode_keys, encode_value
from kstream.config import Settings
from kstream.config.given import checked
from kstream.dsl.states import AggregatingState, ListState, MapState, ReducingState, ValueState
from kstream.dsl.table import ReadableTable
from kstream.errors import KStreamError
from kstream.observe.catalogue import Metric
from kstream.observe.merging import Merged
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.worker.assembly import Backends, WorkerParts
from kstream.runtime.worker.loop import StreamWorker
from kstream.specs.record import Record, checked_headers, milliseconds
from kstream.specs.topic import Topic, check_topic
from kstream.state.choosing import backends
from kstream.state.rocksdb import RocksMemory
from kstream.testing.clients import MemoryClients
from kstream.testing.clock import ManualClock
from kstream.testing.cluster import MemoryCluster
from kstream.testing.resting import has_decided, is_idle, is_searching, joins_travellers, progress
from kstream.testing.tables import TableView, view_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

K = TypeVar("K")
V = TypeVar("V")
P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 10.0
"""Real seconds in which something must move while there is something to do, or a test fails."""
ENDLESS = 60.0
"""Real seconds after which an app is taken for one that gives itself work for ever."""


def _aside(method: Callable[Concatenate[TestDriver, P], T]) -> Callable[Concatenate[TestDriver, P], T]:
    """For methods that turn the app's event loop."""

    @wraps(method)
    def call(self: TestDriver, /, *args: P.args, **named: P.kwargs) -> T:
        return self._calls.call(partial(method, self, *args, **named))

    return call


class TestDriver:
    """Runs an app for a test. Nothing moves by itself: `send` processes, `values` and `table` commit and look.

    A record that fails raises ProcessingError from the call that processed it; the user's exception is its cause, or a
    TableError, as when a key of a keyed table belongs to another partition. A value of a table that was changed in
    place and not assigned fails the commit: a ProcessingError that names the record, caused by
    MutatedWithoutAssignment. With policies (`on_error=`) it is left out, or waits until `advance` has moved the
    clock to its next attempt.

    Within a running event loop (pytest-asyncio, a notebook) the app runs on a thread of its own, and that event loop
    stands still meanwhile.

    Args:
        partitions: of every topic that does not say how many it has.
        backend: "memory", or "rocksdb" in a temporary directory.
        tracer_provider: OpenTelemetry's; records with a trace of their own are traced, and the share `trace_sample`.
        settings: any of `kstream.config.Settings`. Those of `App(...)` are not in force here, only checked.

    Raises:
        ConfigError: there is no such setting, or it cannot have this value.
        TopologyError: the app cannot run.
    """

    __test__ = False  # pytest: this is no test

    def __init__(
        self,
        app: App,
        *,
        partitions: int = 4,
        backend: str = "memory",
        tracer_provider: TracerProvider | None = None,
        **settings: Any,
    ) -> None:
        checked(app.overrides, "App(...)")  # a slip would be told at the first start only
        self.app = app
        self.clock = ManualClock()
        self.cluster = MemoryCluster(self.clock)
        self._directory = Path(tempfile.mkdtemp(prefix="kstream-test-"))
        self._settings = Settings(
            **{
                "default_partitions": partitions,
                "check_keys": "always",
                "check_values": "always",
                "backend": backend,
                "state_dir": str(self._directory),
                **checked(settings, "TestDriver(...)"),
            }
        )
        self._tracer_provider = tracer_provider
        self._topology = app.topology()
        tell_untyped(self._topology)
        self._travels = joins_travellers(self._topology)
        self._last_topic = ""  # that a record was sent to
        self._workers: list[StreamWorker] = []  # one for each isolation group
        self._metrics = Merged()
        self._defined: dict[str, Metric] = {}
        self._calls = Aside()
        self._start()

    def __enter__(self) -> TestDriver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(commit=error is None)

    # ---- moving

    def send(
        self,
        topic: Topic[K, V],
        value: V,
        *,
        key: K | None = None,
        timestamp: datetime | int | None = None,
        headers: Sequence[tuple[str, bytes | str | None]] | None = None,
        partition: int | None = None,
    ) -> None:
        """Writes a record to a topic and processes it (and what else waits); nothing is committed yet. (But what was
        sent to another topic before is, first, where a join waits for what travels: so it has arrived.)

        Args:
            timestamp: a datetime (naive means UTC) or ms since the epoch; default: the driver's clock.
            headers: as those of a `Record`.

        Raises:
            CodecError: the topic's codecs cannot write it, or Kafka's client would not take it.
        """
        self._begin_send(topic, "send")
        self.cluster.append(
            topic.name,
            encode_keys(topic.key.codec, [key])[0],
            encode_value(topic.value.codec, value),
            timestamp=None if timestamp is None else milliseconds(timestamp),
            headers=None if headers is None else checked_headers(headers),
            partition=partition,
        )
        self.process()

    def send_raw(
        self,
        topic: Topic[Any, Any],
        value: bytes | None,
        *,
        key: bytes | None = None,
        timestamp: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] | None = None,
        partition: int | None = None,
    ) -> None:
        """As `send`, but the bytes as they are, whatever the topic's types: what somebody else may have written.

        Args:
            timestamp: ms since the epoch; default: the driver's clock.
        """
        self._begin_send(topic, "send_raw")
        self.cluster.append(topic.name, key, value, timestamp=timestamp, headers=headers, partition=partition)
        self.process()

    def _begin_send(self, topic: Topic[Any, Any], call: str) -> None:
        check_topic(topic, call)
        if self._travels and self._last_topic not in ("", topic.name):
            self.commit()
        self._last_topic = topic.name

    @_aside
    def process(self) -> None:
        """Processes all that waits, without a commit.

        Raises:
            KStreamError: nothing has moved for ten seconds, or the app has not come to rest for a minute.
        """
        began = looked = time.monotonic()
        reached = progress(self._open())
        while True:
            for worker in self._open():
                worker.step()
            if is_idle(self._open(), self.cluster):
                return
            now = time.monotonic()
            if now - looked > PATIENCE:
                before, reached, looked = reached, progress(self._open()), now
                if reached == before or now - began > ENDLESS:
                    raise KStreamError("the app does not come to rest: does an agent wait for something outside?")

    @_aside
    def commit(self) -> None:
        """Processes all that waits and commits, until there is nothing left to commit (internal topics too)."""
        while True:
            self.process()
            before, aborts = ([getattr(worker, of) for worker in self._workers] for of in ("commits", "aborts"))
            for worker in self._workers:
                worker.commit_now()
            if [worker.commits for worker in self._workers] != before or is_searching(self._workers):
                continue
            if [worker.aborts for worker in self._workers] == aborts or not has_decided(self._workers):
                return

    def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0) -> None:
        """Moves the clock, then processes and commits as a worker would meanwhile."""
        self.clock.advance(seconds + 60 * minutes + 3600 * hours)
        self.commit()

    @_aside
    def crash(self) -> None:
        """The worker dies without a commit, and a new one takes its place: what was not committed is done again. So it
        is in each isolation group."""
        self._report()
        for worker in self._open():
            self._metrics.ended(worker.worker.name)
            worker.abandon()
        self._start()
        self.process()

    def close(self, *, commit: bool = True) -> None:
        """Ends the app, after a last commit (`commit`). What fails then, as a value that was changed and not assigned,
        is raised."""
        try:
            self._end(commit=commit)
        finally:
            self._calls.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    @_aside
    def _end(self, *, commit: bool) -> None:
        try:
            searching = is_searching(self._workers)
            for worker in self._workers if commit else ():
                worker.commit_now()
            if commit and not searching and is_searching(self._workers):
                self.commit()  # it finds the record at fault, and raises
        finally:
            workers, self._workers = self._workers, []
            for worker in workers:
                worker.abandon()

    # ---- looking

    def values(self, topic: Topic[Any, V]) -> list[V]:
        """The committed values of a topic, in the order they were written over all partitions."""
        return [record.value for record in self.records(topic)]

    def records(self, topic: Topic[K, V]) -> list[Record[K, V]]:
        """The committed records of a topic, with keys, timestamps and headers."""
        check_topic(topic, "records")
        self.commit()
        return [
            Record(
                cast("K", decode_keys(topic.key.codec, [record.key])[0]),
                cast("V", decode_value(topic.value.codec, record.value)),
                record.timestamp,
                record.headers or None,
            )
            for record in self.cluster.records(topic.name)
        ]

    @overload
    def table(self, table: ReadableTable[K, V]) -> TableView[K, V]: ...
    @overload
    def table(self, table: ValueState[V] | ReducingState[V] | AggregatingState[Any, Any, V]) -> TableView[Any, V]: ...
    @overload
    def table(self, table: ListState[V]) -> TableView[Any, list[V]]: ...
    @overload
    def table(self, table: MapState[T, V]) -> TableView[Any, dict[T, V]]: ...
    @overload
    def table(self, table: str) -> TableView[Any, Any]: ...
    def table(self, table: Any) -> TableView[Any, Any]:
        """The committed content of a table, over all partitions; or of a processor's state: `Visits.pages`, or by the
        name of its store, `"visits-pages"`, where several processors are of that class.

        Raises:
            TopologyError: it is no table, and no state of the app; or the state of several processors.
        """
        self.commit()
        nodes = [node for part in self._topology.parts for node in part.nodes]
        return view_of(table, nodes, self._open())

    def metric(self, name: str, **labels: str) -> float:
        """The value of one of the app's own metrics, by the name that is exposed (`orders_total`; of a histogram
        `..._count` and `..._sum`): of all its series with these label values, added up. 0.0 when nothing was counted.

        Raises:
            KStreamError: there is no such metric; the message lists those that there are.
        """
        self._report()
        metric = self._defined.get(name)
        if metric is None or not set(labels) <= set(metric.labels):
            known = ", ".join(f"{each}({', '.join(one.labels)})" for each, one in self._defined.items())
            raise KStreamError(f"there is no metric {name}({', '.join(labels)}); there are: {known or 'none'}")
        if name == f"{metric.name}_count":
            return float(sum(self._metrics.buckets(metric.name, labels) or ()))
        return self._metrics.value(metric.name, labels) or 0.0

    def _report(self) -> None:
        """Takes the workers' metrics over, so that they outlive them."""
        for worker in self._open():
            definitions, series = worker.worker.metrics.collect()
            self._metrics.update(worker.worker.name, series, definitions)
            for metric in definitions:
                endings = ("_count", "_sum") if metric.kind == "histogram" else ("",)
                self._defined.update({metric.name + ending: metric for ending in endings})

    @property
    def worker(self) -> StreamWorker:
        """The worker of the first isolation group: the only one, where none are declared."""
        return self._open()[0]

    def _open(self) -> list[StreamWorker]:
        if not self._workers:
            raise KStreamError("the driver is closed")
        return self._workers

    # ---- inside

    @_aside
    def _start(self) -> None:
        clients = MemoryClients(self.cluster)
        partitions = prepare_topics(self._topology, clients.admin(), self._settings)
        self._workers = []
        for group in self._topology.groups:
            worker = StreamWorker(
                WorkerParts(
                    topology=self._topology.of_group(group),
                    partitions=partitions,
                    settings=self._settings,
                    identity=Identity(self.app.name, "test", 0, group),
                    clients=clients,
                    clock=self.clock,
                    backends=self._backends,
                    lifespan=self.app.lifespan_function,
                    listeners=self.app.checkpoint_listeners,
                    verify=True,
                    raise_failures=True,
                    commits_wait=True,
                    tracer_provider=self._tracer_provider,
                )
            )
            worker.start()
            self._workers.append(worker)

    @property
    def _backends(self) -> Backends:
        of_stores = {store.name: store.backend for part in self._topology.parts for store in part.stores}
        settings = self._settings
        memory = RocksMemory(8 << 20, 8 << 20, settings.rocksdb_preset, settings.rocksdb)
        return backends(settings.backend, of_stores, memory)
