"""The commands of `kstream dlq`. Each one's module is imported when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from kstream.cli.options import AsJson, Assignments, Config, DryRun, Servers, Target, Yes

dlq = typer.Typer(
    name="dlq", help="Dead letters: records that failed and were set aside.", no_args_is_help=True
)  # fmt: skip

Letters = Annotated[
    list[str] | None,
    typer.Argument(metavar="PARTITION:OFFSET", help="Only these letters (default: all that fit).", show_default=False),
]
Topic = Annotated[
    str | None,
    typer.Option("--topic", metavar="TOPIC", help="Topic of dead letters (default: those of the app's policies)."),
]
Reason = Annotated[
    list[str] | None,
    typer.Option(
        "--reason", metavar="CLASS", help="Only letters with this exception. May be repeated: with any of them."
    ),
]
Agent = Annotated[
    list[str] | None,
    typer.Option("--agent", metavar="NAME", help="Only letters that failed in this step or agent. May be repeated."),
]
Phase = Annotated[
    list[str] | None,
    typer.Option(
        "--phase",
        metavar="PHASE",
        help="Only of this phase: decode, process, encode, produce or restore. May be repeated.",
    ),
]
Source = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="TOPIC", help="Only letters whose records come from this topic. May be repeated."),
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only letters that failed at this time or later.")
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Only letters that failed before this time.")
]


@dlq.command("list")
def list_(
    target: Target,
    topic: Topic = None,
    reason: Reason = None,
    agent: Agent = None,
    phase: Phase = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    count: Annotated[
        int | None,
        typer.Option("--count", min=1, metavar="N", help="Show the latest N (default: 50; with --json all)."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show those that are handled already, too.")] = False,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """List an app's dead letters that are not handled yet."""
    from kstream.cli.dlq import listing
    from kstream.cli.dlq.finding import Wanted
    from kstream.cli.operate import subject

    on = subject(target, bootstrap_servers, set_ or [], config)
    wanted = Wanted(topic, reason or [], agent or [], phase or [], source or [], since, until)
    return listing.run(on, wanted, count=count, everything=everything, as_json=as_json)


@dlq.command()
def show(
    target: Target,
    letter: Annotated[
        str, typer.Argument(metavar="PARTITION:OFFSET", help="The letter, as kstream dlq list names it.")
    ],
    topic: Topic = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show everything of a dead letter: why, where from, key, value, headers, stack trace."""
    from kstream.cli.dlq import listing
    from kstream.cli.operate import subject

    return listing.show(subject(target, bootstrap_servers, set_ or [], config), letter, topic, as_json=as_json)


@dlq.command()
def replay(
    target: Target,
    letters: Letters = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TOPIC", help="Write the records to this topic (default: where they come from)."),
    ] = None,
    dry_run: DryRun = False,
    topic: Topic = None,
    reason: Reason = None,
    agent: Agent = None,
    phase: Phase = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Write the records back to where they come from, each exactly once; status 1 if some could not be."""
    from kstream.cli.dlq import handling
    from kstream.cli.dlq.finding import Wanted
    from kstream.cli.operate import subject

    on = subject(target, bootstrap_servers, set_ or [], config)
    wanted = Wanted(topic, reason or [], agent or [], phase or [], source or [], since, until, letters or [])
    return handling.replay(on, wanted, to, dry_run=dry_run)


@dlq.command()
def purge(
    target: Target,
    letters: Letters = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    topic: Topic = None,
    reason: Reason = None,
    agent: Agent = None,
    phase: Phase = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Give records up: they count as handled, and are deleted as far as no other stands before them."""
    from kstream.cli.dlq import handling
    from kstream.cli.dlq.finding import Wanted
    from kstream.cli.operate import subject

    on = subject(target, bootstrap_servers, set_ or [], config)
    wanted = Wanted(topic, reason or [], agent or [], phase or [], source or [], since, until, letters or [])
    return handling.purge(on, wanted, dry_run=dry_run, yes=yes)
