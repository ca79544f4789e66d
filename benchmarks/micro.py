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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

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

Process = Callable[[list[list[Any]]], None]

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


@contextmanager
def task_of(kind: str) -> Iterator[Process]:
    """The whole of one task, as a function that processes batches and commits."""
    topology = services.KINDS[kind](f"micro-{kind}", "micro-bids").topology()
    (part,) = topology.parts
    loop, clock, transaction = asyncio.new_event_loop(), SystemClock(), NullTransaction()
    with tempfile.TemporaryDirectory() as folder:
        backend = RocksBackend(
            Path(folder) / "state", [spec.name for spec in part.stores], RocksMemory(50 << 20, 50 << 20)
        )
        plan = plan_task(
            part,
            backend=backend,
            outlet=cast("Any", transaction),
            contexts=_Contexts("micro/0", Worker("micro", "micro", 0)),
            loop=loop,
            cache_bytes=100 << 20,
        )
        task = Task(part, 0, plan, backend, clock)
        task.go(TaskState.RESTORING)
        task.go(TaskState.RUNNING)
        changelogs = {name: Changelog(f"micro-{name}", 0) for name in task.stores}
        at = TopicPartition("micro-bids", 0)

        def process(batches: list[list[Any]]) -> None:
            task.start_from({at: 0})
            for number, batch in enumerate(batches, 1):
                task.add(MessageFetch(at, batch))
                task.run()
                if number % COMMIT_EVERY == 0:
                    checkpoint([task], lambda _, name: changelogs[name], cast("Any", transaction), NullGroup(), clock)

        try:
            yield process
        finally:
            task.close()
            loop.close()


def by_hand(batches: list[list[Any]], *, per_record: bool, state: dict[Any, Any]) -> None:
    """The yardstick's loop."""
    decode, encode = msgspec.json.Decoder(Bid).decode, msgspec.json.Encoder().encode
    produce: Any = nothing
    dirty: dict[Any, Any] = {}
    position: dict[Any, Any] = {}
    for number, batch in enumerate(batches, 1):
        for message in batch:
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
        if number % COMMIT_EVERY == 0:
            for key, total in dirty.items():
                value = encode(total)
                produce("changelog", value, key)
                if not per_record:
                    produce("out", value, key)
            dirty.clear()


def measure(variants: dict[str, Process], batches: list[list[Any]]) -> dict[str, float]:
    """Nanoseconds of processor time a record: the least of several passes, taken in turns. Other processes can only
    add to it."""
    for process in variants.values():
        process(batches)
    gc.collect()
    gc.freeze()
    least = dict.fromkeys(variants, float("inf"))
    for _ in range(PASSES):
        for name, process in variants.items():
            began = time.thread_time()
            process(batches)
            least[name] = min(least[name], (time.thread_time() - began) / RECORDS * 1e9)
    gc.unfreeze()
    return least


def run(console: Console) -> int:
    batches = messages("micro-bids")
    with ExitStack() as stack:
        variants: dict[str, Process] = {
            "by hand, update": partial(by_hand, per_record=True, state={}),
            "by hand, commit": partial(by_hand, per_record=False, state={}),
        }
        variants |= {kind: stack.enter_context(task_of(kind)) for kind in services.KINDS}
        plain = measure(variants, batches)
    stages = Stages()
    for kind in services.KINDS:
        with task_of(kind) as process:
            process(batches)
            stages.reset()
            began, cpu = time.perf_counter(), time.thread_time()
            process(batches)
            seconds, cpu = time.perf_counter() - began, time.thread_time() - cpu
        result = Result(RECORDS, seconds, cpu, stages=stages.rows())
        console.print(stage_table(f"{kind}: {plain[kind]:,.0f} ns/record without the stop-watch", result))
    table = Table("path", "ns/record", "by hand / this", title="no broker, one partition, batches of 2000")
    for name, figure in plain.items():
        reference = plain["by hand, commit" if "commit" in name else "by hand, update"]
        table.add_row(name, f"{figure:,.0f}", f"{reference / figure:.2f}")
    console.print(table)
    if stages.missing:
        console.print(f"stages that the engine no longer has: {', '.join(stages.missing)}", style="yellow")
    return 0
