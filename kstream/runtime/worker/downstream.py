"""Whether what a task once wrote was counted, where it has no state itself: a part that only prepares records for a
repartition.

Read from its start again, it writes them again, and they count twice in the stores behind. It has no state that could
tell, but the offsets of those who read the repartition topic do: they were committed after what came of its inputs. So
where no partition of its inputs has an offset, and partitions of the topic have been read, the offsets were lost.
Unless nothing was ever written to the changelogs behind: then what was read there were marks of time.

A single partition of an input without an offset may be one that never had records, so nothing is concluded from that
(docs/decisions/0021-lost-offsets-before-a-repartition.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kstream.runtime.cluster.naming import consumer_group
from kstream.topology import SubTopology, Topology
from kstream.types import DescribedTopic, TopicPartition


class Downstream:
    """Of an app's parts, those of all isolation groups: who reads a topic may be in another one.

    Args:
        counts: partitions of each topic.
    """

    def __init__(self, topology: Topology, counts: Mapping[str, int]) -> None:
        self._app, self._counts, self._topology = topology.app, counts, topology
        self._readers: dict[str, list[SubTopology]] = {}
        for part in topology.parts:
            for topic in part.topics:
                self._readers.setdefault(topic, []).append(part)
        self._leading = {part.name: self._to_state(part) for part in topology.parts}

    def leading(self, part: SubTopology) -> list[str]:
        """The app's own topics into which it writes what is counted behind it."""
        return self._leading[part.name]

    def is_to_ask(self, part: SubTopology, found: Mapping[TopicPartition, object | None]) -> bool:
        """Whether more is to be asked, to know whether the offsets of a task's inputs were lost.

        Args:
            found: committed of these.
        """
        if not self._leading[part.name] or any(entry is not None for entry in found.values()):
            return False
        return not all(source.topic.internal for source in part.sources)  # it may be new to the app

    def to_ask(self, part: SubTopology, described: Mapping[str, DescribedTopic]) -> dict[str, list[TopicPartition]]:
        """Of what the committed offsets tell it, and in which consumer groups: of all that its tasks read, and of where
        that leads to, in the groups that read it."""
        topics, found = self._leading[part.name], dict[str, list[TopicPartition]]()
        for topic in dict.fromkeys([*(source.topic.name for source in part.sources), *topics]):
            count = max(self._counts.get(topic, 0), described[topic].partitions if topic in described else 0)
            readers = [part] if topic not in topics else self._readers[topic]
            for group in dict.fromkeys(consumer_group(self._app, one.group) for one in readers):
                found.setdefault(group, []).extend(TopicPartition(topic, number) for number in range(count))
        return found

    def counted(self, part: SubTopology, found: Mapping[TopicPartition, tuple[int, str] | None]) -> list[str]:
        """The repartition topics that were read, though nothing is committed of what leads to them.

        Args:
            found: committed, of all that is to be asked.
        """
        topics = self._leading[part.name]
        if any(entry is not None and at.topic not in topics for at, entry in found.items()):
            return []
        read = (at.topic for at, entry in found.items() if entry is not None and entry[0] > 0)
        return list(dict.fromkeys(read))

    def changelogs(self, topics: Iterable[str]) -> list[TopicPartition]:
        """Of all stores that what lies in these topics of the app comes to."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        open_ends = list(topics)
        while open_ends:
            if (name := open_ends.pop()) not in seen:
                seen.add(name)
                for part in self._readers.get(name, ()):
                    found |= dict.fromkeys(map(self._topology.changelog, part.stores))
                    open_ends += [topic.name for topic in part.sinks if topic.internal]
        return [TopicPartition(name, number) for name in found for number in range(self._counts.get(name, 0))]

    def _to_state(self, part: SubTopology) -> list[str]:
        """The app's own topics that it writes to, which lead to stores."""
        own = (topic.name for topic in part.sinks if topic.internal and topic.name in self._readers)
        return [
            name for name in dict.fromkeys(own) if any(self._has_state(one, {part.name}) for one in self._readers[name])
        ]

    def _has_state(self, part: SubTopology, seen: set[str]) -> bool:
        if part.stores:
            return True
        own = [topic.name for topic in part.sinks if topic.internal and topic.name in self._readers]
        later = [one for name in own for one in self._readers[name] if one.name not in seen]
        return any(self._has_state(one, seen | {part.name}) for one in later)
