"""The question for the committed offsets that a restore goes by: of a task's inputs, and of what lies behind a part
without state (downstream.py).

Those of its inputs are stable: a commit that is pending on one of them is waited for. What lies behind is committed by
all others, and one of them commits at nearly every moment; so it is looked at as it is, and waited for only where it
says that offsets were lost.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from kstream.errors import AbortRequired, KStreamError
from kstream.runtime.task.task import Task
from kstream.runtime.worker.downstream import Downstream
from kstream.types import AdminClient, DescribedTopic, TopicPartition

log = logging.getLogger(__name__)

Offsets = dict[TopicPartition, tuple[int, str] | None]


class Question:
    """Of one task, asked as often as needed.

    Attributes:
        counted: the repartition topics that were read, though nothing is committed of what leads to them.
    """

    def __init__(self, admin: AdminClient, group: str, downstream: Downstream, task: Task) -> None:
        self._admin, self._group, self._downstream, self._task = admin, group, downstream, task
        self._own: Future[Offsets] | None = None
        self._others: list[tuple[str, Future[Offsets]]] = []
        self.anew()

    def anew(self) -> None:
        """What was found is of no use any more."""
        self._behind: Sequence[TopicPartition] = ()
        self._stable = False
        self.counted: Sequence[str] = ()

    @property
    def asked(self) -> bool:
        return self._own is not None

    def ask(self) -> None:
        self._own = self._admin.committed(self._group, self._task.inputs)
        by_group = self._downstream.by_group(self._task, self._behind)
        self._others = [
            (group, self._admin.committed(group, of, stable=self._stable)) for group, of in by_group.items()
        ]

    def done(self) -> bool:
        return self._own is not None and self._own.done() and all(one.done() for _, one in self._others)

    def result(self) -> Offsets:
        """What is committed. Raises as the answers, where they are of the task's own group: another one that this user
        may not look at says nothing."""
        assert self._own is not None
        own, others, self._own, self._others = self._own, self._others, None, []
        found: Offsets = {}
        for group, one in others:
            try:
                answer = one.result()
            except AbortRequired:
                raise
            except KStreamError as error:
                if group == self._group:
                    raise
                log.warning("task %s: whether offsets were lost is not known: %s", self._task.name, error)
                continue
            found |= {at: entry for at, entry in answer.items() if entry is not None or at not in found}
        return found | own.result()

    def is_answered(self, found: Offsets, described: Mapping[str, DescribedTopic]) -> bool:
        """Whether nothing else is to be asked."""
        if not self._behind:
            self._behind = self._downstream.to_ask(self._task, found, described)
            return not self._behind
        self.counted = self._downstream.counted(self._task, found)
        if self.counted and not self._stable:  # unless the first commit of what leads there is pending
            self._stable = True
            return False
        return True
