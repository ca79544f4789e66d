"""`kstream snapshots verify` and `prune`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from rich.text import Text

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.cli.snapshots.finding import chosen, places, storage_of
from kstream.clock import SystemClock
from kstream.errors import FileMissing, SnapshotError
from kstream.state.snapshots.collector import collect
from kstream.state.snapshots.manifest import StoredFile, manifests_of, stored_manifest
from kstream.state.snapshots.storage import Storage
from kstream.state.snapshots.transfer import check_files, problems_of


def verify(on: Subject, ids: Sequence[str], task: str | None, *, newest: bool, as_json: bool) -> int:
    """The command. Returns 1 if something is wrong. Raises ConfigError, StorageError."""
    assert on.app is not None
    storage = storage_of(on)
    found = chosen(storage, places(storage, on.app.name, task), ids)
    if newest:
        first = {one.place: one for one in reversed(found)}
        found = [one for one in found if first[one.place] is one]
    bad, told = 0, []
    out = human.lines()
    for one in found:
        problems = [one.problem] if one.problem else []
        if one.manifest is not None:
            problems = list(check_files(storage, one.place, one.manifest))
        bad += bool(problems)
        told.append({"id": one.id, "name": one.entry.name, "problems": problems})
        if not as_json:
            name = f"{'/'.join(one.place.split('/')[2:])} {one.number} {one.id}"
            out.print(Text.assemble(name, ": ", ("damaged", "red") if problems else ("whole", "green")))
            for problem in problems:
                out.print(f"  {problem}")
    if as_json:
        human.write_json(told)
    elif not found:
        out.print(f"{on.app.name} has no snapshots in {storage.url}")
    return 1 if bad else 0


def prune(
    on: Subject, retain: int | None, task: str | None, *, dry_run: bool, as_json: bool, verify: bool = False
) -> int:
    """The command. With `verify` every file is read, and what is damaged does not count. Raises ConfigError,
    StorageError."""
    assert on.app is not None
    storage, clock = storage_of(on), SystemClock()
    retained = on.settings.snapshots_retained if retain is None else retain
    garbage = [
        one
        for place in places(storage, on.app.name, task)
        for one in collect(
            storage, place, retained, clock, dry_run=dry_run, damaged=_damaged(storage, place) if verify else ()
        )
    ]
    if as_json:
        human.write_json([{"name": one.entry.name, "size": one.entry.size, "why": one.why} for one in garbage])
        return 0
    out = human.lines()
    for one in garbage:
        out.print(f"{one.entry.name}  {human.size(one.entry.size)}  {one.why}")
    total = human.size(sum(one.entry.size for one in garbage))
    out.print(f"{human.plural(len(garbage), 'file')}, {total}: {'would be deleted' if dry_run else 'deleted'}")
    return 0


def _damaged(storage: Storage, place: str) -> set[str]:
    """The files of a task's snapshots that are missing or damaged. Each is read once."""
    files: dict[str, StoredFile] = {}
    for entry in manifests_of(storage, place):
        with suppress(SnapshotError, FileMissing):  # the collector sees to those
            files |= {file.at: file for file in stored_manifest(storage, entry.name).files}
    return {at for at, _ in problems_of(storage, place, files.values())}
