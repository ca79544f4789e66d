"""Who fetches snapshots in a worker: its tasks, and its warm copies."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kstream.runtime.worker.assembly import WorkerParts
from kstream.runtime.worker.snapshots.counts import SnapshotCounts
from kstream.runtime.worker.snapshots.fetching import Fetches


def fetches_of(
    parts: WorkerParts, directory: Path, counts: SnapshotCounts
) -> tuple[Fetches | None, Fetches | None]:  # fmt: skip
    """For tasks and for warm copies: these wait for each other, and tasks never for them. None without snapshots."""
    if parts.storage is None:
        return None, None
    begun = partial(
        Fetches, parts.identity.app, parts.storage, directory, parts.clock, counts, parts.settings.snapshot_timeout
    )
    return begun(), begun(together=1, whose="the warm copy of task")
