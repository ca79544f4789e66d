"""`kstream savepoint list`, `show`, `verify`, `delete`: what lies in a place."""

from __future__ import annotations

import time

from rich.text import Text

from kstream.cli import human
from kstream.cli.meant import agreed
from kstream.cli.operate import Subject
from kstream.cli.savepoint.places import place_of
from kstream.errors import SnapshotError, UsageError
from kstream.state.savepoint import Savepoint, damages_of, delete_savepoint, files_of, read_savepoint, savepoints_in


def run(on: Subject, place: str | None, *, as_json: bool) -> int:
    """Lists them. One that is damaged is in the list, with why; status 1 then."""
    storage = place_of(on, place)
    found: dict[str, Savepoint | str] = {}
    for name in savepoints_in(storage):
        try:
            found[name] = read_savepoint(storage, name)
        except SnapshotError as error:
            found[name] = str(error)
    damaged = any(isinstance(one, str) for one in found.values())
    if as_json:
        human.write_json([_line(name, one) for name, one in found.items()])
        return int(damaged)
    out = human.console()
    if not found:
        out.print(Text(f"no savepoints in {storage.url}"))
        return 0
    table = human.table("NAME", "APP", "TAKEN", "FORMAT", ">TASKS", ">STORES", ">SIZE")
    for name, one in sorted(found.items(), key=lambda each: getattr(each[1], "taken", 0.0), reverse=True):
        if isinstance(one, str):
            table.add_row(name, Text(one, style="red"))
        else:
            taken = human.moment(one.taken, time.time())
            table.add_row(
                name, one.app, taken, one.format, str(len(one.tasks)), str(len(one.stores)), human.size(one.size)
            )
    out.print(table)
    return int(damaged)


def _line(name: str, one: Savepoint | str) -> dict[str, object]:
    if isinstance(one, str):
        return {"name": name, "damaged": one}
    return {
        "name": name, "id": one.id, "app": one.app, "taken": one.taken, "format": one.format,
        "tasks": len(one.tasks), "stores": list(one.stores), "size": one.size,
    }  # fmt: skip


def show(on: Subject, name: str, place: str | None, *, as_json: bool) -> int:
    storage = place_of(on, place)
    found = read_savepoint(storage, name)
    if as_json:
        human.write_json(found)
        return 0
    out = human.console()
    taken = human.moment(found.taken, time.time())
    out.print(Text(f"savepoint {name} of {found.app}, taken {taken} by kstream {found.program}", style="bold"))
    out.print(Text(f"{found.format}, {human.size(found.size)}, id {found.id}, in {storage.url}"))
    size = ">SIZE" if found.format == "canonical" else ">SIZE OF ITS TASKS"
    stores = human.table("STORE", "KEY", "VALUE", ">PARTITIONS", size)
    for store, one in found.stores.items():
        stores.add_row(store, one.key, one.value, str(one.partitions), human.size(_size(found, store)))
    out.print(Text(), stores)
    offsets = human.table("INPUT", "GROUP", ">OFFSET")
    for task in found.tasks:
        for each in task.offsets:
            offsets.add_row(f"{each.topic}[{each.partition}]", task.group, f"{each.offset:,}")
    out.print(Text(), offsets)
    return 0


def _size(found: Savepoint, store: str) -> int:
    """Of a store; in native form, of the tasks that have it, whose files hold all of their stores."""
    tables = sum(one.size for one in found.tables if one.store == store)
    return tables + sum(one.state.size for one in found.tasks if one.state is not None and store in one.state.stores)


def verify(on: Subject, name: str, place: str | None) -> int:
    storage = place_of(on, place)
    found = read_savepoint(storage, name)
    damages = list(damages_of(storage, found))
    for line in damages:
        human.complain(line)
    if damages:
        return 1
    human.console().print(Text(f"savepoint {name} is whole: {human.size(found.size)} read", style="green"))
    return 0


def delete(on: Subject, name: str, place: str | None, *, yes: bool) -> int:
    storage = place_of(on, place)
    if not files_of(storage, name):
        raise UsageError(f"there is no savepoint {name} in {storage.url}")
    if not yes and not agreed(f"Delete savepoint {name} in {storage.url}?"):
        return 1
    files = delete_savepoint(storage, name)
    human.console().print(Text(f"savepoint {name} is deleted ({human.plural(files, 'file')})", style="green"))
    return 0
