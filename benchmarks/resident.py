"""Resident memory of this process, in bytes; and how samples of it are compared."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Sample(NamedTuple):
    """Seconds since the first, records done by then, resident bytes."""

    seconds: float
    records: int
    size: int


def early_and_late(samples: Sequence[Sample], records: int, cycle: float) -> tuple[int, int]:
    """The most that was resident in a cycle: in the first one after so many records, and in the last one.

    RocksDB's write buffers fill up and are free all at once, each flush interval: a saw-tooth. A span as long as one
    of its teeth has each height of it once, wherever it begins. What is looked at for a moment only says where in a
    tooth the moment was: 1.02 to 1.13 of one and the same run.

    Args:
        cycle: seconds.

    Raises:
        ValueError: there are no two cycles.
    """
    begin, end = next((one.seconds for one in samples if one.records >= records), 0.0), samples[-1].seconds
    if end - begin < 2 * cycle:
        raise ValueError(
            f"resident memory goes up and down within {cycle:g} s, and after {records:,} records the run took "
            f"{end - begin:.0f} s only: it needs twice that, so more records"
        )
    early = max(one.size for one in samples if begin <= one.seconds <= begin + cycle)
    return early, max(one.size for one in samples if one.seconds >= end - cycle)


def now() -> int:
    """At the moment (Linux); the peak elsewhere."""
    return _status("VmRSS:")


def peak() -> int:
    """At most so far. Not `ru_maxrss` on Linux: that survives exec, so a child would show its parent's peak."""
    return _status("VmHWM:")


def _status(name: str) -> int:
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
