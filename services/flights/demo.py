"""`kstream demo`: the whole of 2013 through the service on a real Kafka, with a worker killed half-way, then audited.

In order: a broker (or a cluster of one's own), the service under its supervisor in this process, the replay and the
watch in threads, the loop that draws and kills, a clean stop, the audit.

On a cluster of one's own the topics begin with "flights"; none may be there before, and they are deleted at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from confluent_kafka import KafkaException
from rich.console import Console

from kstream.cli.broker import download_progress
from kstream.config import Settings
from kstream.config.sources import resolve_settings
from kstream.devbroker import KAFKA_VERSION, DevBroker
from kstream.errors import KStreamError, UsageError
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.specs.names import own_topics
from services.flights import audit
from services.flights.app import app
from services.flights.board import View
from services.flights.performance import Performance, Replay
from services.flights.watch import Watch

TARGET = "services.flights.app:app"


def run(
    *,
    kill: bool,
    workers: int,
    rate: float | None,
    bootstrap: str | None,
    limit: int | None = None,
    console: Console | None = None,
) -> int:
    """Runs the demo. Returns 0 when the audit agrees, 1 when not or when it failed, 130 when interrupted.

    Args:
        kill: end a worker with SIGKILL half-way.
        rate: flights a second; None is as fast as it goes.
        bootstrap: a cluster to use; None is that of KSTREAM_BOOTSTRAP_SERVERS, else a development broker.
        limit: only the first so many flights.

    Raises:
        UsageError: something to mend, in one line.
    """
    console = console or Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    bootstrap = bootstrap or os.environ.get("KSTREAM_BOOTSTRAP_SERVERS")
    folder = Path(tempfile.mkdtemp(prefix="kstream-demo-"))
    log, status = folder / "workers.log", 1
    try:
        with _interruptible(), _cluster(bootstrap, console) as servers:
            settings = _settings(servers, folder)
            with _topics(settings, delete=bootstrap is not None):
                with (
                    _errors_into(log),
                    app.supervisor(settings=settings, workers=workers, target=TARGET) as supervisor,
                ):
                    replay = Replay(_client(settings), rate, limit)
                    watch = Watch(_client(settings), supervisor.partitions)
                    tasks = sum(supervisor.partitions[part.topics[0]] for part in app.topology().parts)
                    view = Performance(supervisor, tasks, replay, watch, kill, console).play()
                with console.status("Auditing the committed output against the CSV"):
                    verdict = audit.run(_client(settings), limit)
                _report(console, view, verdict)
                status = 0 if verdict.ok else 1
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


# ---- what it runs on


@contextlib.contextmanager
def _cluster(bootstrap: str | None, console: Console) -> Iterator[str]:
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


def _settings(servers: str, folder: Path) -> Settings:
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


def _client(settings: Settings) -> dict[str, str]:
    return {**settings.kafka, "bootstrap.servers": settings.bootstrap_servers}


@contextlib.contextmanager
def _topics(settings: Settings, *, delete: bool) -> Iterator[None]:
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
def _errors_into(log: Path) -> Iterator[None]:
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
def _interruptible() -> Iterator[None]:
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


def _report(console: Console, view: View, verdict: audit.Verdict) -> None:
    """The verdict: one line to remember, what it rests on, and the first differences."""
    good = "bold green" if verdict.ok else "bold red"
    judged = f"{verdict.lost:,} lost, {verdict.duplicated:,} duplicated"
    console.print(f"{verdict.flights:,} flights in {view.seconds:.1f} s: {judged}", style=good)
    facts = ", ".join(verdict.facts)
    console.print(f"{verdict.records:,} output records compared in {verdict.seconds:.1f} s; {facts}")
    if verdict.wrong:
        console.print(f"{verdict.wrong:,} records are wrong", style="bold red")
    for difference in verdict.differences:
        console.print(f"  {difference}", style="red", markup=False)
    if verdict.not_shown:
        console.print(f"  ... and {verdict.not_shown:,} more differences", style="red")
