"""Copies the tables that benchmarks write into the pages that show them, between markers: RESULTS.md into README.md,
SCALING.md and ISOLATION.md into docs/scaling.md, REUSE.md into docs/object-reuse.md, RECOVERY.md into docs/recovery.md,
CATCHUP.md into docs/windows.md.

`python docs/include_benchmark.py`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


def first_table(text: str) -> str:
    """The first Markdown table of a page; empty when there is none."""
    found = re.search(r"(?m)^\|.*\n\|[-:| ]+\|\n(?:\|.*(?:\n|\Z))+", text)
    return found[0].rstrip("\n") if found else ""


class Place(NamedTuple):
    """Where a table goes: a page, the marker's word there, the file it is from, and what stands below it."""

    page: str
    marker: str
    results: str
    note: str


PLACES = (
    Place(
        "README.md",
        "benchmark",
        "RESULTS.md",
        "From [benchmarks/RESULTS.md](benchmarks/RESULTS.md), which has the machine's facts too; records/s.",
    ),
    Place(
        "docs/scaling.md",
        "benchmark",
        "SCALING.md",
        "From [benchmarks/SCALING.md](../benchmarks/SCALING.md), which has each repetition too; seconds.",
    ),
    Place(
        "docs/scaling.md",
        "isolation",
        "ISOLATION.md",
        "From [benchmarks/ISOLATION.md](../benchmarks/ISOLATION.md). A light agent answers 200 requests a second, a "
        "heavy one has more work than it can do; two worker processes each time, two cores shared with the broker.",
    ),
    Place(
        "docs/object-reuse.md",
        "reuse",
        "REUSE.md",
        "From [benchmarks/REUSE.md](../benchmarks/REUSE.md), made by `python -m benchmarks.reuse`; time for each "
        "record, medians, in brackets the range of the repetitions.",
    ),
    Place(
        "docs/recovery.md",
        "recovery",
        "RECOVERY.md",
        "From [benchmarks/RECOVERY.md](../benchmarks/RECOVERY.md), made by `python -m benchmarks.recovery`; `load` is "
        "that of the machine, which has two cores, at each measurement.",
    ),
    Place(
        "docs/windows.md",
        "catchup",
        "CATCHUP.md",
        "From [benchmarks/CATCHUP.md](../benchmarks/CATCHUP.md), made by `python -m benchmarks.catchup`. What is lost "
        "is in no window.",
    ),
)


def include(page: str, table: str, place: Place) -> str:
    """The page with the table between the markers."""
    begin, end = f"<!-- {place.marker} -->", f"<!-- /{place.marker} -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}\n\n{place.note}\n{end}{after}"


def main() -> int:
    for place in PLACES:
        source, target = ROOT / "benchmarks" / place.results, ROOT / place.page
        table = first_table(source.read_text()) if source.exists() else ""
        if not table:
            print(f"{source} has no table: run the benchmark first", file=sys.stderr)
            return 2
        target.write_text(include(target.read_text(), table, place))
    return 0


if __name__ == "__main__":
    sys.exit(main())
