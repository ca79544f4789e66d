"""Whether a task's async agents wait for something outside, and what follows for its commits; and how much a task
takes at a time.

A commit leaves out a task whose agents wait, which it can only while nothing of that task is in the transaction. So a
task whose agents wait is cautious: it takes its next batch only after what it finished is committed.
"""

from __future__ import annotations

PROMPT = 8
"""Batches in a row without a wait after which a task is cautious no longer."""
MOST = 1000

SHORTEST = 16
"""Records of a batch that failed, from which on it is made no shorter."""


class Pace:
    """Of one task. It begins without caution: an agent that always waits shows it with its first record, when nothing
    of its task is in the transaction yet.

    Args:
        heeded: False where commits wait for agents, however long (TestDriver: its time stands still meanwhile).

    Attributes:
        cautious: see the module's text.
    """

    def __init__(self, heeded: bool = True) -> None:
        self._heeded = heeded
        self.cautious = False
        self._prompt = 0
        self._needed = PROMPT

    def finished(self, waited: bool) -> None:
        """A batch is through; `waited`: not in the turn in which it was pushed."""
        if waited:
            self.cautious, self._prompt = self._heeded, 0
        elif self.cautious:
            self._prompt += 1
            self.cautious = self._prompt < self._needed

    def surprised(self) -> None:
        """The agents of a task that was not cautious kept a commit waiting until it was given up. It takes longer to
        be trusted again, so that rare waits do not take back everybody's work again and again."""
        self.cautious, self._prompt = self._heeded, 0
        self._needed = min(MOST, self._needed * 4)


class Chunk:
    """How many records a task's operators get at a time: as many as they manage within `seconds`, as far as is known.
    It begins with one where there are agents, which may take seconds for each.

    Attributes:
        size: records.
    """

    def __init__(self, seconds: float, *, agents: bool) -> None:
        self._seconds, self.size = seconds, 1 if agents else 64

    def managed(self, records: int, seconds: float, *, care: bool) -> None:
        """So many took so long. While care is taken it grows slowly."""
        if seconds > self._seconds and records:
            self.size = max(1, int(records * self._seconds / seconds))
        elif records >= self.size:
            self.size += self.size // 4 + 1 if care else self.size

    def failed(self, records: int) -> None:
        if records > 1:
            self.size = max(min(SHORTEST, records // 2), self.size * 3 // 4)
