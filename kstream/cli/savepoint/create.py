"""`kstream savepoint create`."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import clients_of
from kstream.cli.operate import Subject
from kstream.cli.savepoint.places import place_of
from kstream.errors import ConfigError
from kstream.runtime.cluster.canonical import to_canonical
from kstream.runtime.cluster.saving import Saving
from kstream.state.parquet import check_installed

FORMATS: Final = ("native", "canonical")


def run(on: Subject, name: str, to: str | None, form: str, *, stop: bool, timeout: float) -> int:
    """The command.

    Raises:
        ConfigError: the form is not known, or needs pyarrow, which is not installed; nothing is held then.
        UsageError: it cannot be, and why. SavepointFailed: there is none, and the app goes on.
    """
    assert on.app is not None
    if form not in FORMATS:
        raise ConfigError(f"--format {form}: is neither native nor canonical")
    if form == "canonical":
        check_installed()
    topology, storage = on.app.topology(), place_of(on, to)
    out = human.lines()
    clients = clients_of(on)
    with closing(clients.admin()) as admin:
        saving = Saving(
            topology, clients, admin, storage, name, timeout=timeout, stop=stop,
            replication=on.settings.replication_factor, on_stage=lambda text: out.print(Text(f"  {text}")),
        )  # fmt: skip
        out.print(Text(f"savepoint {name} of {topology.app}, to {storage.url}", style="bold"))
        savepoint = saving.make()
    if form == "canonical":
        out.print(Text("  it is written as Parquet"))
        savepoint = to_canonical(storage, savepoint, topology)
    shown = f"{human.plural(len(savepoint.tasks), 'task')}, {human.plural(len(savepoint.stores), 'store')}"
    ended = "; the instances stop" if stop else ""
    out.print(Text(f"savepoint {name} is there: {shown}, {human.size(savepoint.size)}{ended}", style="green"))
    return 0
