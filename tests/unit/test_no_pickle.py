"""Nothing that is read is taken for a program: kstream and its services read and write no form that can name code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORMS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
CALLS = {"eval", "exec"}
LOADERS = {("yaml", "load"), ("yaml", "unsafe_load"), ("numpy", "load"), ("np", "load"), ("pandas", "read_pickle")}


def found(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = []
            if node.func.id in CALLS or node.func.id == "__import__":
                yield node.lineno, node.func.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = []
            if (node.value.id, node.attr) in LOADERS:
                yield node.lineno, f"{node.value.id}.{node.attr}"
        else:
            continue
        for name in names:
            if name.partition(".")[0] in FORMS or name.startswith("multiprocessing"):
                yield node.lineno, name


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import cloudpickle as c", "import shelve", "eval('1')",
        "def f():\n    import dill", "np.load('x')", "from multiprocessing import Queue", "import marshal",
    ],
)  # fmt: skip
def test_the_search_finds_them(source: str) -> None:
    assert list(found(source))


@pytest.mark.parametrize("folder", ["kstream", "services"])
def test_nothing_reads_or_writes_pickles(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    places = [f"{file.relative_to(ROOT)}:{line}: {what}" for file in files for line, what in found(file.read_text())]
    assert not places, "\n".join(places)


def test_no_value_becomes_a_pickle_on_its_way(tmp_path: Path) -> None:
    """Nor does what the libraries do with keys, values, tables and an app's own types: pickle is poisoned, and an app
    goes through all of it."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import copyreg, pickle

def poisoned(*arguments, **options):
    raise AssertionError("something was pickled")

for name in ("dumps", "dump", "loads", "load", "Pickler", "Unpickler"):
    setattr(pickle, name, poisoned)
    if hasattr(pickle, "_" + name):
        setattr(pickle, "_" + name, poisoned)

import _pickle
for name in ("dumps", "dump", "loads", "load", "Pickler", "Unpickler"):
    setattr(_pickle, name, poisoned)

import dataclasses, msgspec, kstream
from datetime import datetime
from kstream.testing import TestDriver

class Visit(msgspec.Struct):
    page: str
    at: datetime

@dataclasses.dataclass
class Total:
    count: int = 0
    pages: list[str] = dataclasses.field(default_factory=list)

app = kstream.App("forms", on_error=[kstream.DeadLetter()])
visits = app.topic("visits", key=str, value=Visit)
out = app.topic("out", key=str, value=Total)
table = app.table("totals", key=str, value=Total, default=Total)

@app.agent(visits, to=out)
def count(visit: Visit, ctx):
    total = table[ctx.key]
    total.count += 1
    total.pages.append(visit.page)
    table[ctx.key] = total
    return total

with TestDriver(app) as d:
    d.send(visits, Visit("home", datetime(2026, 1, 1)), key="ann")
    d.send(visits, Visit("news", datetime(2026, 1, 1)), key="ann")
    d.crash()
    assert d.table(table)["ann"] == Total(2, ["home", "news"]), d.table(table)["ann"]
print("through")
"""
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "through\n", done.stderr[-2000:]
