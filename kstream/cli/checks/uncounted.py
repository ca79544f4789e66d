"""Parts without state whose committed offsets were lost: what they wrote before was counted, and would be again. The
start of their tasks stops there, as it does where state is left without offsets."""

from __future__ import annotations

from functools import partial

from kstream.runtime.cluster.metadata import counted_without_offsets
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.records import TIMEOUT
from kstream.runtime.cluster.regroup import Offsets, answer
from kstream.runtime.worker.downstream import Downstream
from kstream.topology import SubTopology, Topology
from kstream.types import AdminClient, TopicPartition


def uncounted(topology: Topology, admin: AdminClient) -> list[str]:
    """A line for each such task. Raises KafkaUnavailable, TopicError."""
    counts = {name: info.partitions for name, info in admin.topics(TIMEOUT).items()}
    downstream = Downstream(topology, counts)
    parts = (part for part in topology.parts if not part.stores)  # of those with state more is known
    return [line for part in parts for line in _lines(part, topology.app, counts, downstream, admin)]


def _lines(
    part: SubTopology, app: str, counts: dict[str, int], downstream: Downstream, admin: AdminClient
) -> list[str]:
    if not downstream.is_to_ask(part, {}):
        return []
    found: Offsets = {}
    for group, at in downstream.to_ask(part, {}).items():
        committed: Offsets = answer(
            partial(admin.committed, group, at, stable=False), f"the committed offsets of group {group}"
        )
        found |= committed
    topics = downstream.counted(part, found)
    behind = downstream.changelogs(topics)
    if not behind or not any(answer(lambda: admin.end_offsets(behind), "the ends of changelogs").values()):
        return []
    group = consumer_group(app, part.group)
    inputs = [source.topic.name for source in part.sources]
    return [
        counted_without_offsets(
            f"{part.name}/{number}", topics, group, [TopicPartition(name, number) for name in inputs]
        )
        for number in range(max((counts.get(name, 0) for name in inputs), default=0))
    ]
