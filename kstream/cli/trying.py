"""The commands to try kstream with: a broker of one's own, and a demo. Their modules are imported when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from kstream.cli.options import DataDir, Fresh


def broker(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port on 127.0.0.1 (default: a free one).")] = None,
    data_dir: DataDir = None,
    fresh: Fresh = False,
) -> None:
    """Run a development broker, a real Apache Kafka, until Ctrl-C. The first time it is downloaded."""
    from kstream.cli import broker as command

    command.run(port, data_dir, fresh)


def demo(
    kill: Annotated[bool, typer.Option("--kill/--no-kill", help="Kill a worker half-way.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Send so many records a second (default: as fast as it goes).")
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Use this cluster (default: a development broker).")
    ] = None,
    nexmark: Annotated[
        str | None, typer.Option(metavar="QUERY", help="Run this query of the Nexmark benchmark instead, such as q5.")
    ] = None,
    events: Annotated[
        int | None, typer.Option(min=1, help="With --nexmark: so many records (default: 300,000).")
    ] = None,
) -> int:
    """Replay all 336,776 flights of New York 2013 through a service, kill a worker, and audit every record."""
    from kstream.cli import demo as command

    return command.run(
        kill=kill, workers=workers, rate=rate, bootstrap=bootstrap, nexmark=nexmark, events=events
    )  # fmt: skip
