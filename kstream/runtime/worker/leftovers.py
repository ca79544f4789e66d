"""Which local state that a worker has no use for may be deleted: what its changelog has, too.

Where the changelog was deleted since, the copy may be the only one. It says which changelog it is of (state/about.py);
where that is not the one that is there now, it is kept, until the app has committed with the new one: then what was
lost has been made good, or given up (`kstream reset`, `kstream state import`, `lost_offsets = "continue"`). Of a
partition that there is no more, a rescale has taken what it had to others: once these commit, and none of them still
goes by the old one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from kstream.errors import KStreamError, StateError
from kstream.runtime.cluster.covered import lost_changelogs, names_changelog, newest
from kstream.runtime.cluster.metadata import Said
from kstream.runtime.cluster.naming import consumer_group, whole_name
from kstream.runtime.worker.opening import last_change, read_marks
from kstream.state.about import changelog_in
from kstream.state.backend import Mark
from kstream.state.rocksdb import is_damage
from kstream.topology import Topology
from kstream.types import AdminClient, DescribedTopic, TopicPartition

log = logging.getLogger(__name__)

Committed = Future[dict[TopicPartition, tuple[int, str] | None]]


class Leftovers:
    """Of a worker's directory. Asks Kafka, and never waits."""

    def __init__(self, topology: Topology, admin: AdminClient) -> None:
        self._topology, self._admin = topology, admin
        self._changelogs: Final = {
            store.name: topology.changelog(store) for part in topology.parts for store in part.stores
        }
        self._parts: Final = {part.name: part for part in topology.parts}
        self._ids: dict[tuple[Path, float], dict[str, str]] = {}  # of changelogs, as read when last changed then
        self._asked: dict[Path, dict[str, str]] = {}  # the ids of the changelogs that its stores are of, by topic
        self._topics: Future[dict[str, DescribedTopic]] | None = None
        self._committed: dict[str, Committed] = {}  # by part, in all partitions that are asked for and those below
        self._told: set[Path] = set()

    def ask(self, directories: Iterable[Path]) -> None:
        """Asks what is to be known before these are deleted. Nobody may have them open."""
        if self._topics is not None:
            return
        found = {one: self._of(one) for one in directories if one.name.isdecimal() and one.exists()}
        self._asked = {one: of for one, of in found.items() if of is not None}
        names = {topic for of in self._asked.values() for topic in of}
        self._topics = self._admin.describe(sorted(names))
        highest: dict[str, int] = {}
        for one, of in self._asked.items():
            name = whole_name(one.parent)
            if name in self._parts and of:
                highest[name] = max(highest.get(name, 0), int(one.name))
        for name, last in highest.items():  # as they are: some are pending at nearly every moment
            part = self._parts[name]
            at = [TopicPartition(topic, number) for topic in part.topics for number in range(last + 1)]
            group = consumer_group(self._topology.app, part.group)
            self._committed[name] = self._admin.committed(group, at, stable=False)

    def answered(self) -> list[Path]:
        """Those that may be deleted, once that is known; as of now."""
        if self._topics is None or not self._topics.done():
            return []
        if not all(each.done() for each in self._committed.values()):
            return []
        asked, topics, committed = self._asked, self._topics, self._committed
        self._asked, self._topics, self._committed = {}, None, {}
        try:
            found = topics.result()
            return [one for one, of in asked.items() if not self._is_kept(one, of, found, committed)]
        except KStreamError as error:
            log.debug("local state of tasks that left is not deleted yet: %s", error)
            return []

    def _is_kept(
        self,
        directory: Path,
        of: Mapping[str, str],
        topics: Mapping[str, DescribedTopic],
        committed: Mapping[str, Committed],
    ) -> bool:
        for topic, was in of.items():
            now = topics[topic].id if topic in topics else ""
            if now is None or now == was:
                continue
            known = committed.get(whole_name(directory.parent))
            if now and known and _is_made_good(int(directory.name), topic, topics[topic], known.result()):
                continue
            if directory not in self._told:
                self._told.add(directory)
                log.warning(
                    "the local state in %s is kept, though it has not been used for long: changelog %s was deleted "
                    "since, and it may be the only copy (kstream state export --state-dir; delete it by hand)",
                    directory, topic,
                )  # fmt: skip
            return True
        return False

    def _of(self, directory: Path) -> dict[str, str] | None:
        """The ids of the changelogs that its stores are of, by topic; nothing of a damaged one. None where the system
        does not let it be read now, as where the process has no file descriptors left: it may be the only copy, is
        kept, and looked at again later."""
        try:
            if not (directory / "CURRENT").exists():
                return {}
            at = directory, last_change(directory)
            if at not in self._ids:
                self._ids[at] = self._named(_marks_unless_damaged(directory))
            return self._ids[at]
        except (OSError, StateError) as error:
            log.warning("the local state in %s cannot be read: %s; trying again later", directory, error)
            return None

    def _named(self, marks: Mapping[str, Mark]) -> dict[str, str]:
        said = {name: changelog_in(mark.about) for name, mark in marks.items() if name in self._changelogs}
        return {self._changelogs[name]: one for name, one in said.items() if one is not None}


def _marks_unless_damaged(directory: Path) -> Mapping[str, Mark]:
    """Raises StateError where it cannot be read now, and may be sound."""
    try:
        return read_marks(directory)
    except StateError as error:
        if is_damage(error):
            return {}
        raise


def _is_made_good(
    partition: int, topic: str, changelog: DescribedTopic, found: Mapping[TopicPartition, tuple[int, str] | None]
) -> bool:
    """Whether the app has committed with this changelog, in so far as that matters to the partition.

    Args:
        found: committed, of all partitions.
    """
    assert changelog.id is not None

    def said(number: int) -> Said:
        return newest({at: entry for at, entry in found.items() if at.partition == number})

    if partition < changelog.partitions:
        return names_changelog(said(partition), topic, changelog.id)
    others = [said(number) for number in range(changelog.partitions)]
    stays = any(lost_changelogs(one, {topic: changelog.id}) for one in others)
    return not stays and any(names_changelog(one, topic, changelog.id) for one in others)
