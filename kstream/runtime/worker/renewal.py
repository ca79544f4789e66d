"""Renewing the marks of stores that are not written.

A mark says how far a store has applied its changelog, and when that was. Of a store that is written once an hour it
grows old while the changelog's start moves on (what retention or `delete_records` takes away, markers of transactions):
after a crash all of it would be restored, though nothing of it is missing (Kafka Streams 4.3 does that, KIP-1035).

So at flushes the ends of the changelogs are asked for that were not written since the flush before. An end is good for
a mark when a commit follows that is fenced: it proves that the task was this worker's all the time, so nobody else has
written, and nothing was written here. A task that does nothing is committed once for it; after that its changelog does
not move either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from kstream.errors import KStreamError
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.state.changelog import Changelog
from kstream.types import AdminClient, Clock, TopicPartition

log = logging.getLogger(__name__)

RENEW_SECONDS: Final = 3600.0
"""Age of a mark that is at its changelog's end, after which it is renewed: the time in it is what is judged when
tombstones may have left the changelog, after days."""


@dataclass(slots=True)
class _Asked:
    """A changelog whose end is asked for. `moves` as they were then."""

    task: Task
    changelog: Changelog
    moves: int


class Renewal:
    """Renews the marks of idle stores. Never waits.

    Args:
        changelogs: of a task's store, by its name.
    """

    def __init__(self, admin: AdminClient, changelogs: Callable[[Task, str], Changelog], clock: Clock) -> None:
        self._admin, self._changelogs, self._clock = admin, changelogs, clock
        self._seen: dict[TopicPartition, tuple[int, float]] = {}  # moves at the flush before; when renewed last
        self._asked: dict[TopicPartition, _Asked] = {}
        self._question: Future[dict[TopicPartition, int]] | None = None

    def ask(self, tasks: Iterable[Task]) -> None:
        """At a flush.

        Args:
            tasks: those that run.
        """
        if self._question is not None:
            return
        now, seen = self._clock.monotonic(), self._seen
        self._seen, self._asked = {}, {}
        for task in tasks:
            for store in task.stores:
                changelog = self._changelogs(task, store)
                at = TopicPartition(changelog.topic, task.partition)
                moves, renewed = seen.get(at, (-1, float("-inf")))
                if moves != changelog.moves:
                    renewed = float("-inf")
                elif now - renewed >= RENEW_SECONDS:
                    self._asked[at] = _Asked(task, changelog, moves)
                    renewed = now
                self._seen[at] = changelog.moves, renewed
        if self._asked:
            self._question = self._admin.end_offsets(list(self._asked))

    def step(self) -> None:
        """Looks at the answer, if it is there."""
        if self._question is None or not self._question.done():
            return
        question, self._question = self._question, None
        try:
            ends = question.result()
        except KStreamError as error:
            log.debug("the ends of changelogs that are not written cannot be read: %s; trying again", error)
            self._seen.clear()
            return
        for at, one in self._asked.items():
            if one.changelog.moves == one.moves and one.task.state is TaskState.RUNNING:
                one.changelog.renewed_to = ends[at]
                one.task.touched = True  # a commit, and with it the proof
