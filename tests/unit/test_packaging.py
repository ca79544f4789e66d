"""The package can be built by whoever has some uv_build, and has all that the commands need."""

from __future__ import annotations

import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kstream.cli.init import FILES

ROOT = Path(__file__).parents[2]
UV = ROOT / ".uv" / "bin" / "uv"


def test_the_bounds_of_the_build_back_end_are_wide() -> None:
    """An index may lack the newest: a lower bound at the pinned uv made every build fail there."""
    (wanted,) = map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])
    assert wanted.name == "uv_build" and all(version in wanted.specifier for version in ("0.9.0", "0.13.6", "0.13.9"))


@pytest.mark.skipif(not UV.exists(), reason="make setup makes the uv that builds without a download")
def test_the_wheel_has_the_files_that_are_no_modules(tmp_path: Path) -> None:
    subprocess.run(
        [UV, "build", "--quiet", "--offline", "--wheel", "--out-dir", tmp_path, ROOT], check=True, timeout=100
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("py.typed", "devbroker/jars.txt", "web/static/index.html"):
        assert f"kstream/{name}" in names
    for name in filter(None, FILES.values()):
        assert f"kstream/cli/template/{name}" in names
    assert not [name for name in names if name.startswith(("tests/", "services/"))]
