"""From the declared nodes to a topology: checked, cut into sub-topologies, with isolation groups and policies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from kstream.errors import TopologyError
from kstream.specs.delay import Delay
from kstream.specs.names import check_derived, metric_name, own_topics
from kstream.specs.schema import UNKNOWN, told_apart
from kstream.specs.steps import Step
from kstream.specs.topic import Topic
from kstream.topology import (
    DEFAULT_GROUP,
    AgentNode,
    AggregateNode,
    MergeNode,
    Node,
    OutsideNode,
    SinkNode,
    SourceNode,
    StatelessNode,
    SubTopology,
    Topology,
    changelog_of,
    with_all_before,
)

if TYPE_CHECKING:  # most apps do without them
    from kstream.specs.global_table import GlobalSpec
    from kstream.specs.policy import Policy

log = logging.getLogger(__name__)

LEAVE_OUT = (Step.FILTER, Step.FLAT_MAP)
"""The steps that may give nothing of a record."""


def build(
    app: str,
    nodes: Sequence[Node],
    declared: Sequence[Topic[Any, Any]],
    on_error: tuple[Policy, ...] = (),
    on_large_state: Callable[[Any, Any], Any] | None = None,
    tables: Sequence[GlobalSpec] = (),
) -> Topology:
    """Cuts nodes into sub-topologies. `tables` are the global ones.

    Raises:
        TopologyError: nothing to run, two topics, processors or agents of one name, a sink whose types do not fit.
    """
    if not any(isinstance(node, SourceNode) for node in nodes):
        raise TopologyError(f"app {app!r} has nothing to run: declare a stream or an agent over a topic")
    _check_unique("topic", {id(topic): topic.name for topic in _topics(nodes, declared)}.values())
    _check_unique("sink", [node.name for node in nodes if isinstance(node, OutsideNode)])
    _check_unique("processor", [node.name for node in nodes if node.kind == "process"])
    _check_unique("agent", [node.name for node in nodes if isinstance(node, AgentNode)])
    for node in nodes:
        if isinstance(node, SinkNode):
            _check_fits(node.parents[0], node.topic)
            _check_ends(node)
        elif isinstance(node, AggregateNode) and node.late is not None:
            _check_fits(node.parents[0], node.late)
        elif isinstance(node, AgentNode):
            _check_windows(node)
    changelogs = {changelog_of(app, store): store for node in nodes for store in node.stores}
    for topic in _topics(nodes, declared):
        if topic.name in own_topics(app):
            raise TopologyError(f"topic {topic.name!r}: the app keeps its own data there: take another name")
        if topic.name in changelogs:
            raise TopologyError(
                f"topic {topic.name!r} is the changelog of the app's own {changelogs[topic.name].name!r}: nothing else "
                "may write it, and its form may change; take another name (the changes of an aggregation come by its "
                "stream())"
            )
    _check_metric_names([*(topic.name for topic in _topics(nodes, declared)), *changelogs])
    parts = [_part(connected) for connected in _connected(nodes)]
    _assign_times(parts)
    _assign_groups(parts)
    _assign_policies(parts, on_error)
    _assign_delays(app, parts, {topic.name for topic in _topics(nodes, declared)})
    _check_dead_letters(app, parts)
    asked = [table for table in tables if not any(table in part.tables for part in parts)]
    return Topology(app, parts, list(declared), on_large_state, asked)


def _topics(nodes: Iterable[Node], declared: Iterable[Topic[Any, Any]]) -> Iterable[Topic[Any, Any]]:
    yield from declared
    for node in nodes:
        if isinstance(node, SourceNode):
            yield node.topic
        yield from node.writes


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise TopologyError(f"two declarations of the {what} {name!r}: give one of them another name=")
        seen.add(name)


def _check_metric_names(topics: Iterable[str]) -> None:
    called: dict[str, str] = {}
    for topic in topics:
        other = called.setdefault(metric_name(topic), topic)
        if other != topic:
            raise TopologyError(
                f"topics {other!r} and {topic!r} differ only in '.' and '_', which are one to Kafka's metrics, so it "
                "makes only one of them: rename one"
            )


def _check_fits(node: Node, topic: Topic[Any, Any]) -> None:
    for side in ("key", "value"):
        have, want = getattr(node, side), getattr(topic, side)
        if not want.accepts(have):
            one, other = told_apart(have.kind, want.kind)
            raise TopologyError(
                f"{node.describe()} has {side}s of type {one}, but topic {topic.name!r} is declared {side}={other}"
            )


def _check_ends(sink: SinkNode) -> None:
    """A loop is for records that leave it some time: by a filter, a branch, an agent."""
    before: list[Node] = [sink]
    for node in before:  # it grows
        if isinstance(node, SourceNode) and node.topic is sink.topic:
            raise TopologyError(
                f"topic {sink.topic.name!r} is written with each record that is read of it, without end: write to "
                "another topic, or leave records out before (filter, branch)"
            )
        if isinstance(node, SinkNode | MergeNode | StatelessNode) and getattr(node, "step", None) not in LEAVE_OUT:
            before += [one for one in node.parents if one not in before]


def _check_windows(node: AgentNode) -> None:
    """Raises TopologyError where an agent has a table of windows, which it looks up by the keys of its records, and
    these are of no windows."""
    for store in node.stores:
        if store.holds == "windows" and not store.key.accepts(node.key):
            raise TopologyError(
                f"agent {node.name!r} reads {store.name!r}, whose keys are {store.key}, and its records have keys of "
                f"type {node.key}: a table of windows is read by agents over results of windows, and by app.query()"
            )


def _connected(nodes: Sequence[Node]) -> list[list[Node]]:
    """Groups of nodes connected by an edge or a shared store, in order of declaration."""
    group_of = {node: [node] for node in nodes}

    def join(a: Node, b: Node) -> None:
        one, other = group_of[a], group_of[b]
        if one is not other:
            one.extend(other)
            for node in other:
                group_of[node] = one

    users: dict[str, Node] = {}
    for node in nodes:
        for parent in node.parents:
            join(parent, node)
        for store in node.stores:
            join(users.setdefault(store.name, node), node)
    order = {node: index for index, node in enumerate(nodes)}
    groups = {id(group): group for group in group_of.values()}.values()
    return sorted((sorted(group, key=order.__getitem__) for group in groups), key=lambda group: order[group[0]])


def _part(nodes: list[Node]) -> SubTopology:
    sources = [node for node in nodes if isinstance(node, SourceNode)]
    stores = list({store.name: store for node in nodes for store in node.stores}.values())
    for node in nodes:  # what their objects hold joins no parts, and is theirs where it is here anyway
        here = (one for one in node.held if one in stores and one not in node.stores)
        node.stores += tuple(one for one in here if one.holds != "windows" or one.key.accepts(node.key))
    return SubTopology(nodes, sources, stores)


def _assign_times(parts: Sequence[SubTopology]) -> None:
    """Where something goes by time, or several inputs are read in the order of their times, the repartition topics
    before it carry time, and so do those before these. What a part writes to itself, by other parts too, holds nothing
    back: it would wait for what it says itself. A part within such a loop that has no other time is told that of those
    which lie before it on the way from users' topics, or its windows would never close.

    Raises:
        TopologyError: windows take the results of others that come later than their times.
    """
    writers = {topic.name: part for part in parts for topic in part.sinks if topic.internal}

    def before(part: SubTopology, seen: tuple[SubTopology, ...] = ()) -> set[str]:
        """The names of the parts that it reads from, and of those before them."""
        found = {writers[name].name for name in part.topics if name in writers and writers[name] not in seen}
        for name in part.topics:
            if name in writers and writers[name] not in seen:
                found |= before(writers[name], (*seen, part))
        return found

    for node in (node for part in parts for node in part.by_time):
        for other in with_all_before(node) - {node}:
            if other.timing.late:
                what = "windows of" if isinstance(node, AggregateNode) else node.kind
                raise TopologyError(
                    f"{what} {node.name!r}: the results of {other.name!r} come after their times have passed here "
                    f"({other.timing.late}), and would be too late; put repartition(name=...) between them"
                )
        if isinstance(node, AggregateNode) and node.late is not None and node.late.name in _read_for(node, parts):
            raise TopologyError(
                f"windows of {node.name!r}: late={node.late.name!r} is the topic that their records come from, so they "
                "would come again, late again, for ever: take another topic"
            )
    ways = _ways(parts, writers)

    def in_a_loop(source: SourceNode, part: SubTopology) -> bool:
        return source.topic.internal and (
            writers[source.topic.name] is part or part.name in before(writers[source.topic.name])
        )

    open_ends = [part for part in parts if part.by_time or len(part.sources) > 1]  # several are read by their times
    while open_ends:
        part = open_ends.pop()
        timeless = all(in_a_loop(source, part) for source in part.sources)
        for source in part.sources:
            if source.topic.internal and source.topic.name not in part.upstream:
                writer = writers[source.topic.name]
                if in_a_loop(source, part) and not (timeless and ways[writer.name] < ways[part.name]):
                    continue
                part.upstream[source.topic.name] = writer.topics[0]
                writer.carries.append(source.topic.name)
                open_ends.append(writer)
    open_ends = [part for part in parts if part.by_time]
    while open_ends:
        part = open_ends.pop()
        part.by_event = True
        open_ends += [writers[topic] for topic in part.upstream if not writers[topic].by_event]


def _ways(parts: Sequence[SubTopology], writers: dict[str, SubTopology]) -> dict[str, int]:
    """How many repartition topics lie between each part and the nearest topic of users, by the part's name."""
    found = {part.name: 0 for part in parts if not all(source.topic.internal for source in part.sources)}
    left = [part for part in parts if part.name not in found]
    for steps in range(1, len(parts) + 1):
        near = [part for part in left if any(writers[source.topic.name].name in found for source in part.sources)]
        found |= {part.name: steps for part in near}
        left = [part for part in left if part not in near]
    return found


def _read_for(node: Node, parts: Sequence[SubTopology]) -> set[str]:
    """The topics whose records come to a node, those that come through repartition topics too."""
    sinks = [one for part in parts for one in part.nodes if isinstance(one, SinkNode) and one.topic.internal]
    found, open_ends = cast("set[str]", set()), [node]
    while open_ends:
        sources = (one for one in with_all_before(open_ends.pop()) if isinstance(one, SourceNode))
        new = {source.topic.name for source in sources} - found
        found |= new
        open_ends += [sink for sink in sinks if sink.topic.name in new]
    return found


def _assign_groups(parts: Sequence[SubTopology]) -> None:
    """Gives each sub-topology its isolation group: the one that its nodes are declared with, else that of what writes
    its inputs (as Flink's slot-sharing groups are inherited), else the default.

    Raises:
        TopologyError: nodes of one sub-topology are declared with different groups.
    """
    writers = {
        node.topic.name: part
        for part in parts
        for node in part.nodes
        if isinstance(node, SinkNode) and node.topic.internal
    }

    def group_of(part: SubTopology, seen: tuple[SubTopology, ...] = ()) -> str:
        declared = {node.group: node for node in part.nodes if node.group is not None}
        if len(declared) > 1:
            said = " and ".join(f"{node.describe()} in {group!r}" for group, node in declared.items())
            raise TopologyError(
                f"one sub-topology cannot be in two isolation groups ({said}): they share a stream or a table; give "
                "app.stream() the group too, or put a group_by or a topic between them"
            )
        if declared:
            return next(iter(declared))
        found = {
            group_of(writers[topic], (*seen, part))
            for topic in part.topics
            if topic in writers and writers[topic] not in seen and writers[topic] is not part
        }
        return found.pop() if len(found) == 1 else DEFAULT_GROUP

    for part in parts:
        part.group = group_of(part)


def _assign_policies(parts: Sequence[SubTopology], default: tuple[Policy, ...]) -> None:
    """Gives each node its policies: its own, else those of what it reads, behind a repartition too, else the app's."""
    writers = {node.topic.name: node for part in parts for node in part.nodes if isinstance(node, SinkNode)}

    def policies_of(node: Node) -> tuple[Policy, ...]:
        if node.on_error is not None:
            return node.on_error
        before = node.parents
        if isinstance(node, SourceNode) and node.topic.internal:
            before = tuple(one for one in (writers.get(node.topic.name),) if one is not None)
        found = {policies_of(one): one for one in before}
        if len(found) > 1:
            said = " and ".join(f"{one.describe()} ({policies or 'none'})" for policies, one in found.items())
            raise TopologyError(
                f"{node.describe()}: what it takes has different on_error=, {said}, and a record that fails behind it "
                "can have only one: give the app on_error=, or both streams the same"
            )
        return next(iter(found), default)

    for part in parts:
        part.policies = [policies_of(node) for node in part.nodes]


def _check_dead_letters(app: str, parts: Sequence[SubTopology]) -> None:
    """Raises TopologyError where dead letters would go round in a circle, or among the app's own data."""
    own = {changelog_of(app, store) for part in parts for store in part.stores}
    own.update(source.topic.name for part in parts for source in part.sources if source.topic.internal)
    own.update(delay.topic for part in parts for delay in part.delays)
    for part in parts:
        for policy in dict.fromkeys(policy for policies in part.policies for policy in policies):
            topic = policy.dead_letters(app)
            if topic in part.topics:
                raise TopologyError(
                    f"DeadLetter({topic!r}): what reads that topic would write its dead letters to it, and fail at "
                    "them again and again: take another name"
                )
            if topic in own:
                raise TopologyError(f"DeadLetter({topic!r}): the app keeps its own data there: take another name")


def _assign_delays(app: str, parts: Sequence[SubTopology], others: set[str]) -> None:
    """Gives each sub-topology a delay topic for each of its sources and each delay that a policy behind it has.

    Args:
        others: names of topics that there are already.

    Raises:
        TopologyError: there can be no topic of such a name, or it is that of another topic.
    """
    taken = dict.fromkeys(others, "a declared topic")
    for part in parts:
        for source in part.sources:
            for seconds in sorted(_delays_behind(source, part)):
                delay = Delay(_delay_topic(app, part, source, seconds), source.topic.name, seconds)
                what = f"a delay topic of {delay.source}"
                check_derived(delay.topic, what, "give the app or the topic a shorter name")
                if (other := taken.setdefault(delay.topic, what)) is not what:
                    raise TopologyError(f"{what} is called {delay.topic!r}, and so is {other}: rename one topic")
                part.delays.append(delay)


def _delays_behind(source: SourceNode, part: SubTopology) -> set[float]:
    """Seconds, of the policies of a source and all that comes behind it."""
    below: set[Node] = {source}
    found: set[float] = set()
    for node, policies in zip(part.nodes, part.policies, strict=True):  # parents come before their children
        if node is source or not below.isdisjoint(node.parents):
            below.add(node)
            found.update(seconds for policy in policies for seconds in getattr(policy, "delays", ()))
    return found


def _delay_topic(app: str, part: SubTopology, source: SourceNode, seconds: float) -> str:
    """Two isolation groups may read one topic, and each has delays of its own."""
    length = f"{seconds:.0f}s" if seconds == int(seconds) else f"{seconds * 1000:.0f}ms"
    return f"{delay_prefix(app, part, source)}{length}"


def delay_prefix(app: str, part: SubTopology, source: SourceNode) -> str:
    """What the names of a source's delay topics begin with."""
    own = source.topic.name if source.topic.internal else f"{app}-{source.topic.name}"
    return f"{own}-retry-" if part.group == DEFAULT_GROUP else f"{own}-{part.group}-retry-"


def untyped(topology: Topology) -> list[str]:
    """What is kept as untyped JSON because nobody declared its type: a line for each store."""
    lines = []
    for store in dict.fromkeys(store for part in topology.parts for store in part.stores):
        unknown = [side for side in ("key", "value") if getattr(store, side).kind is UNKNOWN]
        if unknown:
            what, how = (" and ".join(form.format(side) for side in unknown) for form in ("{}s", "{}="))
            lines.append(
                f"table {store.name!r} keeps {what} of an undeclared type, as untyped JSON: "
                f"annotate the function's result, or declare {how}<type>"
            )
    return lines


def tell_untyped(topology: Topology) -> None:
    """Logs it: once, where an app starts."""
    for line in untyped(topology):
        log.warning("%s", line)
