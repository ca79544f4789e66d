"""mypy says of api.py what is written behind its lines: `# T:` the type revealed, `# E:` how an error begins."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from mypy import api

HERE = Path(__file__).parent
NOTE = re.compile(r'^api\.py:(\d+): note: Revealed type is "(.*)"$')
ERROR = re.compile(r"^api\.py:(\d+): error: (.*?)(?:  \[[a-z-]+\])?$")


def test_the_types_of_the_api_are_those_of_the_design(tmp_path: Path) -> None:
    root = HERE.parent.parent
    out, problems, _ = api.run(
        ["--strict", "--no-color-output", "--no-error-summary", "--config-file", str(root / "pyproject.toml"),
         "--cache-dir", str(root / ".mypy_cache"), str(HERE / "api.py")]
    )  # fmt: skip
    assert not problems
    found: defaultdict[int, list[str]] = defaultdict(list)
    for line in out.splitlines():
        line = line[line.index("api.py:") :] if "api.py:" in line else line
        if match := NOTE.match(line):
            found[int(match[1])].append(f"T: {match[2]}")
        elif match := ERROR.match(line):
            found[int(match[1])].append(f"E: {match[2]}")
    wanted = {
        number: line.split("  # ", 1)[1]
        for number, line in enumerate((HERE / "api.py").read_text().splitlines(), 1)
        if re.search(r"  # [TE]: ", line)
    }
    assert len(wanted) > 40
    for number, text in wanted.items():
        said = [one.replace("builtins.", "").replace("tests.typing.", "") for one in found.get(number, [])]
        assert any(one.startswith(text.replace("builtins.", "")) for one in said), (
            f"line {number}: {text!r}, not {said}"
        )
    assert set(found) == set(wanted), "mypy says more than was expected"
