"""`kstream snapshots list` and `show`."""

from __future__ import annotations

import time
from typing import Any

from rich.text import Text

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.cli.snapshots.finding import Found, chosen, places, snapshots, storage_of


def run(on: Subject, task: str | None, *, as_json: bool) -> int:
    """The command. Raises ConfigError, StorageError."""
    assert on.app is not None
    storage = storage_of(on)
    found = list(snapshots(storage, places(storage, on.app.name, task)))
    if as_json:
        human.write_json([_as_json(one) for one in found])
        return 0
    if not found:
        human.console().print(f"{on.app.name} has no snapshots in {storage.url}")
        return 0
    table, now = human.table("task", ">number", "id", "taken", ">age", ">size", ">stored", ">took", ""), time.time()
    for one in found:
        manifest = one.manifest
        if manifest is None:
            where = "/".join(one.place.split("/")[2:])
            table.add_row(where, str(one.number), one.id, "", "", "", "", "", Text("cannot be read", style="red"))
            continue
        table.add_row(
            manifest.task, str(manifest.number), one.id, human.moment(manifest.taken, now),
            human.span(max(0.0, now - manifest.taken)), human.size(manifest.size), human.size(manifest.uploaded),
            human.span(manifest.seconds), "",
        )  # fmt: skip
    human.console().print(table)
    return 0


def show(on: Subject, id: str, *, as_json: bool) -> int:
    """The command. Raises ConfigError, StorageError."""
    assert on.app is not None
    storage = storage_of(on)
    (one,) = chosen(storage, places(storage, on.app.name, None), [id])
    if as_json:
        human.write_json({**_as_json(one), **_details(one)})
        return 0
    out, manifest, now = human.console(), one.manifest, time.time()
    if manifest is None:
        out.print(Text(one.problem or "", style="red"))
        return 1
    out.print(
        Text(f"snapshot {one.id} of task {manifest.task} of {manifest.app}, number {manifest.number}", style="bold")
    )
    out.print(
        f"taken {human.moment(manifest.taken, now)}, {human.span(max(0.0, now - manifest.taken))} ago, in "
        f"{human.span(manifest.seconds)}, by kstream {manifest.program}; backend {manifest.backend}, "
        f"{human.plural(len(manifest.files), 'file')}, {human.size(manifest.size)}\n"
    )
    stores = human.table("store", ">changelog offset", "current at", "said of it")
    for name, store in manifest.stores.items():
        stores.add_row(name, f"{store.offset:,}", human.moment(store.wall_time, now), store.mark.about.decode())
    inputs = human.table("input", ">partition", ">committed offset")
    for each in manifest.inputs:
        inputs.add_row(each.topic, str(each.partition), f"{each.offset:,}")
    files = human.table("file", ">size", "where it lies")
    for file in manifest.files:
        files.add_row(file.name, human.size(file.size), file.at)
    for table in (stores, inputs, files):
        out.print(table, "")
    return 0


def _as_json(one: Found) -> dict[str, Any]:
    manifest = one.manifest
    if manifest is None:
        return {"id": one.id, "number": one.number, "name": one.entry.name, "problem": one.problem}
    return {
        "id": one.id, "task": manifest.task, "number": manifest.number, "taken": manifest.taken, "size": manifest.size,
        "stored": manifest.uploaded, "seconds": manifest.seconds, "files": len(manifest.files), "name": one.entry.name,
    }  # fmt: skip


def _details(one: Found) -> dict[str, Any]:
    manifest = one.manifest
    if manifest is None:
        return {}
    return {"stores": manifest.stores, "inputs": manifest.inputs, "files": manifest.files, "backend": manifest.backend}
