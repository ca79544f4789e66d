"""Draws the demo: a live screen in a terminal, a line now and then elsewhere. No I/O of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from services.flights.app import Alert, Carrier
from services.stage.drawing import View as Shared
from services.stage.drawing import events_table, progress, workers_table

CARRIERS = 16
BAR, WORST_MEAN = 8, 24.0  # cells, and the minutes of a full bar


@dataclass
class View(Shared):
    """And the carriers, the alerts so far, and the last few."""

    what: str = "flights"
    carriers: Mapping[str, Carrier] = field(default_factory=dict)
    alerted: int = 0
    alerts: Sequence[tuple[str, Alert]] = ()


def screen(view: View, names: Mapping[str, str], width: int) -> RenderableType:
    """The whole screen: 23 lines for two workers, from 80 columns on."""
    left = Panel(board(view, names, wide=width >= 108), title="Carriers", box=box.ROUNDED, border_style="dim")
    workers = Panel(workers_table(view.workers), title="Workers", box=box.ROUNDED, border_style="dim")
    room = CARRIERS + 3 - 5 - len(view.workers)
    shown_events = min(len(view.events), max(2, room // 2))
    right: list[RenderableType] = [workers, events_table(view.events[len(view.events) - shown_events :])]
    right.append(Text(f"Late twice in a row: {view.alerted:,}", style="bold"))
    right += [_alert(tail, alert) for tail, alert in list(view.alerts)[: max(0, room - shown_events)]]
    body = Table.grid(padding=(0, 1), expand=True)
    body.add_column(ratio=11 if width >= 108 else 1)
    body.add_column(ratio=10 if width >= 108 else 1)
    body.add_row(left, Group(*right))
    return Group(progress(view, width), body)


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


def _alert(tail: str, alert: Alert) -> Text:
    flight = alert.flight
    text = Text.assemble(
        (f"{flight.scheduled:%d %b %H:%M}  ", "dim"), (f"{tail:<6} ", "bold"), f"{flight.carrier} {flight.flight:<5}",
        (f"{flight.dep_delay:>5} min", "red"), (f"  {alert.late_in_a_row} in a row", "dim"),
    )  # fmt: skip
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
