"""Which topics a task's offsets and local state belong to: what the brokers say of them, around a restore.

Each answer is of a moment, so the order counts. The descriptions are asked for after the committed offsets: older ones
say nothing of the topics that these belong to. And again after the ends of the changelogs: between two descriptions
with the same ids lies one topic, so the ends are its own, and local state that is ahead of them is. Only then is local
state given up; it may be the only copy.

A topic may be missing from the answer, since one that was just made is not known to all brokers at once. Nothing is
concluded from that: it is waited for. Brokers before 2.8 give topics no ids, and describe them all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Final

from kstream.errors import TopicError
from kstream.runtime.cluster.covered import lost_changelogs
from kstream.runtime.cluster.metadata import Said, changelog_lost
from kstream.runtime.task.failures import TaskFailed
from kstream.runtime.task.task import Task
from kstream.runtime.worker.inputs import Answer, Inputs, id_in
from kstream.types import DescribedTopic

MISSING_SECONDS: Final = 5.0
"""For so long a topic or partition may be unknown to the brokers: one that was just made is, for a moment."""


class Later:
    """A description that is asked for later than what was answered when this was made. All that are made while one
    question is under way share the next."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs, self._after = inputs, inputs.asked
        self._question: Future[dict[str, DescribedTopic]] | None = None

    def done(self) -> bool:
        if self._question is None:
            self._question = self._inputs.ask(after=self._after)
        return self._question is not None and self._question.done()

    def result(self) -> Answer:
        """Raises KafkaUnavailable: brokers could not be asked."""
        assert self._question is not None
        return self._question.result()


def ids_in(topics: Answer, names: Iterable[str]) -> dict[str, str]:
    """The ids of these topics, where the broker gives any."""
    return {name: known for name in names if (known := id_in(topics, name)) is not None}


def are_others(ids: Mapping[str, str], topics: Answer) -> bool:
    """Whether one of the topics that had these ids is gone or has another one."""
    return any(name not in topics or (id_in(topics, name) or was) != was for name, was in ids.items())


class Missing:
    """For how long something of a task has not been there."""

    def __init__(self) -> None:
        self._since: float | None = None

    def nothing(self) -> None:
        self._since = None

    def is_too_long(self, now: float) -> bool:
        if self._since is None:
            self._since = now
        return now - self._since >= MISSING_SECONDS


def undescribed(task: Task, said: Said, names: Iterable[str]) -> TaskFailed:
    """What is said of topics that were missing for too long.

    Args:
        said: by the task's last commit.
    """
    names = list(names)
    for name in names:
        if lost_changelogs(said, {name: ""}):
            return TaskFailed(task.name, changelog_lost(name, task.name, again=False))
    return lacking(task, names, "the brokers do not describe it")


def lacking(task: Task, names: Iterable[str], why: object) -> TaskFailed:
    """One of these topics or its partition was missing for too long."""
    topics = ", ".join(dict.fromkeys(names))
    line = (
        f"task {task.name}: of the topics {topics} one does not exist, or has no partition {task.partition} any more, "
        f"or this user may not see it ({why}): create it as it was, or reset the app"
    )
    return TaskFailed(task.name, TopicError(line))
