"""Writes the table of docs/metrics.md from the catalogue, between its markers: `python docs/generate_metrics.py`.

tests/unit/observe/test_catalogue.py holds the page to the catalogue.
"""

from __future__ import annotations

from pathlib import Path

from kstream.observe.catalogue import SECTIONS, Metric, full_name

PAGE = Path(__file__).with_name("metrics.md")
BEGIN, END = "<!-- metrics -->", "<!-- /metrics -->"

HEAD = """\
| metric | type | labels | unit | meaning |
|---|---|---|---|---|
"""


def render(page: str) -> str:
    """The page with a table for each section of the catalogue between the markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = [f"### {section}\n\n{HEAD}" + "".join(map(_row, metrics)) for section, metrics in SECTIONS.items()]
    return f"{before}{BEGIN}\n\n" + "\n".join(tables) + f"\n{END}{after}"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{full_name(metric)}` | {metric.kind} | {labels} | {metric.unit} | {metric.doc} |\n"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
