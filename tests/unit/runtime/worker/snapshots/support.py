"""A fleet whose workers take snapshots into a directory."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kstream.runtime.cluster.naming import snapshot_place
from kstream.runtime.worker.loop import StreamWorker
from kstream.state.snapshots.manifest import Manifest, manifests_of, stored_manifest
from kstream.state.snapshots.storage import DirectoryStorage, Storage
from kstream.state.snapshots.transfer import check_files
from unit.runtime.harness import Counting, Fleet

SECONDS = 20.0
"""How long threads of snapshots may take for their part."""


class Snapped:
    """`Counting`, its fleet, and where its snapshots are."""

    def __init__(self, directory: Path, backend: str = "rocksdb", *, partitions: int = 2, **settings: Any) -> None:
        self.counting, self.root, self.state = Counting(), directory / "storage", directory / "state"
        given = {"snapshots": str(self.root), "snapshot_interval": 1.0, "snapshot_min_pause": 0.0, **settings}
        self.fleet = Fleet(self.counting.app, self.state, partitions=partitions, backend=backend, **given)
        self.storage: Storage = DirectoryStorage(self.root)

    def send(self, *keys: str) -> None:
        self.fleet.send(self.counting.source, keys)

    def step_until(self, done: Callable[[], bool], what: str, *names: str) -> None:
        """Steps these workers (all, when none is named); where threads have something to do, it waits for them."""
        for _ in range(2000):
            if done():
                return
            self.fleet.step(*names, seconds=0.05)
            for name in names or self.fleet.workers:
                rest(self.fleet.workers[name])
        raise AssertionError(f"never: {what}")

    def settle(self) -> None:
        self.step_until(self.fleet.settled, "everything processed")

    def snapshots(self, count: int, name: str = "one") -> None:
        """Until the worker has taken so many more."""
        counts = self.fleet.workers[name].snapshot_counts
        target = counts.taken + count
        self.step_until(lambda: counts.taken >= target, f"{count} snapshots")

    def snapshot_all(self, name: str = "one") -> None:
        """One more of each task of the worker, of what there is now. For those with a long interval."""
        worker = self.fleet.workers[name]
        self.fleet.step(times=25)
        wanted = worker.snapshot_counts.taken + len(worker.tasks)
        self.fleet.clock.advance(self.fleet.settings.snapshot_interval)
        self.step_until(lambda: worker.snapshot_counts.taken == wanted, "a snapshot of each task")

    def place(self, partition: int) -> str:
        return snapshot_place("counting", "in", partition)

    def manifests(self, partition: int) -> list[Manifest]:
        """The newest first."""
        return [
            stored_manifest(self.storage, entry.name) for entry in manifests_of(self.storage, self.place(partition))
        ]

    def newest(self, partition: int) -> Manifest:
        return self.manifests(partition)[0]

    def path(self, partition: int, at: str) -> Path:
        return self.root / self.place(partition) / at

    def lose_state(self) -> None:
        """As on a new machine."""
        shutil.rmtree(self.state, ignore_errors=True)

    def check(self) -> None:
        """Everything was counted exactly once, and each snapshot is whole."""
        self.counting.check(self.fleet)
        for partition in range(self.fleet.partitions["in"]):
            for manifest in self.manifests(partition):
                assert list(check_files(self.storage, self.place(partition), manifest)) == []

    def close(self) -> None:
        self.fleet.close()


class Waiting(DirectoryStorage):
    """Gives no file of a snapshot before it may."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.may, self.asked = threading.Event(), threading.Event()

    def get(self, name: str) -> Iterator[bytes]:
        if "/files/" in name:
            self.asked.set()
            assert self.may.wait(SECONDS)
        yield from super().get(name)


def rest(worker: StreamWorker) -> None:
    if worker.snapshots is not None:
        for snapshot in worker.snapshots.running:
            assert snapshot.rest(SECONDS)
    for one in (*worker.restorer.fetches_running, *worker.warm.fetches_running):
        assert one.rest(SECONDS)
