"""`python -m benchmarks`: runs the cases, prints the table, writes RESULTS.md.

Exit status 0 also when a bar is missed (the table says so); 1 when a run failed or its output was wrong; 2 for a wrong
call.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import machine
from benchmarks.cases import FULL, NAMES, QUICK, Bench, Sizes
from benchmarks.data import fill
from benchmarks.report import markdown, terminal_table
from kstream.devbroker import DevBroker
from kstream.errors import KStreamError

RESULTS = Path(__file__).parent / "RESULTS.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="kstream's benchmarks")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run? RESULTS.md is left alone")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the median counts")
    parser.add_argument("--profile", choices=NAMES, metavar="NAME", help="where one case's worker spends its time")
    parser.add_argument("--micro", action="store_true", help="the framework's own path, without a broker")
    parser.add_argument("--bootstrap", default=os.environ.get("KSTREAM_BOOTSTRAP_SERVERS"), help="a cluster to use")
    parser.add_argument("--output", type=Path, help="where the results go (RESULTS.md, of a full run)")
    given = parser.parse_args()
    if given.repeat < 1:
        parser.error("--repeat: at least 1")
    return given


@contextmanager
def broker(bootstrap: str | None, console: Console) -> Iterator[tuple[str, str]]:
    """The cluster's address and what it is."""
    if bootstrap is not None:
        yield bootstrap, f"a cluster given by --bootstrap or KSTREAM_BOOTSTRAP_SERVERS ({bootstrap})"
        return
    with console.status("the development broker starts"):
        started = DevBroker().start()
    try:
        yield started.bootstrap_servers, machine.development_broker()
    finally:
        started.stop()


class Display:
    """One line for the run that is under way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self.prefix = ""

    def __call__(self, what: str, total: int | None) -> Callable[[int], None]:
        self._progress.reset(self._task, description=f"{self.prefix}{what}", total=total)
        return lambda done: self._progress.update(self._task, completed=done)


def run(given: argparse.Namespace, console: Console) -> int:
    sizes: Sizes = QUICK if given.quick else FULL
    chosen = tuple(given.only or NAMES)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with broker(given.bootstrap, console) as (bootstrap, what), Progress(*columns, console=console) as progress:
        facts = machine.facts(what)
        display = Display(progress)
        bench = Bench(bootstrap, sizes, chosen, display)
        for data in bench.data():
            fill(bootstrap, data, display(f"filling a topic with {data.records:,} bids", data.records))
        try:
            for repetition in range(given.repeat):
                display.prefix = f"{repetition + 1}/{given.repeat}  "
                bench.repeat(repetition)
            display.prefix = ""
            bench.memory()
        finally:
            bench.clean_up()
    rows = list(bench.rows.values())
    console.print(terminal_table(rows, quick=given.quick))
    for row in rows:
        for failure in row.failures:
            console.print(f"[red]{row.case.name} failed:[/] {failure}", markup=True, highlight=False)
    whole = not given.quick and not given.only
    output = given.output or (RESULTS if whole else None)
    if output is not None:
        output.write_text(markdown(rows, sizes, facts, given.repeat), encoding="utf-8")
        console.print(f"written to {output}")
    return 1 if any(row.failures for row in rows) else 0


def main() -> int:
    given = arguments()
    console = Console()
    try:
        if given.micro:
            from benchmarks.micro import run as run_micro

            return run_micro(console)
        if given.profile is not None:
            from benchmarks.profiling import run as run_profile

            with broker(given.bootstrap, console) as (bootstrap, _):
                return run_profile(bootstrap, given.profile, QUICK if given.quick else FULL, console)
        return run(given, console)
    except KStreamError as error:
        console.print(str(error), style="red")
        return error.exit_status
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
