"""Runs an app over a sample, one worker for each isolation group, on a broker of its own, and takes its time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kstream.app import App
from kstream.cli.planning.arithmetic import Cost, PartCost, StoreCost
from kstream.cli.planning.rounds import STATISTICS, Round, Runner
from kstream.cli.planning.sample import Sample, sources_of
from kstream.config import Settings
from kstream.devbroker import DevBroker
from kstream.runtime.cluster.naming import directory_name
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.topology import SubTopology, Topology
from kstream.types import NewTopic, ProducerClient, TopicPartition

_ELSEWHERE: Final = ("security.", "sasl.", "ssl.", "enable.ssl", "bootstrap.", "metadata.broker", "client.rack")
"""Keys of librdkafka that belong to the user's cluster and not to ours."""
_CACHE: Final = 8 << 20

Progress = Callable[[str, float], None]
"""Told what is being done, and the share (0..1) of all that is done."""


@dataclass(slots=True)
class _Measured:
    """What came out of some isolation groups: `share` is that of the sample's records which they read, sums are for
    each record of the whole sample."""

    topology: Topology
    share: float
    last: Round
    stores: list[StoreCost]
    read_bytes: float
    written_bytes: float
    written: float
    changelog: float


def measure(app: App, target: str, settings: Settings, sample: Sample, seconds: float, progress: Progress) -> Cost:
    """See the module's text.

    Args:
        settings: the app's; what belongs to its cluster is left out.
        seconds: how much work the last round is to be, about.

    Raises:
        BrokerError: the broker cannot be had. KStreamError: the app fails on the sample, or does not get on.
    """

    def downloaded(done: int, total: int) -> None:
        progress(f"downloading Kafka, {done / 1e6:.0f} of {total / 1e6:.0f} MB", 0.0)

    topology = app.topology()
    progress("starting a broker", 0.0)
    with tempfile.TemporaryDirectory(prefix="kstream-plan-") as folder, DevBroker(on_progress=downloaded) as broker:
        settings = _here(settings, broker.bootstrap_servers, Path(folder))
        clients = KafkaClients(settings.bootstrap_servers, options_from(settings, "kstream-plan"))
        _make_topics(topology, clients, settings)
        found = []
        samples = [(bundle, sample.of(sources_of(bundle))) for bundle in apart(topology)]
        bundles = [(bundle, records) for bundle, records in samples if records is not None]
        for number, (bundle, records) in enumerate(bundles):

            def told(what: str, share: float, number: int = number) -> None:
                progress(what, 0.1 + 0.9 * (number + share) / len(bundles))

            told("starting the app", 0.0)
            own = replace(settings, groups=",".join(bundle.groups))
            with app.supervisor(settings=own, target=target) as supervisor, _feed(clients) as producer:
                runner = Runner(bundle, supervisor, producer, records, broker.pid)
                found.append(_run(bundle, own, runner, len(sample), seconds, told))
            _empty(bundle, clients)
    return _cost(topology, sample, found)


def apart(topology: Topology) -> list[Topology]:
    """Isolation groups are measured one after the other, so that each has all it can do: one that waits for others has
    more to do for each record than it need. Groups that lead records to each other stay together."""
    bundles: list[list[SubTopology]] = []
    for group in topology.groups:
        parts = topology.of_group(group).parts
        joined = [bundle for bundle in bundles if _linked(bundle, parts)]
        bundles = [bundle for bundle in bundles if bundle not in joined]
        bundles.append([part for bundle in joined for part in bundle] + parts)
    return [Topology(topology.app, parts, topology.declared) for parts in bundles]


def _linked(some: list[SubTopology], others: list[SubTopology]) -> bool:
    """Whether a repartition topic lies between them."""

    def ends(parts: list[SubTopology]) -> tuple[set[str], set[str]]:
        read = {source.topic.name for part in parts for source in part.sources if source.topic.internal}
        return read, {topic.name for part in parts for topic in part.sinks}

    (read, written), (read_there, written_there) = ends(some), ends(others)
    return bool(read & written_there or read_there & written)


def _run(
    topology: Topology, settings: Settings, runner: Runner, sample: int, seconds: float, progress: Progress
) -> _Measured:
    runner.start()
    last = runner.measure(seconds, lambda count, share: progress(f"{count:,} records", 0.1 + 0.8 * share))
    progress("looking at its state", 0.9)
    runner.finish()
    share = len(runner.sample) / sample
    each = share / sum(runner.sent.values())
    changelogs = {topology.changelog(store) for part in topology.parts for store in part.stores}
    return _Measured(
        topology=topology,
        share=share,
        last=last,
        stores=_stores(topology, settings, runner),
        read_bytes=runner.total("consumed_bytes_total") * each,
        written_bytes=runner.total("produced_bytes_total") * each,
        written=runner.total("records_produced_total") * each,
        changelog=sum(runner.total("records_produced_total", topic) for topic in changelogs) * each,
    )


def _empty(topology: Topology, clients: KafkaClients) -> None:
    """Deletes what was sent: the next groups begin with nothing."""
    admin = clients.admin()
    try:
        counts = admin.topics(30.0)
        at = [
            TopicPartition(name, number) for name in sources_of(topology) for number in range(counts[name].partitions)
        ]
        admin.delete_records(admin.end_offsets(at).result(30.0)).result(30.0)
    finally:
        admin.close()


def _here(settings: Settings, servers: str, folder: Path) -> Settings:
    """The app's settings on a broker of one node, without anything that is to be seen from outside."""
    own = {
        key: value
        for key, value in settings.kafka.items()
        if not key.removeprefix("consumer.").removeprefix("producer.").removeprefix("admin.").startswith(_ELSEWHERE)
    }
    return replace(
        settings, bootstrap_servers=servers, kafka=own, kafka_tokens=None, auto_create_topics=True,
        replication_factor=1,
        instance="plan", state_dir=str(folder / "state"), workers=1, groups="", auto_offset_reset="earliest",
        web=False, announce_interval=0.0, trace_sample=0.0, log_level="CRITICAL", log_file=None,
        kafka_statistics_interval=STATISTICS,
    )  # fmt: skip


def _make_topics(topology: Topology, clients: KafkaClients, settings: Settings) -> None:
    """The user's topics, without the settings they are declared with: a min.insync.replicas would be too much here,
    and records of the past must not be deleted."""
    topics = {topic.name: topic for topic in topology.declared}
    topics |= sources_of(topology) | {topic.name: topic for part in topology.parts for topic in part.sinks}
    keep = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}
    admin = clients.admin()
    try:
        admin.create_topics(
            [
                NewTopic(topic.name, topic.partitions or settings.default_partitions, 1, keep)
                for topic in topics.values()
                if not topic.internal
            ],
            30.0,
        )
    finally:
        admin.close()


@contextmanager
def _feed(clients: KafkaClients) -> Iterator[ProducerClient]:
    producer = clients.producer(None)
    try:
        yield producer
    finally:
        producer.close()


# ---- what came out


def _stores(topology: Topology, settings: Settings, runner: Runner) -> list[StoreCost]:
    """Every store, counted entry by entry where it lies on disk: what RocksDB estimates counts overwritten entries."""
    found = []
    memory = RocksMemory(_CACHE, _CACHE)
    for part in topology.parts:
        for store in part.stores:
            if settings.backend == "memory":
                entries = int(runner.total("state_entries", store.name))
                size = int(runner.total("state_size_bytes", store.name))
            else:
                entries, size = _scan(part, store.name, Path(settings.state_dir), memory)
            found.append(StoreCost(store.name, part.name, entries, size / entries if entries else 0.0))
    return found


def _scan(part: SubTopology, store: str, state_dir: Path, memory: RocksMemory) -> tuple[int, int]:
    """Entries, and bytes of their keys and values, over all tasks."""
    entries = size = 0
    for directory in state_dir.glob(f"*/{directory_name(part.name)}/*"):
        if not directory.name.isdigit():
            continue
        backend = RocksBackend(directory, [one.name for one in part.stores], memory)
        try:
            for key, value in backend.scan(store):
                entries += 1
                size += len(key) + len(value)
        finally:
            backend.close()
    return entries, size


def _cost(topology: Topology, sample: Sample, found: list[_Measured]) -> Cost:
    """Times are of the last rounds, where all was warm; bytes and records written are of all rounds, because librdkafka
    fetches ahead and counts bytes late."""
    rounds = [one.last for one in found]
    seconds, loop = sum(one.seconds for one in rounds), sum(use.loop for one in rounds for use in one.workers)
    waiting = sum(use.backpressured for one in rounds for use in one.workers)
    parts = {part.name: _part_cost(part, one) for one in found for part in one.topology.parts}
    return Cost(
        records=sum(one.records for one in rounds),
        seconds=seconds,
        sample=len(sample),
        keys=sample.keys,
        hottest=sample.hottest,
        input_bytes=sample.bytes,
        read_bytes=sum(one.read_bytes for one in found),
        written_bytes=sum(one.written_bytes for one in found),
        written=sum(one.written for one in found),
        changelog=sum(one.changelog for one in found),
        waiting=waiting / loop if loop else 0.0,
        others=sum(one.others for one in rounds) / seconds / (os.cpu_count() or 1),
        memory=max(one.memory for one in rounds),
        parts=[parts[part.name] for part in topology.parts if part.name in parts],
        stores=[store for one in found for store in one.stores],
        cores=os.cpu_count() or 1,
        passed={
            group: one.share * one.last.seconds / one.last.records for one in found for group in one.topology.groups
        },
    )


def _part_cost(part: SubTopology, found: _Measured) -> PartCost:
    """A worker's time and processor time, by the share that the part's tasks have of what all tasks were busy."""
    last = found.last
    records, time, cpu = [], 0.0, 0.0
    for use in last.workers:
        if use.group != part.group:
            continue
        own = {task: busy for task, busy in use.busy.items() if task.rpartition("/")[0] == part.name}
        total = sum(use.busy.values())
        share = sum(own.values()) / total if total else 0.0
        time += use.time * share
        cpu += max(use.cpu, use.thread) * share
        records += [use.records.get(task, 0.0) for task in own]
    count = sum(records)
    return PartCost(
        name=part.name,
        group=part.group,
        topics=part.topics,
        writes=[topic.name for topic in part.sinks],
        records=found.share * count / last.records,
        time=time / count if count else 0.0,
        cpu=cpu / count if count else 0.0,
        busiest=max(records) / count * len(records) if count else 1.0,
    )
