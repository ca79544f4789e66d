"""One snapshot of one task, from its flush to its manifest.

The loop's thread does nothing for it but the hard links (a millisecond); all else is done on a thread of the snapshot's
own. What a backend holds is always what was committed last, so the links may be made whenever the loop is not within a
commit.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from kstream.errors import KStreamError, SnapshotError
from kstream.runtime.task.states import move
from kstream.runtime.task.task import Task
from kstream.runtime.worker.snapshots.drafting import draft_of
from kstream.state.snapshots.collector import collect
from kstream.state.snapshots.manifest import (
    Draft,
    Manifest,
    StoredStore,
    manifests_of,
    stored_manifest,
)
from kstream.state.snapshots.storage import Storage
from kstream.state.snapshots.transfer import Hashes, write_snapshot
from kstream.types import Clock

log = logging.getLogger(__name__)


class SnapshotStage(Enum):
    """How far a snapshot is.

        FLUSHING -> FLUSHED -> STORING -> DONE
            |          |          |
            +----------+----------+--> FAILED or ABANDONED

    FLUSHED: it waits for the loop to make the links. DONE: its manifest is stored, or nothing had changed. ABANDONED:
    its task left, or the worker stops; that is no failure.
    """

    FLUSHING = "flushing"
    FLUSHED = "flushed"
    STORING = "storing"
    DONE = "done"
    FAILED = "failed"
    ABANDONED = "abandoned"


_ENDS: Final = frozenset({SnapshotStage.DONE, SnapshotStage.FAILED, SnapshotStage.ABANDONED})
_BROKEN_OFF: Final = frozenset({SnapshotStage.FAILED, SnapshotStage.ABANDONED})

SNAPSHOT_MOVES: Final[Mapping[SnapshotStage, frozenset[SnapshotStage]]] = {
    SnapshotStage.FLUSHING: _BROKEN_OFF | {SnapshotStage.FLUSHED},
    SnapshotStage.FLUSHED: _BROKEN_OFF | {SnapshotStage.STORING},
    SnapshotStage.STORING: _ENDS,
    **{end: frozenset() for end in _ENDS},
}

LOOKS: Final = 0.5
"""Seconds between two looks whether a snapshot that waits for the loop is still wanted."""


class Abandoned(Exception):
    """The snapshot is not wanted any more."""


class Earlier:
    """What is remembered of a task's earlier snapshots. One thread at a time uses it."""

    def __init__(self) -> None:
        self.newest: Manifest | None = None
        self.damaged: set[str] = set()  # files whose snapshots are to be deleted
        self.looked = False
        self.manifests: dict[str, Manifest] = {}
        self.hashes = Hashes()

    def look(self, storage: Storage, place: str) -> None:
        """Finds the newest one that can be read, once: other owners of the task may have left some."""
        if self.looked:
            return
        for entry in manifests_of(storage, place):
            try:
                self.newest = stored_manifest(storage, entry.name)
                break
            except SnapshotError as error:
                log.warning("%s; the snapshot before it is used", error)
        self.looked = True


class Snapshot:
    """See the module's text.

    Args:
        place: of the task's snapshots in the storage.
        directory: for the links; it is made, and deleted at the end.
        patience: seconds after which it is given up.
        damaged: files of earlier snapshots (`StoredFile.at`) that are known to be damaged: those that this one has are
            stored anew, snapshots with others are deleted. They are taken out of the set.

    Attributes:
        stage: how far it is.
        error: why it failed.
        manifest: what became of it; None where nothing had changed since the newest snapshot.
        abandoned: it is not wanted any more.
        began: when it began (monotonic); started: the same by the wall clock.
    """

    def __init__(
        self,
        app: str,
        task: Task,
        storage: Storage,
        place: str,
        directory: Path,
        earlier: Earlier,
        clock: Clock,
        *,
        patience: float,
        retained: int,
        incremental: bool,
        damaged: set[str],
    ) -> None:
        self.task, self.stage = task, SnapshotStage.FLUSHING
        self.error: Exception | None = None
        self.manifest: Manifest | None = None
        self.id = secrets.token_hex(6)
        self._app, self._backend = app, task.backend
        self._storage, self._place, self._directory, self._earlier = storage, place, directory / self.id, earlier
        self._clock, self._patience, self._retained, self._incremental = clock, patience, retained, incremental
        self._damaged = damaged
        self.began, self.started = clock.monotonic(), clock.time()
        self._draft: Draft | None = None
        self._complete: Callable[[], None] | None = None
        self._lock = threading.Lock()  # between the links and the directory's end
        self._told = threading.Event()  # there are links, or it is not wanted any more
        self.abandoned = False
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"snapshot-{task.name}", daemon=True)
        self._thread.start()

    # ---- on the loop's thread

    @property
    def over(self) -> bool:
        return self.stage in _ENDS

    @property
    def wants_links(self) -> bool:
        return self.stage is SnapshotStage.FLUSHED and not self._told.is_set()

    @property
    def stores(self) -> Mapping[str, StoredStore] | None:
        """The marks of the stores as of the links; None before there are any."""
        return None if self._draft is None else self._draft.stores

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock.monotonic() - self.began

    def link(self) -> None:
        """Makes the links, and notes as of when they are. What goes wrong fails the snapshot and nothing else."""
        with self._lock:
            if self.over:
                return
            try:
                self._directory.parent.mkdir(parents=True, exist_ok=True)
                self._complete = self._backend.freeze(self._directory)
                self._draft = draft_of(self._app, self.task, 0, self._clock.time())
            except (KStreamError, OSError) as error:
                self.error = error
        self._told.set()

    def abandon(self) -> None:
        """It is not wanted any more. Its thread ends by itself, and cleans up."""
        self.abandoned = True
        self._told.set()

    def rest(self, seconds: float) -> bool:
        """Waits until it is over or wants its links. Returns whether it does, or is."""
        with self._moved:
            return self._moved.wait_for(lambda: self.over or self.wants_links, seconds)

    def join(self, seconds: float) -> bool:
        """Waits for the end of its thread. Returns whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # ---- on its own thread

    def _run(self) -> None:
        ended = SnapshotStage.ABANDONED
        try:
            self._backend.flush()
            self._go(SnapshotStage.FLUSHED)
            while not self._told.wait(LOOKS):
                self._go_on()
            self._go_on()
            if self.error is None:
                self._go(SnapshotStage.STORING)
                self._store()
            ended = SnapshotStage.DONE if self.error is None else SnapshotStage.FAILED
        except Abandoned:
            pass
        except (KStreamError, OSError) as error:
            self.error = error
            ended = SnapshotStage.ABANDONED if self.abandoned else SnapshotStage.FAILED
        except Exception as error:
            log.exception("snapshot of task %s: %s", self.task.name, error)
            self.error, ended = error, SnapshotStage.FAILED
        finally:
            with self._lock:
                shutil.rmtree(self._directory, ignore_errors=True)
                self._go(ended)

    def _store(self) -> None:
        assert self._draft is not None and self._complete is not None
        self._complete()
        earlier, storage, damaged = self._earlier, self._storage, set(self._damaged)
        earlier.look(storage, self._place)
        newest = earlier.newest
        whole = None if damaged else newest  # else the newest may be of no use
        if whole is not None and whole.backend == self._draft.backend and same(whole.stores, self._draft.stores):
            return
        draft = msgspec.structs.replace(self._draft, number=1 if newest is None else newest.number + 1)
        self.manifest = earlier.newest = write_snapshot(
            storage, self._place, self._directory, draft, self._clock, id=self.id, patience=self._patience,
            incremental=self._incremental, hashes=earlier.hashes, anew=damaged, go_on=self._go_on,
        )  # fmt: skip
        self._damaged -= damaged
        earlier.damaged |= damaged
        earlier.damaged -= {file.at for file in self.manifest.files}
        try:
            collect(storage, self._place, self._retained, self._clock, known=earlier.manifests, damaged=earlier.damaged)
            earlier.damaged.clear()
        except KStreamError as error:
            log.warning("task %s: old snapshots could not be deleted: %s; trying again later", self.task.name, error)

    def _go_on(self) -> None:
        if self.abandoned:
            raise Abandoned
        if self.seconds > self._patience:
            raise SnapshotError(f"it was not complete after {self._patience:g} s (snapshot_timeout)")

    def _go(self, to: SnapshotStage) -> None:
        with self._moved:
            move(f"a snapshot of task {self.task.name}", self.stage, to, SNAPSHOT_MOVES)
            self.stage = to
            self._moved.notify_all()


def same(one: Mapping[str, StoredStore], other: Mapping[str, StoredStore]) -> bool:
    """Whether two snapshots hold the same: as far into the same changelogs. When they were current does not count."""
    return one.keys() == other.keys() and all(
        one[name].offset == other[name].offset
        and bytes(one[name].about) == bytes(other[name].about)
        and one[name].families == other[name].families
        for name in one
    )
