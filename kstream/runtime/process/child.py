"""The process of one worker: `python -m kstream.runtime.process.child`, started by the supervisor.

It reads its handover from standard input and keeps watching it: when it closes, the supervisor is gone, and the
worker stops cleanly. It imports neither pydantic nor the command line.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from functools import partial
from typing import Any

from kstream.config import Settings
from kstream.config.loading import load_target
from kstream.errors import InstanceFenced, KafkaUnavailable, KStreamError, StateDirectoryError, UsageError
from kstream.observe import logs
from kstream.observe.catalogue import Metric, Series
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.kafka import KafkaClients
from kstream.runtime.process.garbage import GarbageCollection, process_name
from kstream.runtime.process.making import fenced, make_worker
from kstream.runtime.process.report import Command, Handover, decode_handover
from kstream.runtime.process.reporting import Commands, Reporter
from kstream.runtime.worker.loop import StreamWorker

log = logging.getLogger(__name__)

_PASSING = (KafkaUnavailable, StateDirectoryError)
"""Errors that may be over at the next start: no brokers, a full disk, a predecessor that still holds the state."""

GC_THRESHOLDS = (50_000, 20, 50)
"""Batches make many objects that go without a cycle: the collector looks less often than by default (700, 10, 10)."""


def main() -> int:
    faulthandler.enable()  # a crash in native code says where it was
    handover: Handover = decode_handover(_first_line())
    settings = Settings.from_json(bytes(handover.settings))
    reporter = Reporter(
        handover.report_fd,
        Commands(sys.stdin.fileno()),
        time.monotonic,
        more=partial(series_besides, GarbageCollection()),
        errors=logs.recent,
        obey=obey,
    )
    worker: StreamWorker | None = None
    try:
        identity = Identity(handover.app, handover.instance, handover.index, handover.group)
        logs.configure_from(settings, identity.worker, app=handover.app, instance=handover.instance)
        obey(handover.command)
        sys.path[:0] = [entry for entry in handover.path if entry not in sys.path]
        app: Any = load_target(handover.target)
        running = worker = make_worker(app, identity, settings, handover.partitions)
        worker.paused = bool(handover.command.paused)
        signal.signal(signal.SIGTERM, lambda *_: _stop(running))
        gc.collect()
        gc.freeze()  # what was loaded so far stays: the collector need not look at it again
        gc.set_threshold(*GC_THRESHOLDS)
        worker.run(reporter)
        reporter.last(worker)
    except InstanceFenced as error:
        reporter.last(worker, stopped_by=fenced(handover.instance, error), usage=True, fenced=True)
        return 2
    except KStreamError as error:
        usage = isinstance(error, UsageError) and not isinstance(error, _PASSING)
        if not usage:  # otherwise the supervisor says it, in one line
            log.error("%s", error, exc_info=error.__cause__)
        reporter.last(worker, stopped_by=str(error), usage=usage)
        return error.exit_status
    return 0


def series_besides(collections: GarbageCollection, worker: StreamWorker) -> tuple[list[Metric], list[Series]]:
    """What a worker's process counts besides the engine: the user's metrics, librdkafka, log lines, the collector."""
    defined, series = worker.worker.metrics.collect()
    if isinstance(worker.parts.clients, KafkaClients):
        series += worker.parts.clients.statistics.collect()
    series += [Series("log_lines_total", (level,), count) for level, count in logs.counts().items()]
    return defined, series + collections.collect(process_name(worker.worker.name))


def obey(command: Command) -> None:
    for name, level in command.log_levels.items():
        logs.set_level(level, name or None)


def _stop(worker: StreamWorker) -> None:
    if worker.stopping:
        os._exit(1)  # the second signal: at once
    worker.stop()


def _first_line() -> bytes:
    """The handover, byte by byte so that no command behind it is read away."""
    line = bytearray()
    while (byte := os.read(sys.stdin.fileno(), 1)) not in (b"\n", b""):
        line += byte
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main())
