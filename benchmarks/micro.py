"""`python -m benchmarks --micro`: the framework's own path, without a broker.

A whole worker runs, with the real consumer's code over prebuilt messages and a producer whose `produce` is a C function
that does nothing. What is left is the time that the engine itself takes; beside it the hand-written loop under the same
conditions. Each step and commit is timed by itself and its least time of several passes counts, for other processes can
only add to it: so the figures hold on a busy machine too.
"""

from __future__ import annotations

import gc
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import confluent_kafka
import msgspec
from rich.console import Console
from rich.table import Table

import kstream
from benchmarks import services
from benchmarks.child import Result
from benchmarks.profiling import stage_table
from benchmarks.records import Bid, Total
from benchmarks.stages import WATCHING, Stages
from benchmarks.unchecked import Unchecked
from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.partitioning import partition_of
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.kafka.consumer import KafkaConsumer
from kstream.runtime.kafka.options import KafkaOptions
from kstream.runtime.worker.assembly import WorkerParts
from kstream.runtime.worker.loop import StreamWorker
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.types import DescribedTopic, TopicPartition

TOPIC, PARTITIONS = "micro-bids", 4
RECORDS, KEYS, BATCH = 80_000, 20_000, 2_000
PASSES = 40

Kind = Callable[[str, str], kstream.App]

nothing: Any = "".format
"""Takes any arguments, at the cost of a C call."""


def messages() -> list[list[Any]]:
    """Batches of messages, each of one partition, as librdkafka hands them out. Made by hand: it is not involved."""
    choose = random.Random(42)
    homes: list[list[int]] = [[] for _ in range(PARTITIONS)]
    for auction in range(KEYS):
        homes[partition_of(b"%d" % auction, PARTITIONS)].append(auction)
    now, batches, offsets = 1_700_000_000_000, [], [0] * PARTITIONS
    for number, partition in zip(range(RECORDS // BATCH), cycle(range(PARTITIONS)), strict=False):
        batch = []
        for _ in range(BATCH):
            auction = choose.choice(homes[partition])
            value = b'{"auction":%d,"price":%d,"bidder":"b%d"}' % (auction, choose.randrange(10_000), number)
            batch.append(
                confluent_kafka.Message(
                    topic=TOPIC,
                    partition=partition,
                    offset=offsets[partition],
                    key=b"%d" % auction,
                    value=value,
                    timestamp=(1, now + number),
                )
            )
            offsets[partition] += 1
        batches.append(batch)
    return batches


class Measured(Protocol):
    """What is measured: batches, one after the other, and commits."""

    def begin(self) -> None: ...
    def batch(self, messages: list[Any]) -> None: ...
    def commit(self) -> None: ...


# ---- clients that do nothing


class FakeConsumer:
    """In the place of confluent_kafka.Consumer: one batch at a time."""

    def __init__(self) -> None:
        self.batch: list[Any] = []
        self._assigned: Callable[..., None] | None = None

    def subscribe(self, topics: list[str], *, on_assign: Callable[..., None], **_: object) -> None:
        self._assigned = on_assign

    def poll(self, timeout: float) -> Any:
        assigned, self._assigned = self._assigned, None
        if assigned is not None:
            assigned(self, [confluent_kafka.TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)])
        return self.batch[0] if self.batch else None

    def consume(self, count: int, timeout: float) -> list[Any]:
        batch, self.batch = self.batch[1:], []
        return batch

    def get_watermark_offsets(self, partition: object, *, cached: bool) -> tuple[int, int]:
        return 0, RECORDS

    def offsets_for_times(self, positions: list[Any], timeout: float) -> list[Any]:
        return []  # nothing is known of the logs' starts

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class FakeProducer:
    def __init__(self) -> None:
        self.produce = nothing

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


class FakeAdmin:
    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Future[Any]:
        return done(dict.fromkeys(partitions))

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[Any]:
        return done({at: RECORDS if at.topic == TOPIC else 0 for at in partitions})

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Future[Any]:
        return done(dict.fromkeys(partitions, 0))

    def describe(self, names: Sequence[str]) -> Future[Any]:
        return done({name: DescribedTopic(f"id of {name}", PARTITIONS) for name in names})

    def topics(self, timeout: float) -> dict[str, int]:
        return {TOPIC: PARTITIONS}

    def members(self, group: str) -> Future[Any]:
        return done(frozenset[str]())

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class FakeClients:
    def __init__(self) -> None:
        self.fake = FakeConsumer()

    def consumer(self, group: str, member: str) -> KafkaConsumer:
        with patch("kstream.runtime.kafka.consumer.make", lambda *_: self.fake):
            return KafkaConsumer("nowhere:1", KafkaOptions(), group, member)

    def reader(self) -> Any:
        raise AssertionError("nothing is to be restored")

    def producer(self, transactional_id: str | None) -> Any:
        return FakeProducer()

    def admin(self) -> Any:
        return FakeAdmin()


# ---- what is compared


class Engine:
    """A worker with all four partitions, of the app that `kinds` makes of a name and a topic."""

    def __init__(self, kind: str, folder: Path, kinds: Mapping[str, Kind] = services.KINDS) -> None:
        topology = kinds[kind](f"micro-{kind}", TOPIC).topology()
        topics = [TOPIC, *(topic.name for part in topology.parts for topic in part.sinks)]
        self._clients = FakeClients()
        memory = RocksMemory(50 << 20, 50 << 20)
        clients: Any = self._clients
        self._worker = StreamWorker(
            WorkerParts(
                topology=topology,
                partitions=dict.fromkeys(topics, PARTITIONS),
                settings=Settings(
                    state_dir=str(folder),
                    commit_interval=1000.0,
                    transaction_timeout=10_000.0,
                    max_uncommitted_records=1 << 40,
                    flush_interval=10_000.0,
                ),
                identity=Identity(f"micro-{kind}", "bench", 0),
                clients=clients,
                clock=SystemClock(),
                backends=lambda directory, stores: RocksBackend(directory, stores, memory),
                raise_failures=True,
            )
        )
        self._worker.start()
        for _ in range(100):
            self._worker.step()

    def begin(self) -> None:
        for task in self._worker.tasks.values():
            task.start_from(dict.fromkeys(task.inputs, 0))

    def batch(self, messages: list[Any]) -> None:
        self._clients.fake.batch = messages
        self._worker.step()

    def commit(self) -> None:
        self._worker.commit_now()

    @property
    def records(self) -> int:
        return self._worker.records

    def close(self) -> None:
        self._worker.close()


class ByHand:
    """The yardstick's loop."""

    def __init__(self, *, per_record: bool) -> None:
        self._per_record = per_record
        self._decode, self._encode = msgspec.json.Decoder(Bid).decode, msgspec.json.Encoder().encode
        self._state: dict[Any, Any] = {}
        self._dirty: dict[Any, Any] = {}
        self._position: dict[Any, Any] = {}

    def begin(self) -> None:
        pass

    def batch(self, messages: list[Any]) -> None:
        decode, encode, produce, per_record = self._decode, self._encode, nothing, self._per_record
        state, dirty, position = self._state, self._dirty, self._position
        for message in messages:
            bid, key = decode(message.value()), message.key()
            total = state.get(key)
            if total is None:
                total = state[key] = Total(bid.auction, 0, 0)
            total.count += 1
            total.sum += bid.price
            dirty[key] = total
            if per_record:
                produce("out", encode(total), key)
            position[message.partition()] = message.offset() + 1

    def commit(self) -> None:
        for key, total in self._dirty.items():
            value = self._encode(total)
            nothing("changelog", value, key)
            if not self._per_record:
                nothing("out", value, key)
        self._dirty.clear()


# ---- measuring


def one_pass(path: Measured, batches: list[list[Any]]) -> Iterator[float]:
    """Seconds of processor time of each batch, and at last of a commit."""
    clock = time.thread_time
    path.begin()
    for batch in batches:
        began = clock()
        path.batch(batch)
        yield clock() - began
    began = clock()
    path.commit()
    yield clock() - began


def measure(
    paths: Mapping[str, Measured], batches: list[list[Any]], passes: int = PASSES
) -> dict[str, tuple[float, float]]:
    """Nanoseconds a record, and those a changed key takes in the commit."""
    least = {name: [float("inf")] * (len(batches) + 1) for name in paths}
    gc.collect()
    gc.freeze()
    for _ in range(passes):
        for name, path in paths.items():
            for slot, seconds in enumerate(one_pass(path, batches)):
                least[name][slot] = min(least[name][slot], seconds)
    gc.unfreeze()
    return {name: (sum(times[:-1]) / RECORDS * 1e9, times[-1] / KEYS * 1e9) for name, times in least.items()}


def by_stages(engine: Engine, stages: Stages, batches: list[list[Any]]) -> Result:
    """The least time of each stage. `stages` was made before the engine, which keeps bound methods."""
    least: dict[str, tuple[str, int, float, float]] = {}
    taken = sum(one_pass(engine, batches))  # warms up
    for _ in range(PASSES):
        stages.reset()
        taken = min(taken, sum(one_pass(engine, batches)))
        for row in stages.rows():
            least[row[0]] = min(least.get(row[0], row), row, key=lambda each: each[3])
    return Result(RECORDS, taken, taken, stages=sorted(least.values(), key=lambda row: -row[3]))


def run(console: Console) -> int:
    """Prints where the time goes in each service, then the comparison.

    Returns 1 when an engine did not process what it was given.
    """
    batches = messages()
    with tempfile.TemporaryDirectory(prefix="kstream-bench-") as folder:
        engines = {kind: Engine(kind, Path(folder) / kind) for kind in services.KINDS}
        by_hand = {"by hand, update": ByHand(per_record=True), "by hand, commit": ByHand(per_record=False)}
        others = {kind: Engine(kind, Path(folder) / "unchecked" / kind) for kind in services.KINDS}
        without = {f"{kind}, nothing checked": Unchecked(engine) for kind, engine in others.items()}
        plain = measure({**by_hand, **engines, **without}, batches)
        wrong = [kind for kind, engine in engines.items() if engine.records != PASSES * RECORDS]
        for engine in (*engines.values(), *others.values()):
            engine.close()
        stages = Stages()
        for kind in services.KINDS:
            engine = Engine(kind, Path(folder) / "stages" / kind)
            title = f"{kind}, with a commit of {KEYS:,} keys after {RECORDS:,} records"
            result = by_stages(engine, stages, batches)
            console.print(stage_table(title, result))
            watching = sum(cpu for name, _, _, cpu in result.stages if name.startswith(WATCHING))
            console.print(f"{kind}: watching state takes {watching / result.seconds:.2%} of it")
            engine.close()
    table = Table("path", "ns/record", "by hand / this", "ns/key in commits", title="no broker, batches of 2000")
    for name, (figure, commit) in plain.items():
        reference, _ = plain["by hand, commit" if "commit" in name else "by hand, update"]
        table.add_row(name, f"{figure:,.0f}", f"{reference / figure:.2f}", f"{commit:,.0f}")
    console.print(table)
    if stages.missing:
        console.print(f"stages that the engine no longer has: {', '.join(stages.missing)}", style="yellow")
    if wrong:
        console.print(f"not everything was processed by {', '.join(wrong)}", style="red")
    return 1 if wrong else 0
