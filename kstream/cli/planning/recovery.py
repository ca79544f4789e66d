"""Catching up after an hour in which nothing ran, with all state to be restored first. Pure.

In workers (or processors) that are busy all the time: `load` is what comes in, `restore` the seconds that one of them
would take for all the state. While `able` of them work for t seconds, they restore, and do the hour's records and those
that come meanwhile: able x t = restore + load x (3600 + t).
"""

from __future__ import annotations

from math import inf
from typing import Final

DOWN: Final = 3600.0
"""Seconds for which nothing ran."""


def demand(load: float, restore: float, within: float | None) -> float:
    """How many must work so that it is done in so many seconds; 0 where that is not asked for."""
    return 0.0 if within is None else load + (restore + load * DOWN) / within


def duration(able: float, load: float, restore: float) -> float:
    """Seconds until so many have caught up; infinite where they never do."""
    return (restore + load * DOWN) / (able - load) if able > load else inf
