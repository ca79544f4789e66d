"""The nodes declared so far, and the names they are found by."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from kstream.config.kinds import GROUP_NAME
from kstream.dsl.deployed import Names
from kstream.dsl.functions import called, name_of, wants_context, wants_timers
from kstream.dsl.table import ReadableTable, check_tables
from kstream.dsl.uses import tables_used
from kstream.errors import TopologyError
from kstream.specs.global_table import GlobalSpec
from kstream.specs.names import check_derived, check_name, cut
from kstream.specs.schema import Schema, with_none
from kstream.specs.steps import Step
from kstream.specs.store import StoreSpec, check_backend
from kstream.specs.topic import Topic, check_topic
from kstream.topology import (
    DEFAULT_GROUP,
    AgentNode,
    AggregateNode,
    Node,
    OutsideNode,
    SinkNode,
    SourceNode,
    StatelessNode,
    changelog_of,
    with_all_before,
)

if TYPE_CHECKING:
    from kstream.specs.policy import Policy
    from kstream.specs.sink import BatchingSink


class Graph:
    """Collects nodes and topics of one app."""

    def __init__(self, names: Names) -> None:
        self.names, self.app = names, names.app
        self.nodes: list[Node] = []
        self.topics: dict[str, Topic[Any, Any]] = {}
        self._stores: dict[str, StoreSpec] = {}
        self.modules: dict[str, None] = {}  # those whose import declares something, in order
        self._sources: dict[tuple[str, str | None], SourceNode] = {}

    def declared(self) -> None:
        """Something is declared. The module that is imported meanwhile (or the program) is remembered: workers load it
        too."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_name != "<module>":
            frame = frame.f_back
        if frame is None:
            return
        name = frame.f_globals["__name__"]
        # code that is run by exec (a test's or notebook's process) is no module, and cannot be imported by others
        if getattr(sys.modules.get(name), "__dict__", None) is frame.f_globals:
            self.modules[name] = None

    def topic(self, topic: Topic[Any, Any]) -> None:
        check_name(topic.name, "topic")
        self.declared()
        if (other := self.topics.get(topic.name)) is not None and other.internal is not topic.internal:
            raise TopologyError(f"topic {topic.name!r}: a group of the app keeps its records there: take another name")
        if other is not None:
            raise TopologyError(f"topic {topic.name!r} is declared twice: declare it once and share the object")
        self.topics[topic.name] = topic

    def source(
        self, topic: Topic[Any, Any], group: str | None = None, on_error: tuple[Policy, ...] | None = None
    ) -> SourceNode:
        """The one node that reads this topic, in an isolation group.

        Raises:
            TopologyError: this is no topic, the group's name cannot be one, or the topic is read with other policies.
        """
        check_topic(topic, "app.stream")
        given: Any = group
        if given is not None and not (isinstance(given, str) and re.fullmatch(GROUP_NAME, given)):
            raise TopologyError(
                f"group={group!r} cannot be an isolation group's name: use small letters, digits and '-'"
            )
        if group is None and not topic.internal:  # what reads an internal topic may inherit its writer's group
            group = DEFAULT_GROUP
        node = self._sources.get((topic.name, group))
        if node is None:
            name = self.names.declared(topic)
            node = SourceNode(name=name, parents=(), key=topic.key, value=topic.value, topic=topic, group=group)
            self._sources[topic.name, group] = node
            self.add(node)
        if on_error is not None:
            if node.on_error not in (None, on_error):
                raise TopologyError(
                    f"topic {topic.name!r} is read as a stream with two on_error=: a record is read once for all of "
                    "them; give one of them to the agents instead"
                )
            node.on_error = on_error
        return node

    def add(self, node: Node) -> None:
        self.declared()
        if not isinstance(node, AgentNode):  # it has none: those it begins with are in tables=
            node.own = len(node.stores)
        self._look(node, held=True)
        self.nodes.append(node)

    def timers(self, node: AgentNode, spec: StoreSpec, function: Callable[..., Any], *, yields: bool) -> None:
        """An agent has timers: they are kept there, and the function is called when they are due."""
        self.declared()
        self.store(spec, "timers", advice(node.name))
        node.stores, node.own, node.users = (spec, *node.stores), 1, (*node.users, function)
        node.on_timer = function, yields
        self._look(node, held=True)

    def look_again(self) -> None:
        """Functions may name tables that were declared after them: so they are looked for once more when all is
        declared. Without its table a node would be given records a batch at a time, behind which the table is.

        Raises:
            TopologyError: a function uses a table of another app, or an agent timers that nothing is done about.
        """
        for node in self.nodes:
            if isinstance(node, AgentNode) and node.on_timer is None and wants_timers(node.function):
                raise TopologyError(
                    f"agent {node.name!r} is declared with a TimerContext, and nothing says what is done when a timer "
                    f"is due: write @{name_of(node.function)}.on_timer over a function of (timer, ctx)"
                )
            self._look(node, held=False, again=True)
            held = [self._own(table.spec) for table in tables_used(*node.users)]
            node.held = tuple(spec for spec in held if not isinstance(spec, GlobalSpec))
            self._use(node, held)

    def _own(self, spec: StoreSpec) -> StoreSpec:
        """A global that a factory of apps binds means the table of its last app: here it is ours of that name."""
        return self._stores.get(spec.name, spec)

    def _look(self, node: Node, *, held: bool, again: bool = False) -> None:
        """Finds the tables that its functions use. A fold may use that of its own results; what a join looks up is
        found by the join already."""
        own, known = node.stores[: node.own], node.stores[node.own :]
        used = (table.spec for table in tables_used(*node.users, held=held))
        found = dict.fromkeys((*known, *(map(self._own, used) if again else used)))
        self._use(node, found)
        mine = (spec for spec in found if not isinstance(spec, GlobalSpec))
        node.stores = (*own, *(spec for spec in mine if spec not in own or isinstance(node, AggregateNode)))
        for spec in (*node.stores, *node.tables):
            if self._stores.get(spec.name) is not spec:
                raise TopologyError(
                    f"{node.name!r} uses the table {spec.name!r} of another app: each app has tables of its own; what "
                    "another app knows is read from a topic, or asked for by app.query()"
                )

    @staticmethod
    def _use(node: Node, found: Iterable[StoreSpec]) -> None:
        """Of the tables that a node uses the global ones join no parts: each worker has them whole."""
        whole = (spec for spec in found if isinstance(spec, GlobalSpec))
        node.tables = tuple(dict.fromkeys((*node.tables, *whole)))

    def step(
        self,
        parent: Node,
        step: Step,
        function: Callable[..., Any],
        key: Schema | None,
        value: Schema | None,
        tables: Iterable[ReadableTable[Any, Any]] = (),
    ) -> StatelessNode:
        """A stateless step; keys and values have the parent's types where none are given. It uses `tables`, and those
        that its function shows."""
        node = StatelessNode(
            name=self.child_name(parent, step.value),
            parents=(parent,),
            key=key or parent.key,
            value=value or parent.value,
            users=(function, *check_tables(tables, f"{step.value}({name_of(function)})")),
            step=step,
            function=function,
            wants_context=wants_context(function),
        )
        self.add(node)
        return node

    def sink(self, parent: Node, topic: Topic[Any, Any]) -> None:
        check_topic(topic, "to")
        self.add(
            SinkNode(
                name=self.names.declared(topic), parents=(parent,), key=parent.key, value=parent.value, topic=topic,
                stores=(),
            )
        )  # fmt: skip

    def outside(self, parent: Node, sink: BatchingSink, name: str | None) -> None:
        """The records of `parent` leave Kafka.

        Raises:
            TopologyError: this is no sink, it is used already, or it needs offsets and these records have none.
        """
        from kstream.specs.sink import check_sink

        check_sink(sink)
        made = self.child_name(parent, "sink") if name is None else name
        check_name(made, "sink", math.inf)
        for before in with_all_before(parent) if sink.needs_offsets else ():
            if before.timing.late:
                advice = (
                    "declare it emit='update', or write by key" if isinstance(before, AggregateNode) else "write by key"
                )
                raise TopologyError(
                    f"sink {made!r} needs the offset of each record, and the changes of {before.name!r} have none: "
                    f"{advice}"
                )
        sink.app, sink.name = self.app, made
        self.add(OutsideNode(name=made, parents=(parent,), key=parent.key, value=parent.value, sink=sink))

    def store(self, spec: StoreSpec, what: str, advice: str) -> None:
        """Takes the name of a store, and of its changelog, where it has one.

        Args:
            what: the store is: "table", "count".
            advice: what to do about a name that is too long.
        """
        check_name(spec.name, what, math.inf)
        if not isinstance(spec, GlobalSpec):
            check_derived(changelog_of(self.app, spec), f"{what} {cut(spec.name)}: its changelog", advice)
        if spec.name in self._stores:
            raise TopologyError(f"two declarations of the store {spec.name!r}: give one of them another name=")
        self._stores[spec.name] = spec

    @property
    def stores(self) -> list[StoreSpec]:
        """All that were declared so far."""
        return list(self._stores.values())

    def has_store(self, name: str) -> bool:
        return name in self._stores

    def aggregation(
        self, parent: Node, step: str, name: str | None, backend: object, users: Iterable[Callable[..., Any]]
    ) -> str:
        """The name of an aggregation: as given, or from the path of declarations.

        Raises:
            TopologyError: one of the user's functions cannot be called, or that is no backend.
        """
        for function in users:
            called(function, step)
        made = self.child_name(parent, step) if name is None else name
        check_backend(backend, f"{step} {made!r}")
        return made

    def group_name(self, name: str | None, parent: Node, step: str) -> str:
        """The name of a group whose records travel: as given, or from the path of declarations.

        Raises:
            TopologyError: there can be no repartition topic of that name.
        """
        made = self.child_name(parent, step) if name is None else name
        check_name(made, "group", math.inf)
        check_derived(self._repartition(made), f"group {cut(made)}: its repartition topic", advice(name))
        return made

    def repartition(
        self,
        parent: Node,
        name: str,
        parallelism: int | None,
        group: str | None,
        key: Schema | None = None,
    ) -> SourceNode:
        """Writes what `parent` emits to an internal topic, by its key, and reads it back. `key`: how keys are written
        there, where it is not as `parent` has them."""
        topic: Topic[Any, Any] = Topic(
            self._repartition(name), key or parent.key, with_none(parent.value), partitions=parallelism, internal=True
        )
        if topic.name in self.topics and self.topics[topic.name].internal:
            raise TopologyError(
                f"two groups are called {cut(name)}: give one of them a name= of its own, or group once and use the "
                "group twice"
            )
        self.topic(topic)
        self.sink(parent, topic)
        return self.source(topic, group)

    def _repartition(self, name: str) -> str:
        return f"{self.app}-{name}-repartition"

    def child_name(self, parent: Node, step: str) -> str:
        """A name from the path of declarations. Names of what keeps data are never made from ordinals, and say the
        app's name once: that of an internal topic begins with it, and so does that of a changelog."""
        internal = isinstance(parent, SourceNode) and parent.topic.internal
        return f"{parent.name.removeprefix(f'{self.app}-') if internal else parent.name}-{step}"


def advice(name: str | None) -> str:
    """What to do about a name that is too long: one that was given, or made."""
    return "give it a name=" if name is None else "give it a shorter name="
