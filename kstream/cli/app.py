"""The list of commands. Each command's module is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer(
    name="kstream",
    help="Stream-processing microservices in Python, native to Apache Kafka, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Target = Annotated[
    str, typer.Argument(metavar="MODULE:ATTRIBUTE", help="Where the App is, such as services.flights.app:app.")
]


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
        str | None, typer.Option(metavar="N", help="Worker processes; 0: in this process (default: cores).")
    ] = None,
    instance: Annotated[str | None, typer.Option(metavar="NAME", help="Stable name of this instance.")] = None,
    state_dir: Annotated[str | None, typer.Option(metavar="PATH", help="Where local state lies.")] = None,
    bootstrap_servers: Annotated[str | None, typer.Option(metavar="HOST:PORT,...", help="Kafka brokers.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings in TOML (default: kstream.toml, if there is one).")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting, or kafka.<key>=VALUE. May be repeated."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> int:
    """Run an app until it is told to stop (Ctrl-C or SIGTERM; a second time: at once)."""
    from kstream.cli import run as command

    options = {
        "workers": workers,
        "instance": instance,
        "state_dir": state_dir,
        "bootstrap_servers": bootstrap_servers,
        "log_level": log_level,
    }
    return command.run(target, options, set_ or [], config)


@commands.command()
def topology(target: Target) -> None:
    """Show the graph of an app: sub-topologies, topics, operators and stores."""
    from kstream.cli import run as command

    typer.echo(command.load_app(target).topology().describe())


@commands.command()
def broker(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of 127.0.0.1 (default: a free one).")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where its data lie (default: in the user's data directory).")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove what an earlier broker left there.")] = False,
) -> None:
    """Run a development broker, a real Apache Kafka, until Ctrl-C. The first time it is downloaded."""
    from kstream.cli import broker as command

    command.run(port, data_dir, fresh)


@commands.command()
def demo(
    kill: Annotated[bool, typer.Option("--kill/--no-kill", help="Kill a worker half-way.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    rate: Annotated[float | None, typer.Option(min=1, help="Records a second (default: as fast as it goes).")] = None,
    bootstrap: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A cluster of your own (default: a development broker).")
    ] = None,
) -> int:
    """Replay all 336,776 flights of New York 2013 through a service, kill a worker, and audit every record."""
    from kstream.cli import demo as command

    return command.run(kill=kill, workers=workers, rate=rate, bootstrap=bootstrap)
