"""A roll to an app that reads one topic more: for a while instances of one group subscribe to different topics."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import kstream
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.task.states import TaskState
from kstream.testing.clients import MemoryClients
from unit.runtime.harness import Fleet

KEYS = [f"k{n % 7}" for n in range(20)]


def app_of(*inputs: str) -> kstream.App:
    """It numbers the records of each key, over all of its inputs."""
    app = kstream.App("shop")
    first, *others = (app.stream(app.topic(name, key=str, value=int)) for name in inputs)
    together = first.merge(*others) if others else first
    together.group_by_key().count(name="n").to(app.topic("out", key=str, value=int))
    return app


def test_tasks_wait_until_all_their_inputs_are_in_one_place(tmp_path: Path) -> None:
    old, new = app_of("in"), app_of("in", "more")
    fleet = Fleet(old, tmp_path, partitions=2)
    source, out = old.topology().parts[0].sources[0].topic, next(iter(old.topology().parts[0].sinks))
    fleet.start("a")
    fleet.start("b")
    fleet.send(source, KEYS)
    fleet.settle()
    fleet.leave("b")
    fleet.topology = new.topology()
    fleet.partitions = prepare_topics(fleet.topology, MemoryClients(fleet.cluster).admin(), fleet.settings)
    more = next(one.topic for one in fleet.topology.parts[0].sources if one.topic.name == "more")
    mixed = fleet.start("b")
    fleet.send(source, KEYS)
    fleet.send(more, KEYS)
    fleet.step(times=200)
    assert mixed.registry.elsewhere, "some inputs of its tasks are with the other"
    fleet.leave("a")
    fleet.start("a")
    fleet.settle()
    assert {task.state for worker in fleet.workers.values() for task in worker.tasks.values()} == {TaskState.RUNNING}
    total = Counter(KEYS)
    assert fleet.outputs(out) == {key: list(range(1, 3 * total[key] + 1)) for key in total}
    fleet.close()
