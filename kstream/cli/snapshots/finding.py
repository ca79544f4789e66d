"""The snapshots of an app, as they lie in their storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from kstream.cli.operate import Subject
from kstream.errors import ConfigError, FileMissing, SnapshotError
from kstream.runtime.cluster.naming import directory_name, snapshots_folder
from kstream.state.snapshots.manifest import MANIFESTS, Manifest, number_of, stored_manifest
from kstream.state.snapshots.storage import Entry, Storage, open_storage


class Found(NamedTuple):
    """A snapshot, or a manifest that cannot be read (`problem`)."""

    place: str
    entry: Entry
    manifest: Manifest | None
    problem: str | None

    @property
    def id(self) -> str:
        """The last part of its manifest's name."""
        return self.entry.name.rpartition("-")[2]

    @property
    def number(self) -> int:
        return number_of(self.entry.name) or 0


def storage_of(on: Subject) -> Storage:
    """Raises ConfigError: the app has no place for snapshots."""
    if on.settings.snapshots is None:
        raise ConfigError("snapshots: the app keeps none; say where they are with --set snapshots=URL, if it did once")
    return open_storage(on.settings.snapshots)


def places(storage: Storage, app: str, task: str | None) -> list[str]:
    """Of tasks that have something there, in the order of their names."""
    folder = snapshots_folder(app)
    found = {"/".join(entry.name.split("/")[:4]) for entry in storage.list(folder)}
    found |= {"/".join(entry.name.split("/")[:4]) for entry in storage.unfinished(folder)}
    if task is not None:
        part, slash, number = task.rpartition("/")
        if not slash:
            raise ConfigError(f"--task {task}: a task is called SUB-TOPOLOGY/PARTITION")
        one = f"{folder}/{directory_name(part)}/{number}"
        if found and one not in found:
            tasks = ", ".join(unquote("/".join(place.split("/")[2:])) for place in sorted(found, key=_by_number))
            raise ConfigError(f"--task {task}: there are no snapshots of it in {storage.url}; there are of {tasks}")
        found &= {one}
    return sorted(found, key=_by_number)


def _by_number(place: str) -> tuple[str, int]:
    part, _, number = place.rpartition("/")
    return part, int(number) if number.isdecimal() else -1


def snapshots(storage: Storage, places: Sequence[str]) -> Iterator[Found]:
    """Of each place the newest first."""
    for place in places:
        found = []
        for entry in storage.list(f"{place}/{MANIFESTS}"):
            if number_of(entry.name) is None:
                continue
            try:
                found.append(Found(place, entry, stored_manifest(storage, entry.name), None))
            except SnapshotError as error:
                found.append(Found(place, entry, None, str(error)))
            except FileMissing:  # deleted since it was listed
                continue
        yield from sorted(found, key=lambda one: (one.number, one.entry.modified), reverse=True)


def chosen(storage: Storage, places: Sequence[str], ids: Sequence[str]) -> list[Found]:
    """Those whose ids begin so, or all. Raises ConfigError: there is none, or more than one, for an id."""
    everything = list(snapshots(storage, places))
    if not ids:
        return everything
    found = []
    for id in ids:
        fitting = [one for one in everything if one.id.startswith(id)]
        if len(fitting) != 1:
            raise ConfigError(f"{id}: {'there is no such snapshot' if not fitting else 'several snapshots begin so'}")
        found += fitting
    return found
