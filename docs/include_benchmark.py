"""Copies the table of benchmarks/RESULTS.md into README.md, between its markers: `python docs/include_benchmark.py`."""

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


def include(page: str, table: str) -> str:
    """The page with the table between the markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    note = "From [benchmarks/RESULTS.md](benchmarks/RESULTS.md), which has the machine's facts too; records/s."
    return f"{before}{BEGIN}\n{table}\n\n{note}\n{END}{after}"


def main() -> int:
    results, readme = ROOT / "benchmarks" / "RESULTS.md", ROOT / "README.md"
    table = first_table(results.read_text()) if results.exists() else ""
    if not table:
        print(f"{results} has no table: run `make bench` first", file=sys.stderr)
        return 2
    readme.write_text(include(readme.read_text(), table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
