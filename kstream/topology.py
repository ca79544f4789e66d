"""The graph an app becomes: nodes, cut at topics into sub-topologies, validated and described.

A sub-topology is what one task runs for one partition: all nodes that hang together by edges or by a shared store.
Nodes hold declarations only; `building.py` cuts them, `making.py` turns them into operators.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kstream.specs.delay import Delay
from kstream.specs.schema import Schema
from kstream.specs.steps import AgentKind, Step
from kstream.specs.store import StoreSpec
from kstream.specs.timing import Timing
from kstream.specs.topic import Topic

if TYPE_CHECKING:  # most apps do without them
    from kstream.specs.global_table import GlobalSpec
    from kstream.specs.policy import Policy
    from kstream.specs.sessions import Session
    from kstream.specs.sink import BatchingSink
    from kstream.specs.windows import Windows


Emit = Literal["update", "commit", "close"]

DEFAULT_GROUP = "default"
"""The isolation group of what declares none."""


@dataclass(eq=False, kw_only=True)
class Node:
    """One step. `parents` are the nodes whose output it takes, in the order of its inputs: a source has none. `key` and
    `value` are the schemas of what it emits; `stores`: its `own`, so many, and those that its functions, `users`, use
    (dsl/graph.py); `held`: those in their objects too; `tables`: the global ones that it uses; `group`: as declared,
    with `on_error` None that of its input."""

    name: str
    parents: tuple[Node, ...]
    key: Schema
    value: Schema
    stores: tuple[StoreSpec, ...] = ()
    users: tuple[Any, ...] = ()
    own: int = 0
    held: tuple[StoreSpec, ...] = ()
    tables: tuple[GlobalSpec, ...] = ()
    group: str | None = None
    on_error: tuple[Policy, ...] | None = None
    by_column: ClassVar[bool] = False
    """Whether it uses `stores[0]` for a batch at once."""

    @property
    def may_send(self) -> bool:
        """Whether a function of it is given a context, by which it may send anywhere."""
        return bool(getattr(self, "wants_context", False))

    @property
    def writes(self) -> Sequence[Topic[Any, Any]]:
        """The topics that it is declared to write to."""
        return ()

    @property
    def timing(self) -> Timing:
        return Timing()

    @property
    def kind(self) -> str:
        return type(self).__name__.removesuffix("Node").lower()

    def describe(self) -> str:
        return f"{self.kind} {self.name}"


def with_all_before(node: Node) -> set[Node]:
    """A node, and all whose output comes to it within its sub-topology."""
    found, open_ends = {node}, [node]
    while open_ends:
        new = set(open_ends.pop().parents) - found
        found |= new
        open_ends.extend(new)
    return found


@dataclass(eq=False, kw_only=True)
class SourceNode(Node):
    topic: Topic[Any, Any]

    def describe(self) -> str:
        internal = " (internal)" if self.topic.internal else ""
        return f"source {self.topic.name}{internal}  key={self.key} value={self.value}"


@dataclass(eq=False, kw_only=True)
class StatelessNode(Node):
    step: Step
    function: Callable[..., Any]
    wants_context: bool

    @property
    def kind(self) -> str:
        return self.step.value


@dataclass(eq=False, kw_only=True)
class BranchNode(Node):
    """Asks predicates, each with whether it wants the context; its children are as many `WayNode`s and one more."""

    predicates: tuple[tuple[Callable[..., Any], bool], ...]

    @property
    def may_send(self) -> bool:
        return any(context for _, context in self.predicates)


@dataclass(eq=False, kw_only=True)
class WayNode(Node):
    """One way out of a branch."""


@dataclass(eq=False, kw_only=True)
class MergeNode(Node):
    """The records of all its parents."""


@dataclass(eq=False, kw_only=True)
class AggregateNode(Node):
    """Folds values into `stores[0]` by key.

    `initial()` is the accumulator of a key seen for the first time; it may be None, which only `fold` sees. With
    `windows` there is one for each window of a key, open until `grace` ms after its end; `merge` makes one of two, and
    records that are too late go to the topic `late`, where there is one; `early`: open windows tell each so many ms.
    """

    by_column = True

    initial: Callable[[], Any]
    fold: Callable[..., Any]
    wants_context: bool
    emit: Emit
    windows: Windows | Session | None = None
    grace: int = 0
    late: Topic[Any, Any] | None = None
    merge: Callable[[Any, Any], Any] | None = None
    early: int = 0

    @property
    def writes(self) -> Sequence[Topic[Any, Any]]:
        return () if self.late is None else (self.late,)

    @property
    def timing(self) -> Timing:
        late, wait = f"emit={self.emit!r}" * (self.emit != "update"), self.grace + getattr(self.windows, "gap", 0)
        return Timing(self.windows is not None, late, wait * (self.emit == "close"))

    def describe(self) -> str:
        windows = "" if self.windows is None else f" windows={self.windows} grace={timedelta(milliseconds=self.grace)}"
        late = "" if self.late is None else f" late={self.late.name}"
        return f"aggregate {self.name}  store={self.stores[0].name} emit={self.emit}{windows}{late}"


@dataclass(eq=False, kw_only=True)
class AgentNode(Node):
    """A user's agent; its outputs go to `to`. `timeout`: seconds for a record. `on_timer`: and whether it yields."""

    function: Callable[..., Any]
    agent: AgentKind
    wants_context: bool
    to: Topic[Any, Any] | None
    timeout: float | None = None
    on_timer: tuple[Callable[..., Any], bool] | None = None

    @property
    def writes(self) -> Sequence[Topic[Any, Any]]:
        return () if self.to is None else (self.to,)

    @property
    def timing(self) -> Timing:
        return Timing(self.on_timer is not None)

    def describe(self) -> str:
        uses = f"  tables={','.join(store.name for store in used)}" if (used := self.stores[self.own :]) else ""
        to, timers = f"  to {self.to.name}" if self.to else "", "" if self.on_timer is None else "  timers"
        return f"agent {self.name} ({self.agent.value}){uses}{timers}{to}"


@dataclass(eq=False, kw_only=True)
class SinkNode(Node):
    topic: Topic[Any, Any]

    @property
    def writes(self) -> Sequence[Topic[Any, Any]]:
        return (self.topic,)

    def describe(self) -> str:
        internal = " (internal)" if self.topic.internal else ""
        return f"to {self.topic.name}{internal}  key={self.topic.key} value={self.topic.value}"


@dataclass(eq=False, kw_only=True)
class RouteNode(Node):
    """Each record goes to the topic that a function chooses, one of the app's `topics`, which are by name."""

    function: Callable[..., Any]
    topics: Mapping[str, Topic[Any, Any]]
    wants_context: bool

    def describe(self) -> str:
        return f"to {self.name}  key={self.key} value={self.value}"


@dataclass(eq=False, kw_only=True)
class OutsideNode(Node):
    """The end of a chain outside Kafka."""

    sink: BatchingSink

    def describe(self) -> str:
        return f"outside {self.name}  {type(self.sink).__name__} size={self.sink.size}"


def _meet(users: Sequence[Node]) -> bool:
    """Whether a batch may come to two of the users of a store."""
    if len(users) > 1 and not all(node.by_column for node in users):
        return True
    sources = [one for node in users for one in with_all_before(node) if isinstance(one, SourceNode)]
    return len(sources) != len(set(sources))


@dataclass(eq=False)
class SubTopology:
    """What one task runs. `name` is that of its source topics, so it stays when other parts of the app change, with
    `@<group>` behind it in an isolation group of its own: several groups may read one topic."""

    nodes: list[Node]
    sources: list[SourceNode]
    stores: list[StoreSpec]
    group: str = DEFAULT_GROUP
    policies: list[tuple[Policy, ...]] = field(default_factory=list)
    """What is done about a record that fails at each of the nodes."""
    delays: list[Delay] = field(default_factory=list)
    """What it reads besides its sources: where such records wait, and come back from."""
    upstream: dict[str, str] = field(default_factory=dict)
    """Repartition topics that it reads and that carry time, each with an input of the tasks that write it."""
    carries: list[str] = field(default_factory=list)
    """Repartition topics into which it writes its time."""
    by_event: bool = False
    """Whether something goes by that, here or behind one of those; not, where only the order of inputs does."""

    @property
    def name(self) -> str:
        topics = "+".join(sorted(source.topic.name for source in self.sources))
        return topics if self.group == DEFAULT_GROUP else f"{topics}@{self.group}"

    @property
    def topics(self) -> list[str]:
        """All that it reads: its sources, and its delay topics behind them."""
        return [*(source.topic.name for source in self.sources), *(delay.topic for delay in self.delays)]

    @property
    def tables(self) -> list[GlobalSpec]:
        """The global tables that it uses."""
        return list(dict.fromkeys(table for node in self.nodes for table in node.tables))

    @property
    def by_time(self) -> list[Node]:
        """What goes by the time of its tasks."""
        return [node for node in self.nodes if node.timing.follows]

    @property
    def tells_time(self) -> bool:
        """Whether its tasks keep their event time."""
        return bool(self.by_time or self.carries or self.upstream)

    @property
    def sinks(self) -> list[Topic[Any, Any]]:
        """Topics that its nodes are declared to write to."""
        return [topic for node in self.nodes for topic in node.writes]

    @property
    def operator_names(self) -> list[str]:
        """One for each node, unique within the sub-topology: what metrics and the status page call them."""
        names: list[str] = []
        for node in self.nodes:
            name = f"{node.kind} {node.name}"
            used = sum(1 for other in names if other == name or other.startswith(f"{name} #"))
            names.append(f"{name} #{used + 1}" if used else name)
        return names

    @property
    def one_at_a_time(self) -> bool:
        """Whether two nodes share a store, or one's functions use its own: then a record must pass all before the next.
        (Not where a join reads what others write, and no topic leads to both: a batch is of one topic.) Or a table
        expires in event time: it is used at that of one record. (An aggregation knows those of a whole batch.)"""
        users: dict[str, list[Node]] = defaultdict(list)
        for store, user in ((store, node) for node in self.nodes for store in node.stores):
            users[store.name].append(user)
        return any(_meet(nodes) for nodes in users.values()) or self._follows_events

    @property
    def _follows_events(self) -> bool:
        used = (store for node in self.nodes for store in node.stores[isinstance(node, AggregateNode) :])
        return any(store.ttl is not None and store.ttl.time == "event" for store in used)

    @property
    def merges_outputs(self) -> bool:
        """Whether two nodes may write to one topic: then their outputs are put in the order of the inputs. A function
        with a context, or one that chooses a topic, may write anywhere, so it counts against every other writer."""
        writers: list[str] = [topic.name for topic in self.sinks]
        free = sum(1 for node in self.nodes if isinstance(node, RouteNode) or node.may_send)
        return len(writers) != len(set(writers)) or (free > 0 and free + len(writers) > 1)


@dataclass(eq=False)
class Topology:
    """All sub-topologies of an app, or those of one of its isolation groups. `asked`: global tables that no function
    uses: they are there for queries, in the first group."""

    app: str
    parts: list[SubTopology]
    declared: list[Topic[Any, Any]] = field(default_factory=list)
    on_large_state: Callable[[Any, Any], Any] | None = None
    asked: list[GlobalSpec] = field(default_factory=list)

    def changelog(self, store: StoreSpec) -> str:
        return changelog_of(self.app, store)

    @property
    def tables(self) -> list[GlobalSpec]:
        """The global tables: each worker has them whole."""
        return list(dict.fromkeys((*(table for part in self.parts for table in part.tables), *self.asked)))

    def part_of(self, topic: str) -> SubTopology:
        """The one that reads the topic, in the topology of a single group."""
        return next(part for part in self.parts if topic in part.topics)

    @property
    def groups(self) -> list[str]:
        """The isolation groups that have something to run (Flink's slot-sharing groups), in order of declaration."""
        return list(dict.fromkeys(part.group for part in self.parts))

    def of_group(self, group: str) -> Topology:
        """What the workers of an isolation group run."""
        parts = [part for part in self.parts if part.group == group]
        asked = self.asked if group == self.groups[0] else []
        return Topology(self.app, parts, self.declared, self.on_large_state, asked)

    @property
    def within(self) -> float:
        """Seconds within which something is to be committed, on account of sinks outside Kafka; infinite without."""
        outside = (node for part in self.parts for node in part.nodes if isinstance(node, OutsideNode))
        return min((node.sink.timeout for node in outside), default=math.inf)

    @property
    def within_of_groups(self) -> dict[str, float]:
        """`within` of each isolation group: its workers commit as often, where that is less than `commit_interval`."""
        return {group: self.of_group(group).within for group in self.groups}

    def describe(self) -> str:
        """The topology as indented text: one block a sub-topology, one line a node."""
        lines = [f"Topology of {self.app}", *(f"\n  {table.describe()}" for table in self.asked)]
        for part in self.parts:
            lines.append(f"\n  Sub-topology {part.name}")
            if part.group != DEFAULT_GROUP:
                lines.append(f"    isolation group {part.group}")
            for store in part.stores:
                lines.append(
                    f"    store {store.name}  {store.scope}, key={store.key} value={store.value}, "
                    f"changelog {self.changelog(store)}" + ("" if store.ttl is None else f", kept {store.ttl}")
                )
            lines.extend(f"    {table.describe()}" for table in part.tables)
            children: dict[Node, list[Node]] = defaultdict(list)
            for node in part.nodes:
                for parent in dict.fromkeys(node.parents):  # a stream may be joined with itself
                    children[parent].append(node)
            told: set[Node] = set()

            def walk(
                node: Node, depth: int, children: dict[Node, list[Node]] = children, told: set[Node] = told
            ) -> None:
                again = node in told and bool(children[node])
                lines.append("    " + "  " * depth + ("-> " if depth else "") + node.describe() + " (above)" * again)
                told.add(node)
                for child in () if again else children[node]:
                    walk(child, depth + 1)

            for source in part.sources:
                walk(source, 0)
            lines.extend(f"    delay topic {one.topic}  {one.source} {one.seconds:g} s later" for one in part.delays)
        return "\n".join(lines)


def changelog_of(app: str, store: StoreSpec) -> str:
    """The topic behind a store."""
    return f"{app}-{store.name}-changelog"
