"""Workers that follow the load: when an isolation group of an instance gets a worker more, or one fewer.

The measure is Flink's: the share of time in which workers are busy or backpressured. It is the mean over the group's
workers and over a window in which all of them ran undisturbed: a start, a restore or a change opens a new window. After
a change there is no other for a while, and there are never more workers in the group, over all instances, than a topic
has partitions: they would have nothing to do.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from kstream.config import Settings
from kstream.observe.status import ScalingStatus
from kstream.runtime.instance.supervisor import Supervisor
from kstream.topology import Topology

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0

Elsewhere = Callable[[str], int]
"""How many workers an isolation group has in the app's other instances."""


class Load(NamedTuple):
    """An isolation group of an instance at a moment.

    `share` is the busy-or-backpressured share of its workers' time since the moment before, 0..1; None when some of
    them do not run undisturbed. `room` is the number of workers for which there are partitions.
    """

    workers: int
    share: float | None
    room: int


class Change(NamedTuple):
    step: int
    reason: str


class Judge:
    """Decides for one group; knows nothing of processes. Times are monotonic seconds."""

    def __init__(self, least: int, most: int, settings: Settings) -> None:
        self.least, self.most = least, most
        self._up, self._down = settings.autoscale_up, settings.autoscale_down
        self._window, self._cooldown = settings.autoscale_window, settings.autoscale_cooldown
        self._shares: deque[tuple[float, float]] = deque()
        self._changed = float("-inf")
        self.limit: str | None = None  # why there is not one more, although the load asks for it

    def look(self, now: float, load: Load) -> Change | None:
        """Called about once a second."""
        if load.workers < self.least:  # one of them is gone for good: its place is filled without ado
            return self._change(now, +1, f"fewer than {self.least}")
        if load.share is None:
            self._shares.clear()
            return None
        self._shares.append((now, load.share))
        while self._shares[0][0] < now - self._window:
            self._shares.popleft()
        full = now - self._shares[0][0] >= self._window - 1.5 * LOOK_SECONDS
        if not full or now - self._changed < self._cooldown:
            return None
        share = self.share
        assert share is not None
        for_how_long = f"{share:.0%} busy or backpressured for {self._window:.0f} s"
        self.limit = None
        if share > self._up:
            reason = f"{for_how_long}, more than {self._up:.0%}"
            if load.workers >= self.most:
                self.limit = f"{reason}; {self.most} is the most allowed"
            elif load.workers >= load.room:
                self.limit = f"{reason}; there are no partitions for one more"
            else:
                return self._change(now, +1, reason)
        elif share < self._down and load.workers > self.least:
            return self._change(now, -1, f"{for_how_long}, less than {self._down:.0%}")
        return None

    @property
    def share(self) -> float | None:
        """The mean over the window, as far as it goes."""
        return sum(share for _, share in self._shares) / len(self._shares) if self._shares else None

    def _change(self, now: float, step: int, reason: str) -> Change:
        self._shares.clear()
        self._changed = now
        return Change(step, reason)


class Scaler:
    """What a supervisor calls on each turn of its loop, with `least` to `most` workers in each of its groups."""

    def __init__(
        self,
        topology: Topology,
        partitions: Mapping[str, int],
        groups: tuple[str, ...],
        settings: Settings,
        least: int,
        most: int,
        elsewhere: Elsewhere,
    ) -> None:
        self._rooms = {group: useful_workers(topology, partitions, group) for group in groups}
        self._judges = {group: Judge(least, most, settings) for group in groups}
        self._elsewhere = elsewhere
        self._status = {group: ScalingStatus(group, least, least, most) for group in groups}
        self._seen: dict[str, tuple[int, float, float]] = {}
        self._next = 0.0
        self.counts: dict[tuple[str, str], int] = {
            (group, direction): 0 for group in groups for direction in ("up", "down")
        }

    def __call__(self, supervisor: Supervisor) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        for group, judge in self._judges.items():
            self._look(supervisor, group, judge, now)

    def status(self) -> list[ScalingStatus]:
        return list(self._status.values())

    def _look(self, supervisor: Supervisor, group: str, judge: Judge, now: float) -> None:
        workers = len(supervisor.of_group(group))
        room = max(self._rooms[group] - self._elsewhere(group), 1)
        limit = judge.limit
        change = judge.look(now, Load(workers, self._share(supervisor, group), room))
        status = self._status[group]
        if change is not None:
            (supervisor.add if change.step > 0 else supervisor.retire)(group)
            workers += change.step
            self.counts[group, "up" if change.step > 0 else "down"] += 1
            status = ScalingStatus(group, workers, judge.least, judge.most, None, time.time(), change.reason)
            log.info("isolation group %s: %d workers, %s", group, workers, change.reason)
        elif judge.limit is not None and limit is None:
            log.warning("isolation group %s is not scaled, it stays at %d workers: %s", group, workers, judge.limit)
        self._status[group] = ScalingStatus(
            group, workers, judge.least, judge.most, judge.share, status.at, judge.limit or status.reason
        )

    def _share(self, supervisor: Supervisor, group: str) -> float | None:
        """The mean over the group's workers since the last look; None when one of them does not run undisturbed."""
        shares: list[float | None] = []
        for worker in supervisor.of_group(group):
            report, pid = worker.report, worker.pid or 0
            before = self._seen.get(worker.name)
            self._seen[worker.name] = pid, report.elapsed, report.worked
            settled = pid and report.joined and not report.restoring and not report.paused
            if not settled or before is None or before[0] != pid:
                shares.append(None)
            elif report.elapsed > before[1]:
                shares.append(min(1.0, max(0.0, report.worked - before[2]) / (report.elapsed - before[1])))
            else:  # it has not reported since: a batch takes its time, or it is stuck; either way it is not idle
                shares.append(1.0)
        if not shares or None in shares:
            return None
        return sum(share for share in shares if share is not None) / len(shares)


def workers_of_each(settings: Settings, groups: Sequence[str]) -> int:
    """Workers of each isolation group, where their number is fixed: without one, the cores are shared out."""
    return int(settings.workers or max(1, (os.cpu_count() or 1) // len(groups)))


def useful_workers(topology: Topology, partitions: Mapping[str, int], group: str) -> int:
    """How many workers of an isolation group can have something to do, over all instances: `range` gives the
    partitions of every topic to the same members, so as many as the topic with the most partitions has."""
    return max((partitions[topic] for part in topology.of_group(group).parts for topic in part.topics), default=0)
