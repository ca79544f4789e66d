"""What is done once, before workers start: the topics the topology needs, and how many partitions each has."""

from __future__ import annotations

from kstream.config import Settings
from kstream.errors import TopologyError
from kstream.runtime.topics import WantedTopic, ensure_topics
from kstream.topology import SinkNode, SubTopology, Topology
from kstream.types import TopicMaker


def prepare_topics(topology: Topology, admin: TopicMaker, settings: Settings, timeout: float = 15.0) -> dict[str, int]:
    """Creates or checks every topic. Returns the partition count of each.

    Order matters: a repartition topic without a parallelism of its own has as many partitions as the input of the
    part that writes it, and a changelog as many as the part that has the store.

    Raises:
        TopicError: a topic is missing or does not fit. TopologyError: inputs of one part differ in partitions.
        KafkaUnavailable: the cluster does not answer.
    """

    def ensure(wanted: list[WantedTopic]) -> None:
        counts.update(
            ensure_topics(
                admin,
                wanted,
                auto_create=settings.auto_create_topics,
                replication=settings.replication_factor,
                default_partitions=settings.default_partitions,
                timeout=timeout,
            )
        )

    counts: dict[str, int] = {}
    ensure(_user_topics(topology))
    waiting = [part for part in topology.parts]
    while waiting:
        part = next((part for part in waiting if _known(part, counts)), None)
        if part is None:
            names = ", ".join(part.name for part in waiting)
            raise TopologyError(f"repartition topics feed each other in a circle ({names}): give one parallelism=")
        waiting.remove(part)
        inputs = {topic: counts[topic] for topic in part.topics}
        if len(set(inputs.values())) > 1:
            shown = ", ".join(f"{topic} has {count}" for topic, count in inputs.items())
            raise TopologyError(
                f"the inputs of one sub-topology must have equal partition counts: {shown}; repartition one of them"
            )
        count = next(iter(inputs.values()))
        internal = [
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
        ensure([*internal, *changelogs])
    return counts


def _known(part: SubTopology, counts: dict[str, int]) -> bool:
    return all(topic in counts for topic in part.topics)


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
