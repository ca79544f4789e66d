"""What others wrote, in a terminal; and what may be a secret, in what is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from kstream.cli import human, main
from kstream.cli.status import screen
from kstream.config import Settings
from kstream.config.sources import resolve_settings
from kstream.errors import ConfigError
from kstream.observe.settings import setting_rows
from kstream.observe.status import InputStatus, InstanceStatus, TaskStatus, WorkerStatus


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
