"""The question for the committed offsets that a restore goes by: of a task's inputs, and of what lies behind a part
without state (downstream.py).

Those of its inputs are stable: a commit that is pending on one of them is waited for. What lies behind is committed by
all others, and one of them commits at nearly every moment; so it is looked at as it is, and waited for only where it
says that offsets were lost. It is the same for all tasks of a part, so those that are restored together ask it once:
500 of them would ask for 500,000 offsets.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property

from kstream.errors import AbortRequired, KStreamError, TopicError
from kstream.runtime.task.task import Task
from kstream.runtime.worker.downstream import Downstream
from kstream.topology import SubTopology
from kstream.types import AdminClient, DescribedTopic, TopicPartition

log = logging.getLogger(__name__)

Offsets = dict[TopicPartition, tuple[int, str] | None]


class _Answer:
    """Of what lies behind a part."""

    def __init__(
        self, admin: AdminClient, part: SubTopology, number: int, group: str, downstream: Downstream,
        asked: Mapping[str, Future[Offsets]],
    ) -> None:  # fmt: skip
        self.number, self._admin = number, admin
        self._part, self._group, self._downstream, self._asked = part, group, downstream, asked
        self._ends: Future[dict[TopicPartition, int]] | None = None  # of the changelogs behind what was read

    def done(self) -> bool:
        if not all(one.done() for one in self._asked.values()):
            return False
        if self._ends is None:
            with suppress(KStreamError):  # whoever asks for the answer gets it
                if behind := self._downstream.changelogs(self._read):
                    self._ends = self._admin.end_offsets(behind)
        return self._ends is None or self._ends.done()

    @property
    def counted(self) -> Sequence[str]:
        """The repartition topics that were read, though nothing is committed of what leads to them, and which lead to
        state. Raises as the answers, where they are of the app's own group: another one that this user may not look at
        says nothing."""
        try:
            if self._ends is not None and not any(self._ends.result().values()):
                return []
        except TopicError as error:
            log.debug("whether anything was counted behind %s is not known: %s", self._part.name, error)
        return self._read

    @cached_property
    def _read(self) -> Sequence[str]:
        found: Offsets = {}
        for group, one in self._asked.items():
            try:
                answer = one.result()
            except AbortRequired:
                raise
            except KStreamError as error:
                if group == self._group:
                    raise
                log.warning(
                    "tasks of %s: whether committed offsets were lost cannot be checked: %s", self._part.name, error
                )
                continue
            found |= {at: entry for at, entry in answer.items() if entry is not None or at not in found}
        return self._downstream.counted(self._part, found)


class Behind:
    """Asks what lies behind parts, for all of their tasks together.

    Attributes:
        asked: how often.
    """

    def __init__(self, admin: AdminClient, group: str, downstream: Downstream) -> None:
        self._admin, self.group, self.downstream = admin, group, downstream
        self._last: dict[tuple[str, bool], _Answer] = {}
        self.asked = 0

    def ask(self, part: SubTopology, described: Mapping[str, DescribedTopic], *, stable: bool, after: int) -> _Answer:
        """As it is after so many questions."""
        last = self._last.get((part.name, stable))
        if last is not None and last.number > after:
            return last
        self.asked += 1
        by_group = self.downstream.to_ask(part, described)
        asked = {group: self._admin.committed(group, of, stable=stable) for group, of in by_group.items()}
        answer = self._last[part.name, stable] = _Answer(
            self._admin, part, self.asked, self.group, self.downstream, asked
        )  # fmt: skip
        return answer


class Question:
    """Of one task, asked as often as needed.

    Attributes:
        counted: the repartition topics that were read, though nothing is committed of what leads to them.
    """

    def __init__(self, admin: AdminClient, behind: Behind, task: Task) -> None:
        self._admin, self._behind, self._task = admin, behind, task
        self._own: Future[Offsets] | None = None
        self._answer: _Answer | None = None
        self.anew()

    def anew(self) -> None:
        """What was found is of no use any more."""
        self._described: Mapping[str, DescribedTopic] | None = None  # where what lies behind is to be asked
        self._stable, self._after = False, self._behind.asked
        self.counted: Sequence[str] = ()

    @property
    def asked(self) -> bool:
        return self._own is not None

    def ask(self) -> None:
        self._own = self._admin.committed(self._behind.group, self._task.inputs)
        if self._described is not None:
            self._answer = self._behind.ask(self._task.part, self._described, stable=self._stable, after=self._after)

    def done(self) -> bool:
        return self._own is not None and self._own.done() and (self._answer is None or self._answer.done())

    def result(self) -> Offsets:
        """What is committed of its inputs. Raises as the answers."""
        assert self._own is not None
        own, answer, self._own, self._answer = self._own, self._answer, None, None
        if answer is not None:
            try:
                self.counted = answer.counted
            except KStreamError:
                self._after = max(self._after, answer.number)  # it is no answer
                raise
        return own.result()

    def is_answered(self, found: Offsets, described: Mapping[str, DescribedTopic]) -> bool:
        """Whether nothing else is to be asked."""
        if not self._behind.downstream.is_to_ask(self._task.part, found):
            self.counted = ()
            return True
        if self._described is None:
            self._described = described
            return False
        if self.counted and not self._stable:  # unless the first commit of what leads there is pending
            self._stable, self._after = True, self._behind.asked
            return False
        return True
