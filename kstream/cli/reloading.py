"""Which Python files of a project changed: their times and sizes, looked at again and again.

A hundred files take a millisecond to look at, so nothing that hears of changes from the system is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import cache_from_source
from pathlib import Path
from typing import Final

PASSED_OVER: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "build", "dist"})
"""Folders that hold no source of the project; those whose names begin with a dot do not either."""

Seen = dict[str, tuple[int, int]]
"""Time (ns) and size by path."""


class SourceFiles:
    """The Python files and `kstream.toml` below a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = self._look()

    def changed(self) -> list[str]:
        """Those that are new, different or gone since the last call, by their paths from the directory."""
        before, self._seen = self._seen, self._look()
        names = sorted(before.keys() | self._seen.keys())
        return [os.path.relpath(name, self._root) for name in names if before.get(name) != self._seen.get(name)]

    def forget_compiled(self, names: Iterable[str]) -> None:
        """Removes what Python compiled of these files, while nothing runs that would compile them. Python holds what it
        compiled for that of a file which has the same second and the same size, so of two quick changes the second
        one may be taken for the first."""
        for name in names:
            if name.endswith(".py"):
                Path(cache_from_source(os.path.join(self._root, name))).unlink(missing_ok=True)

    def _look(self) -> Seen:
        seen: Seen = {}
        for folder, folders, files in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(".") and name not in PASSED_OVER]
            for name in files:
                if name.endswith(".py") or name == "kstream.toml":
                    path = os.path.join(folder, name)
                    try:
                        found = os.stat(path)
                    except FileNotFoundError:  # an editor replaces it just now: seen at the next look
                        continue
                    seen[path] = (found.st_mtime_ns, found.st_size)
        return seen
