"""The commands to try kstream with: a broker of one's own, and a demo. Their modules are imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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


def demo(
    kill: Annotated[bool, typer.Option("--kill/--no-kill", help="Kill a worker half-way.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    rate: Annotated[float | None, typer.Option(min=1, help="Records a second (default: as fast as it goes).")] = None,
    bootstrap: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A cluster of your own (default: a development broker).")
    ] = None,
    nexmark: Annotated[
        str | None, typer.Option(metavar="QUERY", help="A query of the Nexmark benchmark, such as q5, instead.")
    ] = None,
    events: Annotated[int | None, typer.Option(min=1, help="With --nexmark: records (default: 300,000).")] = None,
) -> int:
    """Replay all 336,776 flights of New York 2013 through a service, kill a worker, and audit every record."""
    from kstream.cli import demo as command

    return command.run(
        kill=kill, workers=workers, rate=rate, bootstrap=bootstrap, nexmark=nexmark, events=events
    )  # fmt: skip
