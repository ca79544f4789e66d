"""Draws the demo: a live screen in a terminal, a line now and then elsewhere. No I/O of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.flights.app import Alert, Carrier

CARRIERS = 16
BAR, WORST_MEAN = 8, 24.0  # cells, and the minutes of a full bar
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
    """All that is shown. `sent` flights were replayed; `through` are those whose results are committed."""

    total: int = 0
    sent: int = 0
    through: int = 0
    seconds: float = 0.0
    speed: float = 0.0
    workers: Sequence[WorkerView] = ()
    carriers: Mapping[str, Carrier] = field(default_factory=dict)
    alerted: int = 0
    alerts: Sequence[tuple[str, Alert]] = ()
    events: Sequence[Event] = ()


def screen(view: View, names: Mapping[str, str], width: int) -> RenderableType:
    """The whole screen: 23 lines for two workers, from 80 columns on."""
    left = Panel(board(view, names, wide=width >= 108), title="Carriers", box=box.ROUNDED, border_style="dim")
    workers = Panel(_workers(view.workers), title="Workers", box=box.ROUNDED, border_style="dim")
    room = CARRIERS + 3 - 5 - len(view.workers)
    shown_events = min(len(view.events), max(2, room // 2))
    right: list[RenderableType] = [workers, _events(view.events[len(view.events) - shown_events :])]
    right.append(Text(f"Late twice in a row: {view.alerted:,}", style="bold"))
    right += [_alert(tail, alert) for tail, alert in list(view.alerts)[: max(0, room - shown_events)]]
    body = Table.grid(padding=(0, 1), expand=True)
    body.add_column(ratio=11 if width >= 108 else 1)
    body.add_column(ratio=10 if width >= 108 else 1)
    body.add_row(left, Group(*right))
    return Group(_progress(view, width), body)


def line(view: View) -> str:
    """The state in one line, for logs."""
    workers = "  ".join(f"[{worker.index}] {worker.state} {worker.records:,}" for worker in view.workers)
    if not view.total:
        return f"{view.seconds:6.1f} s  starting: workers {workers}"
    return (
        f"{view.seconds:6.1f} s  {view.through:>7,} of {view.total:,} flights through  {view.speed:>7,.0f}/s  "
        f"{max(view.sent - view.through, 0):>7,} waiting  workers {workers}"
    )


def event_line(event: Event) -> str:
    return f"{event.at:6.1f} s  {event.text}"


def board(view: View, names: Mapping[str, str], *, wide: bool = True) -> Table:
    """Flights, cancelled flights and mean departure delay of each carrier, the largest first."""
    table = Table(box=None, padding=(0, 1), expand=True, header_style="bold")
    table.add_column("carrier", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("flights", justify="right")
    table.add_column("cancelled" if wide else "canc.", justify="right", no_wrap=True)
    table.add_column("mean delay" if wide else "delay", justify="right", no_wrap=True)
    if wide:
        table.add_column("", width=BAR)
    rows = sorted(view.carriers.items(), key=lambda item: -item[1].flights)[:CARRIERS]
    for code, carrier in rows:
        name = Text.assemble((f"{code} ", "bold"), _short(code, names.get(code, "")))
        mean = carrier.mean_delay
        cells: list[RenderableType] = [
            name, f"{carrier.flights:,}", f"{carrier.cancelled:,}", "" if mean is None else f"{mean:.1f}",
        ]  # fmt: skip
        if wide:
            cells.append(_bar(mean or 0.0))
        table.add_row(*cells)
    for _ in range(CARRIERS - len(rows)):
        table.add_row()
    return table


def _short(code: str, name: str) -> str:
    for ending in (" Inc.", " Co.", " Corporation", " Airlines", " Air Lines", " Airways", " Air"):
        shorter = name.removesuffix(ending)
        name = name if shorter == code else shorter
    return name


def _bar(minutes: float) -> Text:
    style = "green" if minutes < 8 else "yellow" if minutes < 15 else "red"
    eighths = round(max(0.0, min(minutes / WORST_MEAN, 1.0)) * BAR * 8)
    return Text("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip(), style=style)


def _progress(view: View, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True, min_width=48 if width >= 100 else 32)
    waiting = f"{max(view.sent - view.through, 0):,} waiting  " if width >= 100 else ""
    grid.add_row("replayed", _progress_bar(view.sent, view.total, "blue"), f"{view.sent:,} of {view.total:,} flights")
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


def _workers(workers: Sequence[WorkerView]) -> Table:
    table = Table(box=None, padding=(0, 1), expand=True, header_style="bold")
    for name in ("", "pid", "state", "records", "lag"):
        table.add_column(name, justify="left" if name in ("", "state") else "right", no_wrap=True)
    for worker in workers:
        table.add_row(
            str(worker.index), str(worker.pid or "-"), Text(worker.state, style=STATES.get(worker.state, "")),
            f"{worker.records:,}", f"{worker.lag:,}",
        )  # fmt: skip
    return table


def _events(events: Sequence[Event]) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", no_wrap=True, style="dim", min_width=6)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for event in events:
        grid.add_row(f"{event.at:.1f} s", Text(event.text, style=event.style))
    return grid


def _alert(tail: str, alert: Alert) -> Text:
    flight = alert.flight
    text = Text.assemble(
        (f"{flight.scheduled:%d %b %H:%M}  ", "dim"), (f"{tail:<6} ", "bold"), f"{flight.carrier} {flight.flight:<5}",
        (f"{flight.dep_delay:>5} min", "red"), (f"  {alert.late_in_a_row} in a row", "dim"),
    )  # fmt: skip
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
