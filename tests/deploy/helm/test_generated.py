"""What is made by scripts, and what is not copied."""

from __future__ import annotations

import json
import runpy
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from deploy.helm.chart import CHART, ROOT
from kstream.config import Settings


@pytest.mark.parametrize(
    ("script", "made"), [("generate_readme.py", "README.md"), ("generate_schema.py", "values.schema.json")]
)
def test_what_scripts_make_is_up_to_date(script: str, made: str) -> None:
    rendered = runpy.run_path(str(ROOT / "helm" / script))["render"]()
    assert CHART.joinpath(made).read_text() == rendered, f"run `python helm/{script}`"


def test_the_readme_knows_every_value() -> None:
    readme = CHART.joinpath("README.md").read_text()
    values = yaml.safe_load(CHART.joinpath("values.yaml").read_text())
    for name in values:
        assert f"| `{name}" in readme, name


def test_each_setting_has_one_place() -> None:
    """In `settings`, or in a value of the chart's own: none in both, none forgotten."""
    schema = json.loads(CHART.joinpath("values.schema.json").read_text())
    in_settings = set(schema["definitions"]["settings"]["properties"])
    elsewhere = set(runpy.run_path(str(ROOT / "helm" / "generate_schema.py"))["NOT_HERE"])
    assert not in_settings & elsewhere
    assert in_settings | elsewhere == {one.name for one in fields(Settings)}


@pytest.mark.parametrize(
    ("link", "original"), [("rules.yml", "rules/kstream.yml"), ("dashboard.json", "dashboard.json")]
)
def test_the_project_has_one_copy(link: str, original: str) -> None:
    path = CHART / "monitoring" / link
    assert path.is_symlink()
    assert path.resolve() == ROOT / "monitoring" / original
    assert not Path(path.readlink()).is_absolute()


def test_chart_and_library_have_one_version() -> None:
    version = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load(CHART.joinpath("Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version


def test_every_value_is_described() -> None:
    """But those of monitoring, some of which explain themselves."""
    rows = CHART.joinpath("README.md").read_text().partition("<!-- values:")[2].splitlines()
    silent = [row for row in rows if row.endswith("|  |") and not row.startswith("| `monitoring.")]
    assert silent == []
