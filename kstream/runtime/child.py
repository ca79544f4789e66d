"""The process of one worker: `python -m kstream.runtime.child`, started by the supervisor.

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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kstream.config import Settings
from kstream.config.loading import load_target
from kstream.errors import InstanceFenced, KafkaUnavailable, KStreamError, StateDirectoryError, UsageError
from kstream.observe import logs, traces
from kstream.observe.catalogue import Metric, Series
from kstream.runtime.assembly import WorkerParts
from kstream.runtime.kafka import KafkaClients, KafkaOptions
from kstream.runtime.naming import Identity
from kstream.runtime.report import Command, Handover, decode_handover
from kstream.runtime.reporting import Commands, Reporter
from kstream.runtime.system import GarbageCollection, process_name
from kstream.runtime.worker import StreamWorker
from kstream.state.backend import Backend
from kstream.state.memory import MemoryBackend, MemoryLimit
from kstream.state.rocksdb import RocksBackend, RocksMemory

log = logging.getLogger(__name__)

_PASSING = (KafkaUnavailable, StateDirectoryError)
"""Errors that may be over at the next start: no brokers, a full disk, a predecessor that still holds the state."""

GC_THRESHOLDS = (50_000, 20, 50)
"""Batches make many objects that go without a cycle: the collector looks less often than by default (700, 10, 10)."""


class SystemClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def make_worker(
    app: Any, identity: Identity, settings: Settings, partitions: dict[str, int], **more: Any
) -> StreamWorker:
    """A worker on the real Kafka with the real backends. `app` has `topology()` and `lifespan_function`."""
    limit = MemoryLimit(settings.memory_backend_limit)
    memory = RocksMemory(settings.state_memory // 4, settings.state_memory // 4)
    options = options_from(settings, identity.member)
    options = replace(options, statistics_interval=settings.kafka_statistics_interval)  # workers poll their clients

    def backends(directory: Path, stores: Any) -> Backend:
        if not stores or settings.backend == "memory":
            return MemoryBackend(stores, limit)
        return RocksBackend(directory, stores, memory)

    return StreamWorker(
        WorkerParts(
            topology=app.topology().of_group(identity.isolation),
            partitions=partitions,
            settings=settings,
            identity=identity,
            clients=KafkaClients(settings.bootstrap_servers, options),
            clock=SystemClock(),
            backends=backends,
            lifespan=app.lifespan_function,
            memory_use=lambda: dict(zip(("block cache", "write buffers"), memory.usage(), strict=True)),
            tracer_provider=traces.provider_for(
                identity.app, identity.instance, identity.worker, settings.trace_sample
            ),
            **more,
        )
    )


def options_from(settings: Settings, client_id: str) -> KafkaOptions:
    return KafkaOptions(
        session_timeout=settings.session_timeout,
        max_poll_interval=settings.max_poll_interval,
        transaction_timeout=settings.transaction_timeout,
        linger=settings.linger,
        compression=settings.compression,
        fetch_memory=settings.fetch_memory,
        producer_memory=settings.producer_memory,
        auto_offset_reset=settings.auto_offset_reset,
        raw=settings.kafka,
        client_id=client_id,
    )


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


def fenced(instance: str, error: InstanceFenced) -> str:
    """What to tell the user when another process took this identity over."""
    return f"another instance runs as {instance!r}: give each its own --instance ({error})"


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
