"""What the brokers say of a worker's input topics and changelogs, asked at each restore and now and then while tasks
run.

Their ids (KIP-516): a topic that was deleted and created again has another id than the one it had when an offset was
committed. And how many partitions they have: where some were added, producers write the records of a key elsewhere
than its state is, into partitions that were there before too. And whether they are there at all: the group gives a
topic that is gone to nobody, so there is no task that could say why it does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Final

from kstream.errors import KStreamError, TopicError
from kstream.runtime.cluster.fitting import misfit
from kstream.runtime.cluster.metadata import changelog_lost, made_anew
from kstream.runtime.task.failures import TaskFailed
from kstream.runtime.task.task import Task
from kstream.topology import SubTopology, Topology
from kstream.types import AdminClient, Clock, DescribedTopic, TopicPartition

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 10.0
"""How often the inputs of running tasks are asked for."""

CONFIRM_SECONDS: Final = 1.0
"""How long a commit waits for an answer. Brokers that are slower than that, and cannot be asked, do not hold it up."""

DOUBT_SECONDS: Final = 1.0
"""The same while there is doubt about one."""

MEND: Final = "create the topic, or give this user the right to read it"

Answer = Mapping[str, DescribedTopic]


class Inputs:
    """Asks for a worker's input topics; never waits.

    Args:
        counts: partitions of all topics, changelogs too, when the worker was started.

    Attributes:
        gone: inputs that the brokers do not know, or do not show to this user.
        asked: how often they were asked for all inputs and changelogs.
    """

    def __init__(self, admin: AdminClient, clock: Clock, topology: Topology, counts: Mapping[str, int]) -> None:
        self._admin, self._clock, self._topology, self._counts = admin, clock, topology, counts
        self._topics = list(dict.fromkeys(topic for part in topology.parts for topic in part.topics))
        self._changelogs = [topology.changelog(store) for part in topology.parts for store in part.stores]
        self._most: dict[str, int] = {}  # partitions of a topic that were seen
        self._question: Future[dict[str, DescribedTopic]] | None = None
        self.asked = 0
        self._asked_at = float("-inf")
        self._confirming: Future[dict[str, DescribedTopic]] | None = None
        self._looked: Future[dict[str, DescribedTopic]] | None = None
        self._searched: Future[dict[str, DescribedTopic]] | None = None
        self._missing: frozenset[str] = frozenset()  # in the answer before
        self._doubtful_until = float("-inf")
        self.gone: frozenset[str] = frozenset()

    def doubt(self) -> None:
        """The consumer cannot read an input: the brokers are asked more often for a while."""
        self._doubtful_until = self._clock.monotonic() + CHECK_SECONDS

    def others_than(self, topics: Iterable[str]) -> bool:
        """Whether the worker has inputs besides these."""
        return bool(set(self._topics).difference(topics))

    def ask(self, *, after: int) -> Future[dict[str, DescribedTopic]] | None:
        """The inputs and changelogs, as they are after so many questions. None while an earlier one is under way: one
        at a time is asked, for all who wait."""
        if self.asked <= after:
            if self._question is not None and not self._question.done():
                return None
            self._ask()
        return self._question

    def _ask(self) -> None:
        self.asked, self._asked_at = self.asked + 1, self._clock.monotonic()
        self._question = self._admin.describe([*self._topics, *self._changelogs])

    def seen(self, partitions: Iterable[TopicPartition]) -> None:
        """The group has shared these out: it may know of partitions that the broker which is asked has not heard of."""
        for at in partitions:
            self._most[at.topic] = max(self._most.get(at.topic, 0), at.partition + 1)

    def was_added(self, at: TopicPartition) -> bool:
        """Whether the partition is newer than the worker: all its records are to be read."""
        return at.partition >= self._counts.get(at.topic, 0)

    def ask_for(self, tasks: Iterable[Task]) -> Future[dict[str, DescribedTopic]] | None:
        """Before a commit of these tasks, with nothing read after it: their inputs. A producer that knows of more
        partitions has put the records of a key where its state is not; a topic that was created again is read on at the
        old one's offset. Either may have been read already: `confirm` finds that out before it is committed.

        None where the answer to an earlier commit's is still to come: the brokers have no controller, so no topic can
        be made, or do not answer; each commit would wait for them in vain."""
        topics = {topic: None for task in tasks for topic in task.part.topics}
        if not topics or (self._confirming is not None and not self._confirming.done()):
            return None
        self._confirming = self._admin.describe(list(topics))
        return self._confirming

    def confirm(self, tasks: Iterable[Task], question: Future[dict[str, DescribedTopic]] | None) -> None:
        """With the answer: the offsets are sent meanwhile, so it is there mostly.

        Raises:
            TaskFailed: one of the tasks reads a topic that was created again; or it has state, and an input has other
                partitions than that.
        """
        if question is None:
            return
        try:
            found = question.result(CONFIRM_SECONDS)
        except (KStreamError, TimeoutError) as error:  # who cannot be asked has told nobody of new ones
            log.debug("the input topics could not be described for a commit: %r", error)
            return
        for task in tasks:
            self.check_partitions(task, found)
            _check_ids(task, found)

    def check_partitions(self, task: Task, found: Answer) -> None:
        """Raises TaskFailed where the task has state, and keys lie in other partitions than that."""
        if not task.part.stores:
            return
        now = {name: max(found[name].partitions, self._most.get(name, 0)) for name in task.part.topics if name in found}
        line = misfit(self._topology, task.part, {**self._counts, **now})
        if line is not None:
            raise TaskFailed(task.name, TopicError(line))

    def check(self, tasks: Iterable[Task]) -> None:
        """Asks, when it is time, and looks at the answer.

        Args:
            tasks: those that run.

        Raises:
            TaskFailed: one of these tasks reads a topic that was created again, or has other partitions than its state.
        """
        time = self._clock.monotonic()
        if time - self._asked_at > (DOUBT_SECONDS if time < self._doubtful_until else CHECK_SECONDS):
            self._ask()
        question = self._question
        if question is None or question is self._looked or not question.done():
            return
        if _failed(question):
            self._looked = question
            log.warning("the input topics cannot be described: %s; trying again", question.exception())
            return
        found = question.result()
        self._search(question, found)
        for task in tasks:
            self.check_partitions(task, found)
            _check_ids(task, found)
        self._looked = question  # all are as they were

    def _search(self, question: Future[dict[str, DescribedTopic]], found: Answer) -> None:
        """Gone is what two answers in a row do not have: a broker may not have heard yet of a topic just made."""
        if question is self._searched:
            return
        self._searched = question
        missing = frozenset(topic for topic in self._topics if topic not in found)
        self.gone, self._missing = missing & self._missing, missing
        if missing - self.gone:
            self.doubt()

    def tasks_without(self) -> Iterator[tuple[SubTopology, int, str]]:
        """The tasks that cannot run anywhere because an input is gone: sub-topology, partition, and what is said of
        it."""
        for part in self._topology.parts:
            if gone := [topic for topic in part.topics if topic in self.gone]:
                for partition in range(self._counts.get(part.topics[0], 0)):
                    yield part, partition, f"task {part.name}/{partition}: {_lacks(gone)}"


def _lacks(topics: Sequence[str]) -> str:
    which = f"topic {topics[0]} does not exist" if len(topics) == 1 else f"topics {', '.join(topics)} do not exist"
    return f"{which}, or this user may not see it: {MEND}"


def _check_ids(task: Task, found: Answer) -> None:
    """Raises TaskFailed where an input or changelog of the task was created again since it began."""
    for at, was in task.topic_ids.items():
        now = id_in(found, at.topic)
        if now is not None and was != now:
            raise TaskFailed(task.name, made_anew(at, was, now, read=bool(task.positions.get(at))))
    for topic, was in task.changelog_ids.items():
        now = id_in(found, topic)
        if now is not None and was != now:
            raise TaskFailed(task.name, changelog_lost(topic, task.name))


def id_in(found: Answer, topic: str) -> str | None:
    return found[topic].id if topic in found else None


def _failed(question: Future[dict[str, DescribedTopic]]) -> bool:
    return question.done() and isinstance(question.exception(), KStreamError)
