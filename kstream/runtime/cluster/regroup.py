"""What is read in another isolation group than before goes on where it was.

Committed offsets belong to a consumer group. When an agent moves into another one its state stays as it is (changelogs
belong to the app), so to begin anew would count everything twice. Its offsets move with it, before the new group's
start, and never while somebody may still work under the old one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final, Protocol, TypeVar

from kstream.errors import AbortRequired, ConfigError, KafkaUnavailable
from kstream.runtime.cluster.naming import consumer_group
from kstream.topology import DEFAULT_GROUP, SubTopology, Topology
from kstream.types import TopicPartition

log = logging.getLogger(__name__)

T = TypeVar("T")
Offsets = dict[TopicPartition, tuple[int, str] | None]

TIMEOUT: Final = 15.0
RETRY_SECONDS: Final = 0.05
"""Between two questions for offsets on which a transaction is pending: a commit takes about so long."""
LAST_SECONDS: Final = 1.0
"""For a question that is asked just before the time is up."""


class GroupAdmin(Protocol):
    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Future[Offsets]: ...
    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]: ...
    def members(self, group: str) -> Future[frozenset[str]]: ...
    def set_committed(self, group: str, offsets: Mapping[TopicPartition, tuple[int, str]]) -> Future[None]: ...


def take_offsets_along(
    topology: Topology, isolations: Sequence[str], partitions: Mapping[str, int], admin: GroupAdmin
) -> None:
    """Looks at all sub-topologies of some isolation groups. One whose consumer group never committed for it has moved,
    when that of another isolation group of the app did (one that it declares, or the default) and either reads its
    topics no longer, or this has been at work before: its changelogs or repartition topics have records.

    Raises:
        ConfigError: the other consumer group has members still.
        KafkaUnavailable: the cluster does not answer.
    """
    for part in (part for isolation in isolations for part in topology.of_group(isolation).parts):
        at = [TopicPartition(topic, number) for topic in part.topics for number in range(partitions[topic])]
        others = [one for one in dict.fromkeys((DEFAULT_GROUP, *topology.groups)) if one != part.group]
        if not others or committed(admin, consumer_group(topology.app, part.group), at):
            continue
        for other in others:
            had = committed(admin, consumer_group(topology.app, other), at)
            reads_on = any(set(part.topics) & set(one.topics) for one in topology.of_group(other).parts)
            if had and (not reads_on or _has_worked(topology, part, partitions, admin)):
                _take(topology.app, part, other, had, admin)
                break


def _has_worked(topology: Topology, part: SubTopology, partitions: Mapping[str, int], admin: GroupAdmin) -> bool:
    own = [topology.changelog(store) for store in part.stores]
    own += [topic.name for topic in part.sinks if topic.internal]
    at = [TopicPartition(topic, number) for topic in own for number in range(partitions[topic])]
    return any(answer(lambda: admin.end_offsets(at), "the ends of changelogs").values())


def _take(
    app: str, part: SubTopology, other: str, offsets: Mapping[TopicPartition, tuple[int, str]], admin: GroupAdmin
) -> None:
    old, new = consumer_group(app, other), consumer_group(app, part.group)
    if answer(lambda: admin.members(old), f"the members of group {old}"):
        raise ConfigError(
            f"sub-topology {part.name} moves from consumer group {old} to {new}, but {old} still has members: stop all "
            f"instances that run it in {old}, wait until their sessions are over, and start this one again"
        )
    answer(lambda: admin.set_committed(new, offsets), f"whether group {new} has its new offsets")
    log.info(
        "sub-topology %s continues in consumer group %s, at the committed offsets of group %s", part.name, new, old
    )


def committed(admin: GroupAdmin, group: str, at: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
    """Where the group committed anything."""
    found = answer(lambda: admin.committed(group, at), f"the committed offsets of group {group}")
    return {each: offset for each, offset in found.items() if offset is not None}


def answer(ask: Callable[[], Future[T]], what: str) -> T:
    """Asked again while a transaction is pending, as one is now and then in an app that runs, and while the coordinator
    is not there yet, as on a new cluster.

    Raises:
        KafkaUnavailable: `what` was not to be had in time.
    """
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return ask().result(max(deadline - time.monotonic(), LAST_SECONDS))
        except (AbortRequired, KafkaUnavailable, FutureTimeout) as error:
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"{what} cannot be read: {str(error) or 'no answer in time'}") from error
        time.sleep(RETRY_SECONDS)
