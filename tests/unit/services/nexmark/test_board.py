"""What the demo of a query shows."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

import kstream
from services.nexmark.board import ROWS, View, board, screen
from services.nexmark.generator import Events
from services.nexmark.model import Bid
from services.nexmark.queries.windows import Count


def drawn(what: Any, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_last_result_of_each_key_the_newest_first() -> None:
    start = kstream.Windowed(1, 1_436_918_400_000)
    latest = [(start, Count(7, 40)), (kstream.Windowed(2, start.start), Count(8, 50)), (start, Count(7, 41))]
    lines = [line.split() for line in drawn(board(View(latest=latest))).splitlines()]
    assert lines[:3] == [
        ["key", "window", "auction", "bids"],
        ["2", "00:00:00", "8", "50"],
        ["1", "00:00:00", "7", "41"],
    ]
    assert len(lines) == ROWS + 1


def test_long_fields_are_left_out_and_lists_of_records_counted() -> None:
    bid = next(one for one in Events(100) if isinstance(one, Bid))
    assert bid.extra not in drawn(board(View(latest=[(1, bid)])))
    assert "2 records" in drawn(board(View(latest=[(1, [bid, bid]), (2, None)])))


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_fits_a_terminal(width: int) -> None:
    bids = [(number, one) for number, one in enumerate(Events(1000)) if isinstance(one, Bid)]
    view = View(query="q0", asks="All bids, as they are", total=1000, sent=900, through=500, results=920, latest=bids)
    text = drawn(screen(view, width), width)
    assert len(text.splitlines()) <= 23 and "q0: All bids" in text and "Results: 920" in text
    assert "900 of 1,000 records" in text
    assert "no results yet" in drawn(screen(View(), width), width)
