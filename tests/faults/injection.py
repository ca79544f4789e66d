"""Faults for worker processes: SIGKILL, by their own hand, around a named step of the engine. Nothing of this is in the
engine; the service that a worker loads installs it, when the environment asks for it.

    KSTREAM_TEST_DIR   a directory shared with the test
    KSTREAM_TEST_KILL  "<step>:<before|after>:<n>[@<instance>]": kill around the n-th call of the step
    KSTREAM_TEST_WITH  a topic: only calls count of a transaction that has records for it
    KSTREAM_TEST_MUCH  so many changelog records, instead of 100,000, are a bulk load

Calls are counted from when the file `armed` is there. A fault strikes once over all processes; what was going on then
lies in the file `struck`. While the file `no-flush` is there, local state is not flushed to disk; `flushed` counts
the flushes. While `slow-restore` is there, a restore waits a while before each of its writes. While `no-ends` is there,
it does not ask for the ends of its changelogs, and says so in files `held-<task>`.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from kstream.errors import KStreamError, ProducerLost

STEPS = ("flush_operators", "write_changelogs", "send_offsets", "commit_transaction", "apply_to_state")
"""Functions of kstream.runtime.worker.checkpoint, in their order."""

RESTORE = {
    "restore_described": ("Restorer", "_are_described"),
    "restore_ends": ("Restorer", "_ask_ends"),
    "restore_apply": ("Replay", "_apply"),
    "restore_end": ("Replay", "_end_tail"),
    "restore_finish": ("Restorer", "_finish"),
}
ASKING = {
    "restore_offsets": ("runtime.worker.question", "Question", "ask"),
    "restore_ids": ("runtime.worker.restore", "", "are_others"),
}
"""Before what `restore_described` looks at, the topics after the offsets; and the look at them after the ends."""
BULK = {"bulk": ("state.rocksdb.backend", "RocksBackend", "bulk")}
"""A bulk load begins and ends, for the stores of a task; it begins for none where a task has little to restore."""
OPENING = {"open": ("opening", "Opening", "open"), "move": ("opening", "Opening", "_move")}
"""The opening of a task's local state, and the renaming of what another worker of the host left."""
FAILING = {"search": ("committer", "Committer", "commit_apart"), "failed": ("recovery", "Recovery", "_fail")}
"""The search of a record at fault, each step of it; and a task that stops, to be tried again."""
SAVEPOINT = {
    "holding": ("savepoint", "SavepointPart", "_hold"),
    "capturing": ("savepoint", "SavepointPart", "_begin_capture"),
    "captured": ("savepoint", "SavepointPart", "_capture"),
    "storing": ("savepoint", "SavepointPart", "_store"),
    "released": ("savepoint", "SavepointPart", "_release"),
}
"""A worker's part in a savepoint, in its order."""
SNAPSHOTS = {
    "snapshot_link": ("runtime.worker.snapshots.making", "Snapshot", "link"),
    "snapshot_upload": ("state.snapshots.transfer", "", "_upload_missing"),
    "snapshot_collect": ("runtime.worker.snapshots.making", "", "collect"),
    "snapshot_fetch": ("runtime.worker.snapshots.fetching", "", "read_snapshot"),
    "snapshot_detach": ("runtime.worker.snapshots.fetching", "Fetch", "step"),
    "snapshot_attach": ("state.rocksdb.backend", "RocksBackend", "attach"),
    "storage_rename": ("state.snapshots.storage", "", "_flush_directory"),
}
"""A snapshot's links, its files, what is deleted after it; a restore from one. Before `storage_rename`: a file of the
storage has just got its name."""
STORED = {"snapshot_note": "/uploads/", "snapshot_file": "/files/", "snapshot_manifest": "/manifests/"}
"""Files of the storage, by what is in their names: a kill within one comes after some of its bytes."""
REBALANCE = ("assigned", "revoked")

_worker: Any = None
_produced_before: Counter[str] = Counter()
_fault: _Fault | None = None


class _Fault:
    def __init__(self, order: str, directory: Path) -> None:
        order, _, self.instance = order.partition("@")
        self.step, self.when, count = order.split(":")
        self.left = int(count)
        self.directory = directory
        self._topic = os.environ.get("KSTREAM_TEST_WITH")
        self._armed = False

    def passes(self, step: str, when: str) -> None:
        if step != self.step or when != self.when or not self.is_armed():
            return
        if self._topic and not _produced()[self._topic]:
            return
        self.left -= 1
        if self.left == 0:
            self.strike()

    def is_armed(self) -> bool:
        if not self._armed and (not self.instance or (_worker and _worker.worker.instance == self.instance)):
            self._armed = (self.directory / "armed").exists()
        return self._armed

    def strike(self) -> None:
        transaction = _worker.transaction
        told = {
            "step": self.step,
            "when": self.when,
            "instance": _worker.worker.instance,
            "worker": _worker.worker.index,
            "transaction": transaction.state.value,
            "records": sum(_produced().values()),
            "restoring": len(_worker.restorer),
            "loaded": sum(len(bulk.loaded) for bulk in map(_bulk_of, _worker.tasks.values()) if bulk is not None),
        }
        try:
            mark = os.open(self.directory / "struck", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        if told["transaction"] == "open" and transaction._id is not None:
            with suppress(KStreamError):  # they may refuse some of it
                transaction._producer.flush(60)  # so that the brokers have what was sent: it is open there too
        os.write(mark, json.dumps(told).encode())
        os.close(mark)
        os.kill(os.getpid(), signal.SIGKILL)


def _produced() -> Counter[str]:
    """Records in the open transaction, or in the last one, by topic."""
    return Counter(_worker.transaction.produced) - _produced_before


def _bulk_of(task: Any) -> Any:
    return getattr(task.backend, "_bulk", None)


def here(step: str, when: str) -> None:
    """Called by the service's own functions."""
    if _fault is not None:
        _fault.passes(step, when)


def install() -> None:
    """Patches the engine of this process, if it is a worker's and the environment says so."""
    global _fault
    directory, order = os.environ.get("KSTREAM_TEST_DIR"), os.environ.get("KSTREAM_TEST_KILL")
    program = getattr(sys.modules["__main__"], "__spec__", None)
    if directory is None or program is None or program.name != "kstream.runtime.process.child":
        return
    faulthandler.register(signal.SIGUSR1)  # where it hangs, when a test gives it up
    from kstream.runtime.worker import checkpoint, housekeeping, restore
    from kstream.runtime.worker.loop import StreamWorker
    from kstream.runtime.worker.rebalance import Rebalance
    from kstream.runtime.worker.replay import Replay
    from kstream.runtime.worker.restore import Restorer

    restore.MUCH = int(os.environ.get("KSTREAM_TEST_MUCH", restore.MUCH))  # type: ignore[misc]
    _control_flushes(housekeeping, Path(directory))
    _control_commits(checkpoint, Path(directory) / "no-commits")
    _control_restores(Replay, Path(directory) / "slow-restore")
    _control_ends(Restorer, Path(directory) / "no-ends")
    if order is None or (Path(directory) / "struck").exists():
        return
    from kstream.runtime.worker.transaction import Transaction

    _fault = _Fault(order, Path(directory))
    _remember_worker(StreamWorker, Transaction)
    for step in STEPS:
        _wrap(checkpoint, step, step)
    owners = {owner.__name__: owner for owner in (Replay, Restorer)}
    for step, (owner, method) in RESTORE.items():
        _wrap(owners[owner], method, step)
    for step in REBALANCE:
        _wrap(Rebalance, step, step)
    for step, (module, owner, method) in (FAILING | OPENING | SAVEPOINT).items():
        _wrap(getattr(import_module(f"kstream.runtime.worker.{module}"), owner), method, step)
    for step, (module, owner, method) in (SNAPSHOTS | BULK | ASKING).items():
        found = import_module(f"kstream.{module}")
        _wrap(getattr(found, owner) if owner else found, method, step)
    _wrap_storage()


def _wrap_storage() -> None:
    """Kills before a file of the storage is written, within it ("after"), and between deletions ("snapshot_delete")."""
    from kstream.state.snapshots.storage import DirectoryStorage

    put, delete, fault = DirectoryStorage.put, DirectoryStorage.delete, _fault
    assert fault is not None

    def putting(self: Any, name: str, chunks: Any) -> None:
        step = next((step for step, part in STORED.items() if part in name), "")
        fault.passes(step, "before")

        def pieces() -> Any:
            for chunk in chunks:
                yield chunk[: len(chunk) // 2]
                fault.passes(step, "after")
                yield chunk[len(chunk) // 2 :]

        put(self, name, pieces())

    def deleting(self: Any, names: Any) -> None:
        for name in names:
            fault.passes("snapshot_delete", "before")
            delete(self, [name])
            fault.passes("snapshot_delete", "after")

    DirectoryStorage.put, DirectoryStorage.delete = putting, deleting  # type: ignore[method-assign]


def _wrap(owner: Any, name: str, step: str) -> None:
    function: Callable[..., Any] = getattr(owner, name)
    fault = _fault
    assert fault is not None

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        fault.passes(step, "before")
        result = function(*arguments, **named)
        fault.passes(step, "after")
        return result

    setattr(owner, name, wrapped)


def _remember_worker(worker: Any, transaction: Any) -> None:
    start, begin = worker.start, transaction.begin

    def remembering(self: Any) -> None:
        global _worker
        _worker = self
        start(self)

    def counting(self: Any) -> None:
        global _produced_before
        if self.state.value == "idle":
            _produced_before = Counter(self.produced)
        begin(self)

    worker.start, transaction.begin = remembering, counting


def _control_commits(checkpoint: Any, none: Path) -> None:
    commit = checkpoint.commit_transaction

    def unless(transaction: Any) -> None:
        if none.exists():
            raise ProducerLost("the coordinator does not answer")
        commit(transaction)

    checkpoint.commit_transaction = unless


def _control_restores(replay: Any, slow: Path) -> None:
    apply = replay._apply

    def slowly(self: Any, *arguments: Any) -> None:
        if slow.exists():
            time.sleep(0.3)
        apply(self, *arguments)

    replay._apply = slowly


def _control_ends(restorer: Any, none: Path) -> None:
    ask = restorer._ask_ends

    def unless(self: Any, one: Any) -> None:
        if none.exists():
            none.with_name(f"held-{one.task.name.replace('/', '-')}").touch()
        else:
            ask(self, one)

    restorer._ask_ends = unless


def _control_flushes(housekeeping: Any, directory: Path) -> None:
    flush_all = housekeeping.flush_all

    def flush(backends: Any) -> None:
        if not (directory / "no-flush").exists():
            flush_all(backends)
            with (directory / "flushed").open("a") as told:
                told.write(".")

    housekeeping.flush_all = flush
