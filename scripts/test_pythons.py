"""Runs the unit and typing tests on each supported Python of this machine, in an environment of its own.

`make test-pythons` calls it, with the tool environment's Python, and passes arguments on to pytest. The Python of .venv
is left out: `make test` runs it. Supported are the versions that pyproject.toml classifies; they are looked for on the
PATH and under pyenv. The environments lie in .uv/pythons and are made anew when uv.lock, pyproject.toml or the Python
change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = ROOT / ".uv/bin/uv"
SUITES = ("tests/unit", "tests/typing")


def supported() -> list[str]:
    """The versions that pyproject.toml classifies, such as "3.12"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [line.rpartition(" :: ")[2] for line in project["classifiers"] if "Programming Language" in line]
    return [version for version in versions if "." in version]


def of(python: Path) -> str:
    """The full version of an interpreter such as "3.12.1"; "" for one that does not start, as pyenv's shims may."""
    asked = [str(python), "-c", "import platform; print(platform.python_version())"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def find(version: str) -> Path | None:
    """An interpreter of this version, from the PATH or from pyenv."""
    name = f"python{version}"
    on_path = shutil.which(name)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [*([Path(on_path)] if on_path else []), *sorted(pyenv.glob(f"{version}.*/bin/{name}"), reverse=True)]
    return next((python for python in candidates if of(python).startswith(f"{version}.")), None)


def uv(*arguments: str | Path) -> None:
    subprocess.run([str(UV), *map(str, arguments)], cwd=ROOT, check=True)


def environment(version: str, python: Path) -> Path:
    """The interpreter of this version's environment, with everything that uv.lock pins."""
    directory = ROOT / ".uv/pythons" / version
    wanted = hashlib.sha256(f"{python} {of(python)} {ROOT}".encode())
    for file in ("uv.lock", "pyproject.toml"):
        wanted.update((ROOT / file).read_bytes())
    stamp, inside = directory / "made", directory / "bin/python"
    if not stamp.exists() or stamp.read_text() != wanted.hexdigest():
        print(f"packages of uv.lock into {directory.relative_to(ROOT)} ({python})", flush=True)
        requirements = ROOT / ".uv/requirements-pythons.txt"
        uv("venv", "--quiet", "--clear", "--python", python, directory)
        uv(
            *("export", "--quiet", "--frozen", "--all-extras", "--all-groups", "--no-emit-project", "--no-header"),
            *("--output-file", requirements),
        )
        uv("pip", "sync", "--quiet", "--python", directory, "--require-hashes", requirements)
        uv("pip", "install", "--quiet", "--python", directory, "--no-deps", "--editable", ".")
        stamp.write_text(wanted.hexdigest())
    return inside


def main(arguments: list[str]) -> int:
    own = of(ROOT / ".venv/bin/python").rpartition(".")[0]
    others = {version: python for version in supported() if version != own and (python := find(version)) is not None}
    if not others:
        print(f"no supported Python besides {own}, which `make test` runs ({', '.join(supported())} are looked for)")
    failed = []
    for version, python in others.items():
        inside, began = environment(version, python), time.monotonic()
        command = [inside, "-m", "pytest", "-m", "not slow", "-n", "2", "--dist", "loadfile", *SUITES, *arguments]
        print(f"Python {of(inside)}: {' and '.join(SUITES)}", flush=True)
        # the interpreter is what is new here: few examples of each property test are enough
        variables = {"HYPOTHESIS_PROFILE": "short", **os.environ}
        if subprocess.run([str(word) for word in command], cwd=ROOT, env=variables, check=False).returncode != 0:
            failed.append(version)
        print(f"Python {version} took {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"tests failed on Python {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
