"""The flights' part in a run of the demo: their replay, what is shown of them, and when a worker is killed."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Mapping

from rich.console import Console

from kstream.runtime.instance.supervisor import Supervisor
from services.flights.app import Flight, flights
from services.flights.board import View, board, screen
from services.flights.replay import data_file, read_flights, replay
from services.flights.watch import Watch
from services.stage.performance import Display, Feeding, Performance


class Replay(Feeding):
    """Reads the flights, and replays them."""

    def __init__(self, client: Mapping[str, str], rate: float | None, limit: int | None) -> None:
        super().__init__()
        self._client, self._rate, self._limit = client, rate, limit
        self._year: list[Flight] = []

    def prepare(self) -> int:
        self._year = read_flights(self._limit)
        return len(self._year)

    def write(self, sent: Callable[[int], None], stop: threading.Event) -> None:
        replay(self._year, flights.name, self._client, rate=self._rate, sent=sent, stop=stop)


def performance(
    supervisor: Supervisor, tasks: int, replay: Replay, watch: Watch, kill: bool, console: Console
) -> tuple[Performance, View]:
    """A run of the demo, and what it shows."""
    view, names = View(), carrier_names()
    display = Display(view, console, lambda width: screen(view, names, width), lambda: board(view, names))

    def show() -> None:
        view.alerted, view.carriers, view.alerts = watch.alerted, watch.carriers(), list(watch.latest_alerts)

    def half_way() -> bool:
        """Every flight is processed twice, by its aircraft and by its carrier; the carriers come later."""
        work = sum(worker.records for worker in view.workers)
        return work >= view.total or view.through >= view.total // 2

    play = Performance(supervisor, tasks, replay, watch, kill, view, display, show=show, half_way=half_way)
    return play, view


def carrier_names() -> dict[str, str]:
    with data_file("airlines.csv").open(newline="") as file:
        return {row["carrier"]: row["name"] for row in csv.DictReader(file)}
