"""`kstream table`: what a table holds, from its changelog, or one key of it from a running instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote, urlencode

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import clients_of, find, partitions_of, stores_of
from kstream.cli.operate import Subject
from kstream.cli.page import ask
from kstream.codecs.text import Decoded, decoded, from_text
from kstream.errors import UsageError
from kstream.escape import escaped
from kstream.observe.status import TableEntry
from kstream.runtime.cluster.records import Reading, bounds, to_end
from kstream.specs.store import StoreSpec
from kstream.state.forms import plain_value
from kstream.types import AdminClient, Clients, TopicPartition


class Entry(msgspec.Struct, omit_defaults=True):
    """An entry as --json writes it. `undecodable` is as in `kstream tail`."""

    key: object
    value: object
    undecodable: dict[str, str] = {}


Entries = dict[tuple[int, bytes], bytes]
"""By partition and key: a table with scope="partition" may have a key several times."""


def run(
    on: Subject, target: str, name: str, key: str | None, *, url: str | None, token: str | None, as_json: bool
) -> int:
    """The command. Returns 1 when there is no such key, else 0.

    Args:
        url: of an instance that is asked instead of Kafka.

    Raises:
        UsageError: there is no such table. KafkaUnavailable: no answer in time.
    """
    if url is not None:
        return of_instance(on, url, token, name, key, as_json=as_json)
    assert on.app is not None
    topology = on.app.topology()
    store: StoreSpec = find("table", name, stores_of(topology), on.app.name)
    only = None if key is None else from_text(store.key.codec, key, "the key")
    clients = clients_of(on)
    with closing(clients.admin()) as admin:
        changelog = topology.changelog(store)
        count = partitions_of(admin, changelog, on.servers, target)
        with progress(f"reading {changelog}") as on_progress:
            entries = read(clients, admin, changelog, count, only, on_progress)
    if key is not None and not entries:
        human.complain(f"table {name} has no key {key}")
        return 1
    show(store, entries, alone=key is not None, as_json=as_json)
    return 0


def of_instance(on: Subject, url: str, token: str | None, name: str, key: str | None, *, as_json: bool) -> int:
    """The committed value of a key, as a running instance has it. Returns 1 when there is none, else 0.

    Raises:
        UsageError: the instance cannot be reached, or refuses.
    """
    if key is None:
        raise UsageError(
            "which key? an instance is asked for one key; without --url the whole table is read from Kafka"
        )
    token, path = token or on.settings.web_token, f"/api/tables/{quote(name, safe='')}?{urlencode({'key': key})}"
    entry = ask(url, path, token, TableEntry, (404,), ca=on.settings.web_tls_ca)
    if not entry.found:
        here = ", ".join(map(str, entry.partitions)) or "none"
        human.complain(f"no key {key} in what {url} has of table {name}: partitions {here}")
        return 1
    if as_json:
        undecodable = {} if entry.undecodable is None else {"value": entry.undecodable}
        human.write_json(Entry(entry.key, entry.value, undecodable), indented=False)
    else:
        text = entry.value if isinstance(entry.value, str) else msgspec.json.encode(entry.value).decode()
        human.console().print(_text(Decoded(entry.value, escaped(text), entry.undecodable)), soft_wrap=True)
    return 0


def read(
    clients: Clients,
    admin: AdminClient,
    changelog: str,
    partitions: int,
    only: bytes | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Entries:
    """The latest committed value of each key, or of one, as the changelog has it now; what has expired and is not
    cleaned up yet is there still."""
    entries: Entries = {}
    starts, ends = bounds(admin, [TopicPartition(changelog, number) for number in range(partitions)])
    with closing(Reading(clients, admin, starts, ends)) as reading:
        for row in to_end(reading, on_progress):
            if row.key is None or (only is not None and row.key != only):
                continue
            if row.value is None:
                entries.pop((row.at.partition, row.key), None)
            else:
                entries[row.at.partition, row.key] = plain_value(row.value, row.headers)
    return entries


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal."""
    console = human.lines(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


# ---- how it looks


def show(store: StoreSpec, entries: Entries, *, alone: bool, as_json: bool) -> None:
    rows = [
        (decoded(store.key.codec, key), decoded(store.value.codec, value), partition)
        for (partition, key), value in sorted(entries.items(), key=lambda one: one[0][::-1])
    ]
    if as_json:
        for key, value, _ in rows:
            human.write_json(Entry(key.plain, value.plain, errors(key, value)), indented=False)
        return
    out = human.console()
    if alone:
        for _, value, _ in rows:
            out.print(_text(value), soft_wrap=True)
        return
    table = human.table("KEY", "VALUE", ">PARTITION")
    for key, value, partition in rows:
        table.add_row(_text(key), _text(value), str(partition))
    out.print(table)
    out.print(Text(human.plural(len(rows), "key"), style="bold"))


def errors(key: Decoded, value: Decoded) -> dict[str, str]:
    sides = {"key": key, "value": value}
    return {name: side.error for name, side in sides.items() if side.error is not None}


def _text(of: Decoded) -> Text:
    text = Text(of.text)
    if of.error is not None:
        text.append(f"  cannot be decoded: {of.error}", style="red")
    return text
