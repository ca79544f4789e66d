"""`kstream state ls`: the stores of an app, and how much of them there is."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import stores_of
from kstream.cli.operate import Subject
from kstream.cli.page import ask
from kstream.cli.state.stopped import stopped
from kstream.errors import UsageError
from kstream.observe.status import InstanceStatus


class Row(msgspec.Struct):
    """A store as --json writes it. Entries and bytes are about so many."""

    store: str
    part: str
    partitions: int
    entries: int
    bytes: int
    key: str
    value: str


def ls(on: Subject, url: str | None, token: str | None, state_dir: str | None, *, as_json: bool) -> int:
    """The command.

    Raises:
        UsageError: the instance cannot be asked, or the directory cannot be read.
    """
    rows = _on_disk(on, state_dir) if url is None else _running(on, url, token)
    if as_json:
        human.write_json(rows)
        return 0
    table = human.table("STORE", "SUB-TOPOLOGY", ">PARTITIONS", ">ENTRIES", ">SIZE", "KEY", "VALUE")
    for row in rows:
        names, types = (row.store, row.part), (row.key, row.value)
        numbers = (str(row.partitions), human.count(row.entries), human.size(row.bytes))
        table.add_row(*map(Text, names), *numbers, *map(Text, types))
    human.console().print(table)
    return 0


def directory_of(on: Subject, state_dir: str | None) -> Path:
    return Path(state_dir or on.settings.state_dir)


def _on_disk(on: Subject, state_dir: str | None) -> list[Row]:
    assert on.app is not None
    topology, rows = on.app.topology(), []
    with stopped(directory_of(on, state_dir), on.app.name, "ask it, with --url URL") as found:
        for part in topology.parts:
            for store in part.stores:
                local = found.parts_of(store.name) if store.name in found.stores else []
                entries = sum(one.reader.entries(store.name) for one in local)
                size = sum(one.reader.size_bytes(store.name) for one in local)
                types = str(store.key), str(store.value)
                rows.append(Row(store.name, part.name, len(local), entries, size, *types))
        for name in sorted(set(found.stores) - set(stores_of(topology))):
            human.complain(f"store {name} lies there too, and the app has none of that name (any more)")
    return rows


def _running(on: Subject, url: str, token: str | None) -> list[Row]:
    assert on.app is not None
    status = status_of(on, url, token)
    specs, rows = stores_of(on.app.topology()), []
    for one in status.stores:
        if one.name in specs:
            types = str(specs[one.name].key), str(specs[one.name].value)
            rows.append(Row(one.name, one.part, len(one.tasks), one.entries, one.size, *types))
    return rows


def status_of(on: Subject, url: str, token: str | None) -> InstanceStatus:
    """What an instance says of itself. Raises UsageError when it is another app's, or does not answer."""
    assert on.app is not None
    status = ask(url, "/api/status", token or on.settings.web_token, InstanceStatus, ca=on.settings.web_tls_ca)
    if status.app != on.app.name:
        raise UsageError(f"{url} is an instance of app {status.app!r}, not {on.app.name!r}")
    return status
