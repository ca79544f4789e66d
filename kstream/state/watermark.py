"""The event time of a task: what closes windows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from kstream.specs.ttl import FOREVER
from kstream.state.time import running_largest

UNKNOWN: Final = -(1 << 62)
"""Before there is any time."""
IDLE: Final = -1
"""What a task says that waits for nothing: it holds back no other."""


SKEW: Final = 600.0
"""Seconds for which the times of marks, by the clocks of other machines, are compared with that of a release."""

PARTS: Final = 4
"""While something waits on a quiet topic, the wait is committed whenever so large a part of it is not: a restart costs
a quarter at most, and a wait of a day some 50 commits."""


class _Channel(NamedTuple):
    """What time comes by: an input of Kafka's users, or what one of the tasks before says by a repartition topic."""

    topic: str
    task: int = -1


_State = tuple[
    int,
    dict[_Channel, int],
    dict[_Channel, float],
    dict[_Channel, tuple[int, float]],
    dict[_Channel, int],
    dict[_Channel, float],
    set[_Channel],
]


class Watermark:
    """The time of a task is the least over its inputs, in ms since the epoch; it never goes back.

    That of an input is the largest event time seen there, less what its records may be out of order. That of a
    repartition topic is the least that the tasks which write it have said (Flink's watermarks of input channels), so
    records of a slower partition are not late where an app catches up.

    An input that is idle holds nothing back. Where all are, time is the latest of theirs (as in Flink's
    StatusWatermarkValve), and stands still. A task before says again and again that it is idle: one that no longer
    does so (it failed, moves, or is held up) may have records to come, and holds time back.

    That one was idle is read again after a restart, when it may have records to come, too. So it counts for where time
    was as that was said, and no further: windows close on the way through a long backlog of such a topic, and at its
    end time waits until the tasks before say anew that they are idle.

    Args:
        bounds: of the inputs that are read from users' topics, by how many ms their records may be out of order.
        upstream: of those that are repartition topics, how many tasks write them.
        lease: seconds for which it is believed that a task before is idle.
        clock: a monotonic one.
        by_clock: the inputs of users' topics whose time goes on with the clock while all are idle.
    """

    def __init__(
        self,
        bounds: Mapping[str, int],
        upstream: Mapping[str, int],
        lease: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        by_clock: Collection[str] = (),
    ) -> None:
        self._bounds, self._lease, self._clock = dict(bounds), lease, clock
        channels = [_Channel(topic) for topic in bounds]
        channels += [_Channel(topic, task) for topic, tasks in upstream.items() for task in range(tasks)]
        self._times = dict.fromkeys(channels, UNKNOWN)
        self._known, self._strangers = frozenset(channels), dict[_Channel, float]()  # others: until when (monotonic)
        self._idle: dict[_Channel, float] = {}  # until when (monotonic)
        self._was_idle: set[_Channel] = set()  # by the marks of before the restore, as far as they are read
        self._by_clock = frozenset(by_clock)
        self._since: dict[_Channel, tuple[int, float]] = {}  # of idle ones: their time, at one of the clock
        self._waited: dict[_Channel, int] = {}  # before a restart, in ms: of those that are not idle again yet
        self._waited_until = UNKNOWN  # what time it was by the clock at the last commit
        self._ended: dict[_Channel, float] = {}  # have processed all that there is; believed until then (monotonic)
        self._doubted = -math.inf  # what is believed until before then is believed no more (monotonic)
        self.now = UNKNOWN
        self.restored_at: Mapping[str, int] = {}  # where its inputs ended then
        self._released_at = 0  # ms since the epoch; they were held until then
        self.limit = FOREVER  # it goes no further by itself (see runtime/task/overdue.py)
        self.goes_by_pieces: Callable[[int], bool] | None = None  # asked before it goes to a time by itself: sets that
        self._kept = self._committed = self._state

    @property
    def own_inputs(self) -> Sequence[str]:
        """The topics of users."""
        return list(self._bounds)

    @property
    def idle(self) -> bool:
        """Whether it waits for nothing."""
        return len(self._idle) == len(self._times)

    @property
    def asleep(self) -> Collection[str]:
        """The inputs that are idle, or a part of them."""
        return {channel.topic for channel in self._idle}

    def of_input(self, topic: str) -> int:
        return min((time for channel, time in self._times.items() if channel.topic == topic), default=UNKNOWN)

    def seen(self) -> dict[str, tuple[int, bool]]:
        """The time of each input, and whether it is idle: UNKNOWN before there is any. Of a repartition topic it is the
        least that tasks before have said which are not idle, for that is what holds time back; where all are, the
        latest."""
        times = self._times | (self._now_by_clock() if self.goes_by_clock else {})
        going: dict[str, int] = {}
        idle: dict[str, int] = {}
        for channel, at in times.items():
            topic = channel.topic
            if channel in self._idle:
                idle[topic] = max(idle.get(topic, at), at)
            else:
                going[topic] = min(going.get(topic, at), at)
        return {
            channel.topic: (going[channel.topic], False) if channel.topic in going else (idle[channel.topic], True)
            for channel in times
        }

    # ---- time goes on

    def running(self, topic: str, timestamps: Sequence[int]) -> list[int]:
        """The time of the task at each of these records of an input, which are processed now."""
        if topic not in self._bounds:
            return [self.now] * len(timestamps)
        mine, bound = _Channel(topic), self._bounds[topic]
        self._idle.pop(mine, None)
        self._since.pop(mine, None)
        self._waited.pop(mine, None)
        first = self._times[mine]
        own = running_largest([at - bound for at in timestamps] if bound else timestamps, first)
        self._times[mine] = own[-1]
        others = [time for one, time in self._times.items() if one != mine and one not in self._idle]
        least, now = min(others, default=None), self.now
        times = own if least is None and first >= now else [
            max(now, at if least is None else min(at, least)) for at in own
        ]  # fmt: skip
        self.now = times[-1]
        return times

    def heard(
        self, topic: str, task: int, time: int, meanwhile: int = UNKNOWN, *, at_end: bool = False, more: bool = False,
        old: bool = False,
    ) -> None:  # fmt: skip
        """A task before has said its time, or IDLE, by a repartition topic; and of IDLE, what time it is there all the
        same. `at_end`: it has processed all that there is. `more`: others were said together with it, and time goes on
        with the last. `old`: it was said before this task was restored, or its inputs were released, and says nothing
        of whether that task has something to process now: it was as far as the others then, and holds time back there
        until it says so again."""
        channel, is_idle = _Channel(topic, task), time == IDLE
        until = self._clock() + self._lease
        if channel not in self._known and self._is_past(channel, until, old=old):
            if not more:
                self._go_on()
            return
        if (at_end or is_idle) and not old:
            self._ended[channel] = until
        else:
            self._ended.pop(channel, None)
        if is_idle and not old:
            self._idle[channel] = until
        else:
            self._idle.pop(channel, None)
        self._was_idle.discard(channel)
        before = self._times.get(channel, UNKNOWN)  # there are more of them now, where it was none
        self._times[channel] = max(before, meanwhile if is_idle else time)
        if is_idle and old:
            self._was_idle.add(channel)
            self._times[channel] = self._were_at(channel)
        if not more:
            self._go_on()

    def is_old(self, topic: str, offset: int, stamp: int) -> bool:
        """Whether a mark at this offset, of this time of the clock, was said before this task was restored, or its
        inputs were released."""
        if offset < self.restored_at.get(topic, 0):
            return True
        return stamp < self._released_at and self._clock() < self._doubted - self._lease + SKEW

    def _is_past(self, channel: _Channel, until: float, *, old: bool) -> bool:
        """Whether a task that there should not be is one of another time: the input before was another one then, of
        more partitions. One that was added since this worker began says something new before long."""
        if not old:
            self._strangers.pop(channel, None)
            return False
        return self._strangers.setdefault(channel, until) < self._clock()

    def _forget_strangers(self) -> None:
        """Those that have not said anything new for so long hold nothing back."""
        now = self._clock()
        for channel in [one for one, until in self._strangers.items() if until < now]:
            for found in (self._times, self._idle, self._ended):
                found.pop(channel, None)
            self._was_idle.discard(channel)

    def _were_at(self, idle: _Channel) -> int:
        """How far those of a topic were that were not idle, as one of them said that it is; that one itself where all
        were."""
        going = [time for one, time in self._times.items() if one.topic == idle.topic and one not in self._was_idle]
        return max(self._times[idle], min(going, default=UNKNOWN))

    def least_to_come(self, topic: str) -> int | None:
        """The time before which nothing comes any more of the tasks that write a repartition topic, of those that still
        have something to process; UNKNOWN where one has not been heard. None where all are through, or it carries no
        time."""
        now, ended = max(self._clock(), self._doubted), self._ended
        times = (time for channel, time in self._times.items() if channel.topic == topic and channel.task >= 0
                 and ended.get(channel, -math.inf) < now)  # fmt: skip
        return min(times, default=None)

    def doubt(self) -> None:
        """Whoever has not said for so long that it is idle may not be."""
        now = max(self._clock(), self._doubted)
        self._idle = {channel: until for channel, until in self._idle.items() if until >= now}
        self._forget_strangers()

    def doubt_all(self, now: int) -> None:
        """Inputs were held, here and in the tasks before: that they were idle or through until now (ms since the epoch)
        says nothing of what has come meanwhile."""
        self._doubted, self._idle, self._released_at = self._clock() + self._lease, {}, now

    def is_idle(self, topic: str, since: float) -> bool:
        """Nothing comes of an input of users', since then (monotonic). Returns whether that is new."""
        channel = _Channel(topic)
        if topic in self._by_clock and self._times[channel] != UNKNOWN:
            self._since.setdefault(channel, (self._times[channel] + self._waited.pop(channel, 0), since))
        if channel in self._idle:
            return False
        self._idle[channel] = math.inf
        self._go_on()
        return True

    @property
    def goes_by_clock(self) -> bool:
        """Whether all inputs are idle, and time goes on all the same."""
        return bool(self._since) and self.idle

    def by_clock(self) -> int:
        """What time it is by the clock, where that counts."""
        return max([self.now, *self._now_by_clock().values()]) if self.goes_by_clock else self.now

    @property
    def wait_is_worth_a_commit(self) -> bool:
        """Whether a part of the wait, since a restart where there was one, would be lost with the next that is not
        small."""
        now = self._clock()
        waited = max([now - since for _, since in self._since.values()], default=0.0)
        return (self.by_clock() - max(self._waited_until, self.now)) * PARTS >= waited * 1000

    def waited(self, topic: str) -> int:
        """For how many ms an input was quiet, as far as its time does not say so."""
        channel = _Channel(topic)
        if channel in self._since:
            return self._now_by_clock()[channel] - self._times[channel]
        return self._waited.get(channel, 0)

    def go_by_clock(self) -> None:
        """It is that time from now on."""
        if self.goes_by_clock:
            self._times |= self._now_by_clock()
            self._go_on()

    def _now_by_clock(self) -> dict[_Channel, int]:
        now = self._clock()
        return {channel: time + int((now - since) * 1000) for channel, (time, since) in self._since.items()}

    def _go_on(self) -> None:
        target = self.target
        if target <= self.now or (self.goes_by_pieces is not None and self.goes_by_pieces(target)):
            return
        self.now = max(self.now, min(target, self.limit))

    @property
    def target(self) -> int:
        """Where its inputs are: `now`, or later."""
        times = [time for channel, time in self._times.items() if channel not in self._idle]
        return max(self.now, min(times) if times else max(self._times.values(), default=UNKNOWN))

    def go_to(self, time: int) -> None:
        """By itself, before what moves it further: this is on the way there."""
        self.now, self.limit = max(self.now, time), max(self.limit, time)

    def would_be(self, topic: str, timestamps: Sequence[int]) -> list[int]:
        """What `running` would give."""
        self._forget_strangers()
        before = self._state
        try:
            return self.running(topic, timestamps)
        finally:
            self._set(before)

    # ---- what is taken back, and what is committed

    @property
    def _state(self) -> _State:
        waited, ended = dict(self._waited), dict(self._ended)
        return self.now, dict(self._times), dict(self._idle), dict(self._since), waited, ended, set(self._was_idle)

    def _set(self, state: _State) -> None:
        self.now = state[0]
        self._times, self._idle, self._since = dict(state[1]), dict(state[2]), dict(state[3])
        self._waited, self._ended, self._was_idle = dict(state[4]), dict(state[5]), set(state[6])
        self._forget_strangers()

    def seed(self, now: int, inputs: Mapping[str, int], waited: Mapping[str, int] | None = None) -> None:
        """What the last commit says: the task's time, and those of its inputs, and for how long they were quiet. Of the
        tasks before an input each was so far at least."""
        times = {channel: inputs.get(channel.topic, UNKNOWN) for channel in self._times}
        quiet = {_Channel(topic): ms for topic, ms in (waited or {}).items() if ms}
        self._set((now, times, {}, {}, quiet, {}, set()))
        self.keep()
        self.committed()

    def keep(self) -> None:
        """A batch begins."""
        self._kept = self._state

    def take_back(self) -> None:
        """As it was at the last `keep`."""
        self._set(self._kept)

    def committed(self) -> None:
        self._committed = self._state
        self._waited_until = self.by_clock()

    @property
    def committed_now(self) -> int:
        """`now` as of the last commit."""
        return self._committed[0]

    def rewind(self) -> None:
        """As it was at the last commit."""
        self._set(self._committed)
        self._kept = self._committed
