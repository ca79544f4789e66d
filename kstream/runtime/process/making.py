"""A worker with the real Kafka and the real backends, for a process of its own or for this one (`workers=0`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.errors import InstanceFenced
from kstream.observe import traces
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.lifespan import watched
from kstream.runtime.worker.assembly import WorkerParts
from kstream.runtime.worker.loop import StreamWorker
from kstream.state.backend import Backend
from kstream.state.memory import MemoryBackend, MemoryLimit
from kstream.state.rocksdb import RocksBackend, RocksMemory


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
            lifespan=None if app.lifespan_function is None else watched(app.lifespan_function),
            memory_use=lambda: dict(zip(("block cache", "write buffers"), memory.usage(), strict=True)),
            tracer_provider=traces.provider_for(
                identity.app, identity.instance, identity.worker, settings.trace_sample
            ),
            **more,
        )
    )


def fenced(instance: str, error: InstanceFenced) -> str:
    """What to tell the user when another process took this identity over."""
    return f"another instance runs as {instance!r}: give each its own --instance ({error})"
