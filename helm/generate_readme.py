"""Writes the table of values into the chart's README.md, from values.yaml: `python helm/generate_readme.py`.

A comment that begins with `# --` describes the value below it. tests/deploy/helm/test_generated.py holds the README to
what is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "kstream"
README = CHART / "README.md"
BEGIN, END = "<!-- values: made by helm/generate_readme.py from values.yaml -->", "<!-- /values -->"

KEY = re.compile(r"( *)([A-Za-z]\w*):(?: |$)")


def render() -> str:
    """The README's text, with the table in it."""
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def table() -> str:
    """One row a value: name, default, what its comment says."""
    values = yaml.safe_load(CHART.joinpath("values.yaml").read_text())
    described = dict(comments(CHART.joinpath("values.yaml").read_text()))
    rows = ["| value | default | what it is |", "|---|---|---|"]
    for name, default in leaves(values, described):
        rows.append(f"| `{name}` | {shown(default)} | {described.get(name, '')} |")
    return "\n".join(rows)


def comments(text: str) -> Iterator[tuple[str, str]]:
    """Dotted names of values, and what the comment right above each says."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            lines = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("# ") and lines:
            lines.append(stripped.removeprefix("# "))
        elif match := KEY.match(line):
            indent = len(match[1])
            path = [*(one for one in path if one[0] < indent), (indent, match[2])]
            if lines:
                yield ".".join(name for _, name in path), " ".join(lines).replace("|", "\\|")
            lines = []
        else:
            lines = []


def leaves(values: dict[str, Any], described: dict[str, str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values in the order of the file. A map that has a comment of its own and none inside is one value."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        inside = any(other.startswith(f"{name}.") for other in described)
        if isinstance(value, dict) and value and (inside or name not in described):
            if name in described:
                yield name, None
            yield from leaves(value, described, f"{name}.")
        else:
            yield name, value


def shown(value: Any) -> str:
    """A default as YAML on one line, or nothing where the rows below have it."""
    return "" if value is None else f"`{json.dumps(value)}`".replace("|", "\\|")


if __name__ == "__main__":
    README.write_text(render())
