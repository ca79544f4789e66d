"""The package can be built by whoever has some uv_build, and has all that the commands need."""

from __future__ import annotations

import os
import subprocess
import sys
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


@pytest.mark.more
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["build", "install"])
def test_a_clone_is_built_and_installed_by_what_others_use(tmp_path: Path, how: str) -> None:
    """`python -m build` (a source archive, and a wheel out of it) and `pip install git+file://`. Both fetch the back
    end from the package index that pip is configured with."""
    clone, python = tmp_path / "clone", tmp_path / "env" / "bin" / "python"
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, clone], check=True)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments: object, module: str = "pip") -> str:
        given = [python, *("-m", module)[: 2 * bool(module)], *map(str, arguments)]
        return subprocess.run(
            given, check=True, timeout=500, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        ).stdout

    if how == "build":
        run("install", "--quiet", "build")
        run("--outdir", tmp_path / "dist", clone, module="build")
        assert sorted(path.suffix for path in (tmp_path / "dist").iterdir()) == [".gz", ".whl"]
        return
    run("install", "--quiet", "--no-deps", f"git+file://{clone}")
    where = "import importlib.util; print(importlib.util.find_spec('kstream').origin)"
    found = run("-c", where, module="")
    assert found.startswith(str(tmp_path / "env"))
    assert (Path(found.strip()).parent / "web/static/index.html").exists() and (tmp_path / "env/bin/kstream").exists()
