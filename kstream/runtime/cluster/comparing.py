"""An app held against what the cluster has of it: topics that nobody of the app owns any more, stores that vanished as
others appeared, offsets without their state and state without its offsets. Nothing is changed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from kstream.codecs.shapes import shape_of
from kstream.runtime.cluster.covered import lost_changelogs, lost_inputs, names_changelog, newest
from kstream.runtime.cluster.metadata import changelog_lost, decode, made_anew, state_without_offsets
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.records import POLL_RECORDS, TIMEOUT, Reading, bounds, to_end
from kstream.runtime.cluster.regroup import Offsets, answer
from kstream.runtime.cluster.stored_types import StoredType, read_types, topic_of
from kstream.specs.names import Own, own_topic, own_topics
from kstream.specs.store import StoreSpec
from kstream.topology import DEFAULT_GROUP, SubTopology, Topology
from kstream.types import AdminClient, Clients, DescribedTopic, TopicPartition

_MADE: Final = re.compile(r"-(changelog|repartition|retry-[0-9]+m?s)$")
"""Ends the names of topics that are made for an app's stores, groups and delays."""
_ONE_OF_EACH: Final[tuple[Own, ...]] = ("instances", "control", "store-types")
"""Who has such a topic is an app."""


@dataclass(frozen=True)
class Left:
    """A topic that was made for the app, and that nothing of it uses now.

    Attributes:
        records: between its start and its end, markers of transactions too.
        store: whose changelog it was; None: it is no changelog.
    """

    topic: str
    records: int
    store: str | None = None


@dataclass(frozen=True)
class Renamed:
    """A store whose changelog is left, and stores that are new and have its types."""

    old: str
    new: tuple[str, ...]
    records: int


class Comparing:
    """See the module's text.

    Args:
        clients: that tell ends at once (`records.looking`).

    Raises:
        KafkaUnavailable, TopicError: by each of its methods, as `AdminClient`.
    """

    def __init__(self, topology: Topology, clients: Clients, admin: AdminClient) -> None:
        self._topology, self._clients, self._admin = topology, clients, admin
        self._there = {name: info.partitions for name, info in admin.topics(TIMEOUT).items()}
        self._stores = {store.name: store for part in topology.parts for store in part.stores}

    # ---- what nobody owns

    def left(self) -> list[Left]:
        """Topics that nobody of the app owns any more, by name."""
        app = self._topology.app
        used = {topic.name for part in self._topology.parts for topic in part.sinks}
        used |= {name for part in self._topology.parts for name in (*part.topics, *(one.topic for one in part.delays))}
        used |= {table.topic.name for table in self._topology.tables} | own_topics(app)
        used |= {self._topology.changelog(store) for store in self._stores.values()}
        found = [
            name
            for name in sorted(self._there)
            if name.startswith(f"{app}-") and name not in used and _MADE.search(name) and not self._is_others(name)
        ]
        return [Left(name, self._records(name), _store_of(app, name)) for name in found]

    def _is_others(self, topic: str) -> bool:
        """Whether it is of an app whose name begins with this one's."""
        rest = topic.split("-")
        names = ("-".join(rest[:count]) for count in range(1, len(rest)))
        longer = (name for name in names if len(name) > len(self._topology.app))
        return any(own_topic(name, what) in self._there for name in longer for what in _ONE_OF_EACH)

    def renamed(self, left: Sequence[Left]) -> list[Renamed]:
        """Of the changelogs that are left, those of stores that may have other names now.

        Args:
            left: as `left()` says.
        """
        gone = {one.store: one for one in left if one.store is not None and one.records}
        if not gone:
            return []
        new = [store for store in self._stores.values() if not self._records(self._topology.changelog(store))]
        kept = self._types_of(gone)
        return [
            Renamed(name, names, one.records)
            for name, one in gone.items()
            if (names := tuple(store.name for store in new if _has_types(store, kept.get(name, ()))))
        ]

    def _types_of(self, stores: Collection[str]) -> Mapping[str, Sequence[StoredType]]:
        topic = topic_of(self._topology.app)
        if topic not in self._there:
            return {}
        kept = read_types(self._clients, self._admin, topic).values()
        return {name: [one for one in kept if one.store == name] for name in stores}

    def _records(self, topic: str) -> int:
        at = [TopicPartition(topic, number) for number in range(self._there.get(topic, 0))]
        starts, ends = bounds(self._admin, at) if at else ({}, {})
        return sum(ends[each] - starts[each] for each in at)

    # ---- what does not belong together

    def torn(self) -> list[str]:
        """Offsets without their state, and state without its offsets: a line for each task. Its start stops there."""
        return [line for part in self._topology.parts for line in self._torn(part)]

    def _torn(self, part: SubTopology) -> Iterator[str]:
        entries = {store.name: self._with_entries(self._topology.changelog(store)) for store in part.stores}
        committed = self._committed(part)  # asked after: offsets come with what is in changelogs
        topics = self._described(part)
        changelogs = [self._topology.changelog(store) for store in part.stores]
        ids = {name: one for name in changelogs if (one := topics[name].id if name in topics else "") is not None}
        for number in sorted({at.partition for at in committed}):
            own = {at: entry for at, entry in committed.items() if at.partition == number}
            for at, entry in own.items():
                was = decode(entry[1], at).topic_id if entry is not None and entry[0] else None  # 0: nothing was read
                now = topics[at.topic].id if at.topic in topics else None
                if was is not None and now is not None and was != now:
                    yield str(made_anew(at, was, now))
            task, said = f"{part.name}/{number}", newest(own)
            for topic in lost_changelogs(said, ids):
                yield str(changelog_lost(topic, task, again=topic in self._there))
            kept = [name for name, partitions in entries.items() if number in partitions]
            if kept and (lost := lost_inputs(own, said)):
                yield state_without_offsets(task, kept, consumer_group(self._topology.app, part.group), lost)

    def _committed(self, part: SubTopology) -> Offsets:
        """Of its inputs; where it has moved to another isolation group, those that its next start takes along. Of a
        topic that is not there yet nothing is committed, as far as there is state behind it."""
        at = [TopicPartition(name, number) for name in part.topics for number in range(self._there.get(name, 0))]
        behind = max((self._there.get(self._topology.changelog(one), 0) for one in part.stores), default=0)
        new = [TopicPartition(name, n) for name in part.topics if name not in self._there for n in range(behind)]
        found: Offsets = dict.fromkeys(at)
        for isolation in dict.fromkeys((part.group, DEFAULT_GROUP, *self._topology.groups)) if at else ():
            group = consumer_group(self._topology.app, isolation)
            found = answer(
                lambda group=group: self._admin.committed(group, at, stable=False),  # type: ignore[misc]
                f"the committed offsets of group {group}",
            )
            if any(entry is not None for entry in found.values()):
                break
        return {**found, **dict.fromkeys(new)}

    def _described(self, part: SubTopology) -> dict[str, DescribedTopic]:
        names = [*part.topics, *(self._topology.changelog(store) for store in part.stores)]
        there = [name for name in dict.fromkeys(names) if name in self._there]
        return answer(lambda: self._admin.describe(there), "the ids of topics") if there else {}

    def _with_entries(self, changelog: str) -> set[int]:
        """Partitions of a changelog that have a committed record with a value; none is read much farther than that."""
        at = [TopicPartition(changelog, number) for number in range(self._there.get(changelog, 0))]
        starts, ends = bounds(self._admin, at) if at else ({}, {})
        left = {each: start for each, start in starts.items() if start < ends[each]}
        found: set[int] = set()
        while left:
            new = self._first_values(left, ends)
            found |= {each.partition for each in new}
            left = {each: start for each, start in left.items() if new and each not in new}
        return found

    def _first_values(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> set[TopicPartition]:
        """Partitions in which a value came: the first of them, and those that came about as soon."""
        found: set[TopicPartition] = set()
        with closing(Reading(self._clients, self._admin, starts, ends)) as reading:
            for passed, row in enumerate(to_end(reading)):
                if row.value is not None:
                    found.add(row.at)
                if len(found) == len(starts) or (found and passed >= POLL_RECORDS):
                    break
        return found

    def new(self) -> list[str]:
        """Stores that begin empty, in tasks that have committed offsets: what was read before is not in them."""
        found = []
        for part in self._topology.parts:
            empty = [one for one in part.stores if not self._records(self._topology.changelog(one))]
            offsets = self._committed(part) if empty else {}
            if not any(entry is not None and entry[0] > 0 for entry in offsets.values()):
                continue
            said, topics = newest(offsets), self._described(part)
            for store in empty:
                known = topics.get(topic := self._topology.changelog(store))
                if known is None or (known.id is not None and not names_changelog(said, topic, known.id)):
                    found.append(store.name)
        return found


def _store_of(app: str, topic: str) -> str | None:
    name = topic.removeprefix(f"{app}-")
    return name.removesuffix("-changelog") if name.endswith("-changelog") else None


def _has_types(store: StoreSpec, kept: Sequence[StoredType]) -> bool:
    """Whether these are the types and the layout that a store had last. Of one of which nothing was kept, nothing is
    said against it."""
    if not kept:
        return True
    last = max(kept, key=lambda one: one.at)
    return (shape_of(store.key.kind), shape_of(store.value.kind), store.layout) == (last.key, last.value, last.layout)
