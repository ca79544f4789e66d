"""Resident memory of this process."""

from __future__ import annotations

import resource
import sys


def peak() -> int:
    """Bytes at most so far. Not `ru_maxrss` on Linux: that survives exec, so a child would show its parent's peak."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
