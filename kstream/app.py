"""App: what a user declares, and how it becomes something that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from kstream.building import build, tell_untyped
from kstream.dsl.agent import AgentDecorator
from kstream.dsl.deployed import names_of
from kstream.dsl.functions import called, check_large, check_takes
from kstream.dsl.global_table import GlobalTable
from kstream.dsl.global_table import declare as declare_global
from kstream.dsl.graph import Graph
from kstream.dsl.lifespan import check_lifespan
from kstream.dsl.policies import dead_letters, policies
from kstream.dsl.stream import Grouped, Stream
from kstream.dsl.table import ReadableTable, Table, default_factory
from kstream.dsl.topics import Topics
from kstream.errors import TopologyError
from kstream.runtime.task.context import Worker
from kstream.specs.config import check_changelog
from kstream.specs.global_table import GlobalSpec
from kstream.specs.listener import CheckpointListener, CheckpointListeners
from kstream.specs.names import LONGEST_APP, check_name
from kstream.specs.schema import Kind, schema
from kstream.specs.store import BackendKind, Scope, StoreSpec, check_backend
from kstream.specs.topic import Topic
from kstream.topology import Topology

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from kstream.config import Settings
    from kstream.runtime.instance.supervisor import Supervisor
    from kstream.specs.policy import Policy
    from kstream.specs.restart import RestartStrategy
    from kstream.specs.snapshots import Snapshots
    from kstream.specs.ttl import TTL
    from kstream.web.client import AsyncQuery, Query

K = TypeVar("K")
V = TypeVar("V")
C = TypeVar("C", bound=CheckpointListener)
L = TypeVar("L", bound=Callable[[Worker], AsyncIterator[None]])


class App(Topics):
    """A service: topics, streams, tables and agents under one name. Declaring does no I/O.

    Args:
        name: names the consumer group and all internal topics: choose it once. The environment may give it another
            (`KSTREAM_APP_NAME`), and a prefix to all names (`KSTREAM_TOPIC_PREFIX`): docs/tenants.md.
        restart: what is done about workers and tasks that fail (kstream/specs/restart.py): `ExponentialDelay`,
            `FixedDelay`, `FailureRate` or `NoRestart`. None is `ExponentialDelay()`. It stands for the settings
            `restart_*`: environment, file and command line override it, each setting by itself.
        on_error: what is done about a record that fails: `Retry`, `DeadLetter`, `Skip`, `Fail` (specs/policy.py), the
            first that fits. None fits: `Fail`. Streams and agents may have policies of their own.
        snapshots: where snapshots of state are kept and when they are taken (kstream/specs/snapshots.py), or only their
            URL; None: there are none. It stands for the settings `snapshot*`, as `restart` does for its.
        on_large_state: what is done about large entries of state, where their table says nothing (see `table`).
        settings: defaults for this app, by the names of `kstream.config.Settings`
            (environment, file and command line override them).

    Raises:
        TopologyError: the name cannot be one, or a policy can never decide.
        ConfigError: `restart` or `snapshots` is none, or settings that it stands for are given beside it.
    """

    def __init__(
        self,
        name: str,
        *,
        restart: RestartStrategy | None = None,
        on_error: Sequence[Policy] = (),
        snapshots: Snapshots | str | None = None,
        on_large_state: Callable[[Any, Any], Any] | None = None,
        **settings: Any,
    ) -> None:
        check_name(name, "app", LONGEST_APP)
        self.names = names_of(name, settings)
        self.name = self.names.app
        check_name(self.name, "app", LONGEST_APP)
        self.overrides: Mapping[str, Any] = settings
        if restart is not None:
            from kstream.specs.restart import overrides_of

            self.overrides = overrides_of(restart, settings)
        if snapshots is not None:
            from kstream.specs import snapshots as specs

            self.overrides = specs.overrides_of(snapshots, self.overrides)
        self._on_error = policies(on_error, "on_error", self.names)
        self._on_large_state = check_large(on_large_state, f"app {name!r}")
        self.lifespan_function: Callable[[Worker], AsyncIterator[None]] | None = None
        self.checkpoint_listeners = CheckpointListeners()
        self._graph = Graph(self.names)

    def __repr__(self) -> str:
        return f"App({self.name!r})"

    # ---- declarations

    def stream(
        self, topic: Topic[K, V], *, group: str | None = None, on_error: Sequence[Policy] | None = None
    ) -> Stream[K, V]:
        """The records of a topic.

        Args:
            group: the isolation group of what is done with them, as Flink's slot-sharing groups: a consumer group and
                workers of its own. What comes behind a repartition inherits it.
            on_error: what is done about records that fail here and behind it, instead of the app's.
        """
        own = None if on_error is None else policies(on_error, "app.stream: on_error", self.names)
        return Stream(self._graph, self._graph.source(topic, group, own))

    @overload
    def table(
        self, name: str, *, key: Kind[K], value: Kind[V], default: Callable[[], V] | V | None = None,
        scope: Scope = "keyed", changelog: Mapping[str, str] | None = None, backend: BackendKind | None = None,
        ttl: TTL | None = None, on_large_state: Callable[[K, V], V | None] | None = None,
    ) -> Table[K, V]: ...  # fmt: skip
    @overload
    def table(
        self, name: str, *, key: Kind[K], value: TypeForm[V], default: Callable[[], V] | V | None = None,
        scope: Scope = "keyed", changelog: Mapping[str, str] | None = None, backend: BackendKind | None = None,
        ttl: TTL | None = None, on_large_state: Callable[[K, V], V | None] | None = None,
    ) -> Table[K, V]: ...  # fmt: skip
    def table(
        self,
        name: str,
        *,
        key: Any,
        value: Any,
        default: Any = None,
        scope: Scope = "keyed",
        changelog: Mapping[str, str] | None = None,
        backend: BackendKind | None = None,
        ttl: TTL | None = None,
        on_large_state: Callable[[Any, Any], Any] | None = None,
    ) -> Table[Any, Any]:
        """Declares a table: state that agents read and write, backed by the changelog `<app>-<name>-changelog`.

        Args:
            default: what a missing key reads as: a value, or a class or function that makes one.
            scope: "keyed": its key is the record's key; "partition": any key, private to the partition.
            changelog: Kafka's topic settings for its changelog, for when it is created (over those of the setting
                `changelog`). What kstream guarantees of changelogs cannot be changed.
            backend: where what is committed lies: "rocksdb", "memory" or "file"; None: where the app's setting says.
            ttl: how long an entry is kept after it was written last (specs/ttl.py); None: for ever.
            on_large_state: called with key and value of an entry that has more than `large_entry` bytes, before it is
                committed: returns the value to keep instead, or None to leave it. None: the app's.
        """
        if scope not in ("keyed", "partition"):
            raise TopologyError(f"table {name!r}: scope={scope!r} is neither 'keyed' nor 'partition'")
        keys = schema(key, f"the key of table {name!r}", key=True)
        config = check_changelog(changelog, f"table {name!r}: changelog")
        check_backend(backend, f"table {name!r}")
        large = check_large(on_large_state, f"table {name!r}")
        spec = StoreSpec(name, keys, schema(value, f"table {name!r}"), scope, config, backend, ttl, large)
        table: Table[Any, Any] = Table(spec, default_factory(default, spec))
        self._graph.store(spec, "table", "shorten it")
        return table

    @overload
    def global_table(self, topic: Topic[K, V | None], *, name: str | None = None) -> GlobalTable[K, V]: ...
    @overload
    def global_table(self, topic: Topic[K, V], *, name: str | None = None) -> GlobalTable[K, V]: ...
    def global_table(self, topic: Topic[Any, Any], *, name: str | None = None) -> GlobalTable[Any, Any]:
        """The last value of each key of a topic, of all its partitions, whole in each worker: for what is small, or
        changes seldom, and is looked up by any key. (Kafka Streams' `GlobalKTable`.)

        A worker begins when it has read the topic to its end, and follows it from then on. What a record finds is what
        is there when it is processed, whatever the times: processed again, it may find something later.

        Args:
            name: of the table; default: the topic's. Nothing in Kafka is called so.

        Raises:
            TopologyError: the topic is another app's, or such a table already, or the name is taken.
        """
        return declare_global(self._graph, topic, name)

    def agent(
        self,
        source: Topic[K, V] | Stream[K, V] | Grouped[K, V],
        *,
        to: Topic[Any, Any] | None = None,
        name: str | None = None,
        tables: Iterable[ReadableTable[Any, Any]] = (),
        group: str | None = None,
        on_error: Sequence[Policy] | None = None,
        timeout: float | None = None,
    ) -> AgentDecorator[K, V]:
        """Decorates a function over the values of `source`. An async generator (or coroutine) takes the stream and
        iterates over it for ever; a plain function takes one value and returns one result, a `Record`, or None for
        nothing; a generator function takes one value and yields any number. A second parameter receives the context.
        Results go to `to`, with the input's key. Where it sets timers, `@the_agent.on_timer` says what is done when one
        is due (`kstream.Agent.on_timer`).

        Args:
            tables: tables that the function uses and that cannot be seen in its code.
            group: the isolation group in which it runs (see `stream`).
            on_error: what is done about records that fail in it, instead of the stream's or the app's.
            timeout: seconds that an async agent may take for a record; then it is cancelled, and the record has failed
                with `kstream.errors.AgentTooSlow`. None: no limit.
        """
        own = None if on_error is None else policies(on_error, "app.agent: on_error", self.names)
        return AgentDecorator(self._graph, source, to, name, tables, group, own, timeout)

    def lifespan(self, function: L) -> L:
        """Decorates an async generator that prepares what a worker needs (clients, models) before its `yield`, puts
        it on `worker.state`, and releases it after. Runs once per worker.

        Raises:
            TopologyError: the app has one already, or it is something else.
        """
        if self.lifespan_function is not None:
            raise TopologyError(f"app {self.name!r} has two lifespans: make them one function")
        check_lifespan(function, self.name)
        self._graph.declared()
        self.lifespan_function = function
        return function

    # ---- what is asked of it

    def query(self, *, urls: Sequence[str] = (), timeout: float = 10.0, settings: Settings | None = None) -> Query:
        """Asks the app's running instances for committed state (they need the setting `state_queries`): interactive
        queries, as Kafka Streams has them. From any process that has these declarations.

        Args:
            urls: of instances; without any, they are found through Kafka.
            timeout: seconds for which a question is tried again while its partition moves.
            settings: where Kafka is, and the token (`web_token`, which all instances share); otherwise environment,
                `kstream.toml` and `App(...)` are read.

        Raises:
            ConfigError: there is no token.
        """
        from kstream.querying import query

        return query(self.topology(), self._resolve(None, settings, None)[0], urls, timeout)

    def async_query(
        self, *, urls: Sequence[str] = (), timeout: float = 10.0, settings: Settings | None = None
    ) -> AsyncQuery:
        """The same for programs with an event loop: call it there, and await what it answers."""
        from kstream.querying import async_query

        return async_query(self.topology(), self._resolve(None, settings, None)[0], urls, timeout)

    def on_checkpoint_complete(self, function: C) -> C:
        """Decorates a function that is told of each checkpoint that is complete (Flink's notifyCheckpointComplete): a
        `kstream.Checkpoint`. It is called in the worker that made it, on a thread of its own, so tables cannot be used
        in it. What it raises is logged and ends nothing; a process that dies may have told nobody.

        Raises:
            TopologyError: it is async, or cannot be called with one argument.
        """
        return self._listens(self.checkpoint_listeners.complete, function, "on_checkpoint_complete")

    def on_checkpoint_aborted(self, function: C) -> C:
        """The same of each that was begun and did not succeed; `error` of the `kstream.Checkpoint` says why."""
        return self._listens(self.checkpoint_listeners.aborted, function, "on_checkpoint_aborted")

    def _listens(self, to: list[CheckpointListener], function: C, by: str) -> C:
        called(function, by)
        check_takes(function, 1)
        self._graph.declared()
        to.append(function)
        return function

    # ---- what it becomes

    def topology(self) -> Topology:
        """The graph of what was declared so far.

        Raises:
            TopologyError: it cannot run.
        """
        self._graph.look_again()
        topics = list(self._graph.topics.values())
        own = (one for node in self._graph.nodes for one in node.on_error or ())
        topics += dead_letters((*self._on_error, *own), self.name, self._graph.topics)
        tables = [one for one in self._graph.stores if isinstance(one, GlobalSpec)]
        return build(self.name, self._graph.nodes, topics, self._on_error, self._on_large_state, tables)

    def run(
        self,
        *,
        workers: int | str | None = None,
        settings: Settings | None = None,
        target: str | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> int:
        """Runs the app until SIGTERM or SIGINT. Returns the exit status. Within a running event loop it is waited for
        too: that loop stands still meanwhile. In a thread other than the main one it gets no signals, and runs until
        the main thread ends: wait for it there.

        Args:
            workers: processes for each isolation group; "1..4" follows the load; 0 runs a group in this process, where
                the first failing record raises.
            settings: as resolved by the command line; otherwise environment, `kstream.toml` and `App(...)` are read.
            target: `module:attribute` under which workers load the app; found by itself for a module's attribute.
            sources: where each of `settings` comes from, for the status page.

        Raises:
            UsageError: something to mend, in one line.
            RestartsExhausted: a worker or a task failed more often than its restart strategy allows, in one line.
            ProcessingError: a record failed (in this process only).
        """
        from kstream.config.loading import refuse_while_loading
        from kstream.runtime.instance.caller import ONE_LINE, Interrupted, end_in_one_line, main_thread_needed

        refuse_while_loading("app.run()")
        try:
            with main_thread_needed():
                settings, sources = self._resolve(workers, settings, sources)
                if settings.workers == 0:
                    from kstream.starting import run_here

                    topology = self.topology()
                    tell_untyped(topology)
                    return run_here(self, topology, settings)
                with self.supervisor(settings=settings, target=target, sources=sources) as supervisor:
                    return supervisor.run()
        except ONE_LINE:
            end_in_one_line()
            raise
        except KeyboardInterrupt as error:
            end_in_one_line()
            raise Interrupted from error

    @contextmanager
    def supervisor(
        self,
        *,
        workers: int | str | None = None,
        settings: Settings | None = None,
        target: str | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> Iterator[Supervisor]:
        """The supervisor of this app, with its topics made, its name claimed and its status page served, not started
        yet.

        For programs that run a service beside other things; arguments and errors are those of `run`. Workers that
        still run at the end are killed.
        """
        from kstream.config.loading import refuse_while_loading
        from kstream.runtime.process.early import beginning

        refuse_while_loading("app.supervisor()")
        settings, sources = self._resolve(workers, settings, sources)
        topology = self.topology()
        tell_untyped(topology)
        with beginning():
            from kstream.runtime.process.program import program_of
            from kstream.starting import supervised

            program = program_of(self, topology, self._graph.modules, target)
            with supervised(program, topology, settings, sources) as supervisor:
                yield supervisor

    def _resolve(
        self, workers: int | str | None, settings: Settings | None, sources: Mapping[str, str] | None
    ) -> tuple[Settings, Mapping[str, str]]:
        """The settings given, or those of environment and file, with `workers` where it is given."""
        if settings is not None:
            self.names.check(settings)
            return (settings if workers is None else replace(settings, workers=workers)), sources or {}
        from kstream.config.sources import resolve_settings

        overrides: dict[str, Any] = {} if workers is None else {"workers": workers}
        file = Path("kstream.toml")
        resolved = resolve_settings(self.overrides, overrides, file if file.exists() else None)
        self.names.check(resolved[0])
        return resolved
