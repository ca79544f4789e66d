"""What the demo shows fits a terminal, and a log."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from services.flights.app import Alert, Carrier, Flight
from services.flights.board import View, screen
from services.stage.drawing import Event, WorkerView, event_line, line

LATE = Flight(datetime(2013, 7, 4, 21, 5, tzinfo=UTC), "UA", 1545, "N14228", "EWR", "IAH", 75)
NAMES = {"UA": "United Air Lines Inc.", "US": "US Airways Inc."}


def view() -> View:
    return View(
        total=336_776,
        sent=200_000,
        through=123_456,
        seconds=12.34,
        speed=98_765.4,
        workers=[WorkerView(0, 4711, "running", 61_728, 1_234, 0), WorkerView(1, None, "dead", 60_000, 0, 1)],
        carriers={"US": Carrier(10, 1, 90, 10.0), "UA": Carrier(20, 0, -20, -1.0)}
        | {f"{number:02}": Carrier(1, 1) for number in range(14)},
        alerted=1_000,
        alerts=[("N14228", Alert(LATE, 3))] * 12,
        events=[Event(0.0, "the workers are ready"), Event(6.5, "SIGKILL to worker 1 (pid 4712)", "bold red")],
    )


@pytest.mark.parametrize("shown", [View(), view()], ids=["empty", "full"])
@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_fits_24_lines(shown: View, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    lines = console.render_lines(screen(shown, NAMES, width))
    assert len(lines) <= 23
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)


def test_the_screen_shows_what_matters() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(screen(view(), NAMES, 120))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in (
        "123,456",
        "98,765/s",
        "76,544 waiting",
        "4711",
        "dead",
        "SIGKILL to worker 1",
        "04 Jul 21:05",
        "N14228",
    ):
        assert part in text
    assert "UA United " in text and "US US Airways " in text, "names are cut short, but not to the code"
    assert text.index("UA United") < text.index("US US Airways"), "the largest first"


def test_lines_for_a_log() -> None:
    assert line(view()) == (
        "  12.3 s  123,456 of 336,776 flights through   98,765/s   76,544 waiting  "
        "workers [0] running 61,728  [1] dead 60,000"
    )
    assert "starting" in line(View(workers=[WorkerView(0, 1, "starting", 0, 0, 0)]))
    assert event_line(view().events[1]) == "   6.5 s  SIGKILL to worker 1 (pid 4712)"
