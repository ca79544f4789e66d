"""What the machine says of an instance's processes: processor, memory, files, threads, garbage collection.

The supervisor looks at all of them with psutil, so that no worker carries it (30 ms and 4 MB each). Only garbage
collection is measured in the process itself.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from kstream.observe.catalogue import Series

if TYPE_CHECKING:
    import psutil


def process_name(worker: str | None) -> str:
    """The label `process`: of a worker by its name, of the supervisor with None."""
    return "supervisor" if worker is None else f"worker-{worker}"


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
            except psutil.Error:  # it has just ended: the supervisor is about to notice
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


class GarbageCollection:
    """Time that this process spends in Python's garbage collector, from now on. Costs 0.7 microseconds a collection."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._collections = 0
        self._started = 0.0
        gc.callbacks.append(self._called)

    def _called(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._started = time.perf_counter()
        else:
            self._seconds += time.perf_counter() - self._started
            self._collections += 1

    def collect(self, process: str) -> list[Series]:
        """Args: process: as `process_name` has it."""
        return [
            Series("process_gc_seconds_total", (process,), self._seconds),
            Series("process_gc_collections_total", (process,), self._collections),
        ]

    def close(self) -> None:
        gc.callbacks.remove(self._called)
