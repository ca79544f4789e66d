"""How the code is cut: files are short, and no class reads what another keeps to itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kstream"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
"""Lines of a file. One that is longer has two concepts: move one out."""

OTHERS = {
    r".+\._(asdict|replace|fields)": "named tuples: so that no field has such a name; they are documented",
    r"KafkaError\._[A-Z_]+": "confluent_kafka: librdkafka's own errors begin so, and are documented",
    r"sys\._getframe|sys\._current_frames|os\._exit": "the standard library has them under no other name, documented",
    r"asyncio\._get_running_loop": "documented; the public one raises where there is no loop, which is asked here",
    r"Handle\._run": "asyncio's: there is no other way to know the frame in which a callback runs",
}
"""Names with an underscore that are no class's of ours, as what is read (a pattern), and why."""

OWN = {
    ("operators/batch.py", "batch"): "made by at() or without(), or one of the batches that joined() is given",
    ("operators/batch.py", "alone"): "made by cut()",
    ("dsl/states.py", "mine"): "a copy of self",
    ("dsl/ways.py", "other"): "merge() is given streams of its own class",
    ("web/connections.py", "one"): "isinstance says so",
    ("web/connections.py", "oldest"): "one of those",
}
"""Variables that are of the class that reads them where no annotation of a parameter says so, and why they are."""


def private_reads(code: str, file: str = "") -> Iterator[tuple[int, str, tuple[str, str] | str | None]]:
    """Line and text of each `x._name` that is not read of self, cls, super() or a parameter of the same class; and by
    which entry of OTHERS or OWN it may be: None by none."""
    yield from _reads(ast.parse(code), file, None, {})


def _reads(
    node: ast.AST, file: str, owner: ast.ClassDef | None, annotated: dict[str, str]
) -> Iterator[tuple[int, str, tuple[str, str] | str | None]]:
    """Args:
    owner: the class that this is in.
    annotated: the parameters of the functions that this is in, with their annotations.
    """
    if isinstance(node, ast.ClassDef):
        owner, annotated = node, {}
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        annotated = annotated | {one.arg: ast.unparse(one.annotation) if one.annotation else "" for one in given}
    elif isinstance(node, ast.Attribute) and re.fullmatch("_[^_].*", node.attr) and not _is_own(node, owner, annotated):
        text = ast.unparse(node)
        entry: tuple[str, str] | str | None = next((one for one in OTHERS if re.fullmatch(one, text)), None)
        if entry is None and isinstance(node.value, ast.Name) and _has(owner, node.attr):
            entry = (file, node.value.id) if (file, node.value.id) in OWN else None
        yield node.lineno, text, entry
    for child in ast.iter_child_nodes(node):
        yield from _reads(child, file, owner, annotated)


def _is_own(read: ast.Attribute, owner: ast.ClassDef | None, annotated: dict[str, str]) -> bool:
    of = read.value
    if isinstance(of, ast.Call):
        return ast.unparse(of.func) == "super"
    if not isinstance(of, ast.Name):
        return False
    kind = annotated.get(of.id, "").partition("[")[0]
    return of.id in ("self", "cls") or (owner is not None and kind in ("Self", owner.name))


def _has(owner: ast.ClassDef | None, name: str) -> bool:
    """Whether the class itself has the attribute: it reads or writes it of self, or defines it."""
    return owner is not None and any(
        (isinstance(one, ast.Attribute) and one.attr == name and ast.unparse(one.value) == "self")
        or (isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name == name)
        for one in ast.walk(owner)
    )


def test_no_file_is_longer_than_it_may_be() -> None:
    lines = {str(file.relative_to(PACKAGE)): len(file.read_text().splitlines()) for file in FILES}
    assert {file: count for file, count in lines.items() if count > LONGEST} == {}


def test_no_class_reads_what_another_keeps_to_itself() -> None:
    """What two classes share has a name without an underscore, or a method says it."""
    found, used = [], set()
    for path in FILES:
        file = path.relative_to(PACKAGE).as_posix()
        for line, text, entry in private_reads(path.read_text(), file):
            if entry is None:
                found.append(f"kstream/{file}:{line}: {text}")
            else:
                used.add(entry)
    assert found == []
    assert used == {*OTHERS, *OWN}, "what nothing needs any more goes from the lists"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("def f(self): return self._a + super()._a", []),
        ("def f(self, other: A) -> None: other._a", []),
        ("def f(self, other: A[int]) -> None: [other._a for _ in ()]", []),
        ("def f(self, other: Self) -> None: (lambda: other._a)()", []),
        ("def f(self, other: B) -> None: other._a", ["other._a"]),
        ("def f(self, other): other._a", ["other._a"]),
        ("def f(self): self._b._a", ["self._b._a"]),
        ("def f(self): b = self._b; b._a = 1", ["b._a"]),
        ("def f(self, a: A) -> None: a._b._a()", ["a._b._a"]),
        ("def f(self): made()._a", ["made()._a"]),
        ("def f(self): return self.__class__.__name__, os._exit, row._asdict()", []),
    ],
)
def test_the_reading_of_private_attributes_is_seen(body: str, found: list[str]) -> None:
    reads = private_reads(f"class A:\n    {body}")
    assert [text for _, text, entry in reads if entry is None] == found


def test_how_many_cases_are_generated_is_said_in_one_place() -> None:
    """A test that gives a number of its own would have it in `make test-long` too."""
    tests = PACKAGE.parent / "tests"
    found = {str(path.relative_to(tests)) for path in tests.rglob("*.py") if "max_examples=" in path.read_text()}
    assert found == {"support/cases.py", "unit/test_structure.py"}
