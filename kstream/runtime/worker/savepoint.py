"""A worker's part in a savepoint (the whole of it: kstream/runtime/cluster/savepoint.py).

Asked to hold, it takes nothing more from outside, and goes on with the app's own topics: as long as others hold too,
these run dry. Asked to capture, it processes and commits nothing more, copies the local state of its tasks by hard
links, and stores the copies in the savepoint's place on a thread. Told to resume, it goes on; the copies are still
being stored. Where its partitions change, a task fails, or the time is over, it refuses, and goes on by itself: then
there is no savepoint.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

from kstream.errors import KStreamError, StateError
from kstream.runtime.cluster.control import LONGEST_TIMEOUT, Answer, Offset, Request, TaskPart
from kstream.runtime.cluster.naming import Identity, directory_name
from kstream.runtime.task.states import TaskState, move
from kstream.runtime.task.task import Task
from kstream.runtime.worker.committer import Committer
from kstream.runtime.worker.offsets import metadata_of
from kstream.runtime.worker.rebalance import Membership
from kstream.runtime.worker.snapshots.drafting import draft_of
from kstream.runtime.worker.states import PART_MOVES, MembershipState, PartState
from kstream.runtime.worker.tasks import Tasks
from kstream.state.snapshots.manifest import Draft
from kstream.state.snapshots.storage import open_storage
from kstream.state.snapshots.transfer import write_snapshot
from kstream.types import Clock, TopicPartition

log = logging.getLogger(__name__)

COPIES: Final = "@savepoint"
"""Where copies lie until they are stored, in the worker's directory. No sub-topology's directory is called so."""


class SavepointPart:
    """See the module's text. Called on the worker's thread.

    Args:
        directory: the worker's, on the file system of the local state.
    """

    def __init__(
        self,
        identity: Identity,
        directory: Path,
        tasks: Tasks,
        membership: Membership,
        committer: Committer,
        clock: Clock,
    ) -> None:
        self._app, self._worker, self._copies = identity.app, identity.member, directory / COPIES
        self._tasks, self._membership, self._committer, self._clock = tasks, membership, committer, clock
        self.state = PartState.IDLE
        self._request: Request | None = None
        self._until = 0.0
        self._owned: frozenset[TopicPartition] = frozenset()
        self._flush: Future[None] | None = None
        self._storing: dict[str, Future[str]] = {}
        self._parts: dict[str, TaskPart] = {}  # as captured
        self._pool: ThreadPoolExecutor | None = None
        self._closed = threading.Event()
        self._abandoned = threading.Event()  # of the attempt whose copies are being stored
        self._answers: list[Answer] = []  # that were not asked for yet
        self._last: Answer | None = None
        self._delete_copies()  # of a process that was killed meanwhile

    @property
    def active(self) -> bool:
        return self.state is not PartState.IDLE

    @property
    def frozen(self) -> bool:
        """Nothing may be processed or committed."""
        return self.state in (PartState.CAPTURING, PartState.CAPTURED)

    def answers(self) -> list[Answer]:
        """What is to be said that was not said yet."""
        answers, self._answers = self._answers, []
        return answers

    # ---- what is asked

    def ask(self, request: Request, *, paused: bool = False) -> None:
        """Heeds a request of the one who makes the savepoint.

        Args:
            paused: the worker is, by an operator.
        """
        if request.phase == "hold":
            self._asked_to_hold(request, paused)
        elif self._request is not None and self._request.id == request.id:
            if request.phase == "abort":
                self._abandon()
            if not self.active:
                return
            if request.phase == "capture":
                self._begin_capture()
            else:
                self._release()

    def _asked_to_hold(self, request: Request, paused: bool) -> None:
        if self._request is not None and self._request.id == request.id:
            return
        if self.active:
            assert self._request is not None
            why: str | None = (
                f"savepoint {self._request.name} is being made: wait, if its command was killed for its --timeout"
            )
        elif paused:
            why = "it is paused, so what is on its way in the app's topics stays there"
        else:
            why = self._unfit()
        if why is not None:
            self._say(Answer(request.id, self._worker, "refused", why=why))
            return
        self._request = request
        self._hold(request)

    def _unfit(self) -> str | None:
        """Why it can have no part in a savepoint now."""
        if self._membership.state is not MembershipState.MEMBER:
            return "its partitions are being shared out"
        for task in self._tasks.all.values():
            if task.state is not TaskState.RUNNING:
                return f"task {task.name} is {task.state.value}"
        if self._tasks.elsewhere:
            return f"task {next(iter(self._tasks.elsewhere))} has inputs of another worker"
        if self._storing:
            return "the files of an earlier savepoint are still being stored"
        return None

    def _hold(self, request: Request) -> None:
        self._go(PartState.HOLDING)
        self._until = self._clock.monotonic() + min(request.timeout, LONGEST_TIMEOUT)
        self._owned, self._parts = self._tasks.owned, {}
        for task in self._tasks.all.values():
            internal = {source.topic.name for source in task.part.sources if source.topic.internal}
            outside = [at for at in task.inputs if at.topic not in internal and at not in task.reading.delays]
            self._tasks.hold(task, outside)
        log.info("savepoint %s: the inputs are held", request.name)

    # ---- each turn of the loop

    def step(self) -> None:
        """Goes on with it; never waits.

        Raises:
            As a commit does.
        """
        if self._storing:
            self._look_at_stored()
        if not self.active:
            return
        if (why := self._broken()) is not None:
            self._refuse(why)
        elif self.state is PartState.HOLDING:
            if not any(task.busy or task.buffered for task in self._tasks.running) and self._touched:
                self._committer.commit()  # those behind wait for it
            self._say_holding()
        elif self.state is PartState.CAPTURING and self._flush is not None and self._flush.done():
            self._capture(self._flush)

    def _broken(self) -> str | None:
        if self._clock.monotonic() >= self._until:
            return "the time is over"
        if self._tasks.owned is not self._owned or self._membership.state is not MembershipState.MEMBER:
            return "its partitions were shared out anew"
        for task in self._tasks.all.values():
            if task.state is not TaskState.RUNNING:
                return f"task {task.name} is {task.state.value}"
        return None

    @property
    def _touched(self) -> bool:
        return any(task.touched for task in self._tasks.running)

    def _say_holding(self) -> None:
        assert self._request is not None
        tasks = {task.name: TaskPart(is_quiet(task), offsets_of(task)) for task in self._tasks.running}
        self._say(Answer(self._request.id, self._worker, "holding", tasks))

    def _begin_capture(self) -> None:
        if self.state is not PartState.HOLDING:
            return
        unquiet = [task.name for task in self._tasks.running if not is_quiet(task)]
        if unquiet:
            self._refuse(f"task {unquiet[0]} has records that came meanwhile")
            return
        self._go(PartState.CAPTURING)
        backends = [task.backend for task in self._tasks.running if task.stores]

        def flush() -> None:
            for backend in backends:
                backend.flush()

        self._flush = self._threads().submit(flush)

    def _capture(self, flush: Future[None]) -> None:
        assert self._request is not None
        request, self._flush, copies = self._request, None, {}
        self._delete_copies()  # else a later copy finds them in its place
        try:
            flush.result()
            for task in self._tasks.running:
                self._parts[task.name] = TaskPart(True, offsets_of(task))
                if task.stores:
                    copies[task.name] = self._copy(task)
        except (KStreamError, OSError) as error:
            self._delete_copies()
            self._refuse(f"the local state cannot be copied: {error}")
            return
        self._go(PartState.CAPTURED)
        self._abandoned = threading.Event()
        self._say(Answer(request.id, self._worker, "captured", self._parts))
        self._storing = {
            name: self._threads().submit(self._store, self._abandoned, request, name, *copy)
            for name, copy in copies.items()
        }
        if not copies:
            self._say(Answer(request.id, self._worker, "stored", self._parts))

    def _copy(self, task: Task) -> tuple[Path, Callable[[], None], Draft]:
        directory = self._copies / directory_name(task.part.name) / str(task.partition)
        directory.parent.mkdir(parents=True, exist_ok=True)
        complete = task.backend.freeze(directory)
        return directory, complete, draft_of(self._app, task, 1, self._clock.time())

    def _store(
        self,
        abandoned: threading.Event,
        request: Request,
        task: str,
        directory: Path,
        complete: Callable[[], None],
        draft: Draft,
    ) -> str:
        """On a thread: the file, in the savepoint's place, that says where the task's files are."""

        def go_on() -> None:
            if self._closed.is_set():
                raise StateError("the worker ends")
            if abandoned.is_set():
                raise StateError("the savepoint is given up")

        go_on()
        complete()
        prefix, storage = prefix_of(request, task), open_storage(request.place)
        manifest = write_snapshot(
            storage, prefix, directory, draft, self._clock, patience=request.timeout, go_on=go_on
        )  # fmt: skip
        return f"{prefix}/{manifest.name}"

    def _look_at_stored(self) -> None:
        assert self._request is not None
        if not all(one.done() for one in self._storing.values()):
            return
        done, self._storing = self._storing, {}
        self._delete_copies()
        if self._abandoned.is_set():
            return
        errors = [f"task {name}: {error}" for name, one in done.items() if (error := one.exception()) is not None]
        if errors:
            why = f"its files cannot be stored: {'; '.join(errors)}"
            log.error("savepoint %s: %s", self._request.name, why)
            self._say(Answer(self._request.id, self._worker, "refused", why=why))
            return
        tasks = {
            name: TaskPart(True, part.offsets, done[name].result() if name in done else None)
            for name, part in self._parts.items()
        }
        self._say(Answer(self._request.id, self._worker, "stored", tasks))

    # ---- the end of it

    def _refuse(self, why: str) -> None:
        assert self._request is not None
        log.warning("savepoint %s is given up: %s", self._request.name, why)
        self._say(Answer(self._request.id, self._worker, "refused", why=why))
        self._abandon()
        self._release()

    def _abandon(self) -> None:
        """There will be no savepoint. What is being stored ends, and its files go. Once "stored" was said, the files
        are the command's: the savepoint may be there."""
        if not self._storing or self._abandoned.is_set():
            return
        assert self._request is not None
        self._abandoned.set()
        self._threads().submit(self._remove, self._request, dict(self._storing))

    def _remove(self, request: Request, storing: Mapping[str, Future[str]]) -> None:
        """On a thread, after those that store."""
        wait(storing.values())
        try:
            storage = open_storage(request.place)
            for task in storing:
                prefix = prefix_of(request, task)
                storage.delete([entry.name for entry in (*storage.list(prefix), *storage.unfinished(prefix))])
        except KStreamError as error:
            log.warning(
                "savepoint %s: its files cannot be deleted, the next one of this name does: %s", request.name, error
            )

    def _delete_copies(self) -> None:
        shutil.rmtree(self._copies, ignore_errors=True)

    def _release(self) -> None:
        assert self._request is not None
        self._go(PartState.IDLE)
        self._flush = None
        for task in self._tasks.all.values():
            self._tasks.release(task)
        log.info("savepoint %s: the tasks go on", self._request.name)

    def _say(self, answer: Answer) -> None:
        if answer != self._last:
            self._last = answer
            self._answers.append(answer)

    def close(self) -> None:
        """The worker ends. What is being stored is not waited for: there will be no savepoint without it."""
        self._closed.set()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._delete_copies()

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(2, thread_name_prefix="savepoint")
        return self._pool

    def _go(self, to: PartState) -> None:
        move("the part in a savepoint", self.state, to, PART_MOVES)
        self.state = to
        self._committer.frozen = self.frozen


def prefix_of(request: Request, task: str) -> str:
    """Where the files of a task lie in the savepoint's place."""
    part, _, partition = task.rpartition("/")
    return f"{request.name}/{request.id}/{directory_name(part)}/{partition}"


def offsets_of(task: Task) -> list[Offset]:
    committed, metadata = task.committed, metadata_of(task, task.commits)
    return [
        Offset(at.topic, at.partition, committed[at], position, metadata.get(at, ""))
        for at, position in task.positions.items()
    ]


def is_quiet(task: Task) -> bool:
    """Nothing of it is under way: what it was given is processed and committed."""
    waits = any(task.reading.has(at) for at in task.inputs)
    return task.state is TaskState.RUNNING and not (task.busy or waits or task.touched)
