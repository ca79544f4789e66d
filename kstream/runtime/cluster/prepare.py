"""What is done once, before workers start: the topics the topology needs, and how many partitions each has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kstream.config import Settings
from kstream.errors import TopologyError
from kstream.runtime.cluster.topics import WantedTopic, ensure_topics
from kstream.topology import SinkNode, SubTopology, Topology
from kstream.types import TopicMaker


def prepare_topics(topology: Topology, admin: TopicMaker, settings: Settings, timeout: float = 15.0) -> dict[str, int]:
    """Creates or checks every topic. Returns the partition count of each.

    Raises:
        TopicError: a topic is missing or does not fit. TopologyError: inputs of one part differ in partitions.
        KafkaUnavailable: the cluster does not answer.
    """

    def ensure(wanted: Sequence[WantedTopic]) -> dict[str, int]:
        return ensure_topics(
            admin,
            wanted,
            auto_create=settings.auto_create_topics,
            replication=settings.replication_factor,
            default_partitions=settings.default_partitions,
            timeout=timeout,
        )

    return go_through(topology, ensure)


def go_through(topology: Topology, settle: Callable[[Sequence[WantedTopic]], Mapping[str, int]]) -> dict[str, int]:
    """Gives every topic to `settle`, some at a time, which makes or looks at them and says how many partitions each
    has. Returns all counts.

    Order matters: a repartition topic without a parallelism of its own has as many partitions as the input of the
    part that writes it, and a changelog as many as the part that has the store.

    Raises:
        TopologyError: inputs of one part differ in partitions, or repartition topics feed each other in a circle.
    """
    counts: dict[str, int] = dict(settle(_user_topics(topology)))
    waiting = [part for part in topology.parts]
    while waiting:
        part = next((part for part in waiting if _known(part, counts)), None)
        if part is None:
            names = ", ".join(part.name for part in waiting)
            raise TopologyError(f"repartition topics feed each other in a circle ({names}): give one parallelism=")
        waiting.remove(part)
        counts.update(settle(_internal_topics(topology, part, _partitions(part, counts))))
    return counts


def _known(part: SubTopology, counts: Mapping[str, int]) -> bool:
    return all(topic in counts for topic in part.topics)


def _partitions(part: SubTopology, counts: Mapping[str, int]) -> int:
    """How many the inputs of a part have."""
    inputs = {topic: counts[topic] for topic in part.topics}
    if len(set(inputs.values())) > 1:
        shown = ", ".join(f"{topic} has {count}" for topic, count in inputs.items())
        raise TopologyError(
            f"the inputs of one sub-topology must have equal partition counts: {shown}; repartition one of them"
        )
    return next(iter(inputs.values()))


def _internal_topics(topology: Topology, part: SubTopology, count: int) -> list[WantedTopic]:
    """The repartition topics that a part writes, and the changelogs of its stores."""
    repartition = [
        WantedTopic(
            name=node.topic.name, kind="repartition", partitions=node.topic.partitions or count, owner=node.name
        )
        for node in part.nodes
        if isinstance(node, SinkNode) and node.topic.internal
    ]
    changelogs = [
        WantedTopic(name=topology.changelog(store), kind="changelog", partitions=count, owner=store.name)
        for store in part.stores
    ]
    return [*repartition, *changelogs]


def _user_topics(topology: Topology) -> list[WantedTopic]:
    read = {source.topic.name for part in topology.parts for source in part.sources}
    topics = {topic.name: topic for topic in topology.declared}
    for part in topology.parts:
        topics.update({source.topic.name: source.topic for source in part.sources})
        topics.update({topic.name: topic for topic in part.sinks})
    return [
        WantedTopic(
            name=topic.name,
            kind="source" if topic.name in read else "sink",
            partitions=topic.partitions,
            config=topic.config,
            owner=topology.app,
        )
        for topic in topics.values()
        if not topic.internal
    ]
