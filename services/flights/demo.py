"""`kstream demo`: the whole of 2013 through the service on a real Kafka, with a worker killed half-way, then audited.

In order: a broker (or a cluster of one's own), the service under its supervisor in this process, the replay and the
watch in threads, the loop that draws and kills, a clean stop, the audit.

On a cluster of one's own the topics begin with "flights"; none may be there before, and they are deleted at the end.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from kstream.config import Settings
from services.flights import audit
from services.flights.app import app
from services.flights.board import View
from services.flights.performance import Replay, performance
from services.flights.watch import Watch
from services.stage.cluster import client_of, console_of, errors_into, played

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
    console = console_of(console)

    def play(settings: Settings, log: Path) -> bool:
        with errors_into(log), app.supervisor(settings=settings, workers=workers, target=TARGET) as supervisor:
            replay = Replay(client_of(settings), rate, limit)
            watch = Watch(client_of(settings), supervisor.partitions)
            tasks = sum(supervisor.partitions[part.topics[0]] for part in app.topology().parts)
            run, view = performance(supervisor, tasks, replay, watch, kill, console)
            run.play()
        with console.status("Auditing the committed output against the CSV"):
            verdict = audit.run(client_of(settings), limit)
        _report(console, view, verdict)
        return verdict.ok

    return played(app, bootstrap, console, play)


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
