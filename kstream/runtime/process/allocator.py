"""How the C library keeps memory that a worker has freed. Linux with glibc; elsewhere nothing is done.

glibc gives each thread an arena of its own, up to eight for each core, and an arena gives back to the system only what
lies free at its end. A worker has a dozen threads that allocate for others (librdkafka's fetch records that the loop
frees, RocksDB's flush what the loop has written), so much of what is free stays with the process, in each arena.
RocksDB's memtables fill up between two flushes, and small things that came meanwhile lie behind them: without
`GiveBack` a worker grows for its first minutes, to the most that it ever had at a time and the gaps in it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Final

ARENAS: Final = 4
"""Shared in turn by the threads, the loop's among them. Medians of four rounds, in processor time a record: two
4.2 us, four 3.5, no bound 3.4; the rounds differ by a third among themselves."""
TRIM_BYTES: Final = 16 << 20
"""Free memory at the end of the heap from which on it goes back to the system. Setting it also keeps glibc from raising
its threshold for blocks that have a mapping of their own, and go back at once, to 32 MiB."""

LONG: Final = 0.02
"""Seconds of giving back that are a disturbance."""
LEFT_OUT: Final = 19
"""Calls that do nothing then: at one each `flush_interval`, ten minutes."""

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8
_GIVEN: Final = ("MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Variables by which somebody has decided otherwise, or taken another allocator."""


def bound() -> bool:
    """Sets the bounds above; before there is a second thread. Returns whether it did."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _GIVEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_ARENA_MAX, ARENAS) and mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES))


class GiveBack:
    """Gives the pages that are free within the arenas back to the system, each time it is called. Only after `bound`
    has returned True.

    Meanwhile whoever allocates in the same arena waits: 2 ms for 60 MiB that were memtables, 60 ms (of processor) for
    130 MiB in 32,000 pieces. So after one that took long the next calls do nothing.

    Args:
        clock: seconds, of the processor time of the thread that calls.
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._left_out = 0  # calls to come

    def __call__(self) -> None:
        if self._left_out:
            self._left_out -= 1
            return
        began = self._clock()
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
        if self._clock() - began > LONG:
            self._left_out = LEFT_OUT
