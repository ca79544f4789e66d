"""`kstream init`: the project that it makes passes its tests, and its sample of settings holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kstream.cli import main
from kstream.cli.init import FILES, TEMPLATE
from kstream.config import Settings
from kstream.config.sources import resolve_settings


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [one for one in os.environ if one.startswith("KSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_project_passes_its_tests(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "web-shop"]) == 0
    assert "kstream dev web_shop.app:app" in capsys.readouterr().out
    project = place / "web-shop"
    assert len([file for file in project.rglob("*") if file.is_file()]) == len(FILES)
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"] == "web-shop"
    for command in (["pytest", "-q", "-p", "no:cacheprovider"], ["kstream.cli", "topology", "web_shop.app:app"],
                    ["kstream.cli", "config", "--changed"], ["ruff", "check", "--isolated", "."]):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=project, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (done.stdout, done.stderr)


def test_elsewhere(place: Path) -> None:
    (place / "here").mkdir()
    assert main(["init", "shop", "--directory", "here"]) == 0
    assert (place / "here" / "shop" / "app.py").is_file()


@pytest.mark.parametrize(
    "arguments,why",
    [
        (("Shop",), "'Shop' cannot be a project's name"),
        (("9lives",), "cannot be a project's name"),
        (("class",), "cannot be a project's name"),
        (("json",), "there is a module json already"),
        (("kstream",), "there is a module kstream already"),
        (("taken",), "taken is there already"),
        (("file",), "file is there already"),
        (("shop", "--directory", "file/x"), "file/x: Not a directory"),
        ((), "NAME"),
    ],
)
def test_bad_input_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    (place / "taken").mkdir()
    (place / "taken" / "mine").write_text("")
    (place / "file").write_text("")
    assert main(["init", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and why in err, err
    assert sorted(one.name for one in place.iterdir()) == ["file", "taken"]


def test_what_the_sample_of_settings_shows_is_true(place: Path) -> None:
    """Its lines, those that are commented out too, are settings with values that are accepted."""
    text = (TEMPLATE / "kstream.toml").read_text()
    all_of_it = re.sub(r"(?m)^# (?=[a-z_]+ = |\")", "", text)
    assert len(re.findall(r"(?m)^(?:[a-z_]+|\".*\") = ", all_of_it)) > 15
    for written in (text, all_of_it):
        (place / "kstream.toml").write_text(written)
        settings, sources = resolve_settings({}, {}, None)
        assert sources["workers"] == "kstream.toml"
    defaults = {name: value for name, value in re.findall(r"(?m)^# ([a-z_]+) = (\S+)", text)}
    examples = {"instance", "web_port"}
    for name in defaults.keys() - examples:
        assert getattr(settings, name) == getattr(Settings(), name), f"the sample says it is the default: {name}"
