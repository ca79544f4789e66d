"""`kstream lag`: what waits in an app's inputs, counted from the committed offsets; the app need not run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import replace
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.errors import KafkaUnavailable, KStreamError, TopicError
from kstream.observe.status import InstanceStatus
from kstream.runtime.cluster.announce import read_instances
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.kafka import KafkaClients
from kstream.topology import Topology
from kstream.types import AdminClient, Clients, TopicPartition

TIMEOUT: Final = 15.0


class PartitionLag(msgspec.Struct):
    """One input partition of an isolation group.

    Attributes:
        group: the consumer group.
        committed: offset of the next record to process; None when the app never committed there.
        lag: records from there to `end`. Gaps in the offsets (the ends of transactions, compaction) count as records,
            but a partition in which nothing else is left has no lag.
        waiting: timestamp of the first record that waits, seconds since the epoch; None when none does.
        owner: `instance/worker` that has it, as announced.
        behind: for how many seconds at least that record has waited, as its owner announced: since it came, whatever
            its timestamp says. None when none waits, or nobody says so.
    """

    topic: str
    partition: int
    internal: bool
    committed: int | None
    end: int
    lag: int
    waiting: float | None = None
    owner: str | None = None
    group: str = ""
    behind: float | None = None


class Lag(msgspec.Struct):
    """All inputs of an app. `at` is when they were looked at, `seconds` how old the oldest waiting record is by its
    timestamp, `behind` the longest time behind, None where there is none."""

    app: str
    groups: list[str]
    at: float
    total: int
    seconds: float
    partitions: list[PartitionLag]
    behind: float | None = None


def run(on: Subject, *, as_json: bool, most: int | None) -> int:
    """The command. Returns 1 when the total is above `most`, else 0."""
    assert on.app is not None
    found = measure(on.app.topology(), on)
    if as_json:
        human.write_json(found)
    else:
        human.console().print(screen(found, on.servers))
    return 0 if most is None or found.total <= most else 1


def measure(topology: Topology, on: Subject) -> Lag:
    """Asks the cluster.

    Raises:
        TopicError: an input does not exist.
        KafkaUnavailable: no answer in time.
    """
    groups = {consumer_group(topology.app, group): group for group in topology.groups}
    clients = KafkaClients(on.servers, replace(on.options, raw={**on.options.raw, **_ONE_RECORD}))
    admin = on.clients.admin()
    rows = []
    try:
        for name, group in groups.items():
            found = _offsets(topology.of_group(group), admin, name, on)
            _look_at_first(found, clients)
            rows += found
    finally:
        admin.close()
    with suppress(KStreamError):  # who has what is told where it can be told: the lag is known without
        tell(rows, groups, read_instances(on.clients, topology.app, TIMEOUT))
    now = time.time()
    oldest = min((row.waiting for row in rows if row.waiting is not None), default=now)
    behind = max((row.behind for row in rows if row.behind is not None), default=None)
    return Lag(topology.app, list(groups), now, sum(row.lag for row in rows), max(now - oldest, 0.0), rows, behind)


def _offsets(topology: Topology, admin: AdminClient, group: str, on: Subject) -> list[PartitionLag]:
    inputs = {source.topic.name: source.topic.internal for part in topology.parts for source in part.sources}
    delays = {delay.topic for part in topology.parts for delay in part.delays}
    inputs |= {delay.topic: True for part in topology.parts for delay in part.delays}
    topics = admin.topics(TIMEOUT)
    if missing := [name for name in inputs if name not in topics]:
        raise TopicError(
            f"{topology.app} reads topics that are not at {on.servers}: {', '.join(missing)}; they are made when the"
            " app is started, if auto_create_topics allows, or look at another cluster with --bootstrap-servers"
        )
    at = [TopicPartition(name, number) for name in inputs for number in range(topics[name].partitions)]
    starts, ends = admin.start_offsets(at), admin.end_offsets(at)
    committed = answer(lambda: admin.committed(group, at), f"the committed offsets of group {group}")
    try:
        first, last = starts.result(TIMEOUT), ends.result(TIMEOUT)
    except FutureTimeout:
        raise KafkaUnavailable(
            f"Kafka at {on.servers}: the end offsets of the topics cannot be read, try again"
        ) from None
    rows = []
    for one in at:
        known = committed[one]
        offset = None if known is None else known[0]
        # Records below the start are deleted: they wait for nobody. Without an offset the app begins where
        # auto_offset_reset says.
        begin = first[one] if offset is None else max(offset, first[one])
        if offset is None and on.settings.auto_offset_reset == "latest" and one.topic not in delays:
            begin = last[one]
        lag = max(last[one] - begin, 0)
        rows.append(PartitionLag(one.topic, one.partition, inputs[one.topic], offset, last[one], lag, group=group))
    return rows


_ONE_RECORD: Final = {
    "consumer.queued.min.messages": "1",
    "consumer.max.partition.fetch.bytes": "2048",
    "consumer.fetch.wait.max.ms": "100",
}


def _look_at_first(rows: Sequence[PartitionLag], clients: Clients) -> None:
    """Reads the first waiting record of each partition, for its timestamp. Where there is none before the end, what
    is left are ends of transactions, and there is no lag."""
    left = {TopicPartition(row.topic, row.partition): row for row in rows if row.lag}
    reader = clients.reader()
    deadline = time.monotonic() + TIMEOUT
    try:
        reader.assign({at: row.end - row.lag for at, row in left.items()})
        while left and time.monotonic() < deadline:
            polled = reader.poll(10_000, 0.5)
            for fetch in polled.fetches:
                if (row := left.pop(fetch.at, None)) is not None:
                    row.waiting = fetch.timestamps()[0] / 1000
                    row.lag = max(row.end - fetch.first_offset, 1)
            for at in polled.ends:
                if (row := left.pop(at, None)) is not None and polled.ends[at] >= row.end:
                    row.lag = 0
    finally:
        reader.close()


def tell(rows: Sequence[PartitionLag], groups: Mapping[str, str], instances: Sequence[InstanceStatus]) -> None:
    """Adds what the instances say of the partitions: who has them, and how far they are behind. A record that is still
    the next has waited longer since its announcement.

    Args:
        groups: the isolation group of each consumer group.
    """
    told = {
        (task.group, TopicPartition(one.topic, one.partition)): (instance, task, one)
        for instance in instances
        if instance.state != "silent"
        for task in instance.tasks
        for one in task.inputs
    }
    now = time.time()
    for row in rows:
        if (found := told.get((groups[row.group], TopicPartition(row.topic, row.partition)))) is None:
            continue
        instance, task, one = found
        row.owner = f"{instance.instance}/{task.worker}"
        if row.lag and one.behind is not None:
            row.behind = one.behind + (max(now - instance.at, 0.0) if one.position == row.end - row.lag else 0.0)


# ---- how it looks


def screen(found: Lag, servers: str) -> RenderableType:
    owned = any(row.owner or row.behind is not None for row in found.partitions)  # else two columns say nothing
    names = ">BEHIND", ">WAITING", "OWNER"
    table = human.table("TOPIC", ">PARTITION", ">COMMITTED", ">END", ">LAG", *(names if owned else names[1:2]))
    for part in dict.fromkeys((row.group, row.topic) for row in found.partitions):
        for row in found.partitions:
            if (row.group, row.topic) == part:
                _row(table, row, found, owned=owned)
    internal = Text("* internal: made and purged by the app", style="dim")
    waiting = f", the oldest for {human.span(found.seconds)}" if found.seconds else ""
    behind = f", {human.behind(found.behind)} behind" if found.behind is not None else ""
    total = Text(f"{human.plural(found.total, 'record')} wait{waiting}{behind}", style="bold")
    title = Text.assemble((f"{found.app} on {servers}", "bold"), (f"  group {', '.join(found.groups)}", "dim"))
    notes = [internal] if any(row.internal for row in found.partitions) else []
    if found.partitions and not owned:
        notes.append(Text("no instance has them: none was heard of", style="dim"))
    return Group(title, "", table, *notes, "", total)


def _row(table: Table, row: PartitionLag, found: Lag, *, owned: bool) -> None:
    group = "" if row.group == found.app else f" ({row.group})"
    waiting = "-" if row.waiting is None else human.span(max(found.at - row.waiting, 0.0))
    table.add_row(
        row.topic + ("*" if row.internal else "") + group,
        str(row.partition),
        "never" if row.committed is None else f"{row.committed:,}",
        f"{row.end:,}",
        Text(f"{row.lag:,}", style="yellow" if row.lag else ""),
        *((human.behind(row.behind), waiting, row.owner or "-") if owned else (waiting,)),
    )
