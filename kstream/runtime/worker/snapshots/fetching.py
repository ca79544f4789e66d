"""A task that has no state of its own that it can use gets that of a snapshot: the newest that is whole and fits. So
does a warm copy of a task.

Everything is done on a thread of the fetch's own: finding, fetching, checking, opening. The loop has two parts in it:
it begins the fetch, and it lets go of the local state when the files are there. A snapshot that is damaged,
incomplete, another task's, or too old is told of in one line, and the one before is tried; where there is none, the
changelog has everything.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from kstream.errors import (
    FileMissing,
    KStreamError,
    SnapshotError,
    StateDirectoryError,
    StateError,
    StorageError,
    UsageError,
)
from kstream.observe.logs import PERFORMANCE
from kstream.runtime.cluster.naming import snapshot_place
from kstream.runtime.task.states import move
from kstream.runtime.worker.replay import Replayed
from kstream.runtime.worker.snapshots.counts import SnapshotCounts
from kstream.runtime.worker.snapshots.making import LOOKS, Abandoned
from kstream.runtime.worker.snapshots.taking import SCRATCH
from kstream.state.snapshots.manifest import Manifest, manifests_of, stored_manifest
from kstream.state.snapshots.storage import Entry, Storage
from kstream.state.snapshots.transfer import read_snapshot
from kstream.topology import SubTopology
from kstream.types import Clock

log = logging.getLogger(__name__)


class FetchStage(Enum):
    """How far a fetch is.

        WAITING -> LOOKING -> FETCHING -> FETCHED -> OPENING -> DONE
                    ^ ^          |                      |
                    | +----------+----------------------+
                    v            |                      |
                  PAUSING <------+----------------------+

    WAITING: for its turn, for a worker fetches few at a time. FETCHED: it waits for the loop to let go of the local
    state. A snapshot that turns out to be of no use leads back to LOOKING, a storage that fails to PAUSING; DONE may
    follow on each of them: nothing was found, or the task left.
    """

    WAITING = "waiting for other tasks' snapshots"
    LOOKING = "looking for a snapshot"
    PAUSING = "waiting for the storage of snapshots"
    FETCHING = "fetching a snapshot"
    FETCHED = "a snapshot is here"
    OPENING = "opening a snapshot"
    DONE = "done"


FETCH_MOVES: Final = {
    FetchStage.WAITING: frozenset({FetchStage.LOOKING, FetchStage.DONE}),
    FetchStage.LOOKING: frozenset({FetchStage.FETCHING, FetchStage.PAUSING, FetchStage.DONE}),
    FetchStage.PAUSING: frozenset({FetchStage.LOOKING, FetchStage.DONE}),
    FetchStage.FETCHING: frozenset({FetchStage.FETCHED, FetchStage.LOOKING, FetchStage.PAUSING, FetchStage.DONE}),
    FetchStage.FETCHED: frozenset({FetchStage.OPENING, FetchStage.DONE}),
    FetchStage.OPENING: frozenset({FetchStage.LOOKING, FetchStage.PAUSING, FetchStage.DONE}),
    FetchStage.DONE: frozenset(),
}

Fits = Callable[[Manifest], str | None]
"""Why a snapshot is of no use to a task as things are; None where it is of use."""


TOGETHER: Final = 3
"""So many snapshots a worker fetches at the same time, each with some files at once."""

PAUSE: Final = 1.0
"""Seconds until a storage that failed is asked again, at first; twice as long each time."""

MOST_PAUSE: Final = 15.0

NO_BETTER: Final = "without it no more is to be replayed"
"""Said of a snapshot; those before it are no better either."""


class Fetching(Replayed, Protocol):
    """Whose state is fetched: a task, or a warm copy of one."""

    @property
    def part(self) -> SubTopology: ...


class Fetch:
    """One of them.

    Attributes:
        manifest: of the snapshot whose state the task has now; None: none was found, and it has what it had, or none.
        error: what is to be raised where the restore goes on: the memory is not large enough, say.
    """

    def __init__(
        self,
        app: str,
        task: Fetching,
        who: str,
        storage: Storage,
        scratch: Path,
        fits: Fits,
        clock: Clock,
        counts: SnapshotCounts,
        patience: float,
        turns: threading.Semaphore,
    ) -> None:
        self.task, self.stage = task, FetchStage.WAITING
        self._who = who  # in the log
        self.manifest: Manifest | None = None
        self._refused: list[str] = []  # one line is logged of them: each restore finds the damaged ones again
        self.error: UsageError | None = None
        self.size = self.fetched = 0
        self._app, self._backend = app, task.backend
        self._storage, self._place = storage, snapshot_place(app, task.part.name, task.partition)
        self._scratch, self._fits, self._clock, self._counts = scratch, fits, clock, counts
        self._patience, self._moved = patience, clock.monotonic()
        self._lock = threading.Lock()
        self._detached = threading.Event()
        self._again, self._due = 0.0, threading.Event()  # when a storage that failed is asked again
        self._abandoned = threading.Event()
        self._turns, self._has_turn = turns, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"fetch-{task.name}", daemon=True)
        self._thread.start()

    # ---- on the loop's thread

    @property
    def done(self) -> bool:
        return self.stage is FetchStage.DONE

    @property
    def said(self) -> str:
        """How far it is."""
        if self.stage is FetchStage.FETCHING and self.size:
            return f"{self.stage.value}: {self.fetched / 1e6:.0f} of {self.size / 1e6:.0f} MB"
        return self.stage.value

    @property
    def holds(self) -> bool:
        """It has the local state: nobody else may use it."""
        return self._detached.is_set() and not self.done

    @property
    def stands(self) -> bool:
        """It has not moved for too long: the storage does not answer."""
        waits = self.stage is FetchStage.WAITING
        return not waits and not self.holds and not self.done and self._clock.monotonic() - self._moved > self._patience

    @property
    def over(self) -> bool:
        """It has nothing to do with the local state any more."""
        return self.done or (self._abandoned.is_set() and not self.holds)

    def step(self) -> None:
        """Lets go of the local state where that is wanted, and ends a pause."""
        if self.stage is FetchStage.PAUSING and self._clock.monotonic() >= self._again:
            self._due.set()
        if self.stage is FetchStage.FETCHED and not self._detached.is_set():
            self._backend.detach()
            self._detached.set()

    def abandon(self) -> None:
        """The task left, or goes on without. The thread ends by itself, and cleans up."""
        self._abandoned.set()
        self._end_turn()  # its thread may hang

    def rest(self, seconds: float) -> bool:
        """Waits until it is done, or waits itself: for its turn, the clock, or the local state. Returns whether."""
        with self._changed:
            return self._changed.wait_for(
                lambda: (
                    self.stage in (FetchStage.DONE, FetchStage.WAITING)
                    or (self.stage is FetchStage.PAUSING and not self._due.is_set())
                    or (self.stage is FetchStage.FETCHED and not self._detached.is_set())
                ),
                seconds,
            )

    # ---- on its own thread

    def _run(self) -> None:
        try:
            self._begin_turn()
            self._search()
        except Abandoned:
            pass
        except Exception as error:
            log.exception("%s: its snapshots cannot be used: %s", self._who, error)
        finally:
            self._tell_refused()
            if self._detached.is_set() and self.manifest is None:
                self._attach_nothing()
            self._go(FetchStage.DONE)
            self._end_turn()

    def _begin_turn(self) -> None:
        while not self._turns.acquire(timeout=LOOKS):
            self._go_on()
        with self._lock:
            self._has_turn = True
        if self._abandoned.is_set():
            raise Abandoned
        self._go(FetchStage.LOOKING)

    def _end_turn(self) -> None:
        with self._lock:
            had, self._has_turn = self._has_turn, False
        if had:
            self._turns.release()

    def _search(self) -> None:
        """Tries one snapshot after the other. A storage that fails is asked again, until its time is over."""
        passed: set[str] = set()
        pause, until = PAUSE, None
        while True:
            try:
                for entry in manifests_of(self._storage, self._place):
                    if entry.name not in passed and self._take(entry):
                        return
                    passed.add(entry.name)
                return
            except StorageError as error:
                now = self._clock.monotonic()
                until = now + self._patience if until is None else until
                if now + pause > until:
                    self._counts.refused["storage"] += 1
                    self._without(error)
                    return
                log.warning(
                    "%s: a snapshot cannot be fetched: %s; trying again in %.0f s", self._who, error, pause,
                    extra={"task": self.task.name},
                )  # fmt: skip
            self._pause(pause)
            pause = min(2 * pause, MOST_PAUSE)

    def _pause(self, seconds: float) -> None:
        """By the worker's clock: its loop says when they are over."""
        self._again = self._clock.monotonic() + seconds
        self._due.clear()
        self._go(FetchStage.PAUSING)
        while not self._due.wait(LOOKS):
            self._go_on()
        self._go(FetchStage.LOOKING)

    def _take(self, entry: Entry) -> bool:
        """Whether the search is over."""
        self._go_on()
        directory = self._scratch / f"fetched-{secrets.token_hex(6)}"
        try:
            manifest = stored_manifest(self._storage, entry.name)
            self._check(manifest)
            if (reason := self._fits(manifest)) is NO_BETTER:
                return True
            if reason is not None:
                return self._refuse(entry, "misfit", reason)
            self._fetch(manifest, directory)
            self._go(FetchStage.FETCHED)
            while not self._detached.wait(LOOKS):
                self._go_on()
            self._go(FetchStage.OPENING)
            self._go_on()
            self._backend.attach(directory)
        except (SnapshotError, StateError, FileMissing) as error:  # deleted since it was listed, say
            self._go_on()
            return self._refuse(entry, "damaged", error)
        except StateDirectoryError as error:
            self._counts.refused["disk"] += 1
            self._without(error)
            return True
        except UsageError as error:
            self.error = error
            return True
        except OSError as error:
            self._counts.refused["disk"] += 1
            self._without(StateDirectoryError(f"{self._scratch} cannot be written: {error.strerror or error}"))
            return True
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        self.manifest = manifest
        self._counts.restored += 1
        log.info(
            "%s: its state comes from snapshot %d, which is %.0f s old and has %.1f MB", self._who, manifest.number,
            self._clock.time() - manifest.taken, manifest.size / 1e6, extra=PERFORMANCE | {"task": self.task.name},
        )  # fmt: skip
        return True

    def _check(self, manifest: Manifest) -> None:
        """Raises SnapshotError: it is not this task's."""
        whose = manifest.app, manifest.part, manifest.partition
        if whose != (self._app, self.task.part.name, self.task.partition):
            raise SnapshotError(f"it is of app {manifest.app!r}, task {manifest.task}")
        if manifest.backend != self._backend.kind:
            raise SnapshotError(f"backend {manifest.backend} wrote it, and this task has {self._backend.kind}")

    def _fetch(self, manifest: Manifest, directory: Path) -> None:
        self.size, self.fetched = manifest.size, 0
        self._go(FetchStage.FETCHING)
        read_snapshot(
            self._storage, self._place, manifest, directory, link=True, go_on=self._go_on, fetched=self._count,
            damaged=self._counts.damaged[self.task.name].add,
        )  # fmt: skip

    def _count(self, size: int) -> None:
        with self._lock:
            self.fetched += size
            self._counts.fetched += size
            self._moved = self._clock.monotonic()

    def _refuse(self, entry: Entry, kind: str, reason: object) -> bool:
        self._counts.refused[kind] += 1
        self._refused.append(f"snapshot {entry.name.rpartition('/')[2]} is not used: {reason}")
        if self.stage is not FetchStage.LOOKING:
            self._go(FetchStage.LOOKING)
        return False

    def _tell_refused(self) -> None:
        if self._refused:
            more = f" (nor are {len(self._refused) - 1} others)" if len(self._refused) > 1 else ""
            log.warning("%s: %s%s", self._who, self._refused[0], more, extra={"task": self.task.name})

    def _without(self, error: KStreamError) -> None:
        log.warning("%s is restored without a snapshot: %s", self._who, error, extra={"task": self.task.name})

    def _attach_nothing(self) -> None:
        try:
            self._backend.attach(None)
        except KStreamError as error:
            if not self._abandoned.is_set():  # else its task was closed
                log.warning("%s: its local state cannot be opened again: %s", self._who, error)

    def _go_on(self) -> None:
        if self._abandoned.is_set():
            raise Abandoned

    def _go(self, to: FetchStage) -> None:
        with self._changed:
            move(f"a fetch for task {self.task.name}", self.stage, to, FETCH_MOVES)
            self.stage = to
            self._moved = self._clock.monotonic()
            self._changed.notify_all()


class Fetches:
    """Begins them, for the tasks of one worker or for its warm copies.

    Args:
        together: so many are fetched at the same time; None: TOGETHER.
        whose: what comes before a task's name in the log.
    """

    def __init__(
        self,
        app: str,
        storage: Storage,
        directory: Path,
        clock: Clock,
        counts: SnapshotCounts,
        patience: float,
        *,
        together: int | None = None,
        whose: str = "task",
    ) -> None:
        self._app, self._storage, self._scratch = app, storage, directory / SCRATCH
        self._clock, self._counts, self._patience = clock, counts, patience
        self._last: dict[str, Fetch] = {}
        self._turns = threading.Semaphore(TOGETHER if together is None else together)
        self._whose = whose

    def begin(self, task: Fetching, fits: Fits) -> Fetch:
        made = self._last[task.name] = Fetch(
            self._app, task, f"{self._whose} {task.name}", self._storage, self._scratch, fits, self._clock,
            self._counts, self._patience, self._turns,
        )  # fmt: skip
        return made

    def holds(self, task: Fetching) -> bool:
        """Whether a fetch that was abandoned still has the local state of the task: for a moment only."""
        last = self._last.get(task.name)
        return last is not None and last.task is task and last.holds
