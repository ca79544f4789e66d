"""Draws a query at work: its latest results beside the workers. No I/O of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

import kstream
from services.stage.drawing import View as Shared
from services.stage.drawing import events_table, progress, workers_table

ROWS: Final = 16
LONG: Final = ("extra", "url", "description")
"""Fields that are not shown."""
WIDE: Final = 28  # letters of a cell


@dataclass
class View(Shared):
    """And the latest results, keys and values, the newest last; `results`: how many there are in all."""

    query: str = ""
    asks: str = ""
    results: int = 0
    latest: Sequence[tuple[Any, Any]] = ()


def screen(view: View, width: int) -> RenderableType:
    """The whole screen: 22 lines for two workers, from 80 columns on."""
    title = f"{view.query}: {view.asks}"
    left = Panel(board(view), title=title, box=box.ROUNDED, border_style="dim")
    workers = Panel(workers_table(view.workers), title="Workers", box=box.ROUNDED, border_style="dim")
    shown = events_table(view.events[-8:])
    body = Table.grid(padding=(0, 1), expand=True)
    body.add_column(ratio=11)
    body.add_column(ratio=10)
    body.add_row(left, Group(workers, shown, f"Results: {view.results:,}"))
    return Group(progress(view, width), body)


def board(view: View) -> Table:
    """The last result of each of the keys that changed last, the newest first."""
    table = Table(box=None, padding=(0, 1), expand=True, header_style="bold")
    last = list(dict(view.latest).items())  # a later one of a key takes the place of the earlier one
    newest = [(key, value) for key, value in reversed(last) if value is not None][:ROWS]
    rows = [{**_of_key(key), **_of_value(value)} for key, value in newest]
    for name in rows[0] if rows else ("no results yet",):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    for _ in range(ROWS - len(rows)):
        table.add_row()
    return table


def _of_key(key: Any) -> dict[str, Any]:
    if isinstance(key, kstream.Windowed):
        return {"key": key.key, "window": datetime.fromtimestamp(key.start / 1000, UTC)}
    return {"key": key}


def _of_value(value: Any) -> dict[str, Any]:
    if not isinstance(value, msgspec.Struct):
        return {"result": value}
    return {name: one for name, one in msgspec.structs.asdict(value).items() if name not in LONG}


def _cell(one: Any) -> str:
    if isinstance(one, datetime):
        return f"{one:%H:%M:%S}"
    if isinstance(one, list) and one and isinstance(one[0], msgspec.Struct):
        return f"{len(one)} records"
    text = str(one)
    return text if len(text) <= WIDE else text[: WIDE - 1] + "…"
