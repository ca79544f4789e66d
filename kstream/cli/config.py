"""`kstream config`: every setting, its value, source and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.text import Text

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.errors import TopologyError
from kstream.observe.settings import setting_rows

WIDE: Final = 110
"""Columns from which on there is room for the meaning."""


def run(on: Subject, *, changed: bool, as_json: bool) -> None:
    """The command."""
    rows = [row for row in setting_rows(on.settings, on.sources, _within(on)) if not changed or row.source != "default"]
    if as_json:
        human.write_json(rows)
        return
    out = human.console()
    if not rows:
        out.print("All settings are at their defaults.")
        return
    wide = out.width >= WIDE
    table = human.table("SETTING", "VALUE", "SOURCE", *(["WHAT IT IS"] if wide else []))
    for row in rows:
        given = "" if row.source == "default" else "bold"
        name, doc = Text(row.name, style=given), Text(row.doc, style="dim")
        source = Text(row.source, style="dim" if row.source == "default" else "")
        table.add_row(name, Text(row.value or "-", style=given), source, *([doc] if wide else []))
    out.print(table)
    if not wide:
        out.print(
            Text(f"\nWhat each is: in a window of {WIDE} columns, with --json, or in docs/settings.md", style="dim")
        )


def _within(on: Subject) -> Mapping[str, float]:
    if on.app is None:
        return {}
    try:
        return on.app.topology().within_of_groups
    except TopologyError:  # an app that cannot run has settings all the same
        return {}
