"""`kstream reset`: makes a stopped app begin anew."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rich.text import Text

from kstream.cli import human
from kstream.cli.meant import agreed, place_named
from kstream.cli.operate import Subject
from kstream.runtime.cluster.naming import snapshots_folder
from kstream.runtime.cluster.reset import Place, Reset, carry_out, look
from kstream.state.snapshots.storage import Storage, open_storage


def run(on: Subject, to: str | None, *, dry_run: bool, yes: bool, keep_snapshots: bool = False) -> int:
    """The command.

    Raises:
        ConfigError: the app runs, or there is nobody to ask whether it is meant.
        KafkaUnavailable: no answer in time.
    """
    assert on.app is not None
    place = place_named("--to", to)
    admin = on.clients.admin()
    try:
        found = look(on.app.topology(), admin, Path(on.settings.state_dir))
        snapshots = None if keep_snapshots else _snapshots(on)
        text = screen(found, on, place)
        if snapshots is not None and snapshots.names:
            text.append(
                f"\nDelete {human.plural(len(snapshots.names), 'file')} of snapshots in {snapshots.storage.url}."
            )
        human.console().print(text)
        if dry_run:
            return 0
        if not yes and not agreed("Delete all this?"):
            return 1
        carry_out(found, admin, place)
        if snapshots is not None:
            snapshots.storage.delete(snapshots.names)
    finally:
        admin.close()
    human.console().print(Text("done", style="green"))
    return 0


class _Snapshots(NamedTuple):
    storage: Storage
    names: list[str]


def _snapshots(on: Subject) -> _Snapshots | None:
    """Of the app, where it keeps some."""
    if on.settings.snapshots is None or on.app is None:
        return None
    storage = open_storage(on.settings.snapshots)
    return _Snapshots(storage, [entry.name for entry in storage.list(snapshots_folder(on.app.name))])


def screen(found: Reset, on: Subject, place: Place | None) -> Text:
    assert on.app is not None
    text = Text.assemble((f"reset of {on.app.name} on {on.servers}", "bold"), "\n\n")
    start = f"from their {'start' if place == 'earliest' else 'end'}"
    for group, inputs in found.groups.items():
        where = start if place else f"as auto_offset_reset says ({on.settings.auto_offset_reset})"
        text.append(f"  delete the offsets of group {group}; reads {', '.join(inputs) or 'nothing else'} {where}\n")
    for directory in found.directories:
        text.append(f"  delete local state {directory}\n")
    for topic in found.topics:
        text.append(f"  delete topic {topic}\n")
    text.append("\nOutput topics stay as they are. Other machines' state directories are to be deleted there.")
    return text
