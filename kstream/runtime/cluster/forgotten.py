"""Delay topics that an app does not read any more: of delays that were changed, or of a policy that was taken away.

What lies there would never be processed, and nobody would hear of it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from concurrent.futures import TimeoutError as FutureTimeout

from kstream.building import delay_prefix
from kstream.errors import KStreamError
from kstream.runtime.cluster.naming import consumer_group
from kstream.topology import Topology
from kstream.types import AdminClient, TopicPartition

log = logging.getLogger(__name__)


def forgotten(topology: Topology, admin: AdminClient, timeout: float) -> list[str]:
    """A line for each that may have records which were not processed; none where that cannot be seen."""
    try:
        return list(_lines(topology, admin, timeout))
    except (KStreamError, FutureTimeout) as error:  # this user may lack the right to
        log.debug("delay topics that are not read any more cannot be looked at: %s", error)
        return []


def _lines(topology: Topology, admin: AdminClient, timeout: float) -> Iterator[str]:
    there = admin.topics(timeout)
    read = {topic for part in topology.parts for topic in part.topics}
    for part in topology.parts:
        for source in part.sources:
            names = re.compile(re.escape(delay_prefix(topology.app, part, source)) + r"\d+m?s")
            for name in sorted(name for name in there if name not in read and names.fullmatch(name)):
                at = [TopicPartition(name, number) for number in range(there[name].partitions)]
                if _waits(admin, consumer_group(topology.app, part.group), at, timeout):
                    yield (
                        f"topic {name} may have records of {source.topic.name} that were set aside, and nothing reads "
                        f"them any more: declare RetryLater with that delay until it is empty, or delete the topic"
                    )


def _waits(admin: AdminClient, group: str, at: Collection[TopicPartition], timeout: float) -> bool:
    """Whether there is something behind what the group has committed."""
    asked = admin.end_offsets(list(at)), admin.start_offsets(list(at))
    known = admin.committed(group, list(at)).result(timeout)
    ends, starts = (one.result(timeout) for one in asked)
    done = {one: 0 if (entry := known[one]) is None else entry[0] for one in at}
    return any(ends[one] > max(starts[one], done[one]) for one in at)
