"""Copies the tables that benchmarks write into the pages that show them, between markers: RESULTS.md into README.md,
SCALING.md into docs/scaling.md. `python docs/include_benchmark.py`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"


def first_table(text: str) -> str:
    """The first Markdown table of a page; empty when there is none."""
    found = re.search(r"(?m)^\|.*\n\|[-:| ]+\|\n(?:\|.*(?:\n|\Z))+", text)
    return found[0].rstrip("\n") if found else ""


NOTE = "From [benchmarks/RESULTS.md](benchmarks/RESULTS.md), which has the machine's facts too; records/s."
SCALING_NOTE = "From [benchmarks/SCALING.md](../benchmarks/SCALING.md), which has each repetition too; seconds."
PAGES = {"README.md": ("RESULTS.md", NOTE), "docs/scaling.md": ("SCALING.md", SCALING_NOTE)}
"""Where a table goes: the file it is in, and what stands below it."""


def include(page: str, table: str, note: str = NOTE) -> str:
    """The page with the table between the markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n\n{note}\n{END}{after}"


def main() -> int:
    for page, (results, note) in PAGES.items():
        source, target = ROOT / "benchmarks" / results, ROOT / page
        table = first_table(source.read_text()) if source.exists() else ""
        if not table:
            print(f"{source} has no table: run the benchmark first", file=sys.stderr)
            return 2
        target.write_text(include(target.read_text(), table, note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
