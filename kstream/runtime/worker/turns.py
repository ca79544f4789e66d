"""Which inputs are read next, where librdkafka would leave some of them unread.

A fetch brings as much as `fetch.max.bytes` allows, of the first partitions in librdkafka's list, and the list begins
with the same ones each time its queue has run low (librdkafka #1854, open since 2018). While those have a backlog the
others stand still, for as long as it lasts: their lag grows, windows behind a repartition stay open, and its topic
cannot be purged. The Java client asks so that each partition comes first in its turn (KIP-74).

Here those that were read step aside, until each that waits has had a turn; then all are read again. What is fetched of
one that steps aside is thrown away, so some of it is taken first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from kstream.types import Clock, TopicPartition

TURN_SECONDS: Final = 0.5
"""How long a turn takes, and how long an input waits before there are turns: what was fetched is lost with each."""
LONGEST_TURN: Final = 2.0
"""Seconds after which a turn ends whatever is buffered: what is may wait for those that have stepped aside."""
STUCK_SECONDS: Final = 30.0
LONGEST_STUCK: Final = 32 * STUCK_SECONDS
"""How long nobody steps aside for an input once a turn has brought it nothing, and twice as long each time, up to that.
Its broker may be down, or what lies there is of a transaction that is open: the client does not tell."""
POLLS: Final = 5
"""So many polls' records are taken of what is fetched, before an input steps aside. All of it would be more, and lie in
memory beside what is fetched of the others then (twice the share for that, measured with 256 partitions)."""


class Turns:
    """See the module's text. Nothing happens while each input with a backlog is read.

    Args:
        batch: how many records a poll takes.
        behind: the inputs that may be read and that have a backlog, and how far they are read; None: not now.
        leave: these step aside.
        enter: all that stepped aside are read again.

    Attributes:
        size: how many records the next poll is to take at most.
    """

    def __init__(
        self,
        clock: Clock,
        batch: int,
        behind: Callable[[], Mapping[TopicPartition, int] | None],
        leave: Callable[[Sequence[TopicPartition]], None],
        enter: Callable[[], None],
    ) -> None:
        self._clock, self._batch = clock, batch
        self._find, self._leave, self._enter = behind, leave, enter
        self._next = float("-inf")
        self._stuck: dict[TopicPartition, tuple[float, float]] = {}  # a turn brought them nothing: until when, how long
        self.begin_anew()

    def begin_anew(self) -> None:
        """Other inputs are read from now on."""
        self.size = self._batch
        self._before: Mapping[TopicPartition, int] = {}  # those with a backlog at the last look
        self._queue: dict[TopicPartition, int] = {}  # those that have had no turn yet
        self._leaving: list[TopicPartition] = []  # they step aside after the next poll

    def step(self) -> None:
        """Call it after each poll."""
        if self._leaving:
            self._leave(self._leaving)
            self._leaving, self.size = [], self._batch
            return
        now = self._clock.monotonic()
        if now < self._next:
            return
        if (behind := self._find()) is None:
            if self._queue and now >= self._next - TURN_SECONDS + LONGEST_TURN:
                self._end()
            return
        self._next = now + TURN_SECONDS
        if self._queue:
            self._go_on(behind, now)
        else:
            self._begin(behind, now)
        self._before = behind

    def _begin(self, behind: Mapping[TopicPartition, int], now: float) -> None:
        """A round begins where some were read since the last look, and others were not."""
        unread = {at: reach for at, reach in behind.items() if self._before.get(at) == reach}
        self._stuck = {at: stuck for at, stuck in self._stuck.items() if at in unread}
        stuck = [at for at, (until, _) in self._stuck.items() if until > now]
        waiting = {at: reach for at, reach in unread.items() if at not in stuck}
        read = [at for at in behind if at in self._before and at not in unread]
        if waiting and read:
            self._queue = waiting
            self._make_way(read)

    def _go_on(self, behind: Mapping[TopicPartition, int], now: float) -> None:
        """Those that were read step aside, too. The round ends when all have had a turn; and when a turn brought
        nobody anything: the others do not wait for what cannot be read."""
        left = {at: reach for at, reach in self._queue.items() if behind.get(at) == reach}
        for at in self._queue.keys() - left:
            self._stuck.pop(at, None)
        if left and len(left) < len(self._queue):
            self._queue = left
            self._make_way([at for at in behind if at not in left])
            return
        for at in left:
            _, seconds = self._stuck.get(at, (now, STUCK_SECONDS / 2))
            seconds = min(2 * seconds, LONGEST_STUCK)
            self._stuck[at] = now + seconds, seconds
        self._end()

    def _end(self) -> None:
        self._queue = {}
        self._enter()

    def _make_way(self, read: list[TopicPartition]) -> None:
        self._leaving, self.size = read, POLLS * self._batch
