"""The local state of tasks on disk: where it lies, and how it is opened.

Each worker has a directory of its own, `<state_dir>/<worker>/<sub-topology>/<partition>`. A task that comes from
another worker with the same state directory (of this instance, or another on this host) takes its local state along:
the directory is renamed, nothing is copied. It may be taken once its owner has closed it, or died: RocksDB's lock says
so, and what somebody has open is never touched. What was taken is a cache as any other: its marks say how far it is,
and what it lacks is replayed from the changelog.

Killed before the rename, the next who opens the task finds it where it was; after it, in its new place.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cmp_to_key
from pathlib import Path
from typing import Final, NamedTuple

from kstream.errors import StateDirectoryError, StateError, StateInUse
from kstream.runtime.cluster.naming import directory_name, keep_whole_name
from kstream.runtime.task.context import remember
from kstream.runtime.task.task import Task
from kstream.state.backend import Backend, Mark
from kstream.state.lock import alone, locked
from kstream.state.noted import NotedReads
from kstream.state.rocksdb import RocksMemory, RocksReader
from kstream.state.unopened import Unopened
from kstream.topology import SubTopology
from kstream.types import Clock

log = logging.getLogger(__name__)

HANDOVER_SECONDS: Final = 60.0
"""How long the local state of a task is waited for that its former owner still has open. It closes what it lost at the
end of a rebalance, one task after the other; one that hangs does not. A replay would take longer."""

WARM: Final = "@warm"
"""Where a worker's warm copies lie, as tasks do in its own directory. No sub-topology's directory is called so."""

ALONE: Final = "opening"
"""In the state directory: files that are locked while a task's local state is moved and opened, so that nobody takes it
in between."""

WANTED: Final = "WANTED"
"""Lies in a warm copy that somebody else has open and another worker of the host needs."""

READ: Final = "rocksdict-config.json"
"""Written by whoever opens local state, for reading too."""

REPLACED: Final = "@replaced"
"""Ends the name of a directory whose place a newer one takes, until it is deleted. No partition is called so."""

WIPED: Final = "@wiped"
"""The same of one that is deleted for good."""


class Opening:
    """Opens the local state of a worker's tasks.

    Args:
        state_dir: of the instance; what other workers left is looked for in it.
        member: the worker's name in its group.
        backends: makes the backend of one task, given its directory and the names of its stores.
    """

    def __init__(
        self, state_dir: Path, member: str, backends: Callable[[Path, Sequence[str]], Backend], clock: Clock
    ) -> None:
        self._state_dir, self._backends, self._clock = state_dir, backends, clock
        self.directory = state_dir / directory_name(member)
        self.release: Callable[[str], None] = _nothing  # closes the warm copy that this worker has of a task
        self._applied: dict[tuple[Path, float], Mapping[str, Mark] | None] = {}  # as read when last changed then
        self._since: dict[str, float] = {}  # by task: how long it has waited for another worker to close its state
        self._tidy()

    def _tidy(self) -> None:
        """Ends what a predecessor of this worker was killed in: directories whose places newer ones were to take, and
        those that were being deleted."""
        for pattern in (f"*/*{WIPED}", f"{WARM}/*/*{WIPED}"):
            for wiped in self.directory.glob(pattern):
                shutil.rmtree(wiped, ignore_errors=True)
        for pattern in (f"*/*{REPLACED}", f"{WARM}/*/*{REPLACED}"):
            for replaced in self.directory.glob(pattern):
                place = replaced.with_name(replaced.name.removesuffix(REPLACED))
                with suppress(OSError):  # it is deleted where its place is taken the next time
                    if place.exists():
                        shutil.rmtree(replaced)
                    else:
                        replaced.rename(place)

    def open(self, task: Task) -> bool:
        """Opens the local state of a task, if it is not open. False: another worker has not closed it yet, ask again.

        Raises:
            StateDirectoryError: it cannot be used, on account of the machine, or is not closed for long (StateInUse).
        """
        if self.is_open(task):
            return True
        if not task.stores:
            return self._open(task)
        self.release(task.name)
        with alone(self._state_dir / ALONE / directory_name(task.part.name) / f"{task.partition}.lock") as nobody_else:
            if not nobody_else and self._waited(task.name) < HANDOVER_SECONDS:
                return False
            directory = self.directory_of(task.part, task.partition)
            return self._take_along(task.name, directory) and self._open(task)

    def _open(self, task: Task) -> bool:
        directory = self.directory_of(task.part, task.partition)
        names = [family for store in task.stores.values() for family in store.families]
        try:
            backend = self._opened(task.name, directory, names)
        except StateInUse:  # a predecessor of this worker is about to end, or another worker is just taking it
            if self._waited(task.name) < HANDOVER_SECONDS:
                return False
            raise
        self._since.pop(task.name, None)
        self._applied.clear()
        keep_whole_name(directory.parent, task.part.name)
        task.backend = backend
        for store in task.stores.values():
            store.backend = NotedReads(backend, remember)
        return True

    def forget(self, task: Task) -> None:
        """It is not waited for any more."""
        self._since.pop(task.name, None)

    def is_open(self, task: Task) -> bool:
        return not isinstance(task.backend, Unopened)

    def wipe(self, part: SubTopology, partition: int) -> None:
        """Deletes the local state of a closed task. Raises StateDirectoryError where that cannot be."""
        _delete(self.directory_of(part, partition))

    def directory_of(self, part: SubTopology, partition: int) -> Path:
        return self.directory / directory_name(part.name) / str(partition)

    def _opened(self, task: str, directory: Path, stores: Sequence[str]) -> Backend:
        try:
            return self._backends(directory, stores)
        except StateError as error:
            log.error("task %s: %s; its local state is rebuilt from the changelog", task, error)
            _delete(directory)
            return self._backends(directory, stores)

    # ---- warm copies

    def open_warm(self, part: SubTopology, partition: int, stores: Sequence[str]) -> Backend:
        """Opens a warm copy of a task's state. It begins with what this worker has of the task, if it ran here once."""
        directory, left = self._warm(part, partition), self.directory_of(part, partition)
        if not directory.exists() and left.exists():
            with locked(left) as free:
                if free:
                    self._move(f"{part.name}/{partition} (warm)", left, directory)
        (directory / WANTED).unlink(missing_ok=True)
        backend = self._opened(f"{part.name}/{partition} (warm)", directory, stores)
        keep_whole_name(directory.parent, part.name)
        return backend

    def warm_is_wanted(self, part: SubTopology, partition: int) -> bool:
        return (self._warm(part, partition) / WANTED).exists()

    def wipe_warm(self, part: SubTopology, partition: int) -> None:
        """Deletes a warm copy that is closed, where that can be: else it is damaged when it is opened again."""
        with suppress(StateDirectoryError):
            _delete(self._warm(part, partition))

    def _warm(self, part: SubTopology, partition: int) -> Path:
        return self.directory / WARM / directory_name(part.name) / str(partition)

    # ---- from other workers

    def _take_along(self, task: str, directory: Path) -> bool:
        """Moves the local state that has most of the task here, unless it is here. False: somebody has it open."""
        others = list(self._elsewhere(directory))
        if not others:
            return True
        own = self._looked_at(directory)
        for one in sorted(map(self._looked_at, others), key=cmp_to_key(_compared), reverse=True):
            if _compared(one, own) <= 0:
                break
            other = one.directory
            with locked(other) as free:
                if free:
                    self._move(task, other, directory)
                    break
            if WARM in other.relative_to(self._state_dir).parts[:2]:
                with suppress(OSError):  # it was moved meanwhile
                    (other / WANTED).touch()
            if other.exists() and not self._gave_up(task):
                return False
        return True

    def _looked_at(self, directory: Path) -> _Found:
        changed = last_change(directory)
        with locked(directory) as free:  # of what somebody has open the files do not say how far it is
            if not free or not (directory / "CURRENT").exists():
                return _Found(directory, changed, None)
            at = directory, changed
            if at not in self._applied:
                self._applied[at] = marks_in(directory)
            return _Found(directory, changed, self._applied[at])

    def _elsewhere(self, directory: Path) -> Iterator[Path]:
        for above in ("*", f"*/{WARM}"):
            for other in self._state_dir.glob(f"{above}/{directory.parent.name}/{directory.name}"):
                if other != directory and (other / "CURRENT").exists():
                    yield other

    def _waited(self, task: str) -> float:
        """Seconds, since this was asked first."""
        now = self._clock.monotonic()
        return now - self._since.setdefault(task, now)

    def _gave_up(self, task: str) -> bool:
        waited = self._waited(task)
        if waited < HANDOVER_SECONDS:
            return False
        log.warning(
            "task %s: its former owner on this host has not closed its local state for %.0f s; the task begins with "
            "what this worker has and the changelog",
            task, waited,
        )  # fmt: skip
        return True

    def _move(self, task: str, other: Path, directory: Path) -> None:
        replaced = directory.with_name(directory.name + REPLACED)
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            if directory.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                directory.rename(replaced)
            other.rename(directory)
        except OSError as error:  # the other is where it was, and the changelog has everything
            log.warning("task %s: its local state in %s cannot be moved: %s", task, other, error)
            if replaced.exists() and not directory.exists():
                with suppress(OSError):  # then it is replayed
                    replaced.rename(directory)
            return
        with suppress(OSError):  # a note that is left costs the next copy here one handover
            (directory / WANTED).unlink(missing_ok=True)
        log.info("task %s takes over its local state from %s", task, other.relative_to(self._state_dir).parts[0])
        shutil.rmtree(replaced, ignore_errors=True)


def _nothing(_: str) -> None:
    return


def _delete(directory: Path) -> None:
    """By renaming it first. Another worker may be about to move it away, while it is not open: it takes all of it or
    finds nothing, and never has a part of it, to be taken for the whole."""
    wiped = directory.with_name(directory.name + WIPED)
    shutil.rmtree(wiped, ignore_errors=True)
    try:
        directory.rename(wiped)
    except FileNotFoundError:  # it was moved away, or never there
        return
    except OSError as error:
        raise StateDirectoryError(f"{directory} cannot be deleted: {error.strerror or error}") from error
    shutil.rmtree(wiped, ignore_errors=True)


class _Found(NamedTuple):
    """Local state of a task, when it was written to last, and how far its stores are; None: that cannot be read."""

    directory: Path
    changed: float
    applied: Mapping[str, Mark] | None


def _compared(one: _Found, other: _Found) -> int:
    """Above 0 where one has more than the other: more of the same changelogs, as far as that is known of both; else it
    was written to later. A copy that was just begun is young, and has nothing."""
    if one.applied is not None and other.applied is not None:
        mine, others = one.applied, other.applied
        if all(mine[store].about == others[store].about for store in mine.keys() & others.keys()):
            ahead = sum(mark.offset for mark in mine.values()) - sum(mark.offset for mark in others.values())
            if ahead:
                return ahead
    return (one.changed > other.changed) - (one.changed < other.changed)


def marks_in(directory: Path) -> Mapping[str, Mark] | None:
    """Of the stores of a directory that nobody has open; None where they cannot be read."""
    try:
        return read_marks(directory)
    except StateError:  # who opens it says so
        return None


def read_marks(directory: Path) -> Mapping[str, Mark]:
    """The same. Raises StateError where they cannot be read."""
    reader = RocksReader(directory, RocksMemory(1 << 20, 1 << 20))
    try:
        marks = {store: reader.mark(store) for store in reader.stores}
    finally:
        reader.close()
    return {store: mark for store, mark in marks.items() if mark is not None}


def last_change(directory: Path) -> float:
    """When a file in this directory was last written to, in seconds since the epoch; 0 where there is none. RocksDB
    writes to its log when it is closed. What its binding writes when it only reads is no change."""
    times = [0.0]
    with suppress(FileNotFoundError, NotADirectoryError):  # moved meanwhile, or nobody's
        for file in directory.iterdir():
            if file.name == READ:
                continue
            with suppress(FileNotFoundError):  # deleted since it was listed
                times.append(file.stat().st_mtime)
    return max(times)
