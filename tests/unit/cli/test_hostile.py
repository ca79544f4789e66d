"""What others wrote, in a terminal; and what may be a secret, in what is shown."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kstream.cli
from kstream.cli import human, main
from kstream.cli.status import screen
from kstream.cli.table import show
from kstream.cli.tail import decode, writer
from kstream.config import Settings
from kstream.config.sources import resolve_settings
from kstream.errors import ConfigError
from kstream.escape import escaped
from kstream.observe.settings import setting_rows
from kstream.observe.status import InputStatus, InstanceStatus, TaskStatus, WorkerStatus
from kstream.runtime.cluster.records import Row
from kstream.types import TopicPartition


@pytest.mark.parametrize(
    "name",
    ["[/x]", "[link=http://evil.example]here[/link]", "a\x1b[2Jb", "a\x9bb", ":smile:"],
    ids=["tag", "link", "escape", "c1", "emoji"],
)
def test_what_instances_claim_is_plain_text(name: str) -> None:
    out = human.console()
    out.file, out.width = io.StringIO(), 300
    odd = [InputStatus("t", 0, 0, 0, 1e300)]
    claimed = InstanceStatus(
        name, name, "degraded", 1e300, -1e300, host=name, reasons=[f"{name}\nFORGED all is well"],
        workers=[WorkerStatus(name, "running", why=name)],
        tasks=[TaskStatus(name, name, "failed", lag=10**30, error=f"{name}\nFORGED", inputs=odd)],
    )  # fmt: skip
    out.print(screen(name, [claimed], 1e9))
    text = out.file.getvalue()
    assert name.replace("\x1b", "\\u001b").replace("\x9b", "\\u009b") in text
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert not any(line.startswith("FORGED") for line in text.splitlines())


HOSTILE = "[bold]x[/bold]\x1b[2J\x9b31m\u202egnp\u2028\rFORGED :smile: \ud800\x7f"


def test_what_cannot_be_told_from_the_terminals_own_is_escaped() -> None:
    text = escaped(HOSTILE)
    assert text.isprintable()
    assert json.loads(f'"{text}"') == HOSTILE
    assert text.encode()
    assert escaped("Zoë 日本語 [x] 👍") == "Zoë 日本語 [x] 👍"


def test_json_for_a_terminal_is_escaped_and_reads_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = HOSTILE.replace("\ud800", "")
    for indented in (True, False):
        human.write_json({hostile: hostile}, indented=indented)
        out = capsys.readouterr().out
        assert all(letter.isprintable() or letter == "\n" for letter in out)
        assert json.loads(out) == {hostile: hostile}


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_records_and_tables_of_anybody_are_plain_text(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    app = kstream.App("hostile")
    topic = app.topic("t", key=str, value=str)
    hostile = HOSTILE.replace("\ud800", "").encode()
    row = Row(TopicPartition("t", 0), 1, 2, hostile, hostile, [(hostile.decode(), hostile)])
    writer(as_json)(decode(topic, row))
    show(app.table("s", key=str, value=str).spec, {(0, hostile): hostile}, alone=False, as_json=as_json)
    human.complain(HOSTILE)
    human.write(HOSTILE)
    for text in capsys.readouterr():
        assert text and all(letter.isprintable() or letter == "\n" for letter in text)
        assert "[bold]x[/bold]" in text and ":smile:" in text
        assert not any(line.startswith("FORGED") for line in text.splitlines())


def test_bars_are_plain_text() -> None:
    out = human.lines(stderr=True)
    out.file = io.StringIO()
    out.print(HOSTILE.replace("\ud800", ""))
    assert "[bold]" in out.file.getvalue() and "\x1b" not in out.file.getvalue()


def calls_of(file: Path) -> Iterator[ast.Call]:
    yield from (one for one in ast.walk(ast.parse(file.read_text())) if isinstance(one, ast.Call))


FILES = sorted(Path(kstream.cli.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[str(one.relative_to(FILES[0].parent)) for one in FILES])
def test_all_commands_write_through_one_module(file: Path) -> None:
    """human.py escapes: nobody else makes a console, prints, or has markup read out of text."""
    for call in calls_of(file):
        name = ast.unparse(call.func)
        keywords = {one.arg: ast.unparse(one.value) for one in call.keywords}
        where = f"{file.name}, line {call.lineno}: {ast.unparse(call)}"
        assert keywords.get("markup") != "True" and name != "Text.from_markup", where
        if name == "TextColumn":
            assert keywords.get("markup") == "False", where
        if file.name == "human.py":
            continue
        if name == "print":  # __init__ does without rich, which takes long to import
            assert "escaped(" in ast.unparse(call), where
        assert name not in ("Console", "typer.secho", "sys.stdout.write", "sys.stderr.write"), where
        if name == "typer.echo":
            assert "version(" in where, where


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "web_token:HUSH"], ["--set", "HUSH"], ["--set", "kafka.sasl.passwrd=HUSH"],
        ["--set", "kafka.sasl.kerberos.kinit.cmd=HUSH"], ["--set", "kafka.https.proxy=http://me:HUSH@proxy"],
        ["--set", "kafka.consumer.sasl.passwrd=HUSH"], ["--set", "web_url=http://me:HUSH@host/"],
        ["--set", "web_token=HUSH"],
    ],
    ids=lambda given: given[1].partition("=")[0],
)  # fmt: skip
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_no_secret_is_shown(arguments: list[str], form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", *form, *arguments])
    assert "HUSH" not in "".join(capsys.readouterr())


def test_a_table_in_place_of_a_secret_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "kstream.toml"
    file.write_text('[web_token]\nx = "HUSH"\n')
    with pytest.raises(ConfigError, match="web_token") as caught:
        resolve_settings({}, {}, file)
    assert "HUSH" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [{"web_token": "HUSH"}, {"web_url": "http://u:HUSH@h"}, {"kafka": {"sasl.password": "HUSH", "no.such": "HUSH"}}],
    ids=["web_token", "web_url", "kafka"],
)
def test_neither_is_it_in_repr_or_on_the_page(given: dict[str, Any]) -> None:
    settings = Settings(**given)
    assert "HUSH" not in repr(settings) + str(settings.redacted()) + str(setting_rows(settings, {}))


def test_what_is_harmless_is_shown() -> None:
    kafka = {"security.protocol": "SASL_SSL", "consumer.fetch.wait.max.ms": "100", "ssl.ca.location": "/ca"}
    assert Settings(kafka=kafka).redacted()["kafka"] == kafka
