"""`kstream broker`: the development broker in the foreground."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from kstream.cli import human
from kstream.devbroker import KAFKA_VERSION, DevBroker, default_data_dir
from kstream.errors import BrokerError


def run(port: int | None, data_dir: Path | None, fresh: bool) -> None:
    """Starts the broker, says how to reach it, and stops it on Ctrl-C or SIGTERM."""
    console, notes = human.lines(), human.lines(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        with download_progress(notes) as on_progress:
            broker = DevBroker(port, data_dir or default_data_dir(), fresh, on_progress=on_progress)
            broker.start()
        try:
            console.print(Text.assemble(f"Kafka {KAFKA_VERSION} is ready on ", (broker.bootstrap_servers, "bold")))
            console.print(f"  data:  {broker.data_dir}")
            console.print(f"  apps:  export KSTREAM_BOOTSTRAP_SERVERS={broker.bootstrap_servers}")
            console.print("Ctrl-C stops it.")
            status = broker.wait()
            raise BrokerError(f"the broker ended by itself (status {status}): see {broker.log_file}")
        finally:
            broker.stop()


@contextlib.contextmanager
def download_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar for a download, shown once there is one; without a terminal one line says how large it is.

    Gives a function of (bytes done, bytes in all), to be called from any thread.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Downloading Kafka", visible=False)
        said = False

        def on_progress(done: int, total: int) -> None:
            nonlocal said
            if not said and not console.is_terminal:
                console.print(f"Downloading Kafka ({total / 1e6:.0f} MB) into the user's cache")
            said = True
            progress.update(task, completed=done, total=total, visible=True)

        yield on_progress


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
