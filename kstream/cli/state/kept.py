"""The entries of stores as snapshots and savepoints have them: what is asked for is brought here and read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from kstream.cli import human
from kstream.cli.data.reading import stores_of
from kstream.cli.operate import Subject
from kstream.cli.savepoint.places import place_of
from kstream.cli.snapshots.finding import places, snapshots, storage_of
from kstream.errors import SnapshotError, UsageError
from kstream.state.about import form_in
from kstream.state.backend import Backend
from kstream.state.forms import plain_in, plain_value
from kstream.state.saved import entries_of, opened
from kstream.state.savepoint import SavedTask, read_savepoint
from kstream.state.snapshots.transfer import read_snapshot

Part = tuple[str, int, Iterator[tuple[bytes, bytes]]]
"""Store, partition, and entries: read each part before the next."""


def of_snapshots(on: Subject, stores: Collection[str]) -> Iterator[Part]:
    """Of the newest snapshot of each task that is whole.

    Raises:
        UsageError: the app keeps no snapshots, or there are none.
    """
    assert on.app is not None
    storage, seen = storage_of(on), set[str]()
    with TemporaryDirectory(prefix="kstream-state-") as scratch:
        for found in snapshots(storage, places(storage, on.app.name, None)):
            if found.place in seen:
                continue
            manifest = found.manifest
            if manifest is None:
                human.complain(f"{found.place}: the snapshot {found.id} is left out: {found.problem}")
                continue
            if not stores or not any(store in manifest.stores for store in stores):
                seen.add(found.place)
                continue
            directory = Path(scratch) / str(len(seen))
            try:
                read_snapshot(storage, found.place, manifest, directory)
            except SnapshotError as error:
                human.complain(f"{found.place}: the snapshot {found.id} is left out: {error}")
                continue
            seen.add(found.place)
            with opened(SavedTask(manifest.task, "", manifest.partition, [], state=manifest), directory) as backends:
                yield from _parts(backends, manifest.partition, [one for one in stores if one in manifest.stores])
    if not seen:
        raise UsageError(f"there are no snapshots of app {on.app.name} in {storage.url}")


def of_savepoint(on: Subject, name: str, place: str | None, stores: Collection[str]) -> Iterator[Part]:
    """Of a savepoint, in either format.

    Raises:
        SnapshotError: there is none of that name, or it is damaged.
    """
    assert on.app is not None
    storage = place_of(on, place)
    savepoint = read_savepoint(storage, name)
    with TemporaryDirectory(prefix="kstream-state-") as scratch:
        found = entries_of(storage, savepoint, frozenset(stores), stores_of(on.app.topology()), Path(scratch))
        for store, partition, entries in found:
            yield (
                store,
                partition,
                ((key, plain_value(value, headers)) for key, value, headers in entries),
            )


def _plain(form: str, entries: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    return ((key, plain_in(form, raw)) for key, raw in entries)


def _parts(backends: list[Backend], partition: int, stores: Collection[str]) -> Iterator[Part]:
    for store in stores:
        for backend in backends:
            if (mark := backend.mark(store)) is not None:
                yield store, partition, _plain(form_in(mark.about), backend.scan(store))
                break
