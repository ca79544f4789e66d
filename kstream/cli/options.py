"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[
    str, typer.Argument(metavar="MODULE:ATTRIBUTE", help="Where the App is, such as services.flights.app:app.")
]

OptionalTarget = Annotated[
    str | None, typer.Argument(metavar="MODULE:ATTRIBUTE", help="Where the App is.", show_default=False)
]
Servers = Annotated[str | None, typer.Option("--bootstrap-servers", metavar="HOST:PORT,...", help="Kafka brokers.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings in TOML (default: kstream.toml, if there is one)."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting, kafka.<key>, changelog.<key>. May be repeated."),
]
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="A topic of the app's, internal ones included.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]
