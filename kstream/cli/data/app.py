"""The commands by which one sees and makes an app's data. Each one's module is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kstream.cli.options import AsJson, Assignments, Config, Key, Servers, Store, Target, Token, Topic


def send(
    target: Target,
    topic: Topic,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="VALUE", help="Values as JSON; for topics of text or bytes as they are."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="FILE", help="File of JSON lines, a value each; - is standard input (the default)."
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File of JSON lines, each with key, value, timestamp, headers; - is standard input."
        ),
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Key of all records.")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="Header of all records. May be repeated.")
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time of all records, ISO 8601 or ms since the epoch (default: now)."),
    ] = None,
    partition: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Partition of all records (default: that of the key).")
    ] = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Send records to a topic, in the types that the app declares for it."""
    from kstream.cli import send as command
    from kstream.cli.operate import subject

    return command.run(
        subject(target, bootstrap_servers, set_ or [], config), target, topic, values or [],
        file=file, records=records, key=key, headers=header or [], timestamp=timestamp, partition=partition,
    )  # fmt: skip


def tail(
    target: Target,
    topic: Topic,
    start: Annotated[
        str,
        typer.Option("--from", metavar="PLACE", help="Where to begin: beginning, end, an offset or a time (ISO 8601)."),
    ] = "end",
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after N records.")] = None,
    grep: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Show only records with this in key, value or headers.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop at the end of the topic, as it is now.")] = False,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show the committed records of a topic as they come, in the types that the app declares for it."""
    from kstream.cli import tail as command
    from kstream.cli.operate import subject

    on = subject(target, bootstrap_servers, set_ or [], config)
    return command.run(on, target, topic, start=start, count=count, grep=grep, once=once, as_json=as_json)


def table(
    target: Target,
    store: Store,
    key: Key = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Ask the page of this instance for KEY, not Kafka.")
    ] = None,
    token: Token = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show what a table of an app holds, whether it runs or not."""
    from kstream.cli import table as command
    from kstream.cli.operate import subject

    on = subject(target, bootstrap_servers, set_ or [], config)
    return command.run(on, target, store, key, url=url, token=token, as_json=as_json)
