"""`kstream topics`: the topics that an app needs, beside those that there are; makes what is missing, if asked to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.config import Settings
from kstream.errors import TopologyError
from kstream.runtime.cluster import control
from kstream.runtime.cluster.announce import wanted_topic
from kstream.runtime.cluster.fitting import misfits
from kstream.runtime.cluster.prepare import go_through, prepare_topics
from kstream.runtime.cluster.stored_types import wanted_topics
from kstream.runtime.cluster.topics import Kind, WantedTopic, ensure_topics, problems
from kstream.runtime.kafka.inspection import ClusterInspector
from kstream.topology import Topology
from kstream.types import TopicMaker

TIMEOUT: Final = 15.0

State = Literal["found", "created", "missing", "wrong"]

_STYLES: Final[Mapping[State, str]] = {"found": "green", "created": "green", "missing": "yellow", "wrong": "bold red"}


class TopicState(msgspec.Struct):
    """A topic that the app needs.

    Attributes:
        owner: who needs it: a stream, table or app by its name.
        wanted: partitions that it must have, or would be made with; None when any number will do.
        partitions, replicas: as they are; None while there is no such topic.
        problems: what does not fit, a line each, with what to do.
    """

    name: str
    kind: Kind
    owner: str
    state: State
    wanted: int | None
    partitions: int | None = None
    replicas: int | None = None
    problems: list[str] = []


class Topics(msgspec.Struct):
    """All topics of an app. `problem` is one of several topics together: then some may not be listed."""

    app: str
    servers: str
    topics: list[TopicState]
    problem: str | None = None

    @property
    def wrong(self) -> bool:
        return self.problem is not None or any(one.state == "wrong" for one in self.topics)

    @property
    def missing(self) -> list[str]:
        return [one.name for one in self.topics if one.state == "missing"]


def run(on: Subject, *, create: bool, as_json: bool) -> int:
    """The command. Returns 1 when a topic is missing or wrong, else 0.

    Raises:
        KafkaUnavailable: no answer in time. TopicError: the cluster refuses to make a topic.
    """
    assert on.app is not None
    topology = on.app.topology()
    admin = on.clients.admin()
    try:
        found = look(topology, admin, on)
        if create and found.missing and not found.wrong:
            made = found.missing
            make(topology, admin, on.settings)
            found = look(topology, admin, on, made)
    finally:
        admin.close()
    if as_json:
        human.write_json(found)
    else:
        human.console().print(screen(found))
    return 1 if found.wrong or found.missing else 0


def make(topology: Topology, admin: TopicMaker, settings: Settings) -> None:
    """Makes what is missing, as a service does when it starts. That it is asked for goes before auto_create_topics."""
    prepare_topics(topology, admin, replace(settings, auto_create_topics=True), TIMEOUT)
    ensure_topics(
        admin,
        _besides(topology, settings),
        auto_create=True,
        replication=settings.replication_factor,
        timeout=TIMEOUT,
    )


def look(topology: Topology, admin: TopicMaker, on: Subject, made: Collection[str] = ()) -> Topics:
    """What there is and what is not; `made` are those to be called created."""
    existing = admin.topics(TIMEOUT)
    inspector = ClusterInspector(on.servers, on.options, TIMEOUT)
    rows: list[TopicState] = []

    def settle(wanted: Sequence[WantedTopic]) -> dict[str, int]:
        there = [topic for topic in wanted if topic.name in existing]
        wrong = problems(admin, there, existing, TIMEOUT)
        counts = {}
        for topic in wanted:
            wanted_count = topic.partitions or topic.made_with
            row = TopicState(topic.name, topic.kind, topic.owner, "missing", wanted_count)
            if topic.name in existing:
                row.state = "created" if topic.name in made else "found"
                row.partitions = existing[topic.name].partitions
                row.replicas = min(one.replicas for one in inspector.topic(topic.name)[0])
            else:
                row.wanted = wanted_count or on.settings.default_partitions
            if topic.name in wrong:
                row.state, row.problems = "wrong", wrong[topic.name]
            rows.append(row)
            counts[topic.name] = row.partitions or row.wanted or 1
        return counts

    problem = None
    try:
        counts = go_through(topology, settle, existing)
        problem = "; ".join(misfits(topology, counts).values()) or None
    except TopologyError as error:
        problem = str(error)
    settle(_besides(topology, on.settings))
    return Topics(topology.app, on.servers, rows, problem)


def _besides(topology: Topology, settings: Settings) -> list[WantedTopic]:
    """Topics in which an app says something of itself."""
    announced = [wanted_topic(topology.app)] if settings.announce_interval else []
    return [*wanted_topics(topology), *announced, control.wanted_topic(topology.app)]


# ---- how it looks


def screen(found: Topics) -> RenderableType:
    table = human.table("TOPIC", "KIND", "OF", ">WANTED", ">PARTITIONS", ">REPLICAS", "STATE")
    for one in found.topics:
        table.add_row(
            one.name,
            one.kind,
            one.owner,
            "any" if one.wanted is None else str(one.wanted),
            "-" if one.partitions is None else str(one.partitions),
            "-" if one.replicas is None else str(one.replicas),
            Text(one.state, style=_STYLES[one.state]),
        )
    counts = {state: sum(one.state == state for one in found.topics) for state in _STYLES}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    total = Text(f"{human.plural(len(found.topics), 'topic')}: {told}", style="bold")
    lines = [line for one in found.topics for line in one.problems] + ([found.problem] if found.problem else [])
    trouble = [Text(line, style="red") for line in lines]
    hint = [Text("kstream topics --create makes them", style="dim")] if counts["missing"] and not found.wrong else []
    return Group(Text(f"{found.app} on {found.servers}", style="bold"), "", table, "", *trouble, total, *hint)
