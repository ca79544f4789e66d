"""When snapshots are taken: of each task by itself, with the meaning of Flink's settings."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from zlib import crc32

from kstream.config import Settings
from kstream.errors import SnapshotsFailed
from kstream.observe.logs import PERFORMANCE
from kstream.observe.status import SnapshotStatus
from kstream.runtime.cluster.naming import Identity, snapshot_place
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.replay import damage_of
from kstream.runtime.worker.snapshots.counts import SnapshotCounts
from kstream.runtime.worker.snapshots.drafting import stores_of
from kstream.runtime.worker.snapshots.making import Earlier, Snapshot, SnapshotStage, same
from kstream.specs.listener import Checkpoint
from kstream.state.snapshots.manifest import StoredStore
from kstream.state.snapshots.storage import Storage
from kstream.types import Clock

log = logging.getLogger(__name__)

SCRATCH: Final = "@snapshots"
"""The folder in a worker's state directory for links and for what is fetched: it has nothing that is needed after a
crash."""

END_SECONDS: Final = 2.0
"""How long a stop waits for threads that are within a request; they end with their process."""


@dataclass(slots=True)
class _Pace:
    """When a task's next snapshot is due (monotonic), and how its last ones went."""

    task: Task
    due: float
    earlier: Earlier = field(default_factory=Earlier)
    failures: int = 0  # one after the other
    stores: Mapping[str, StoredStore] | None = None  # their marks when the newest snapshot was taken


class Snapshots:
    """Takes the snapshots of a worker's tasks. Everything is called on the loop's thread.

    Args:
        directory: the worker's state directory.
        told: called with each snapshot that is complete, and each that failed.
    """

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        directory: Path,
        clock: Clock,
        storage: Storage,
        counts: SnapshotCounts,
        told: Callable[[Checkpoint], object] = lambda checkpoint: None,
    ) -> None:
        self._settings, self._identity, self._clock, self._storage = settings, identity, clock, storage
        self._scratch = directory / SCRATCH
        self.counts, self.told = counts, told
        self._paces: dict[str, _Pace] = {}
        self.running: list[Snapshot] = []
        self._look_at = clock.monotonic()
        shutil.rmtree(self._scratch, ignore_errors=True)  # of a predecessor that was killed

    def step(self, tasks: Mapping[str, Task]) -> None:
        """Goes on with those that are under way, and begins those that are due.

        Raises:
            SnapshotsFailed: more of a task failed one after the other than are tolerated.
            StateDamaged: the local state of a task cannot be read.
        """
        for snapshot in self.running:
            if snapshot.wants_links and snapshot.task.state is TaskState.RUNNING:
                snapshot.link()
        for snapshot in [snapshot for snapshot in self.running if snapshot.over]:
            self.running.remove(snapshot)
            if (failed := self._ended(snapshot)) is not None:
                raise failed  # others that are over are looked at in the next turn
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + min(1.0, self._settings.snapshot_interval / 10)
            self._begin_due(tasks, now)

    def interrupt(self, task: Task) -> None:
        """The task does not run, for the moment: what is under way of it is abandoned. Others may have the task
        meanwhile, and take snapshots of it."""
        for snapshot in self.running:
            if snapshot.task is task:
                snapshot.abandon()
        pace = self._paces.get(task.name)
        if pace is not None and pace.task is task:
            pace.earlier = Earlier()

    def forget(self, task: Task) -> None:
        """The task leaves: what is under way of it is abandoned."""
        self.interrupt(task)
        pace = self._paces.get(task.name)
        if pace is not None and pace.task is task:
            del self._paces[task.name]
            self.counts.forget(task.name)

    def close(self) -> None:
        """Abandons what is under way. A thread within a request that does not end is left to its process."""
        for snapshot in self.running:
            snapshot.abandon()
        until = self._clock.monotonic() + END_SECONDS
        for snapshot in self.running:
            snapshot.join(max(0.0, min(END_SECONDS, until - self._clock.monotonic())))
        self.running.clear()
        self._paces.clear()

    def _begin_due(self, tasks: Mapping[str, Task], now: float) -> None:
        interval = self._settings.snapshot_interval
        for task in tasks.values():
            if task.state is not TaskState.RUNNING or not task.stores or not task.backend.snapshotted:
                continue
            pace = self._paces.get(task.name)
            if pace is None or pace.task is not task:
                # tasks that begin together take turns
                due = now + interval * (crc32(task.name.encode()) % 1000) / 1000
                self._paces[task.name] = _Pace(task, due)
                self.counts.last_success[task.name] = 0.0
        due_now = sorted((pace for pace in self._paces.values() if pace.due <= now), key=lambda pace: pace.due)
        under_way = [snapshot.task for snapshot in self.running]
        for pace in due_now:
            if len(self.running) >= self._settings.snapshot_max_concurrent:
                return
            if pace.task.state is not TaskState.RUNNING or pace.task in under_way:
                continue
            with damage_of(pace.task):
                stores = stores_of(pace.task)
            whole = not self.counts.damaged[pace.task.name]
            if not stores or (whole and pace.stores is not None and same(stores, pace.stores)):  # there is nothing new
                pace.due = now + interval
                self._unchanged(pace.task)
            else:
                self.running.append(self._begin(pace))

    def _begin(self, pace: _Pace) -> Snapshot:
        settings, task = self._settings, pace.task
        return Snapshot(
            self._identity.app,
            task,
            self._storage,
            snapshot_place(self._identity.app, task.part.name, task.partition),
            self._scratch,
            pace.earlier,
            self._clock,
            patience=settings.snapshot_timeout,
            retained=settings.snapshots_retained,
            incremental=settings.snapshot_incremental,
            damaged=self.counts.damaged[task.name],
        )

    def _unchanged(self, task: Task) -> None:
        self.counts.unchanged += 1
        self.counts.last_success[task.name] = self._clock.time()

    def _ended(self, snapshot: Snapshot) -> SnapshotsFailed | None:
        """Counts and tells what became of it."""
        task, manifest, settings = snapshot.task, snapshot.manifest, self._settings
        pace = self._paces.get(task.name)
        if snapshot.stage is SnapshotStage.ABANDONED or pace is None or pace.task is not task:
            return None
        if snapshot.abandoned and snapshot.stage is SnapshotStage.FAILED:  # its task had let go of its state, say
            return None
        now = self._clock.monotonic()
        pace.due = max(snapshot.began + settings.snapshot_interval, now + settings.snapshot_min_pause)
        told = SnapshotStatus(snapshot.id, snapshot.started, self._identity.worker, task.name, snapshot.seconds)
        if snapshot.stage is SnapshotStage.FAILED:
            assert snapshot.error is not None
            return self._failed(pace, told, snapshot.error)
        pace.stores, pace.failures = snapshot.stores, 0
        if manifest is None:
            self._unchanged(task)
            return None
        told.number, told.size, told.uploaded = manifest.number, manifest.size, manifest.uploaded
        self.counts.taken += 1
        self.counts.uploaded += manifest.uploaded
        self.counts.durations.observe(told.seconds)
        self.counts.last_success[task.name] = manifest.taken
        self.counts.sizes[task.name] = manifest.size
        log.debug(
            "task %s: snapshot %d is complete after %.2f s: %d bytes, %d of them stored now",
            task.name, manifest.number, told.seconds, manifest.size, manifest.uploaded,
            extra=PERFORMANCE | {"task": task.name, "seconds": told.seconds},
        )  # fmt: skip
        self._tell(told)
        return None

    def _failed(self, pace: _Pace, told: SnapshotStatus, error: Exception) -> SnapshotsFailed | None:
        pace.failures += 1
        self.counts.failed(error)
        told.error = str(error) or type(error).__name__
        self._tell(told)
        most, task = self._settings.snapshot_tolerable_failures, pace.task.name
        if most is None or pace.failures <= most:
            log.warning(
                "task %s: a snapshot failed (%d in a row%s): %s", task, pace.failures,
                "" if most is None else f", {most} are tolerated", told.error, extra={"task": task},
            )  # fmt: skip
            return None
        times, pace.failures = pace.failures, 0
        return SnapshotsFailed(
            task,
            f"task {task}: {times} snapshots in a row failed, more than snapshot_tolerable_failures={most}; the last: "
            f"{told.error}",
        )

    def _tell(self, told: SnapshotStatus) -> None:
        self.counts.last.append(told)
        self.told(
            Checkpoint(
                id=told.id, kind="snapshot", worker=told.worker, at=told.at, seconds=told.seconds, tasks=1,
                error=told.error,
            )
        )  # fmt: skip
