"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[
    str,
    typer.Argument(metavar="MODULE:ATTRIBUTE", help="The app: module and attribute, such as services.flights.app:app."),
]

OptionalTarget = Annotated[
    str | None,
    typer.Argument(
        metavar="MODULE:ATTRIBUTE", help="The app: module and attribute; may be left out.", show_default=False
    ),
]
Servers = Annotated[
    str | None, typer.Option("--bootstrap-servers", metavar="HOST:PORT,...", help="Kafka brokers to ask first.")
]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="File with settings, TOML (default: kstream.toml, if there is one)."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Set any setting, kafka.<key> and changelog.<key> too. May be repeated."
    ),
]
Topic = Annotated[
    str, typer.Argument(metavar="TOPIC", help="A topic that the app reads or writes, internal ones included.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
Token = Annotated[
    str | None, typer.Option("--token", metavar="TOKEN", help="Token of the instance of --url (its setting web_token).")
]
Key = Annotated[
    str | None,
    typer.Argument(
        metavar="KEY", help="Show only the value of this key; status 1 if there is none.", show_default=False
    ),
]
Store = Annotated[str, typer.Argument(metavar="STORE", help="Name of a table, or name= of an aggregation.")]
StateDir = Annotated[
    str | None, typer.Option("--state-dir", metavar="PATH", help="Directory of local state (setting state_dir).")
]
LogLevel = Annotated[
    str | None,
    typer.Option("--log-level", metavar="LEVEL", help="Lowest level to log: DEBUG, INFO, WARNING, ERROR or CRITICAL."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="PATH", help="Directory of the broker's data (default: in the user's data directory)."
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Delete what an earlier broker left there, and begin empty.")]
