"""The least rights in Kafka that an app's user needs, and those of who works beside it. READ, WRITE and DELETE include
DESCRIBE there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kstream.config import Settings
from kstream.runtime.cluster.dead_letters import letter_topics
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.replaying import transactional_id
from kstream.specs.names import own_topic
from kstream.specs.policy import marks_topic
from kstream.specs.rights import Right, Who
from kstream.topology import Topology

MADE: Final = ("CREATE", "DESCRIBE_CONFIGS", "READ", "WRITE")
"""Of a topic that the app makes for itself, and looks at before it uses it."""


def rights_of(topology: Topology, settings: Settings, *whose: Who) -> list[Right]:
    """The least rights, of all of these together.

    Args:
        whose: app: it runs, and makes its own topics. topics: a job that makes all of them (`kstream topics --create`),
            so that the app needs no CREATE. autoscaler: it looks at the lag. reset: `kstream reset`,
            `savepoint restore` and `rescale`, besides. dlq: `kstream dlq`, besides.
    """
    of = {"app": _app, "topics": _topics, "autoscaler": _autoscaler, "reset": _reset, "dlq": _dlq}
    return _together(right for who in whose for right in of[who](topology, settings))


def _app(topology: Topology, settings: Settings) -> Iterator[Right]:
    app = topology.app
    yield from (Right("topic", name, ("READ",)) for name in _read(topology))
    yield from (Right("topic", name, ("WRITE",)) for name in _written(topology))
    for name in _internal(topology):
        yield Right("topic", name, (*MADE, "DELETE"), "what was processed is purged: DELETE")
    for name in _changelogs(topology):
        yield Right("topic", name, MADE, "state")
    if _changelogs(topology):
        yield Right("topic", own_topic(app, "store-types"), MADE, "the types that state was written with")
    if settings.announce_interval:
        yield Right("topic", own_topic(app, "instances"), MADE, "instances see each other")
    yield Right("topic", own_topic(app, "control"), MADE, "savepoints")
    for isolation in topology.groups:
        yield Right("group", consumer_group(app, isolation), ("READ",))
    if settings.processing_guarantee == "exactly_once":
        yield Right("transactional_id", f"{app}-", ("WRITE",), "of each worker", prefix=True)


def _topics(topology: Topology, settings: Settings) -> Iterator[Right]:
    for name in dict.fromkeys([*_read(topology), *_written(topology)]):
        yield Right("topic", name, ("CREATE", "DESCRIBE"))
    for one in _app(topology, settings):
        if "CREATE" in one.operations:
            yield Right("topic", one.name, ("CREATE", "DESCRIBE_CONFIGS", "DESCRIBE"), "its settings are looked at")


def _autoscaler(topology: Topology, settings: Settings) -> Iterator[Right]:
    inputs = [name for part in topology.parts for name in (*part.topics, *(one.topic for one in part.delays))]
    for name in dict.fromkeys(inputs):
        yield Right("topic", name, ("DESCRIBE",), "where it ends")
    for isolation in topology.groups:
        yield Right("group", consumer_group(topology.app, isolation), ("DESCRIBE",), "how far it is")


def _reset(topology: Topology, settings: Settings) -> Iterator[Right]:
    for isolation in topology.groups:
        yield Right("group", consumer_group(topology.app, isolation), ("DELETE",))
    own = [*_internal(topology), *_changelogs(topology)]
    own += [own_topic(topology.app, "store-types")] if _changelogs(topology) else []
    for name in [*own, own_topic(topology.app, "control")]:
        yield Right("topic", name, ("DELETE",))


def _dlq(topology: Topology, settings: Settings) -> Iterator[Right]:
    letters = letter_topics(topology)
    for name in letters:
        yield Right("topic", name, ("READ", "DELETE"), "DELETE for purge only")
    if letters:
        yield Right("topic", marks_topic(topology.app), MADE, "which are handled")
        yield from (Right("topic", name, ("WRITE",), "replayed to it") for name in _read(topology))
        yield Right("transactional_id", transactional_id(topology.app), ("WRITE",))


def _read(topology: Topology) -> list[str]:
    """Topics of users'."""
    sources = (source.topic for part in topology.parts for source in part.sources)
    names = [topic.name for topic in sources if not topic.internal]
    return list(dict.fromkeys([*names, *(table.topic.name for table in topology.tables)]))


def _written(topology: Topology) -> list[str]:
    names = (topic.name for part in topology.parts for topic in part.sinks if not topic.internal)
    return list(dict.fromkeys([*names, *letter_topics(topology)]))


def _internal(topology: Topology) -> list[str]:
    """Repartition and delay topics."""
    topics = (source.topic for part in topology.parts for source in part.sources)
    delays = (delay.topic for part in topology.parts for delay in part.delays)
    return list(dict.fromkeys([*(topic.name for topic in topics if topic.internal), *delays]))


def _changelogs(topology: Topology) -> list[str]:
    return list(dict.fromkeys(topology.changelog(store) for part in topology.parts for store in part.stores))


def _together(rights: Iterable[Right]) -> list[Right]:
    """One for each name: a topic may be read and written."""
    found: dict[tuple[str, str, bool], Right] = {}
    for one in rights:
        at = one.kind, one.name, one.prefix
        known = found.get(at, Right(one.kind, one.name, (), one.why, one.prefix))
        operations = dict.fromkeys((*known.operations, *one.operations))
        found[at] = Right(one.kind, one.name, tuple(operations), known.why or one.why, one.prefix)
    return list(found.values())
