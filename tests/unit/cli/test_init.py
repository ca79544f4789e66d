"""`kstream init`: the project that it makes passes its tests, and its sample of settings holds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from kstream.cli import main
from kstream.cli.init import FILES, TEMPLATE
from kstream.config import Settings
from kstream.config.sources import resolve_settings

ROOT = Path(__file__).parents[3]


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


@pytest.mark.parametrize("name", ["null", "true", "on"])
def test_a_name_that_is_a_word_of_yaml_is_a_name(place: Path, name: str) -> None:
    assert main(["init", name]) == 0
    assert yaml.safe_load((place / name / "compose.yaml").read_text())["name"] == name


def test_its_compose_file_runs_it_beside_a_kafka(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is in the files; tests/deploy/docker/test_new_project.py runs them."""
    assert main(["init", "web-shop"]) == 0
    project = place / "web-shop"
    compose = yaml.safe_load((project / "compose.yaml").read_text())
    ours = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert compose["name"] == "web-shop" and sorted(compose["services"]) == ["app", "kafka"]
    kafka, app = compose["services"]["kafka"], compose["services"]["app"]
    assert kafka["image"] == ours["services"]["kafka"]["image"], "the one that is tried"
    assert app["environment"]["KSTREAM_BOOTSTRAP_SERVERS"] == "kafka:9092"
    assert app["ports"] == ["127.0.0.1:${PAGE_PORT:-8010}:8010"] and app["volumes"] == ["state:/var/lib/kstream"]
    for name, value in {**app["environment"], "KSTREAM_STATE_DIR": "/var/lib/kstream"}.items():
        monkeypatch.setenv(name, value)
    settings, _ = resolve_settings({}, {}, project / "kstream.toml")
    assert (settings.state_dir, settings.workers, settings.memory) == ("/var/lib/kstream", 1, 256 * 2**20)
    dockerfile = (project / "Dockerfile").read_text()
    copied = re.findall(r"(?m)^COPY (\S+) ", dockerfile)
    kept = [line[1:] for line in (project / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(kept) and all((project / name).exists() for name in copied)
    assert f"FROM kstream:{version('kstream')}\n" in dockerfile
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    assert main(["topology", json.loads(re.findall(r"(?m)^CMD (.*)$", dockerfile)[0])[1]]) == 0
