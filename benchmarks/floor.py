"""`python -m benchmarks.floor`: how fast anything can be that uses the clients from Python, beside the yardstick and
kstream: what bars against the yardstick can ask for at most."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console

from benchmarks import machine
from benchmarks.child import Watch
from benchmarks.data import Data, fill
from benchmarks.report import table
from benchmarks.runs import Outcome, Service, outcome_of, run_forward, run_yardstick
from kstream.devbroker import DevBroker

RESULTS: Final = Path(__file__).with_name("FLOOR.md")
ROWS: Final = {
    "clients": "the clients alone: a record in, one out",
    "json": "and the JSON of both",
    "yardstick": "the yardstick: and the aggregation, its changelog and store",
    "kstream": "kstream",
}
HEAD: Final = ("", "µs/record", "records/s", "of the yardstick, by processor time", "by the clock")


def once(bootstrap: str, data: Data, turn: int) -> Iterator[tuple[str, Outcome]]:
    """One turn of all four, in an order that changes."""

    def kstream() -> Outcome:
        service = Service(bootstrap, "update", data, f"floor-{os.getpid()}-{turn}", 1.0)
        result = service.run(Watch(data.records), lambda done: None)
        service.check()
        service.remove()
        return outcome_of(result)

    name = f"floor-{os.getpid()}-{turn}-by-hand"
    runs = {
        "clients": lambda: run_forward(bootstrap, data, name, decode=False),
        "json": lambda: run_forward(bootstrap, data, name, decode=True),
        "yardstick": lambda: run_yardstick(bootstrap, data, name, "update", 1.0),
        "kstream": kstream,
    }
    for row in list(runs) if turn % 2 else reversed(runs):
        yield row, runs[row]()


def markdown(found: dict[int, dict[str, list[Outcome]]], records: int, turns: int, facts: dict[str, str]) -> str:
    lines = [
        "# What the clients alone take",
        "",
        f"Made by `python -m benchmarks.floor`: {records:,} bids, exactly once, a commit a second, an output for each;",
        f"medians of {turns} turns. Processor time is of the whole process. Whatever consumes and produces each record",
        "from Python takes at least the first row, and with JSON the second: their ratios to the yardstick are",
        "the most that a bar can ask for.",
    ]
    for partitions, rows in found.items():
        by_hand = rows["yardstick"]

        def ratio(row: str, of: str) -> float:
            pairs = zip(rows[row], by_hand, strict=True)  # noqa: B023 # called at once
            if of == "cpu":
                return median(theirs.cpu / mine.cpu for mine, theirs in pairs)
            return median(mine.rate / theirs.rate for mine, theirs in pairs)

        cells = [
            (
                ROWS[row],
                f"{median(one.cpu for one in runs):.2f}",
                f"{median(one.rate for one in runs):,.0f}",
                f"{ratio(row, 'cpu'):.2f}",
                f"{ratio(row, 'rate'):.2f}",
            )
            for row, runs in rows.items()
        ]
        lines += ["", f"## {partitions} partitions", "", *table(HEAD, cells, "lrrrr")]
    return "\n".join([*lines, "", "## The machine", "", *table(("", ""), list(facts.items()), "ll"), ""])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("--records", type=int, default=3_000_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    facts = machine.facts(machine.development_broker())
    found: dict[int, dict[str, list[Outcome]]] = {}
    with DevBroker() as broker:
        for partitions in (4, 64):
            data = Data(given.records, 20_000, partitions)
            fill(broker.bootstrap_servers, data, lambda done: None)
            rows = found[partitions] = {row: [] for row in ROWS}
            for turn in range(given.turns):
                for row, outcome in once(broker.bootstrap_servers, data, turn):
                    rows[row].append(outcome)
    text = markdown(found, given.records, given.turns, facts)
    Console().print(text, markup=False, highlight=False)
    given.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
