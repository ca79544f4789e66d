"""What a demo runs on: a Kafka, settings, topics of its own, and standard error out of the display's way."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from confluent_kafka import KafkaException
from rich.console import Console

from kstream import App
from kstream.cli.broker import download_progress
from kstream.config import Settings
from kstream.config.sources import resolve_settings
from kstream.devbroker import KAFKA_VERSION, DevBroker
from kstream.errors import KStreamError, UsageError
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.specs.names import own_topics


def played(app: App, bootstrap: str | None, console: Console, play: Callable[[Settings, Path], bool]) -> int:
    """Plays a demo of an app on a Kafka, with topics of its own. Returns 0 when `play` says that all agrees, 1 when not
    or when it failed, 130 when interrupted.

    Args:
        bootstrap: a cluster to use; None is that of KSTREAM_BOOTSTRAP_SERVERS, else a development broker.
        play: takes the settings, and a file for what the workers say.

    Raises:
        UsageError: something to mend, in one line.
    """
    bootstrap = bootstrap or os.environ.get("KSTREAM_BOOTSTRAP_SERVERS")
    folder = Path(tempfile.mkdtemp(prefix="kstream-demo-"))
    log, status = folder / "workers.log", 1
    try:
        with interruptible(), cluster(bootstrap, console) as servers:
            settings = settings_of(app, servers, folder)
            with topics(app, settings, delete=bootstrap is not None):
                status = 0 if play(settings, log) else 1
    except KeyboardInterrupt:
        console.print("Interrupted: everything was stopped and removed.")
        status = 130
    except UsageError:
        raise
    except (KStreamError, KafkaException, TimeoutError) as error:
        console.print(f"The demo failed: {error}", style="bold red", markup=False)
    finally:
        if status == 1 and log.exists() and log.stat().st_size:
            shutil.rmtree(folder / "state", ignore_errors=True)
            console.print(f"What the workers said: {log}", markup=False)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return status


def console_of(given: Console | None) -> Console:
    """The console that was given, or one on standard output."""
    return given or Console(highlight=False, soft_wrap=not sys.stdout.isatty())


@contextlib.contextmanager
def cluster(bootstrap: str | None, console: Console) -> Iterator[str]:
    """The servers of the given cluster, or of a development broker that lives as long as the context."""
    if bootstrap is not None:
        yield bootstrap
        return
    began = time.monotonic()
    with download_progress(console) as on_progress:
        broker = DevBroker(on_progress=on_progress).start()
    with broker:
        console.print(
            f"Kafka {KAFKA_VERSION} on {broker.bootstrap_servers}, started in {time.monotonic() - began:.1f} s"
        )
        yield broker.bootstrap_servers


def settings_of(app: App, servers: str, folder: Path) -> Settings:
    """Of the environment and kstream.toml, but for what would make the demo another one."""
    settings, _ = resolve_settings(
        app.overrides,
        {
            "bootstrap_servers": servers,
            "state_dir": str(folder / "state"),
            "instance": "demo",
            "processing_guarantee": "exactly_once",
            "auto_offset_reset": "earliest",
            "auto_create_topics": True,
            "restart_initial": 0.1,
            "shutdown_timeout": 20.0,
            "log_format": "console",
        },
        None,
    )
    return settings


def client_of(settings: Settings) -> dict[str, str]:
    return {**settings.kafka, "bootstrap.servers": settings.bootstrap_servers}


@contextlib.contextmanager
def topics(app: App, settings: Settings, *, delete: bool) -> Iterator[None]:
    """Sees that the service's topics are not there yet, and deletes them at the end if so asked.

    Raises:
        UsageError: topics of these names are there.
    """
    topology = app.topology()
    names = {topic.name for topic in topology.declared} | own_topics(app.name)
    for part in topology.parts:
        names |= {*part.topics, *(topic.name for topic in part.sinks), *map(topology.changelog, part.stores)}
    admin = KafkaClients(settings.bootstrap_servers, options_from(settings, app.name)).admin()
    with contextlib.closing(admin):
        there = [name for name in admin.topics(15) if name in names or name.startswith(f"{app.name}-")]
        if there:
            raise UsageError(
                f"{settings.bootstrap_servers} has {', '.join(sorted(there))}: the demo needs topics of its own; "
                "delete these, or use another cluster"
            )
        try:
            yield
        finally:
            if delete:
                admin.delete_topics(sorted(names & admin.topics(15).keys()), 30)


@contextlib.contextmanager
def errors_into(log: Path) -> Iterator[None]:
    """Sends standard error, the workers' too, to a file: it would tear the display."""
    sys.stderr.flush()
    before = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM is as Ctrl-C."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
