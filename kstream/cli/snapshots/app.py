"""The commands of `kstream snapshots`. Each one's module is imported when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from kstream.cli.options import AsJson, Assignments, Config, DryRun, Target

snapshots = typer.Typer(
    name="snapshots", help="Snapshots of an app's state, where they are kept.", no_args_is_help=True
)  # fmt: skip

Task = Annotated[
    str | None, typer.Option("--task", metavar="PART/N", help="Only snapshots of this task, such as clicks/3.")
]
Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID", help="Ids as kstream snapshots list shows them, or how they begin.", show_default=False
    ),
]


@snapshots.command("list")
def list_(
    target: Target, task: Task = None, as_json: AsJson = False, config: Config = None, set_: Assignments = None
) -> int:
    """List them, by task, the newest first."""
    from kstream.cli.operate import subject
    from kstream.cli.snapshots import listing

    return listing.run(subject(target, None, set_ or [], config), task, as_json=as_json)


@snapshots.command()
def show(
    target: Target,
    id: Annotated[str, typer.Argument(metavar="ID", help="Id as kstream snapshots list shows it, or how it begins.")],
    as_json: AsJson = False,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show everything of one: stores, offsets, files."""
    from kstream.cli.operate import subject
    from kstream.cli.snapshots import listing

    return listing.show(subject(target, None, set_ or [], config), id, as_json=as_json)


@snapshots.command()
def verify(
    target: Target,
    ids: Ids = None,
    task: Task = None,
    newest: Annotated[bool, typer.Option("--newest", help="Look at the newest of each task only.")] = False,
    as_json: AsJson = False,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Read every file and compare it with its manifest; status 1 if one is missing or damaged."""
    from kstream.cli.operate import subject
    from kstream.cli.snapshots import keeping

    on = subject(target, None, set_ or [], config)
    return keeping.verify(on, ids or [], task, newest=newest, as_json=as_json)


@snapshots.command()
def prune(
    target: Target,
    retain: Annotated[
        int | None,
        typer.Option(
            "--retain", min=0, metavar="N", help="Keep N of each task (default: the setting snapshots_retained)."
        ),
    ] = None,
    task: Task = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file, and delete snapshots that are damaged too.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Delete snapshots that are not to be kept, and files that no snapshot needs. The app may run."""
    from kstream.cli.operate import subject
    from kstream.cli.snapshots import keeping

    on = subject(target, None, set_ or [], config)
    return keeping.prune(on, retain, task, dry_run=dry_run, as_json=as_json, verify=verify)
