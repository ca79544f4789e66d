"""What every demo shows: records that went in and are through, workers, and what happened. No I/O of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

STATES = {
    "running": "green",
    "restoring": "yellow",
    "starting": "yellow",
    "dead": "bold red",
    "idle": "dim",
    "stopped": "dim",
}


@dataclass
class WorkerView:
    """`records`: in all, over restarts; those behind the repartition count too. `lag`: records it has yet to read."""

    index: int
    pid: int | None
    state: str
    records: int
    lag: int
    restarts: int


@dataclass
class Event:
    """`at`: seconds since the replay began."""

    at: float
    text: str
    style: str = ""


@dataclass
class View:
    """`sent` records of `total` were written; `through` are those whose results are committed. `what` they are."""

    what: str = "records"
    total: int = 0
    sent: int = 0
    through: int = 0
    seconds: float = 0.0
    speed: float = 0.0
    workers: Sequence[WorkerView] = ()
    events: Sequence[Event] = ()


def line(view: View) -> str:
    """The state in one line, for logs."""
    workers = "  ".join(f"[{worker.index}] {worker.state} {worker.records:,}" for worker in view.workers)
    if not view.total:
        return f"{view.seconds:6.1f} s  starting: workers {workers}"
    return (
        f"{view.seconds:6.1f} s  {view.through:>7,} of {view.total:,} {view.what} through  {view.speed:>7,.0f}/s  "
        f"{max(view.sent - view.through, 0):>7,} waiting  workers {workers}"
    )


def event_line(event: Event) -> str:
    return f"{event.at:6.1f} s  {event.text}"


def progress(view: View, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True, min_width=48 if width >= 100 else 32)
    waiting = f"{max(view.sent - view.through, 0):,} waiting  " if width >= 100 else ""
    grid.add_row(
        "written", _progress_bar(view.sent, view.total, "blue"), f"{view.sent:,} of {view.total:,} {view.what}"
    )
    grid.add_row(
        Text("through", style="bold"),
        _progress_bar(view.through, view.total, "green"),
        Text.assemble(
            (f"{view.through:,}", "bold"), f"  {view.speed:,.0f}/s  ", (waiting, "dim"), f"{view.seconds:.1f} s",
        ),
    )  # fmt: skip
    return grid


def _progress_bar(done: int, total: int, style: str) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=min(done, total), complete_style=style, finished_style=style)


def workers_table(workers: Sequence[WorkerView]) -> Table:
    table = Table(box=None, padding=(0, 1), expand=True, header_style="bold")
    for name in ("", "pid", "state", "records", "lag"):
        table.add_column(name, justify="left" if name in ("", "state") else "right", no_wrap=True)
    for worker in workers:
        table.add_row(
            str(worker.index), str(worker.pid or "-"), Text(worker.state, style=STATES.get(worker.state, "")),
            f"{worker.records:,}", f"{worker.lag:,}",
        )  # fmt: skip
    return table


def events_table(events: Sequence[Event]) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", no_wrap=True, style="dim", min_width=6)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for event in events:
        grid.add_row(f"{event.at:.1f} s", Text(event.text, style=event.style))
    return grid
