"""`kstream state top`: the largest entries of stores, and in a running instance the keys used most."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec
from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import find, stores_of
from kstream.cli.operate import Subject
from kstream.cli.state.listing import directory_of, status_of
from kstream.cli.state.stopped import stopped
from kstream.codecs.text import decoded
from kstream.escape import escaped


class Top(msgspec.Struct):
    """Of one store, as --json writes it: its largest entries (key, bytes), and the keys used most with their share of
    what was sampled (0..1), which is known of a running instance only."""

    store: str
    largest: Sequence[tuple[str, int]]
    hottest: Sequence[tuple[str, float]] = ()


def top(
    on: Subject,
    store: str | None,
    count: int,
    url: str | None,
    token: str | None,
    state_dir: str | None,
    *,
    as_json: bool,
) -> int:
    """The command. On disk every entry is looked at; a running instance tells what it has seen.

    Raises:
        UsageError: there is no such store, the instance cannot be asked, or the directory cannot be read.
    """
    assert on.app is not None
    specs = stores_of(on.app.topology())
    if store is not None:
        specs = {store: find("store", store, specs, on.app.name)}
    found: list[Top] = []
    if url is not None:
        told = {one.name: one for one in status_of(on, url, token).stores}
        found = [
            Top(name, told[name].largest[:count], told[name].hottest[:count]) for name in specs if name in told
        ]  # fmt: skip
    else:
        with stopped(directory_of(on, state_dir), on.app.name, "ask it, with --url URL") as local:
            for name, spec in specs.items():
                if name not in local.stores and store is None:
                    continue
                entries = (
                    (len(key) + len(value), key)
                    for part in local.parts_of(name)
                    for key, value in part.reader.scan(name)
                )
                largest = heapq.nlargest(count, entries)
                found.append(Top(name, [(decoded(spec.key.codec, key, key=True).text, size) for size, key in largest]))
    if as_json:
        human.write_json(found)
        return 0
    for one in found:
        table = human.table("STORE", "KEY", ">SIZE", ">USE")
        rows = [(key, human.size(size), "") for key, size in one.largest]
        rows += [(key, "", f"{share:.1%}") for key, share in one.hottest]
        for key, size, share in rows:
            table.add_row(Text(one.store), Text(escaped(key)), size, share)
        human.console().print(table)
    return 0
