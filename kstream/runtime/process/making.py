"""A worker with the real Kafka and the real backends, for a process of its own or for this one (`workers=0`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.observe import traces
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.lifespan import watched
from kstream.runtime.worker.assembly import WorkerParts
from kstream.runtime.worker.loop import StreamWorker
from kstream.state.choosing import backends
from kstream.state.memory import MemoryLimit
from kstream.state.rocksdb import RocksMemory
from kstream.state.snapshots.storage import open_storage


def make_worker(
    app: Any, identity: Identity, settings: Settings, partitions: dict[str, int], **more: Any
) -> StreamWorker:
    """A worker on the real Kafka with the real backends. `app` has `topology()`, `lifespan_function` and
    `checkpoint_listeners`."""
    limit = MemoryLimit(settings.memory_backend_limit)
    share = settings.state_memory // 4
    memory = RocksMemory(share, share, settings.rocksdb_preset, settings.rocksdb)
    whole = app.topology()
    topology = whole.of_group(identity.isolation)
    of_stores = {store.name: store.backend for part in topology.parts for store in part.stores}
    options = options_from(settings, identity.member)
    options = replace(options, statistics_interval=settings.kafka_statistics_interval)  # workers poll their clients

    return StreamWorker(
        WorkerParts(
            topology=topology,
            whole=whole,
            partitions=partitions,
            settings=settings,
            identity=identity,
            clients=KafkaClients(settings.bootstrap_servers, options),
            clock=SystemClock(),
            backends=backends(settings.backend, of_stores, memory, limit),
            listeners=app.checkpoint_listeners,
            storage=None if settings.snapshots is None else open_storage(settings.snapshots),
            lifespan=None if app.lifespan_function is None else watched(app.lifespan_function),
            memory_use=lambda: dict(zip(("block cache", "write buffers"), memory.usage(), strict=True)),
            tracer_provider=traces.provider_for(
                identity.app, identity.instance, identity.worker, settings.trace_sample
            ),
            **more,
        )
    )
