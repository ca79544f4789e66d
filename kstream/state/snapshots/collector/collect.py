"""Looks, and deletes what is garbage."""

from __future__ import annotations

from collections.abc import Collection, MutableMapping

from kstream.state.snapshots.collector import files, manifests, uploads
from kstream.state.snapshots.collector.view import Garbage, look
from kstream.state.snapshots.manifest import Manifest
from kstream.state.snapshots.storage import Storage
from kstream.types import Clock

KINDS = (manifests, files, uploads)
"""In the order in which they are deleted."""


def collect(
    storage: Storage,
    place: str,
    retained: int,
    clock: Clock,
    *,
    dry_run: bool = False,
    known: MutableMapping[str, Manifest] | None = None,
    damaged: Collection[str] = (),
) -> list[Garbage]:
    """Deletes what is garbage in the place of a task's snapshots, and returns it.

    Args:
        retained: snapshots that are kept, the newest ones; 0 keeps none.
        dry_run: only says what it is.
        known: manifests that were read before, by name; those that are gone are taken out.
        damaged: files (`StoredFile.at`) that were read and found not to be what their manifests say. Their snapshots
            are garbage.

    Raises:
        StorageError: the storage cannot be read, or does not delete. What was deleted stays deleted.
    """
    known = {} if known is None else known
    view = look(storage, place, clock.time(), retained, known, damaged)
    found = [list(kind.garbage(view)) for kind in KINDS]
    if not dry_run:
        for some in found:
            if some:
                storage.delete([one.entry.name for one in some])
                for one in some:
                    known.pop(one.entry.name, None)
    return [one for some in found for one in some]
