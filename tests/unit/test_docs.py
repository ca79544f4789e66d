"""The documents say what is true: their Python runs, their commands exist, their lists and links hold."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import typer

import kstream
from kstream.cli.app import commands
from kstream.cli.run import parse_assignments
from kstream.config import about

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs/decisions").glob("*.md"))]

MAIN_PATH = [
    "kstream/app.py",
    "kstream/topology.py",
    "kstream/plan.py",
    "kstream/runtime/instance/supervisor.py",
    "kstream/runtime/worker/loop.py",
    "kstream/runtime/worker/assembly.py",
    "kstream/runtime/task/task.py",
    "kstream/operators/",
    "kstream/state/",
    "kstream/runtime/worker/transaction.py",
    "kstream/runtime/worker/committer.py",
    "kstream/runtime/worker/checkpoint.py",
    "kstream/runtime/task/failures.py",
    "kstream/runtime/worker/recovery.py",
]

# blocks that begin with `# name.py` are whole files; the others of a page are one program
FILE_NAME = re.compile(r"# (\w+)\.py\n")


class Block(NamedTuple):
    language: str
    line: int
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text()
    found = re.finditer(r"(?m)^```(\w+)\n(.*?)^```$", text, re.DOTALL)
    return [
        Block(match[1], text.count("\n", 0, match.start(2)) + 1, match[2]) for match in found if match[1] in languages
    ]


def called(page: Path) -> str:
    return str(page.relative_to(ROOT))


def every(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=called)


# ---- Python


@every([page for page in GUIDES if blocks(page, "python")])
def test_python_blocks_run_and_their_apps_build(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    program = ModuleType("page_" + re.sub(r"\W", "_", called(page)))
    modules = [program]
    monkeypatch.setitem(sys.modules, program.__name__, program)  # annotations are resolved by it
    files = []
    for block in blocks(page, "python"):
        if name := FILE_NAME.match(block.text):
            (tmp_path / f"{name[1]}.py").write_text(block.text)
            files.append(name[1])
        else:
            padded = "\n" * (block.line - 1) + block.text  # so that errors name the page's own line
            exec(compile(padded, str(page), "exec"), program.__dict__)
    importlib.invalidate_caches()  # files written within one tick of the file system's clock may not be seen
    try:
        modules += [importlib.import_module(name) for name in files]
        for module in modules:
            for name, test in list(vars(module).items()):
                if name.startswith("test_") and inspect.isfunction(test):
                    test()
    finally:
        for name in files:
            sys.modules.pop(name, None)
    apps = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, kstream.App)}
    assert apps, "a page with Python should declare an app"
    for app in apps.values():
        if app.name != "wrong":  # the one that shows an error
            assert app.topology().parts


def test_the_readmes_service_is_short() -> None:
    service = next(block for block in blocks(ROOT / "README.md", "python") if FILE_NAME.match(block.text))
    assert len([line for line in service.text.splitlines() if line.strip()]) <= 30


# ---- commands


def command_lines() -> Iterator[tuple[str, int, list[str]]]:
    for page in [*GUIDES, ROOT / "CONTRIBUTING.md"]:
        for block in blocks(page, "sh", "console"):
            for number, line in enumerate(block.text.splitlines()):
                if block.language == "console" and not line.startswith("$ "):
                    continue  # what a command prints
                if words := shlex.split(line.removeprefix("$ "), comments=True):
                    yield called(page), block.line + number, words


def test_commands_and_their_options_exist() -> None:
    """Parsed by the command line's own parser; nothing is run."""
    group: Any = typer.main.get_command(commands)
    targets = re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text())
    seen = set()
    for page, line, words in command_lines():
        where = f"{page}:{line}: {' '.join(words)}"
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= set(targets), where
            continue
        assert words[0] == "kstream", f"{where}: only make and kstream are checked"
        assert words[1] in group.commands, where
        seen.add(words[1])
        context = group.commands[words[1]].make_context(f"kstream {words[1]}", words[2:])
        for name in parse_assignments(context.params.get("set_") or []):
            assert name.partition(".")[0] in about(), where
    assert seen == set(group.commands), "docs/commands.md shows every command"


# ---- the main path


@every([ROOT / "README.md", ROOT / "docs/architecture.md"])
def test_the_main_path_is_told_in_its_order(page: Path) -> None:
    told = re.findall(r"(?m)^\d+\. `(kstream/[\w/.]+)`", page.read_text())
    assert told == MAIN_PATH
    for name in told:
        path = ROOT / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), name


def test_the_layers_told_are_those_that_import_linter_checks() -> None:
    told = re.search(r"## Layers\n\n((?:    .*\n)+)", (ROOT / "docs/architecture.md").read_text())
    assert told is not None
    rows = [set(re.findall(r"\w+", row)) for row in told[1].splitlines()]
    project = (ROOT / "pyproject.toml").read_text()
    contract = re.search(r"(?m)^layers = \[\n(.*?)^\]", project, re.DOTALL)
    assert contract is not None
    planned = {"compat"}  # in the contract ahead of their time
    assert rows == [set(re.findall(r"\w+", row)) - planned for row in contract[1].splitlines()]


# ---- names and links


@every(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"(?m)^#+ (.*)$", file.read_text())
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


@every(PAGES)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:kstream|tests|docs|services|scripts)/[\w/.-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


@every(PAGES)
def test_public_names_exist(page: Path) -> None:
    for name in re.findall(r"\bkstream\.([A-Z]\w+)", page.read_text()):
        assert hasattr(kstream, name), name


@every([ROOT / "README.md"])
def test_settings_that_the_readme_names_exist(page: Path) -> None:
    section = page.read_text().partition("## Settings")[2].partition("## Documents")[0]
    for name in re.findall(r"(?m)^\| `(\w+)[`.]", section):
        assert name in about(), name


# ---- what is made


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_settings_is_up_to_date() -> None:
    made = script("generate_settings").render()
    assert (ROOT / "docs/settings.md").read_text() == made, "run: python docs/generate_settings.py"
    for name in about():
        assert f"| `{name}` |" in made


def test_the_tables_of_benchmarks_are_where_they_are_shown() -> None:
    including = script("include_benchmark")
    table = including.first_table("# Results\n\ntext\n\n| case | ratio |\n|---|---|\n| sum | 0.9 |\n\nmore\n")
    assert table == "| case | ratio |\n|---|---|\n| sum | 0.9 |"
    for place in including.PLACES:
        page = (ROOT / place.page).read_text()
        assert page.count(f"<!-- {place.marker} -->") == page.count(f"<!-- /{place.marker} -->") == 1
        filled = including.include(page, table, place)
        assert table in filled and including.include(filled, table, place) == filled
        measured = including.first_table((ROOT / "benchmarks" / place.results).read_text())
        assert measured in page, f"{place.page}: run python docs/include_benchmark.py"
