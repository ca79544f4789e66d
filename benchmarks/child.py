"""One kstream worker, timed from inside: `kstream.runtime.process.child`, the process that `kstream run` starts, with a
reporter that also looks at the clock.

The environment variable `KSTREAM_BENCH_WATCH` says what to wait for (see `Watch`). The result is one line of JSON on
standard output; then the worker is told to stop, as by SIGTERM.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import msgspec

from benchmarks import resident
from benchmarks.stages import Stages
from kstream.runtime.process import child
from kstream.runtime.process.reporting import Reporter
from kstream.runtime.task.states import TaskState
from kstream.runtime.worker.loop import StreamWorker

WATCH = "KSTREAM_BENCH_WATCH"
SAMPLE_SECONDS = 0.25


class Watch(msgspec.Struct):
    """What a run waits for.

    Attributes:
        records: input records to process and commit, or changelog records to restore.
        restore: whether it is the latter.
        stages: measure where the time goes (stages.py).
        profile: a file for cProfile's figures.
    """

    records: int
    restore: bool = False
    stages: bool = False
    profile: str | None = None


class Result(msgspec.Struct):
    """Of one run. Seconds of wall clock and of processor time of the whole process, bytes of memory.

    `records` are those that the seconds were measured over: the first turn that had any only starts the clock.
    `rss` are taken four times a second.
    """

    records: int
    seconds: float
    cpu: float
    commits: int = 0
    aborts: int = 0
    peak_rss: int = 0
    rss: list[resident.Sample] = []
    stages: list[tuple[str, int, float, float]] = []
    started_after: float = 0.0


class TimingReporter(Reporter):
    """Called after each turn of the worker's loop, in place of the plain one, which it does the work of too."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._watch = msgspec.json.decode(os.environ[WATCH], type=Watch)
        self._stages = Stages() if self._watch.stages else None
        self._profile: Any = None
        self._born = time.monotonic()
        self._began = self._cpu = self._sample_at = 0.0
        self._first = 0
        self._rss: list[resident.Sample] = []
        self._done = False

    def __call__(self, worker: StreamWorker) -> None:
        super().__call__(worker)
        if self._done:
            return
        count = worker.restorer.replay.records if self._watch.restore else worker.records
        if not count:
            return
        now = time.monotonic()
        if not self._began:
            self._first = count
            self._start_profiling()
            self._began, self._cpu = time.monotonic(), time.process_time()
            return
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_SECONDS
            self._rss.append(resident.Sample(now - self._began, count, resident.now()))
        if count >= self._watch.records and self._is_through(worker):
            self._finish(worker, count)

    def _is_through(self, worker: StreamWorker) -> bool:
        if self._watch.restore:
            return not len(worker.restorer) and all(task.state is TaskState.RUNNING for task in worker.tasks.values())
        positions = sum(sum(task.positions.values()) for task in worker.tasks.values())
        if positions < self._watch.records:  # after an abort records are counted again
            return False
        worker.committer.commit()  # at once, as the yardstick does, instead of at the next interval
        return True

    def _finish(self, worker: StreamWorker, count: int) -> None:
        seconds, cpu = time.monotonic() - self._began, time.process_time() - self._cpu
        if self._profile is not None:
            self._profile.disable()
            self._profile.dump_stats(self._watch.profile)
        self._done = True
        result = Result(
            records=count - self._first,
            seconds=seconds,
            cpu=cpu,
            commits=worker.commits,
            aborts=worker.aborts,
            peak_rss=resident.peak(),
            rss=self._rss,
            stages=self._stages.rows() if self._stages else [],
            started_after=self._began - self._born,
        )
        print(msgspec.json.encode(result).decode(), flush=True)
        worker.stop()

    def _start_profiling(self) -> None:
        if self._stages is not None:
            self._stages.reset()
        if self._watch.profile is not None:
            import cProfile

            self._profile = cProfile.Profile()
            self._profile.enable()


if __name__ == "__main__":
    child.Reporter = TimingReporter  # type: ignore[attr-defined]
    sys.exit(child.main())
