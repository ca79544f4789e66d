"""`kstream savepoint restore`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import clients_of
from kstream.cli.meant import agreed
from kstream.cli.operate import Subject
from kstream.cli.savepoint.places import place_of, told_when_broken_off
from kstream.errors import ConfigError, SnapshotError
from kstream.runtime.cluster.replacing import Plan, carry_out
from kstream.runtime.cluster.rescalable import weigh
from kstream.runtime.cluster.restoring import look
from kstream.state.savepoint import damages_of, delete_savepoint, files_of, read_savepoint


def run(
    on: Subject,
    name: str,
    place: str | None,
    renames: Sequence[str],
    *,
    as_app: str | None,
    allow_dropped: bool,
    claim: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """The command.

    Raises:
        UsageError: it cannot be, and why: an entry is too large for Kafka, say.
        SnapshotError: the savepoint is damaged; nothing was changed.
    """
    assert on.app is not None
    topology, storage, out = on.app.topology(), place_of(on, place), human.lines()
    savepoint = read_savepoint(storage, name)
    if claim:
        files_of(storage, name)  # it could not be deleted in the end where its folder has something else
    clients = clients_of(on)
    with closing(clients.admin()) as admin:
        plan = look(
            topology, admin, on.settings, savepoint,
            rename=_renames(renames), as_app=as_app, allow_dropped=allow_dropped,
        )  # fmt: skip
        out.print(screen(plan, topology.app, on.servers))
        if dry_run:
            return 0
        if not yes and not agreed("Replace the state of the app by that of the savepoint?"):
            return 1
        if (damaged := next(damages_of(storage, savepoint), None)) is not None:
            raise SnapshotError(f"savepoint {name} is damaged, nothing was changed: {damaged}")
        weigh(plan, topology, on.settings, admin, storage, ())
        with told_when_broken_off(topology.app, "this restore") as begun:
            entries = carry_out(plan, topology, clients, admin, on.settings, storage, on_begun=begun)
    out.print(Text(f"restored: {human.plural(entries, 'entry') if entries == 1 else f'{entries:,} entries'}", "green"))
    if claim:
        delete_savepoint(storage, name)
        out.print(Text(f"savepoint {name} was claimed: it is deleted"))
    return 0


def _renames(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in given:
        old, equals, new = one.partition("=")
        if not (old and equals and new) or old in found:
            raise ConfigError(f"--rename {one}: write OLD=NEW, each store once")
        found[old] = new
    return found


def screen(plan: Plan, app: str, servers: str) -> Text:
    text = Text.assemble((f"restore of {app} on {servers} from savepoint {plan.savepoint.name}", "bold"), "\n")
    for topic in plan.topics:
        text.append(f"  delete topic {topic}, and make it anew\n")
    for new, old in plan.stores.items():
        text.append(f"  store {new}: the entries of {'the savepoint' if new == old else old}\n")
    for name in plan.new:
        text.append(f"  store {name}: empty, the savepoint has none\n")
    for name in plan.dropped:
        text.append(f"  state of {name} is given up\n", style="yellow")
    for group, offsets in plan.offsets.items():
        text.append(f"  group {group}: {human.plural(len(offsets), 'offset')} of the savepoint\n")
    for note in plan.notes:
        text.append(f"  {note}\n", style="yellow")
    text.append("Output topics stay as they are.")
    return text
