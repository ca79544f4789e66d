"""The commands of `kstream savepoint`, and others that move state: rescale, export, import. Each one's module is
imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kstream.cli.options import AsJson, Assignments, Config, DryRun, OptionalTarget, Servers, Store, Target, Yes
from kstream.cli.state.app import state

savepoint = typer.Typer(
    name="savepoint", help="Savepoints: all of an app's state at one moment, kept for good.", no_args_is_help=True
)  # fmt: skip

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the savepoint.")]
Place = Annotated[
    str | None,
    typer.Option("--in", metavar="URL", help="Where it lies: a path or s3://... (default: the setting savepoints)."),
]


@savepoint.command()
def create(
    target: Target,
    name: Name,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            help="Where it goes: a path or s3://... that all share (default: the setting savepoints).",
        ),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the app with it: nothing is processed after it.")] = False,
    form: Annotated[
        str,
        typer.Option("--format", metavar="native|canonical", help="canonical is Parquet, which other programs read."),
    ] = "native",
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", min=1, max=3600, metavar="SECONDS", help="Give it up after so long; the app goes on then."
        ),
    ] = 60.0,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Make a savepoint of an app that runs, over all of its instances; status 1 if there is none."""
    from kstream.cli.operate import subject
    from kstream.cli.savepoint import create as command

    on = subject(target, bootstrap_servers, set_ or [], config)
    return command.run(on, name, to, form, stop=stop, timeout=timeout)


@savepoint.command("list")
def list_(
    target: OptionalTarget = None,
    place: Place = None,
    as_json: AsJson = False,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """List the savepoints in a place."""
    from kstream.cli.operate import subject
    from kstream.cli.savepoint import listing as command

    return command.run(subject(target, None, set_ or [], config), place, as_json=as_json)


@savepoint.command()
def show(
    name: Name,
    target: OptionalTarget = None,
    place: Place = None,
    as_json: AsJson = False,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show what a savepoint has: app, time, stores, tasks, offsets."""
    from kstream.cli.operate import subject
    from kstream.cli.savepoint import listing as command

    return command.show(subject(target, None, set_ or [], config), name, place, as_json=as_json)


@savepoint.command()
def verify(
    name: Name, target: OptionalTarget = None, place: Place = None, config: Config = None, set_: Assignments = None
) -> int:
    """Read every file of a savepoint and compare its checksum; status 1 if one is damaged."""
    from kstream.cli.operate import subject
    from kstream.cli.savepoint import listing as command

    return command.verify(subject(target, None, set_ or [], config), name, place)


@savepoint.command()
def delete(
    name: Name,
    target: OptionalTarget = None,
    place: Place = None,
    yes: Yes = False,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Delete a savepoint and its files. Nothing else refers to them."""
    from kstream.cli.operate import subject
    from kstream.cli.savepoint import listing as command

    return command.delete(subject(target, None, set_ or [], config), name, place, yes=yes)


@savepoint.command()
def restore(
    target: Target,
    name: Name,
    place: Place = None,
    as_app: Annotated[
        str | None, typer.Option("--as", metavar="APP", help="Name of this app, where the savepoint is of another one.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", metavar="OLD=NEW", help="Give the state of store OLD to store NEW. May be repeated."),
    ] = None,
    allow_dropped: Annotated[
        bool, typer.Option("--allow-dropped", help="Give up state that the app has no store for.")
    ] = False,
    claim: Annotated[
        bool, typer.Option("--claim/--no-claim", help="Delete the savepoint once it is restored (default: keep it).")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Give a stopped app the offsets and the state of a savepoint."""
    from kstream.cli.operate import subject
    from kstream.cli.savepoint import restore as command

    on = subject(target, bootstrap_servers, set_ or [], config)
    return command.run(
        on, name, place, rename or [], as_app=as_app, allow_dropped=allow_dropped, claim=claim, dry_run=dry_run, yes=yes
    )


def rescale(
    target: Target,
    partitions: Annotated[int, typer.Option("--partitions", min=1, metavar="N", help="Move to so many partitions.")],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Move only what has this store or input. May be repeated."),
    ] = None,
    grow_inputs: Annotated[
        bool, typer.Option("--grow-inputs", help="Add partitions also to inputs that are not the app's own.")
    ] = False,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--inputs", metavar="earliest|latest", help="Where to begin in inputs that the app has never read."
        ),
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="URL",
            help="Where the savepoint goes: a path or s3://... (default: the setting savepoints).",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=1,
            max=3600,
            metavar="SECONDS",
            help="Give the savepoint up after so long; the app goes on then.",
        ),
    ] = 60.0,
    dry_run: DryRun = False,
    yes: Yes = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Move an app with its state to another number of partitions: stop it with a savepoint, and put each entry into the
    partition of its key."""
    from kstream.cli.meant import place_named
    from kstream.cli.operate import subject
    from kstream.cli.savepoint import rescale as command

    on = subject(target, bootstrap_servers, set_ or [], config)
    wanted = command.Wanted(
        partitions, only or [], grow_inputs, place_named("--inputs", inputs), place, timeout, dry_run, yes
    )  # fmt: skip
    return command.run(on, wanted)


@state.command("export")
def export(
    target: Target,
    stores: Annotated[
        list[str] | None,
        typer.Argument(metavar="STORE", help="Write these stores only (default: all of them).", show_default=False),
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="PATH", help="Directory to write to; each store gets one in it.")
    ] = Path("state"),
    state_dir: Annotated[
        str | None,
        typer.Option(
            "--state-dir", metavar="PATH", help="Read this state directory of stopped instances, not the changelogs."
        ),
    ] = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Write stores as Parquet files, one for each partition, whether the app runs or not (the extra parquet)."""
    from kstream.cli.operate import subject
    from kstream.cli.savepoint import state as command

    on = subject(target, bootstrap_servers, set_ or [], config)
    if state_dir is not None:
        return command.export_local(on, stores or [], to, state_dir)
    return command.export_(on, stores or [], to)


@state.command("import")
def import_(
    target: Target,
    store: Store,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Parquet files, or directories of them, with the columns key and value."),
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Give up the entries that the store has now.")] = False,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--inputs",
            metavar="earliest|latest",
            help="Where to begin in inputs that were never read (default: auto_offset_reset).",
        ),
    ] = None,
    yes: Yes = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Fill a store of a stopped app from Parquet files, whoever wrote them (the extra parquet)."""
    from kstream.cli.operate import subject
    from kstream.cli.savepoint import state as command

    on = subject(target, bootstrap_servers, set_ or [], config)
    return command.import_(on, store, files, replace=replace, inputs=inputs, yes=yes)
