"""What the machine says of an instance's processes: processor, memory, files, threads, garbage collection.

The supervisor looks at all of them with psutil, so that no worker carries it (30 ms and 4 MB each). Only garbage
collection is measured in the process itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from kstream.observe.catalogue import Series

if TYPE_CHECKING:
    import psutil


class Processes:
    """The processes of an instance, by name, for its supervisor.

    A process that is started again under its name goes on with its predecessor's processor time, as far as it was seen:
    what is lost lies between the last look and the end.

    Args:
        interval: seconds between two looks. One takes 0.1 ms a process.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._clock = interval, clock
        self._next = float("-inf")
        self._pids: dict[str, int] = {}
        self._known: dict[str, _Process] = {}
        self._series: list[Series] = []

    def collect(self, pids: Mapping[str, int]) -> list[Series]:
        """Series as of the last look; a process that is new is looked at at once."""
        now = self._clock()
        if now >= self._next or pids != self._pids:
            self._next, self._pids = now + self._interval, dict(pids)
            self._series = list(self._look())
        return self._series

    def _look(self) -> Iterator[Series]:
        import psutil

        for name, pid in self._pids.items():
            try:
                known = self._process(name, pid)
                yield from known.look(name)
            except (psutil.Error, OSError):  # it has just ended, or no file can be opened now: the next look may do
                continue
        for name, known in self._known.items():
            yield Series("process_cpu_seconds_total", (name,), known.cpu)

    def _process(self, name: str, pid: int) -> _Process:
        import psutil

        known = self._known.get(name)
        if known is None or known.process.pid != pid:
            known = self._known[name] = _Process(psutil.Process(pid), known.cpu if known else 0.0)
        return known


class _Process:
    def __init__(self, process: psutil.Process, before: float) -> None:
        self.process, self._before = process, before
        self.cpu = before
        """Seconds, of its predecessors too."""

    def look(self, name: str) -> Iterator[Series]:
        """Takes its processor time, and gives the levels of one that lives."""
        import psutil

        with self.process.oneshot():
            times = self.process.cpu_times()
            self.cpu = self._before + times.user + times.system
            if self.process.status() == psutil.STATUS_ZOMBIE:
                return
            yield Series("process_resident_memory_bytes", (name,), self.process.memory_info().rss)
            yield Series("process_threads", (name,), self.process.num_threads())
            yield Series("process_open_fds", (name,), self.process.num_fds())
