"""Several real workers on one in-memory cluster, moved by hand, and what they must have done in the end.

A `Fleet` runs an app whose outputs number themselves (`Counting`): every key's outputs are 1, 2, 3, ... in order,
so that one record lost, doubled, or counted from a wrong state shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kstream
from kstream.config import Settings
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.task.states import TaskState
from kstream.runtime.task.task import Task
from kstream.runtime.worker.assembly import WorkerParts
from kstream.runtime.worker.loop import StreamWorker
from kstream.state.backend import Backend
from kstream.state.memory import MemoryBackend
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.snapshots.storage import open_storage
from kstream.testing import ManualClock, MemoryCluster
from kstream.testing.clients import MemoryClients
from kstream.topology import Topology
from kstream.types import TopicPartition

ROCKS = RocksMemory(8 << 20, 8 << 20)


class Fleet:
    """Workers by name, the cluster they share, and a clock that moves a little with every step."""

    def __init__(
        self, app: kstream.App, state_dir: Path, *, partitions: int = 4, backend: str = "memory", **settings: Any
    ) -> None:
        self.app = app
        self.clock = ManualClock()
        self.cluster = MemoryCluster(self.clock)
        self.backend = backend
        self.raise_failures = False
        self.settings = Settings(
            **{
                "default_partitions": partitions,
                "state_dir": str(state_dir),
                "commit_interval": 1.0,
                "restart_jitter": 0.0,
                **settings,
            }
        )
        self.topology = app.topology()
        self.partitions = prepare_topics(self.topology, MemoryClients(self.cluster).admin(), self.settings)
        self.workers: dict[str, StreamWorker] = {}

    # ---- workers

    def start(self, name: str) -> StreamWorker:
        """A worker of that name; one that has it already goes on as a zombie, if anybody still steps it."""
        return self._start(name, self.topology, self.identity(name))

    def start_group(self, group: str) -> StreamWorker:
        """A worker of an isolation group, by its name."""
        return self._start(group, self.topology.of_group(group), Identity(self.app.name, group, 0, group))

    def stop_groups(self) -> None:
        """Workers that `start_group` began."""
        for group in list(self.workers):
            self.workers.pop(group).close()
            self.cluster.expire(Identity(self.app.name, group, 0, group).member)

    def _start(self, name: str, topology: Topology, identity: Identity) -> StreamWorker:
        worker = StreamWorker(
            WorkerParts(
                topology=topology,
                whole=self.topology,
                partitions=self.partitions,
                settings=self.settings,
                identity=identity,
                clients=MemoryClients(self.cluster),
                clock=self.clock,
                backends=self._backend,
                storage=None if self.settings.snapshots is None else open_storage(self.settings.snapshots),
                lifespan=self.app.lifespan_function,
                listeners=self.app.checkpoint_listeners,
                raise_failures=self.raise_failures,
            )
        )
        worker.start()
        self.workers[name] = worker
        return worker

    def identity(self, name: str) -> Identity:
        return Identity(self.app.name, name, 0)

    def expire(self, name: str) -> None:
        """The group gives the member up. The worker learns of it when it polls."""
        self.cluster.expire(self.identity(name).member)

    def crash(self, name: str) -> None:
        """The process dies: nothing is committed, its session goes on, its transaction stays open."""
        self.workers.pop(name).abandon()

    def leave(self, name: str) -> None:
        """A clean stop, and the end of the session; of a transaction, too, that it could not end."""
        self.workers.pop(name).close()
        self.expire(name)
        if self.cluster.transactions.open_transaction(self.identity(name).member) is not None:
            self.cluster.time_out_transaction(self.identity(name).member)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.abandon()
        self.workers.clear()

    # ---- moving

    def step(self, *names: str, times: int = 1, seconds: float = 0.06) -> None:
        """Turns of these workers (all, when none is named), one after the other."""
        for _ in range(times):
            for name in names or tuple(self.workers):
                self.clock.advance(seconds)
                self.workers[name].step()

    def settle(self, *names: str) -> None:
        """Until every input is processed and committed by these workers (all, when none is named)."""
        for _ in range(3000):
            self.step(*names, seconds=0.3)
            if self.settled(*names):
                return
        raise AssertionError(f"no rest: {[(n, w.restorer.stages()) for n, w in self.workers.items()]}")

    def settled(self, *names: str) -> bool:
        tasks = [task for name in names or self.workers for task in self.workers[name].tasks.values()]
        if len({task.name for task in tasks}) < sum(self.partitions[part.topics[0]] for part in self.topology.parts):
            return False
        return all(self._follows_group(name) for name in names or self.workers) and all(map(self._at_rest, tasks))

    def _follows_group(self, name: str) -> bool:
        group, member = self.cluster.group(self.app.name), self.identity(name).member
        inputs = {at for task in self.workers[name].tasks.values() for at in task.inputs}
        return group.stable and member in group.members and inputs == set(group.assignment(member))

    def _at_rest(self, task: Task) -> bool:
        if task.state is TaskState.FAILED:
            return True
        return (
            task.state is TaskState.RUNNING
            and not task.touched
            and not task.buffered
            and not task.busy
            and all(self.cluster.log(at).stable_end <= offset for at, offset in task.positions.items())
        )

    def send(self, topic: kstream.Topic[Any, Any], keys: Sequence[Any], value: Any = 1) -> None:
        for key in keys:
            raw = None if key is None else topic.key.codec.encode(key)
            self.cluster.append(topic.name, raw, topic.value.codec.encode(value))

    # ---- looking

    def outputs(self, topic: kstream.Topic[Any, Any]) -> dict[Any, list[Any]]:
        """The committed values of each key, in order."""
        found: dict[Any, list[Any]] = defaultdict(list)
        for record in self.cluster.records(topic.name):
            key = None if record.key is None else topic.key.codec.decode(record.key)
            found[key].append(None if record.value is None else topic.value.codec.decode(record.value))
        return dict(found)

    def changelog(self, store: str) -> dict[tuple[int, bytes], bytes]:
        """The last committed value of each key of each partition."""
        found: dict[tuple[int, bytes], bytes] = {}
        for record in self.cluster.records(f"{self.app.name}-{store}-changelog"):
            assert record.key is not None
            if record.value is None:
                found.pop((record.partition, record.key), None)
            else:
                found[record.partition, record.key] = record.value
        return found

    def stores(self, store: str) -> dict[tuple[int, bytes], bytes]:
        """What the running workers' backends hold of a store."""
        return {
            (task.partition, key): value
            for worker in self.workers.values()
            for task in worker.tasks.values()
            if store in task.stores
            for key, value in task.backend.scan(store)
        }

    def committed(self, topic: str) -> dict[int, int]:
        """The group's offsets."""
        offsets = self.cluster.group(self.app.name).offsets
        return {at.partition: offset for at, (offset, _) in sorted(offsets.items()) if at.topic == topic}

    def task(self, name: str, partition: int) -> Task:
        return next(task for task in self.workers[name].tasks.values() if task.partition == partition)

    def _backend(self, directory: Path, stores: Sequence[str]) -> Backend:
        if self.backend == "rocksdb":
            return RocksBackend(directory, stores, ROCKS)
        return MemoryBackend(stores, snapshotted=self.backend == "file")


class Counting:
    """An app that numbers the records of each key: once by a DSL aggregation, once by an agent with a table and
    `ctx.send`, both out of each other's sight."""

    def __init__(self, name: str = "counting") -> None:
        self.app = kstream.App(name)
        self.source = self.app.topic("in", key=str, value=int)
        self.by_dsl = self.app.topic("by-dsl", key=str, value=int)
        self.by_agent = self.app.topic("by-agent", key=str, value=int)
        self.sent = self.app.topic("sent", key=str, value=int)
        table = self.app.table("seen", key=str, value=int, default=0)
        self.app.stream(self.source).group_by_key().count(name="n").to(self.by_dsl)
        sent = self.sent

        @self.app.agent(self.source, to=self.by_agent)
        async def numbers(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> Any:
            async for _ in stream:
                table[ctx.key] += 1
                ctx.send(sent, table[ctx.key])
                yield table[ctx.key]

    def check(self, fleet: Fleet) -> None:
        """Exactly once: outputs, changelogs and stores are those of a run without any failure."""
        keys = Counter(str(record.key, "utf-8") for record in fleet.cluster.records("in") if record.key is not None)
        expected = {key: list(range(1, count + 1)) for key, count in keys.items()}
        for topic in (self.by_dsl, self.by_agent, self.sent):
            assert fleet.outputs(topic) == expected, topic.name
        for store in ("n", "seen"):
            content = fleet.changelog(store)
            assert {key.decode(): int(value) for (_, key), value in content.items()} == dict(keys), store
            assert fleet.stores(store) == content, f"{store}: the stores are not their changelogs"
        ends = {log: fleet.cluster.log(TopicPartition("in", log)) for log in range(fleet.partitions["in"])}
        for partition, offset in fleet.committed("in").items():
            assert offset <= ends[partition].end


__all__ = ["Counting", "Fleet"]
