"""`python -m benchmarks --micro`: the framework's own path, without a broker.

Prebuilt messages go through the real plan, task and checkpoint; what is produced goes to a C function that does
nothing. So what is left is the time that the engine itself takes, in nanoseconds a record; beside it the hand-written
loop under the same conditions.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from confluent_kafka import Message
from rich.console import Console
from rich.table import Table

from benchmarks import services
from benchmarks.child import Result
from benchmarks.profiling import stage_table
from benchmarks.records import Bid, Total
from benchmarks.stages import Stages
from kstream.plan import plan_task
from kstream.runtime.checkpoint import checkpoint
from kstream.runtime.child import SystemClock
from kstream.runtime.context import Worker
from kstream.runtime.kafka.consumer import MessageFetch
from kstream.runtime.states import TaskState
from kstream.runtime.task import Task
from kstream.runtime.worker import _Contexts
from kstream.state.changelog import Changelog
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.types import TopicPartition

RECORDS, KEYS, BATCH = 400_000, 5_000, 2_000
COMMIT_EVERY = 100
"""Batches between commits: 200,000 records, as many as a worker takes in well under a second."""

PASSES = 9

nothing = "".format  # takes any arguments, at the cost of a C call


class NullTransaction:
    """Where all that is produced vanishes."""

    exactly_once = True
    produced = 0
    produce = staticmethod(nothing)

    def produce_watched(self, *_: object) -> None: ...
    def wait_for_room(self) -> None: ...
    def send_offsets(self, *_: object) -> None: ...
    def commit(self) -> None: ...


class NullGroup:
    def metadata(self) -> object:
        return None

    def commit(self, offsets: dict[TopicPartition, int]) -> None: ...


def messages(topic: str) -> list[list[Any]]:
    """Batches of messages of one partition. `Message` is made by hand: librdkafka is not involved."""
    choose = random.Random(42)
    now, batches = 1_700_000_000_000, []
    for start in range(0, RECORDS, BATCH):
        batch = []
        for offset in range(start, start + BATCH):
            auction = choose.randrange(KEYS)
            value = b'{"auction":%d,"price":%d,"bidder":"b%d"}' % (auction, choose.randrange(10_000), offset % 50_000)
            batch.append(
                Message(
                    topic=topic,
                    partition=0,
                    offset=offset,
                    key=b"%d" % auction,
                    value=value,
                    timestamp=(1, now + offset),
                )
            )
        batches.append(batch)
    return batches


class Measured(Protocol):
    """What is measured: batches, one after the other, and commits."""

    def begin(self) -> None: ...
    def batch(self, messages: list[Any]) -> None: ...
    def commit(self) -> None: ...


class Engine:
    """The whole of one task."""

    def __init__(self, kind: str, folder: Path) -> None:
        topology = services.KINDS[kind](f"micro-{kind}", "micro-bids").topology()
        (part,) = topology.parts
        self._loop, self._clock, self._transaction = asyncio.new_event_loop(), SystemClock(), NullTransaction()
        backend = RocksBackend(folder / kind, [spec.name for spec in part.stores], RocksMemory(50 << 20, 50 << 20))
        plan = plan_task(
            part,
            backend=backend,
            outlet=cast("Any", self._transaction),
            contexts=_Contexts("micro/0", Worker("micro", "micro", 0)),
            loop=self._loop,
            cache_bytes=100 << 20,
        )
        self._task = Task(part, 0, plan, backend, self._clock)
        self._task.go(TaskState.RESTORING)
        self._task.go(TaskState.RUNNING)
        self._changelogs = {name: Changelog(f"micro-{name}", 0) for name in self._task.stores}
        self._at, self._group = TopicPartition("micro-bids", 0), NullGroup()

    def begin(self) -> None:
        self._task.start_from({self._at: 0})

    def batch(self, messages: list[Any]) -> None:
        self._task.add(MessageFetch(self._at, messages))
        self._task.run()

    def commit(self) -> None:
        transaction = cast("Any", self._transaction)
        checkpoint([self._task], self._changelog, transaction, self._group, self._clock, lambda _: None)

    def _changelog(self, task: Task, store: str) -> Changelog:
        return self._changelogs[store]

    def close(self) -> None:
        self._task.close()
        self._loop.close()


class ByHand:
    """The yardstick's loop."""

    def __init__(self, *, per_record: bool) -> None:
        self._per_record = per_record
        self._decode, self._encode = msgspec.json.Decoder(Bid).decode, msgspec.json.Encoder().encode
        self._produce: Any = nothing
        self._state: dict[Any, Any] = {}
        self._dirty: dict[Any, Any] = {}
        self._position: dict[Any, Any] = {}

    def begin(self) -> None:
        pass

    def batch(self, messages: list[Any]) -> None:
        decode, encode, produce, per_record = self._decode, self._encode, self._produce, self._per_record
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
            self._produce("changelog", value, key)
            if not self._per_record:
                self._produce("out", value, key)
        self._dirty.clear()


def measure(paths: dict[str, Measured], batches: list[list[Any]]) -> dict[str, float]:
    """Nanoseconds of processor time a record. Each batch and commit is timed by itself and its least time of several
    passes counts, for other processes can only add to it: so the figures hold on a busy machine too."""
    commits = len(batches) // COMMIT_EVERY
    least = {name: [float("inf")] * (len(batches) + commits) for name in paths}
    gc.collect()
    gc.freeze()
    for _ in range(PASSES):
        for name, path in paths.items():
            for slot, seconds in enumerate(one_pass(path, batches)):
                least[name][slot] = min(least[name][slot], seconds)
    gc.unfreeze()
    return {name: sum(slots) / RECORDS * 1e9 for name, slots in least.items()}


def one_pass(path: Measured, batches: list[list[Any]]) -> Iterator[float]:
    clock = time.thread_time
    path.begin()
    for number, batch in enumerate(batches, 1):
        began = clock()
        path.batch(batch)
        yield clock() - began
        if number % COMMIT_EVERY == 0:
            began = clock()
            path.commit()
            yield clock() - began


def by_stages(engine: Engine, stages: Stages, batches: list[list[Any]]) -> Result:
    """The least time of each stage in some passes. `stages` was made before the engine, which keeps bound methods."""
    least: dict[str, tuple[str, int, float, float]] = {}
    taken = float("inf")
    for _ in range(PASSES):
        stages.reset()
        taken = min(taken, sum(one_pass(engine, batches)))
        for row in stages.rows():
            least[row[0]] = min(least.get(row[0], row), row, key=lambda each: each[3])
    return Result(RECORDS, taken, taken, stages=sorted(least.values(), key=lambda row: -row[3]))


def run(console: Console) -> int:
    batches = messages("micro-bids")
    with tempfile.TemporaryDirectory(prefix="kstream-bench-") as folder:
        engines = {kind: Engine(kind, Path(folder)) for kind in services.KINDS}
        by_hand = {"by hand, update": ByHand(per_record=True), "by hand, commit": ByHand(per_record=False)}
        plain = measure({**by_hand, **engines}, batches)
        for engine in engines.values():
            engine.close()
        stages = Stages()
        for kind in services.KINDS:
            engine = Engine(kind, Path(folder) / "stages")
            title = f"{kind}: {plain[kind]:,.0f} ns/record without the stop-watch"
            console.print(stage_table(title, by_stages(engine, stages, batches)))
            engine.close()
    table = Table("path", "ns/record", "by hand / this", title="no broker, one partition, batches of 2000")
    for name, figure in plain.items():
        reference = plain["by hand, commit" if "commit" in name else "by hand, update"]
        table.add_row(name, f"{figure:,.0f}", f"{reference / figure:.2f}")
    console.print(table)
    if stages.missing:
        console.print(f"stages that the engine no longer has: {', '.join(stages.missing)}", style="yellow")
    return 0
