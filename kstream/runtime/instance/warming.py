"""Which tasks of other instances this one keeps warm: whose state it follows, so that taking them over is quick.

Each task with state is followed by `warm` instances besides its owner. Which ones is the same for everybody who knows
the same instances, and changes little when one comes or goes: each pair of instance and task has a weight, a hash, and
the highest weights win (rendezvous hashing: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates",
IEEE/ACM Transactions on Networking 6(1), 1998). Within an instance the workers of the isolation group share its copies
in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from kstream.observe.status import NOBODY, InstanceStatus
from kstream.runtime.instance.supervisor import Supervisor
from kstream.runtime.process.handle import Process
from kstream.runtime.process.report import Command
from kstream.topology import Topology

LOOK_SECONDS: Final = 1.0

Tick = Callable[[Supervisor], None]


def weight(who: str, task: str) -> int:
    """Of an instance or worker for a task: the same everywhere, unlike Python's own hashes."""
    return int.from_bytes(blake2b(f"{who}\0{task}".encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def highest(who: Iterable[str], task: str, count: int) -> list[str]:
    """The `count` of these that have the highest weights for a task."""
    return sorted(who, key=lambda one: (weight(one, task), one), reverse=True)[:count]


def kept_warm(
    tasks: Iterable[str], instance: str, owners: Mapping[str, str], instances: Collection[str], count: int
) -> list[str]:
    """The tasks that an instance keeps warm.

    Args:
        owners: the instance that runs a task, as far as one is known.
        instances: those that are alive.
        count: how many besides the owner follow each task.
    """
    return [
        task
        for task in tasks
        if owners.get(task) != instance
        and instance in highest((one for one in instances if one != owners.get(task)), task, count)
    ]


class Warming:
    """Tells the workers of an instance what to follow. Called on each turn of the supervisor's loop.

    Args:
        partitions: the partition count of every topic.
        others: the app's other instances, as heard of last.
    """

    def __init__(
        self,
        topology: Topology,
        partitions: Mapping[str, int],
        instance: str,
        count: int,
        others: Callable[[], Sequence[InstanceStatus]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = [
            (f"{part.name}/{partition}", part)
            for part in topology.parts
            if part.stores
            for partition in range(partitions[part.topics[0]])
        ]
        self._instance, self._count, self._others, self._now = instance, count, others, now
        self._told: dict[str, tuple[Process, frozenset[str]]] = {}
        self._looked = float("-inf")

    def __call__(self, supervisor: Supervisor) -> None:
        if self._now() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._now()
        for name, (process, tasks) in self.shares(supervisor).items():
            if self._told.get(name) != (process, tasks):
                process.tell(Command(warm=sorted(tasks)))
                self._told[name] = process, tasks

    def shares(self, supervisor: Supervisor) -> dict[str, tuple[Process, frozenset[str]]]:
        """What each running worker is to follow, by its name."""
        others = [one for one in self._others() if one.state != "silent"]
        owners = {task.name: one.instance for one in others for task in one.tasks if task.worker != NOBODY}
        running = [one for one in supervisor.workers if one.process is not None and one.report.joined]
        owners |= {task.name: self._instance for one in running for task in one.report.tasks}
        found: dict[str, tuple[Process, frozenset[str]]] = {}
        for group in {one.group for one in running}:
            workers = {one.name: one.process for one in running if one.group == group}
            there = {one.instance for one in others if any(each.group == group for each in one.workers)}
            mine = [name for name, part in self._tasks if part.group == group]
            warm = kept_warm(mine, self._instance, owners, {self._instance, *there}, self._count)
            place = {task: highest(workers, task, 1)[0] for task in warm}
            for name, process in workers.items():
                assert process is not None
                found[name] = process, frozenset(task for task in warm if place[task] == name)
        return found


def both(first: Tick, second: Tick) -> Tick:
    """Calls `second`, then `first`. What `second` raises keeps `first` for the next turn."""

    def tick(supervisor: Supervisor) -> None:
        second(supervisor)
        first(supervisor)

    return tick
