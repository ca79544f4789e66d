"""What a worker does now and then: flush local state, commit what lies behind the last records, purge repartition
topics, delete state it has no use for."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from kstream.config import Settings
from kstream.errors import StateError
from kstream.runtime.cluster.naming import directory_name, whole_name
from kstream.runtime.task.failures import StateDamaged
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.global_copy import GLOBAL
from kstream.runtime.worker.leftovers import Leftovers
from kstream.runtime.worker.opening import WARM, last_change
from kstream.runtime.worker.renewal import Renewal
from kstream.runtime.worker.replay import Replayed
from kstream.runtime.worker.savepoint import COPIES
from kstream.state.lock import locked
from kstream.topology import Topology
from kstream.types import AdminClient, Clock

log = logging.getLogger(__name__)

_NO_TASKS: Final = (WARM, COPIES, GLOBAL)
"""Directories beside those of sub-topologies."""


class Housekeeping:
    """Nothing here holds up the loop: flushes run on a thread of their own, purges are futures.

    Args:
        directory: the worker's state directory.
        renewal: of the marks of idle stores, where transactions leave marks in their changelogs.

    Attributes:
        give_back: called after each flush, when the memory of what was flushed is free; on the same thread.
    """

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        admin: AdminClient,
        directory: Path,
        clock: Clock,
        renewal: Renewal | None = None,
    ) -> None:
        self._renewal, self._leftovers = renewal, Leftovers(topology, admin)
        self._settings, self._admin, self._directory, self._clock = settings, admin, directory, clock
        self._internal = {
            source.topic.name for part in topology.parts for source in part.sources if source.topic.internal
        } | {delay.topic for part in topology.parts for delay in part.delays}
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._flushing: Future[None] | None = None
        self._started = self._last = clock.monotonic()
        self.give_back: Callable[[], None] | None = None

    def step(self, tasks: Mapping[str, Task], copies: Collection[Replayed] = ()) -> None:
        """Does what is due.

        Args:
            copies: warm ones, and those of global tables, which are flushed with the tasks.

        Raises:
            StateDamaged: a flush found the state of a task damaged.
        """
        if self._flushing is not None and self._flushing.done():
            flushed, self._flushing = self._flushing, None
            flushed.result()
        if self._renewal is not None:
            self._renewal.step()
        if leave := self._leftovers.answered():
            self._delete(leave, self._idle(tasks.keys(), {copy.name for copy in copies}))
        now = self._clock.monotonic()
        if now - self._last < self._settings.flush_interval:
            return
        self._last = now
        running = [task for task in tasks.values() if task.state is TaskState.RUNNING]
        if self._flushing is None:
            self._flushing = self._flusher.submit(self._flush, [*running, *copies])
        if self._renewal is not None:
            self._renewal.ask(running)
        for task in running:
            if task.positions != task.committed:
                # Markers of transactions lie behind its last record, which others would take for records that wait.
                task.touched = True
        self._purge(running)
        if now - self._started >= self._settings.state_cleanup_delay:
            self._clean_up(tasks.keys(), {copy.name for copy in copies})

    def close(self) -> None:
        """Waits for a flush that is under way."""
        if self._flushing is not None:
            self._flushing.exception()
        self._flusher.shutdown()

    def _flush(self, tasks: Sequence[Replayed]) -> None:
        flush_all(tasks)
        if self.give_back is not None:
            self.give_back()

    def _purge(self, tasks: Sequence[Task]) -> None:
        """Repartition and delay topics are kept for ever by their settings; what is committed is deleted here."""
        before = {
            at: offset
            for task in tasks
            for at, offset in task.committed.items()
            if at.topic in self._internal and offset > 0
        }
        if before:
            self._admin.delete_records(before).add_done_callback(_log_failure)

    def _clean_up(self, open_tasks: Collection[str], warm: Collection[str]) -> None:
        """Deletes local state of tasks that have not run here for long, where the changelog has all of it. Each worker
        has a directory of its own, so what other workers use is never looked at.

        Args:
            warm: the tasks of which warm copies are open.
        """
        idle = self._idle(open_tasks, warm)
        self._leftovers.ask(one for one in idle if self._is_old(one))
        self._delete(self._leftovers.answered(), idle)

    def _idle(self, open_tasks: Collection[str], warm: Collection[str]) -> list[Path]:
        """Directories that this worker has not open."""
        left = [one for one in self._directory.glob("*/*/") if one.parent.name not in _NO_TASKS]
        idle = [one for one in left if _of(one) not in set(map(_directories, open_tasks))]
        return idle + [
            one for one in self._directory.glob(f"{WARM}/*/*/") if _of(one) not in set(map(_directories, warm))
        ]

    def _is_old(self, directory: Path) -> bool:
        try:
            return self._clock.time() - last_change(directory) >= self._settings.state_cleanup_delay
        except OSError as error:
            log.warning("the local state in %s cannot be looked at: %s; trying again later", directory, error)
            return False

    def _delete(self, directories: Collection[Path], idle: Collection[Path]) -> None:
        for directory in directories:
            name = f"{whole_name(directory.parent)}/{directory.name}"
            try:
                if directory not in idle or not self._is_old(directory):
                    continue
                with locked(directory) as free:  # else another worker is just taking it
                    if free:
                        log.info(
                            "deleting the local state of task %s: it has not run here for %.0f s (state_cleanup_delay)",
                            name, self._settings.state_cleanup_delay,
                        )  # fmt: skip
                        shutil.rmtree(directory)
            except OSError as error:
                log.warning("the local state of task %s cannot be deleted: %s; trying again later", name, error)


def _of(directory: Path) -> tuple[str, str]:
    return directory.parent.name, directory.name


def _directories(task: str) -> tuple[str, str]:
    part, _, partition = task.rpartition("/")
    return directory_name(part), partition


def flush_all(tasks: Sequence[Replayed]) -> None:
    """Makes the local state of these tasks survive a crash."""
    for task in tasks:
        try:
            task.backend.flush()
        except StateError as error:
            raise StateDamaged(task.name, error) from error


def _log_failure(purge: Future[None]) -> None:
    error = purge.exception()
    if error is not None:
        log.warning("repartition and delay topics could not be purged: %s; trying again later", error)
