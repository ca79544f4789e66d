"""What is done once, before workers start: the topics the topology needs, and how many partitions each has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from kstream.config import Settings
from kstream.config.exposure import exposures
from kstream.errors import KStreamError, TopicError, TopologyError
from kstream.runtime.cluster.dead_letters import letter_topics
from kstream.runtime.cluster.fitting import misfits
from kstream.runtime.cluster.forgotten import forgotten
from kstream.runtime.cluster.retention import created_config, forgetting, mending, too_short
from kstream.runtime.cluster.sizes import Finding, large_enough, needs, too_small
from kstream.runtime.cluster.topics import INTERNAL, WantedTopic, check_topics, ensure_topics
from kstream.table_nodes import TableJoinNode
from kstream.topology import SinkNode, SubTopology, Topology, with_all_before
from kstream.types import AdminClient, TopicInfo, TopicMaker

log = logging.getLogger(__name__)

COMPACTED: Final = {"cleanup.policy": "compact"}
"""What topics are made with that are nothing but the rows of a global table."""


def prepare_topics(
    topology: Topology,
    admin: TopicMaker,
    settings: Settings,
    timeout: float = 15.0,
    *,
    own: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Creates or checks every topic. Returns the partition count of each.

    A sub-topology whose inputs have other partition counts than its state does not keep the rest from running: the
    workers refuse its tasks (see `fitting`).

    Args:
        own: partitions with which repartition topics are made, where nobody declares them and they are not to have as
            many as what writes them.

    Raises:
        TopicError: a topic is missing or does not fit, or nothing is left to run.
        TopologyError: inputs of one part differ in partitions.
        KafkaUnavailable: the cluster does not answer.
    """

    wished = own or {}

    def ensure(wanted: Sequence[WantedTopic]) -> dict[str, int]:
        return ensure_topics(
            admin,
            [_as_set(replace(topic, made_with=wished.get(topic.name, topic.made_with)), settings) for topic in wanted],
            auto_create=settings.auto_create_topics,
            replication=settings.replication_factor,
            default_partitions=settings.default_partitions,
            timeout=timeout,
        )

    there = admin.topics(timeout)
    counts = go_through(topology, ensure, there)
    refused = misfits(topology, counts)
    if len(refused) == len(topology.parts):
        raise TopicError("; ".join(refused.values()))
    if made := [f"{name} ({count})" for name, count in counts.items() if name not in there]:
        log.info("created topics, with partitions: %s", ", ".join(made))
    return counts


def check_user_topics(
    topology: Topology, admin: TopicMaker, settings: Settings, timeout: float = 15.0, *, but: Collection[str] = ()
) -> None:
    """Makes nothing.

    Args:
        but: topics that are left out: they will have other partitions.

    Raises:
        TopicError: a topic that is not the app's own is missing or does not fit, so that `prepare_topics` would fail.
    """
    wanted = [topic for topic in _user_topics(topology) if topic.name not in but]
    check_topics(admin, wanted, admin.topics(timeout), auto_create=settings.auto_create_topics, timeout=timeout)


def _as_set(topic: WantedTopic, settings: Settings) -> WantedTopic:
    """With what settings say of internal topics; what is declared comes first."""
    if topic.kind not in INTERNAL:
        return topic
    app_wide = settings.changelog if topic.kind == "changelog" else {}
    return replace(topic, config={**large_enough(settings), **app_wide, **topic.config})


def tell(
    topology: Topology, admin: AdminClient, counts: Mapping[str, int], settings: Settings, timeout: float = 5.0
) -> None:
    """Logs what there is to do, what cannot run, what nothing reads any more, which output topics would lose records at
    once, which internal ones would refuse large records, and what the settings leave open."""
    read = {name: None for part in topology.parts for name in part.topics}
    tasks = sum(counts[part.topics[0]] for part in topology.parts)
    log.info("%d tasks; reads, with partitions: %s", tasks, ", ".join(f"{name} ({counts[name]})" for name in read))
    for open_ in exposures(settings):
        log.warning("%s", open_)
    for line in misfits(topology, counts).values():
        log.error("%s; the other sub-topologies run", line)
    for line in forgotten(topology, admin, timeout):
        log.warning("%s", line)
    for line in forgetting_tables(topology, admin, timeout):
        log.warning("%s", line)
    for name, line in short_retention(topology, admin, counts, timeout).items():
        log.warning("%s; %s", line, mending(name))
    for found in small_topics(topology, admin, counts, settings, timeout).values():
        log.warning("%s; %s", *found)


def short_retention(topology: Topology, admin: TopicMaker, existing: Collection[str], timeout: float) -> dict[str, str]:
    """A line for each output topic that would lose records at once, by its name; none where that cannot be seen."""
    topics = [source.topic for part in topology.parts for source in part.sources]
    topics += [sink for part in topology.parts for sink in part.sinks]
    names = dict.fromkeys(topic.name for topic in topics if not topic.internal and topic.name in existing)
    names |= dict.fromkeys(name for name in letter_topics(topology) if name in existing)
    try:
        return too_short(topology, admin.topic_configs(list(names), timeout))
    except KStreamError as error:  # this user may lack the right to
        log.debug("the retention of the output topics cannot be read: %s", error)
        return {}


def forgetting_tables(topology: Topology, admin: TopicMaker, timeout: float) -> list[str]:
    """A line for each global table whose topic loses rows; none where that cannot be seen."""
    names = [table.topic.name for table in topology.tables]
    try:
        return forgetting(topology, admin.topic_configs(names, timeout)) if names else []
    except KStreamError as error:  # this user may lack the right to
        log.debug("the retention of the topics of global tables cannot be read: %s", error)
        return []


def small_topics(
    topology: Topology, admin: TopicMaker, existing: Collection[str], settings: Settings, timeout: float
) -> dict[str, Finding]:
    """What is to be told of each internal topic that refuses what may be sent, by its name; nothing where that cannot
    be seen."""
    needed = {name: need for name, need in needs(topology, settings).items() if name in existing}
    try:
        return too_small(needed, admin.topic_configs(list(needed), timeout)) if needed else {}
    except KStreamError as error:  # this user may lack the right to
        log.debug("the settings of changelogs and repartition topics cannot be read: %s", error)
        return {}


def go_through(
    topology: Topology,
    settle: Callable[[Sequence[WantedTopic]], Mapping[str, int]],
    there: Mapping[str, TopicInfo],
) -> dict[str, int]:
    """Gives every topic to `settle`, some at a time, which makes or looks at them and says how many partitions each
    has. Returns all counts.

    Order matters: a repartition topic without a parallelism of its own is made with as many partitions as the input of
    the part that writes it has (or as what is read together with it; that of a joined stream, as the table's), and a
    changelog with as many as the part that has the store. They keep what they were made with, whatever becomes of the
    inputs. What is known of them before, as they exist or are declared, is compared before one is made.

    Args:
        there: the topics that exist.

    Raises:
        TopologyError: inputs of one part differ in partitions, or repartition topics feed each other in a circle.
    """
    counts: dict[str, int] = dict(settle(_user_topics(topology)))
    told = _told(topology, counts, there)
    for part in topology.parts:
        _partitions(topology, part, told, there)
    waiting = [part for part in topology.parts]
    while waiting:
        known = [part for part in waiting if _known(part, counts)]
        if not known:  # two that ask and answer each other (a foreign-key join): what else they read says how many
            known = [part for part in waiting if any(source.topic.name in counts for source in part.sources)]
        if not known:
            names = ", ".join(part.name for part in waiting)
            raise TopologyError(f"repartition topics feed each other in a circle ({names}): give one parallelism=")
        part = next((part for part in known if not _before_the_table(topology, part, told)), known[0])
        waiting.remove(part)
        count = _partitions(topology, part, counts, there)
        assert count is not None  # an input of it is known
        made = settle(_internal_topics(topology, part, count, told))
        counts.update(made)
        told.update(made)
    return counts


def _told(topology: Topology, counts: Mapping[str, int], there: Mapping[str, TopicInfo]) -> dict[str, int]:
    """Partitions of the inputs, as far as they are known: of those that are not settled, as they exist, or else as they
    are declared."""
    told = dict(counts)
    for topic in (
        source.topic for part in topology.parts for source in part.sources if source.topic.name not in counts
    ):
        if (count := there[topic.name].partitions if topic.name in there else topic.partitions) is not None:
            told[topic.name] = count
    return told


def _before_the_table(topology: Topology, part: SubTopology, told: Mapping[str, int]) -> bool:
    """Whether a part writes a stream that is joined with a table, and nobody knows yet how many partitions the table's
    topic will have."""
    own = {node.topic.name for node in part.nodes if isinstance(node, SinkNode)}
    for reader in topology.parts:
        streams = {
            source.topic.name
            for node in reader.nodes
            if isinstance(node, TableJoinNode)
            for source in reader.sources
            if source in with_all_before(node)
        }
        tables = {source.topic.name for source in reader.sources} - streams
        if own & streams and tables - told.keys() - own:
            return True
    return False


def _known(part: SubTopology, counts: Mapping[str, int]) -> bool:
    """Of one that reads what it writes itself (a stream that is joined twice, by two keys), its other inputs say."""
    own = {node.topic.name for node in part.nodes if isinstance(node, SinkNode) and node.topic.internal}
    unknown = {source.topic.name for source in part.sources} - counts.keys()
    return not unknown or (unknown <= own and len(unknown) < len(part.sources))


def _partitions(
    topology: Topology, part: SubTopology, counts: Mapping[str, int], there: Mapping[str, TopicInfo]
) -> int | None:
    """How many the state of a part has, or where there is none yet, its inputs; None where that is not known."""
    for store in part.stores:
        if (state := there.get(topology.changelog(store))) is not None:
            return state.partitions
    names = [source.topic.name for source in part.sources]
    inputs = {name: counts[name] for name in names if name in counts}
    if len(set(inputs.values())) > 1:
        shown = ", ".join(f"{topic} has {count}" for topic, count in inputs.items())
        raise TopologyError(
            f"the inputs of one sub-topology must have equal partition counts: {shown}; repartition one of them"
        )
    return next(iter(inputs.values()), None)


def _internal_topics(topology: Topology, part: SubTopology, count: int, told: Mapping[str, int]) -> list[WantedTopic]:
    """The repartition topics that a part writes, its delay topics, and the changelogs of its stores."""
    repartition = [
        WantedTopic(
            name=node.topic.name,
            kind="repartition",
            partitions=node.topic.partitions,
            owner=node.name,
            made_with=_beside(topology, node.topic.name, told) or count,
        )
        for node in part.nodes
        if isinstance(node, SinkNode) and node.topic.internal
    ]
    changelogs = [
        WantedTopic(
            name=topology.changelog(store),
            kind="changelog",
            config=store.changelog,
            owner=store.name,
            made_with=count,
        )
        for store in part.stores
    ]
    delays = [
        WantedTopic(name=delay.topic, kind="delay", partitions=count, owner=delay.source) for delay in part.delays
    ]
    return [*repartition, *delays, *changelogs]


def _beside(topology: Topology, topic: str, told: Mapping[str, int]) -> int | None:
    """Partitions of what is read together with a repartition topic, as by a join: it needs as many. None where it is
    read alone, or that is not known yet."""
    others = {
        told[source.topic.name]
        for part in topology.parts
        if topic in part.topics
        for source in part.sources
        if source.topic.name != topic and source.topic.name in told
    }
    return max(others, default=None)


def _user_topics(topology: Topology) -> list[WantedTopic]:
    read = {source.topic.name for part in topology.parts for source in part.sources}
    rows = dict.fromkeys((table.topic.name for table in topology.tables if table.topic.name not in read), COMPACTED)
    read |= {table.topic.name for table in topology.tables}
    topics = {topic.name: topic for topic in topology.declared}
    kept_for = created_config(topology)
    for part in topology.parts:
        topics.update({source.topic.name: source.topic for source in part.sources})
        topics.update({topic.name: topic for topic in part.sinks})
    return [
        WantedTopic(
            name=topic.name,
            kind="source" if topic.name in read else "sink",
            partitions=topic.partitions,
            config={**kept_for.get(topic.name, {}), **rows.get(topic.name, {}), **topic.config},
            owner=topology.app,
        )
        for topic in topics.values()
        if not topic.internal
    ]
