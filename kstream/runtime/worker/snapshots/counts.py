"""What a worker counts of its snapshots."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from typing import Final

from kstream.errors import SnapshotError, StateDirectoryError, StateError, StorageError
from kstream.observe.catalogue import LATENCIES, Series
from kstream.observe.instruments import Histogram
from kstream.observe.status import SnapshotStatus

TAKEN: Final = {
    StorageError: "storage",
    SnapshotError: "timeout",
    StateError: "state",
    StateDirectoryError: "disk",
    OSError: "disk",
}
"""Reasons of failures, by their errors. A closed list: each is there at zero from the start."""

REFUSED: Final = ("damaged", "misfit", "storage", "disk")
"""Why a snapshot that was there was not used."""


class SnapshotCounts:
    """`last_success` is by task, in seconds since the epoch: when its newest snapshot held all that was committed; 0
    for a task that has had none since it came here. `sizes` are those of the newest snapshots. `damaged` are the files
    that restores found not to be what they should be, by task, until the task's next snapshot has dealt with them."""

    def __init__(self) -> None:
        self.taken = self.unchanged = 0
        self.uploaded = self.fetched = self.restored = 0
        self.failures: Counter[str] = Counter(dict.fromkeys((*TAKEN.values(), "other"), 0))
        self.refused: Counter[str] = Counter(dict.fromkeys(REFUSED, 0))
        self.durations = Histogram(LATENCIES)
        self.last_success: dict[str, float] = {}
        self.sizes: dict[str, int] = {}
        self.damaged: defaultdict[str, set[str]] = defaultdict(set)
        self.last: deque[SnapshotStatus] = deque(maxlen=50)  # until they are reported

    def failed(self, error: BaseException) -> None:
        reason = next((name for kind, name in TAKEN.items() if isinstance(error, kind)), "other")
        self.failures[reason] += 1

    def forget(self, task: str) -> None:
        self.last_success.pop(task, None)
        self.sizes.pop(task, None)
        self.damaged.pop(task, None)

    def series(self) -> Iterator[Series]:
        yield Series("snapshots_total", (), self.taken)
        yield Series("snapshots_unchanged_total", (), self.unchanged)
        for reason, count in self.failures.items():
            yield Series("snapshot_failures_total", (reason,), count)
        yield self.durations.series("snapshot_duration_seconds")
        yield Series("snapshot_uploaded_bytes_total", (), self.uploaded)
        for task, at in list(self.last_success.items()):
            yield Series("snapshot_last_success_timestamp_seconds", (task,), at)
        for task, size in list(self.sizes.items()):
            yield Series("snapshot_size_bytes", (task,), size)
        yield Series("snapshots_restored_total", (), self.restored)
        yield Series("snapshot_fetched_bytes_total", (), self.fetched)
        for reason, count in self.refused.items():
            yield Series("snapshots_refused_total", (reason,), count)
