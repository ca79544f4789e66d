"""`kstream state export` and `import`: stores as Parquet files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import clients_of, find, stores_of
from kstream.cli.meant import agreed, place_named
from kstream.cli.operate import Subject
from kstream.cli.savepoint.places import told_when_broken_off
from kstream.cli.state.stopped import stopped
from kstream.errors import UsageError
from kstream.runtime.cluster.filling import Filling, Stored, export, export_stored


def export_(on: Subject, names: Sequence[str], to: Path) -> int:
    """Exports stores, all of them where none is named.

    Raises:
        UsageError: there is no such store. KafkaUnavailable: no answer in time.
    """
    assert on.app is not None
    topology, out, clients = on.app.topology(), human.lines(), clients_of(on)
    stores = stores_of(topology)
    wanted = [find("table", name, stores, on.app.name) for name in names] or list(stores.values())
    with closing(clients.admin()) as admin:
        for spec in wanted:
            written = dict(export(topology, spec, clients, admin, to / spec.name, time.time()))
            entries = human.plural(sum(written.values()), "row")
            out.print(Text(f"{spec.name}: {entries} in {human.plural(len(written), 'file')} in {to / spec.name}"))
    return 0


def export_local(on: Subject, names: Sequence[str], to: Path, state_dir: str) -> int:
    """The same of the state directory of instances that are stopped: where a changelog was deleted, the only copy.

    Raises:
        UsageError: there is no such store. StateDirectoryError, IdentityInUse: the directory cannot be read.
    """
    assert on.app is not None
    out, stores = human.lines(), stores_of(on.app.topology())
    wanted = [find("table", name, stores, on.app.name) for name in names] or list(stores.values())
    with stopped(Path(state_dir), on.app.name, "export its changelogs (without --state-dir)") as here:
        for spec in [one for one in wanted if names or one.name in here.stores]:
            parts = [
                Stored(one.partition, one.reader.form(spec.name), partial(one.reader.stored, spec.name))
                for one in here.parts_of(spec.name)
            ]
            written = export_stored(on.app.name, spec, parts, to / spec.name, time.time())
            entries, numbers = (
                human.plural(sum(written.values()), "row"),
                ", ".join(str(one.partition) for one in parts),
            )
            out.print(Text(f"{spec.name}: {entries} in {to / spec.name}, of partitions {numbers}"))
    return 0


def import_(on: Subject, name: str, given: Sequence[Path], *, replace: bool, inputs: str | None, yes: bool) -> int:
    """Fills a store of a stopped app.

    Raises:
        UsageError: it cannot be, and why. KafkaUnavailable: no answer in time.
    """
    assert on.app is not None
    where = place_named("--inputs", inputs) or ("latest" if on.settings.auto_offset_reset == "latest" else "earliest")
    files = [file for path in given for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])]
    if missing := [path for path in files if not path.is_file()] or ([] if files else list(given)):
        raise UsageError(f"there is no Parquet file {missing[0]}")
    topology, clients = on.app.topology(), clients_of(on)
    spec = find("table", name, stores_of(topology), on.app.name)
    with closing(clients.admin()) as admin:
        filling = Filling(
            topology, spec, clients, admin, on.settings, files, replace=replace, inputs=where
        )  # fmt: skip
        shown = human.plural(len(files), "file")
        if not yes and not agreed(f"Fill store {name} of app {topology.app} on {on.servers} from {shown}?"):
            return 1
        with told_when_broken_off(topology.app, "this import") as begun:
            entries = filling.fill(on_begun=begun)
    human.lines().print(Text(f"store {name} has the {entries:,} entries of {shown}", style="green"))
    return 0
