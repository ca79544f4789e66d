"""`python -m services.nexmark.readme`: writes README.md anew, each query in SQL and as it is in queries/."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Final

from services.nexmark.oracle import ASKED
from services.nexmark.queries import QUERIES

README: Final = Path(__file__).parent / "README.md"
BEGIN: Final = "<!-- What follows is written by `python -m services.nexmark.readme`. -->\n"


def queries() -> str:
    """A section for each query."""
    sections = []
    for name, query in QUERIES.items():
        said = inspect.getdoc(query)
        asked, written = ASKED[name].sql.strip(), inspect.getsource(query).rstrip()
        sections.append(f"### {name}\n\n{said}\n\n```sql\n{asked}\n```\n\n```python\n{written}\n```\n")
    return "\n".join(sections)


def written() -> str:
    """The whole page: what it says itself, and the queries as they are."""
    return f"{README.read_text().partition(BEGIN)[0]}{BEGIN}\n{queries()}"


if __name__ == "__main__":
    README.write_text(written())
