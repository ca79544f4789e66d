"""Topics and tables of an app by name, and clients to look at their data with."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kstream.cli.operate import Subject
from kstream.errors import TopicError, UsageError
from kstream.runtime.cluster.records import TIMEOUT, looking
from kstream.specs.store import StoreSpec
from kstream.specs.topic import Topic
from kstream.topology import Topology
from kstream.types import AdminClient, Clients


def clients_of(on: Subject) -> Clients:
    """Clients to look at data with."""
    return looking(on.settings, "kstream-command")


# ---- by name


def topics_of(topology: Topology) -> dict[str, Topic[Any, Any]]:
    """All topics of an app by name: declared ones, repartition topics, changelogs, delay topics."""
    topics = {topic.name: topic for topic in topology.declared}
    for part in topology.parts:
        for delay in part.delays:  # records of their topic, with a header more
            topics[delay.topic] = replace(topics[delay.source], name=delay.topic, internal=True)
        for store in part.stores:
            name = topology.changelog(store)
            topics[name] = Topic(name, store.key, store.value, internal=True)
    return topics


def stores_of(topology: Topology) -> dict[str, StoreSpec]:
    """All tables of an app by name, those of aggregations too."""
    return {store.name: store for part in topology.parts for store in part.stores}


def find(what: str, name: str, among: Mapping[str, Any], app: str) -> Any:
    """What has this name.

    Raises:
        UsageError: nothing has; the message lists what there is.
    """
    if name in among:
        return among[name]
    near = difflib.get_close_matches(name, among, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(among) or 'none'}"
    raise UsageError(f"app {app} has no {what} {name!r}; {hint}")


def partitions_of(admin: AdminClient, name: str, servers: str, target: str) -> int:
    """How many partitions a topic has.

    Raises:
        TopicError: it does not exist. KafkaUnavailable: no answer.
    """
    found = admin.topics(TIMEOUT).get(name)
    if found is None:
        raise TopicError(
            f"topic {name} is not at {servers}: start the app, or make it with: kstream topics {target} --create"
        )
    return found.partitions
