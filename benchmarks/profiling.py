"""`python -m benchmarks --profile NAME`: one case's worker, by stages and then under cProfile.

The stages (stages.py) are the figures to trust. cProfile makes every small call per record look expensive; it is here
to say which functions are called how often.
"""

from __future__ import annotations

import os
import pstats
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.cases import ALL, GROUPS, Sizes
from benchmarks.child import Result, Watch
from benchmarks.data import Data, fill
from benchmarks.runs import Service


def run(bootstrap: str, name: str, sizes: Sizes, console: Console) -> int:
    """Runs the case twice and prints where the time went."""
    case = next(case for case in ALL if case.name == name)
    group = next((group for group in GROUPS if case in group.cases), None)
    restore = name == "restore"
    cold = restore or (group is not None and group.cold)
    many = group is not None and group.many
    data: Data = sizes.cold if cold else sizes.many if many else sizes.long if name == "memory" else sizes.main
    with console.status(f"filling a topic with {data.records:,} bids"):
        fill(bootstrap, data, lambda _: None)
    interval = group.interval if group is not None else 1.0
    service = Service(bootstrap, case.kind, data, f"bench-{os.getpid()}-profile", interval)
    if restore:
        with console.status("writing a changelog"):
            service.run(Watch(data.records), lambda _: None)
    with console.status("by stages"):
        result = service.run(Watch(data.records, restore=restore, stages=True), lambda _: None)
    console.print(stage_table(f"{name}: {result.records / result.seconds:,.0f} records/s", result))
    if not restore:
        service.remove()
        service.name += "-c"
    with tempfile.TemporaryDirectory() as folder, console.status("under cProfile"):
        file = Path(folder) / "profile"
        service.run(Watch(data.records, restore=restore, profile=str(file)), lambda _: None)
        pstats.Stats(str(file)).strip_dirs().sort_stats("tottime").print_stats(25)
    service.remove()
    return 0


def stage_table(title: str, result: Result) -> Table:
    """Nanoseconds a record in each stage."""
    table = Table("stage", "calls", "wall ns/record", "cpu ns/record", "share", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    total = sum(wall for _, _, wall, _ in result.stages)
    for name, calls, wall, cpu in result.stages:
        table.add_row(
            name, f"{calls:,}", f"{wall / result.records * 1e9:,.1f}", f"{cpu / result.records * 1e9:,.1f}",
            f"{wall / total:.1%}",
        )  # fmt: skip
    table.add_section()
    all_wall, all_cpu = sum(row[2] for row in result.stages), sum(row[3] for row in result.stages)

    def each(seconds: float) -> str:
        return f"{seconds / result.records * 1e9:,.0f}"

    table.add_row("all stages, this thread", "", each(all_wall), each(all_cpu), "")
    table.add_row("the run, all threads", "", each(result.seconds), each(result.cpu), "")
    return table
