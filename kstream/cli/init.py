"""`kstream init`: a service project to begin with, from the files in template/."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Final

from kstream.cli import human
from kstream.devbroker.jars import KAFKA_VERSION
from kstream.errors import UsageError

TEMPLATE: Final = Path(__file__).parent / "template"

FILES: Final = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
    "kstream.toml": "kstream.toml",
    "Dockerfile": "Dockerfile.txt",
    ".dockerignore": "dockerignore.txt",
    "compose.yaml": "compose.yaml",
    "$module/__init__.py": None,
    "$module/app.py": "app.py.txt",
    "tests/test_app.py": "test_app.py.txt",
}
"""What a project has, and the template of each file; None: it is empty."""


def run(name: str, where: Path | None) -> int:
    """The command.

    Raises:
        UsageError: no project can have that name or lie there.
    """
    project = where or Path(name)
    module = module_of(name)
    make(project, name, module)
    out = human.console()
    out.print(f"{project}: {len(FILES)} files", style="bold")
    out.print(f"  cd {project}")
    out.print("  python -m pytest")
    out.print(f"  kstream dev {module}.app:app")
    return 0


def module_of(name: str) -> str:
    """The package of a project.

    Raises:
        UsageError: the name cannot be one of a project, an app and a package.
    """
    module = name.replace("-", "_")
    if re.fullmatch(r"[a-z][a-z0-9_-]{0,49}", name) is None or keyword.iskeyword(module):
        raise UsageError(
            f"{name!r} cannot be a project's name: use small letters, digits, '-' and '_', and begin with a letter"
        )
    if module in sys.stdlib_module_names or module in ("kstream", "tests"):
        raise UsageError(f"{name!r} cannot be a project's name: there is a module {module} already, choose another")
    return module


def make(project: Path, name: str, module: str) -> None:
    """Writes the files.

    Raises:
        UsageError: the directory cannot be made, or is not empty.
    """
    own = version("kstream")
    try:
        if project.exists() and (not project.is_dir() or any(project.iterdir())):
            raise UsageError(f"{project} is there already: choose another name, or another place with --directory")
        for target, source in FILES.items():
            file = project / Template(target).substitute(module=module)
            file.parent.mkdir(parents=True, exist_ok=True)
            text = "" if source is None else (TEMPLATE / source).read_text()
            file.write_text(Template(text).substitute(name=name, module=module, version=own, kafka=KAFKA_VERSION))
    except OSError as error:
        raise UsageError(f"{project}: {error.strerror or error}") from error
