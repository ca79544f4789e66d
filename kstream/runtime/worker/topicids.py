"""The ids of the input topics (KIP-516), asked of the brokers at each restore and now and then while tasks run.

A topic that was deleted and made anew has another id than the one it had when an offset was committed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Final

from kstream.errors import KStreamError, TopicError
from kstream.runtime.task.task import Task
from kstream.runtime.worker.offsets import decode, made_anew
from kstream.types import AdminClient, Clock

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 10.0
"""How often the ids of the inputs of running tasks are asked for."""

FRESH_SECONDS: Final = 1.0
"""For how long an answer serves all restores that ask."""


class TopicIds:
    """Asks for the ids of a worker's input topics; never waits."""

    def __init__(self, admin: AdminClient, clock: Clock, topics: Sequence[str]) -> None:
        self._admin, self._clock, self._topics = admin, clock, list(dict.fromkeys(topics))
        self._question: Future[dict[str, str]] | None = None
        self._asked = float("-inf")
        self._looked: Future[dict[str, str]] | None = None

    def ask(self) -> Future[dict[str, str]]:
        """The ids as of now, or of a moment ago."""
        if self._question is None or self._clock.monotonic() - self._asked > FRESH_SECONDS or _failed(self._question):
            self._question, self._asked = self._admin.topic_ids(self._topics), self._clock.monotonic()
        return self._question

    def step(self, tasks: Iterable[Task]) -> tuple[Task, TopicError] | None:
        """One of these running tasks that reads a topic that was made anew, if the brokers have said so lately."""
        if self._clock.monotonic() - self._asked > CHECK_SECONDS:
            self.ask()
        question = self._question
        if question is None or question is self._looked or not question.done():
            return None
        if _failed(question):
            self._looked = question
            log.warning("ids of the input topics: %s; asking again", question.exception())
            return None
        ids = question.result()
        for task in tasks:
            for at, text in task.offset_metadata.items():
                was, now = decode(text, at), ids.get(at.topic)
                if was is not None and now is not None and was != now:
                    return task, made_anew(at, was, now)
        self._looked = question  # all are as they were
        return None


def _failed(question: Future[dict[str, str]]) -> bool:
    return question.done() and isinstance(question.exception(), KStreamError)
