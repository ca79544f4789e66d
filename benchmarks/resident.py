"""Resident memory of this process, in bytes."""

from __future__ import annotations

import resource
import sys


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
