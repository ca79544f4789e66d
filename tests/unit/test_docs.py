"""The documents say what is true: their Python runs, their commands exist, their lists and links hold."""

from __future__ import annotations

import ast
import builtins
import functools
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
    "kstream/runtime/kafka/consumer.py",
    "kstream/runtime/task/task.py",
    "kstream/runtime/task/reading.py",
    "kstream/operators/",
    "kstream/state/",
    "kstream/runtime/worker/transaction.py",
    "kstream/runtime/kafka/producer.py",
    "kstream/runtime/worker/committer.py",
    "kstream/runtime/worker/checkpoint.py",
    "kstream/runtime/task/failures.py",
    "kstream/runtime/task/handling.py",
    "kstream/runtime/worker/recovery.py",
]

# blocks that begin with a comment that is a file name are whole files; the others of a page are one program
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
    assert rows == [set(re.findall(r"\w+", row)) for row in contract[1].splitlines()]


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


# ---- docstrings and comments

FOLDERS = ["kstream", "services", "tests", "benchmarks", "scripts", "monitoring", "docs", "deploy", "helm"]
FOREIGN = {
    "rd_kafka_topic_partition_list_query_leaders_async", "histogram_quantile", "PromQL", "RocksDB", "RocksDBs",
    "OpenTelemetry", "PostgreSQL", "DuckDB", "StatefulSets", "CamelCase", "OpenAPI", "OpenSSL",
    "IncompleteRead", "LeaveGroup", "RangeAssignor", "DeleteRecords", "StateTtlConfig", "TtlUtils",
    "toTable", "KTable", "GlobalKTable", "mapValues", "groupBy", "KGroupedTable", "StreamTableJoinIntegrationTest",
    "StreamStreamJoinIntegrationTest", "SuppressScenarioTest", "KStreamSlidingWindowAggregateTest",
    "TableTableJoinIntegrationTest", "TimeWindows", "StatusWatermarkValve",
    "TimeWindowedSerializer", "TimeWindowedDeserializer", "SessionWindows", "countWindow",
    "SlidingWindows", "EventTimeSessionWindows", "DataSketches", "NumPy", "HllSketch", "heapify",
    "SessionWindowedSerializer", "SessionWindowedDeserializer", "SessionKeySchema", "toBinary",
}  # fmt: skip
"""Names of other libraries that nothing here uses."""
EXAMPLES = {"balance", "name_", "orders_count", "async_to_sync", "STORE"}
"""Names in examples that docstrings give."""


class Said(NamedTuple):
    """A docstring or a comment."""

    file: str
    line: int
    text: str


@functools.cache
def sources() -> list[Path]:
    return [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]


TOKENS = re.compile(
    r"""(?P<comment>\#[^\n]*)
    | \b[rRbBuUfF]{1,2}(?=["'])  # a prefix is no name
    | ["'](?P<word>\w+)["'](?!["'])
    | \"""(?:\\.|[^\\])*?\""" | '''(?:\\.|[^\\])*?''' | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'
    | (?<!\w)(?P<name>[^\W\d]\w*)""",
    re.DOTALL | re.VERBOSE,
)
"""Comments, names, strings that are one word, and other strings. Python's own tokenizer takes three times as long."""


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All in it, at any depth; what lies within expressions has no docstrings."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for one in getattr(node, field, None) or ():
            if isinstance(one, ast.stmt):
                yield one
            yield from statements(one)


@functools.cache
def said_in_code() -> tuple[list[Said], frozenset[str]]:
    """All docstrings and comments, and all names that the code itself uses."""
    said: list[Said] = []
    names = set(dir(builtins))
    for file in sources():
        text = file.read_text()
        for node in statements(ast.parse(text)):
            match node:
                case ast.Expr(value=ast.Constant(value=str(content))):
                    said.append(Said(called(file), node.lineno, content))
        for token in TOKENS.finditer(text):
            if token["comment"]:
                said.append(Said(called(file), text.count("\n", 0, token.start()) + 1, token["comment"]))
            elif token["name"] or token["word"]:
                names.add(token["name"] or token["word"])
    return said, frozenset(names)


def test_files_that_docstrings_and_comments_name_exist() -> None:
    """By their path or the end of it; `docs/decisions/0001` will do."""
    kinds = "py|md|js|toml|yml|yaml|json|txt|html|css|properties|sh"
    named = re.compile(
        rf"(?<![\w./`<-])((?:(?:{'|'.join(FOLDERS)})/[\w./-]*\w)|(?:[\w-]+/)*[\w-]+\.(?:{kinds}))(?![\w/])"
    )
    there = {called(file) for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file()}
    there |= {called(file) for file in ROOT.iterdir()} | {"kstream.toml"}  # that one is the user's
    ends = {"/".join(file.split("/")[start:]) for file in there for start in range(file.count("/") + 1)}
    known = ends | {file[: end.start()] for file in there for end in re.finditer("/", file)}
    wrong = [
        f"{said.file}:{said.line}: {name}"
        for said in said_in_code()[0]
        for name in named.findall(said.text)
        if name not in known and not any(file.startswith(f"{name}-") for file in there)
    ]
    assert not wrong, "\n".join(wrong)


def test_names_in_docstrings_and_comments_exist() -> None:
    """What stands in backquotes: settings, classes, functions, arguments (settings of Kafka are not looked at); and
    what is written as CamelCase anywhere."""
    everything, names = said_in_code()
    kafkas = re.compile(r"(?!kstream\.)[a-z]+(\.[a-z]+){2,}")
    known = names | about().keys() | FOREIGN | EXAMPLES
    wrong = [
        f"{said.file}:{said.line}: {match[0]}"
        for said in everything
        for match in re.finditer(r"`([A-Za-z_][\w.]*)(?:\(\))?(?:=[^`]*)?`", said.text)
        if not any(match[1].endswith(f".{ending}") for ending in ("py", "md", "lock", "toml", "json"))
        if not kafkas.fullmatch(match[1])
        if not {part for part in match[1].split(".") if part} <= known
    ]
    wrong += [
        f"{said.file}:{said.line}: {name}"
        for said in everything
        for name in re.findall(r"(?<![\w.`-])[A-Z][a-z]+[A-Z]\w+", said.text)
        if name not in known
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_points_at_an_issue_of_this_project() -> None:
    """Nobody who reads the code has them, and what was to come with one is there by now. Those of librdkafka are told
    by their number, `#5040`."""
    everything, _ = said_in_code()
    pages = [Said(called(page), 0, page.read_text()) for page in PAGES]
    pointing = re.compile(r"\b(?:issue|PR|pull request)s? (?:no\. ?)?#?[0-9]+", re.IGNORECASE)
    wrong = [
        f"{said.file}:{said.line}: {match}" for said in [*everything, *pages] for match in pointing.findall(said.text)
    ]
    assert not wrong, "\n".join(wrong)


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
