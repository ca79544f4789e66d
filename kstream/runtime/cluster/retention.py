"""Output topics that would lose records at once, because they carry event times of long ago.

Kafka deletes by a record's time stamp, and an output's is the event time of its input. So a topic that is kept for
seven days loses the results of last month's events within minutes, whenever they were written. How old event times can
be is not known in advance, but how far back they may reach is: without limit, where a topic's `timestamp=` takes them
from the values; else as far as the input itself is kept.

A dead letter has the time stamp of its record, whatever its age, and waits until somebody has looked at it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kstream.runtime.cluster.dead_letters import letter_topics
from kstream.runtime.cluster.topics import FOREVER, INTERNAL
from kstream.specs.topic import Topic
from kstream.topology import Topology

SETTING = "retention.ms"


def kept(config: Mapping[str, str]) -> float:
    """How long a topic keeps a record after its time stamp, in ms; infinite where it does not delete by age."""
    retention = int(config.get(SETTING, -1))
    return math.inf if retention < 0 or "delete" not in config.get("cleanup.policy", "delete") else float(retention)


def reaches(topology: Topology, inputs: Mapping[str, float]) -> dict[str, float]:
    """By output topic of the user's: how far back (ms) the event times of its records may reach.

    Args:
        inputs: how long each input topic is kept; of one that is not there nothing is known, and nothing assumed.
    """
    back: dict[str, float] = {}
    for part in topology.parts:
        for source in part.sources:
            if not source.topic.internal:
                back[source.topic.name] = math.inf if source.topic.timestamp else inputs.get(source.topic.name, 0.0)
    outputs: dict[str, float] = {}
    for _ in topology.parts:  # a repartition topic hands on what its writers have: at most through all parts
        for part in topology.parts:
            furthest = max((back.get(topic, 0.0) for topic in part.topics), default=0.0)
            for sink in part.sinks:
                to = back if sink.internal else outputs
                to[sink.name] = max(to.get(sink.name, 0.0), furthest)
    return outputs


def created_config(topology: Topology) -> dict[str, dict[str, str]]:
    """What output topics are made with besides what their declarations say: no limit, where event times have none.
    Topics of dead letters have none either, nor of size, and take and keep any time stamp, whatever the brokers'
    defaults are."""
    declared = {name: kept(topic.config) if topic.config else 0.0 for name, topic in _inputs(topology).items()}
    found = {name: {SETTING: "-1"} for name, back in reaches(topology, declared).items() if math.isinf(back)}
    letters = {**INTERNAL["delay"], "message.timestamp.before.max.ms": FOREVER}
    return {**found, **dict.fromkeys(letter_topics(topology), letters)}


def too_short(topology: Topology, configs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """A line for each output topic, by its name, whose records may be deleted as soon as they are written; and for one
    of dead letters that is compacted.

    A topic whose declaration says so is left out: somebody has decided.

    Args:
        configs: Kafka's settings of the topics that there are.
    """
    inputs = {name: kept(configs[name]) for name in _inputs(topology) if name in configs}
    sinks = {sink.name: sink for part in topology.parts for sink in part.sinks}
    sinks |= {topic.name: topic for topic in topology.declared if topic.name in letter_topics(topology)}
    letters = dict.fromkeys(letter_topics(topology), max(inputs.values(), default=0.0))
    lines = {
        name: f"topic {name} is compacted: of the dead letters of a key Kafka keeps the last, and it takes none "
        "without a key; set cleanup.policy=delete there"
        for name in letters
        if "compact" in configs.get(name, {}).get("cleanup.policy", "") and "cleanup.policy" not in sinks[name].config
    }
    for name, back in {**reaches(topology, inputs), **letters}.items():
        if name not in configs or SETTING in sinks[name].config or (have := kept(configs[name])) >= back:
            continue
        if configs[name].get("message.timestamp.type") == "LogAppendTime":  # the time of writing
            continue
        lines[name] = (
            f"topic {name} keeps records for {days(have)} by their timestamps, which are event times of "
            f"{'any age' if math.isinf(back) else f'up to {days(back)} ago'}: Kafka deletes older records as soon as "
            f"they are written"
        )
    return lines


def forgetting(topology: Topology, configs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line for each global table whose topic deletes rows by their age: which a worker has depends on when it began.

    Args:
        configs: Kafka's settings of the topics that there are.
    """
    found = {table: kept(configs[table.topic.name]) for table in topology.tables if table.topic.name in configs}
    return [
        f"global table {table.name}: topic {table.topic.name} keeps records for {days(age)}, so a worker that starts "
        "later has no older rows; set cleanup.policy=compact"
        for table, age in found.items()
        if not math.isinf(age)
    ]


def mending(name: str) -> str:
    return (
        f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {SETTING}=-1, or declare how "
        f'long it is kept: config={{"{SETTING}": ...}}'
    )


def days(milliseconds: float) -> str:
    hours = milliseconds / 3_600_000
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"


def _inputs(topology: Topology) -> dict[str, Topic[Any, Any]]:
    return {
        source.topic.name: source.topic
        for part in topology.parts
        for source in part.sources
        if not source.topic.internal
    }
