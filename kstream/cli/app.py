"""The list of commands. Each command's module is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kstream.cli.acls import acls
from kstream.cli.data.app import send, table, tail
from kstream.cli.dlq.app import dlq
from kstream.cli.options import (
    AsJson,
    Assignments,
    Config,
    DataDir,
    DryRun,
    Fresh,
    LogLevel,
    OptionalTarget,
    Servers,
    StateDir,
    Target,
    Token,
    Yes,
)
from kstream.cli.savepoint.app import rescale, savepoint
from kstream.cli.snapshots.app import snapshots
from kstream.cli.state.app import state
from kstream.cli.trying import broker, demo

commands = typer.Typer(
    name="kstream",
    help="Stream-processing microservices in Python, native to Apache Kafka, exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
commands.add_typer(dlq)
commands.add_typer(snapshots)
commands.add_typer(state)
commands.add_typer(savepoint)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"kstream {version('kstream')}")
        raise typer.Exit


@commands.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors too.")] = False,
) -> None:
    # `main` sees to --debug, wherever it stands; it is here for --help
    pass


@commands.command()
def run(
    target: Target,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|MIN..MAX",
            help="Worker processes (default: one for each core); MIN..MAX follows the load, 0 runs in this process.",
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="NAME", help="Run this isolation group only. May be repeated (default: all)."),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Stable name of this instance (default: one kept in the state directory)."),
    ] = None,
    state_dir: StateDir = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
    log_level: LogLevel = None,
) -> int:
    """Run an app until it is told to stop (Ctrl-C or SIGTERM; a second time: at once)."""
    from kstream.cli import run as command

    options = {
        "workers": workers,
        "groups": ",".join(group) if group else None,
        "instance": instance,
        "state_dir": state_dir,
        "bootstrap_servers": bootstrap_servers,
        "log_level": log_level,
    }
    return command.run(target, options, set_ or [], config)


@commands.command()
def topology(target: Target) -> None:
    """Show the graph of an app: sub-topologies, topics, operators and stores."""
    from kstream.cli import human
    from kstream.cli import run as command

    human.write(command.load_app(target).topology().describe())


@commands.command()
def status(
    target: OptionalTarget = None,
    app: Annotated[
        str | None, typer.Option("--app", metavar="NAME", help="Name of the app, where its code is not here.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print once; status 0 only if all instances are ready.")] = False,
    as_json: AsJson = False,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Ask the page of this instance, not Kafka.")
    ] = None,
    token: Token = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show the running instances of an app, live: tasks, lag, trouble."""
    from kstream.cli import status as command
    from kstream.cli.operate import subject

    on = subject(target, bootstrap_servers, set_ or [], config)
    return command.status(on, app, url=url, token=token, once=once, as_json=as_json)


@commands.command()
def lag(
    target: Target,
    most: Annotated[
        int | None, typer.Option("--max", min=0, metavar="N", help="End with status 1 when more than N records wait.")
    ] = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show what waits in an app's inputs, whether it runs or not."""
    from kstream.cli import lag as command
    from kstream.cli.operate import subject

    return command.run(subject(target, bootstrap_servers, set_ or [], config), as_json=as_json, most=most)


@commands.command()
def topics(
    target: Target,
    create: Annotated[bool, typer.Option("--create", help="Create those that are missing, as a start does.")] = False,
    within: Annotated[
        float | None, typer.Option("--within", min=1, metavar="SECONDS", help="End with status 2 after so long.")
    ] = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show the topics an app needs; status 1 if one is missing or wrong."""
    from kstream.cli import topics as command
    from kstream.cli.operate import subject
    from kstream.cli.within import ends_within

    if within is not None:
        ends_within("topics", within)
    return command.run(subject(target, bootstrap_servers, set_ or [], config), create=create, as_json=as_json)


@commands.command()
def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of project and app: small letters, digits, '-', '_'.")
    ],
    directory: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Directory to make it in (default: one of its name).")
    ] = None,
) -> int:
    """Make a service project: app, test, settings, README, and a compose file with a Kafka."""
    from kstream.cli import init as command

    return command.run(name, directory)


@commands.command()
def dev(
    target: Target,
    workers: Annotated[
        str,
        typer.Option(metavar="N|MIN..MAX", help="Worker processes; MIN..MAX follows the load, 0 runs in one process."),
    ] = "1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the development broker.")] = 9092,
    data_dir: DataDir = None,
    fresh: Fresh = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
    log_level: LogLevel = None,
) -> int:
    """Run an app on a development broker, and anew whenever a file of the project changes, until Ctrl-C."""
    from kstream.cli import dev as command
    from kstream.cli.operate import subject

    arguments = ["--workers", workers]
    for option, value in (("--config", config), ("--log-level", log_level)):
        arguments += [] if value is None else [option, str(value)]
    for assignment in set_ or []:
        arguments += ["--set", assignment]
    on = subject(None, bootstrap_servers, set_ or [], config)
    return command.run(on, target, arguments, port=port, data_dir=data_dir, fresh=fresh)


for one in (send, tail, table):
    commands.command()(one)


@commands.command()
def plan(
    target: Target,
    rate: Annotated[str, typer.Option("--rate", metavar="N", help="Input records a second, such as 50k or 1.5M.")],
    records: Annotated[
        Path | None,
        typer.Option(
            "--records",
            metavar="FILE",
            help="File with a sample, JSON lines (default: the latest records of the inputs).",
        ),
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores of an instance (default: this machine's).")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory of an instance, such as 4GiB.")] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Partitions of the inputs, where they cannot be changed.")
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option(metavar="[STORE=]N", help="Entries that all stores, or one, will have. May be repeated."),
    ] = None,
    instances: Annotated[int, typer.Option(min=1, help="Instances of each isolation group, at least.")] = 2,
    recover_within: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time to restore and catch up after an hour down, such as 30m.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="Seconds of work to measure.")] = 5.0,
    form: Annotated[
        str | None, typer.Option("--format", metavar="text|json|helm-values", help="Form of the answer.")
    ] = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Measure an app on sample data and propose what a rate takes. It runs on a broker of its own."""
    from kstream.cli import plan as command
    from kstream.cli.operate import subject

    wanted = command.target_of(
        rate, cores, memory, partitions, keys or [], instances=instances, recover_within=recover_within
    )
    form = command.form_of(form, as_json)
    on = subject(target, bootstrap_servers, set_ or [], config)
    return command.run(on, target, records, wanted, seconds=seconds, form=form)


@commands.command()
def reset(
    target: Target,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="earliest|latest", help="Where to begin in the inputs (default: auto_offset_reset)."
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    keep_snapshots: Annotated[bool, typer.Option("--keep-snapshots", help="Keep its snapshots.")] = False,
    state_dir: StateDir = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Make a stopped app begin anew: delete its offsets, its state, its changelogs and repartition topics."""
    from kstream.cli import reset as command
    from kstream.cli.operate import subject

    directory = [] if state_dir is None else [f"state_dir={state_dir}"]
    on = subject(target, bootstrap_servers, [*(set_ or []), *directory], config)
    return command.run(on, to, dry_run=dry_run, yes=yes, keep_snapshots=keep_snapshots)


@commands.command("config")
def config_(
    target: OptionalTarget = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Show only settings that are not at their defaults.")
    ] = False,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> None:
    """Show every setting, its value and its source; secrets are hidden."""
    from kstream.cli import config as command
    from kstream.cli.operate import subject

    command.run(subject(target, bootstrap_servers, set_ or [], config), changed=changed, as_json=as_json)


@commands.command()
def page(
    target: OptionalTarget = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in this machine's browser.")] = False,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show the address of the status page of the instances that run here, with their token."""
    from kstream.cli import pages as command
    from kstream.cli.operate import subject

    return command.run(subject(target, None, set_ or [], config), open_them=open_)


@commands.command()
def doctor(
    target: OptionalTarget = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Check brokers, rights, topics and machine; status 1 if one is red."""
    from kstream.cli import doctor as command
    from kstream.cli.operate import subject

    return command.run(subject(target, bootstrap_servers, set_ or [], config), as_json=as_json)


commands.command()(rescale)
commands.command()(acls)
commands.command()(broker)
commands.command()(demo)
