"""The topics an app needs: made where they are missing, checked where they exist.

Internal topics carry kstream's own guarantees, so their settings are not a matter of taste:

- Repartition topics are purged by the app once their records are processed, never by time: records stamped in the past
  would be deleted within seconds under the usual retention (measured).
- Delay topics, where records wait to be processed again, are the same: a record has its own timestamp there too.
- Changelogs are compacted and never deleted from; tombstones stay for seven days, the longest time that local state
  and snapshots may be behind.
- All of them take any timestamp: brokers refuse those more than an hour ahead by default. And they keep the producer's
  timestamps, for event time travels in them.
- In the topic of the instances' announcements timestamps are the brokers' own, so that ages hang on one clock only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Literal

from kstream.errors import KafkaUnavailable, TopicError
from kstream.types import NewTopic, TopicInfo, TopicMaker

Kind = Literal["source", "sink", "repartition", "delay", "changelog", "instances", "handled", "types", "control"]

FOREVER: Final = "9223372036854775807"
DELETE_RETENTION_MS: Final = 7 * 24 * 3600 * 1000

_SHARED: Final = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": FOREVER,
}
INTERNAL: Final[Mapping[str, Mapping[str, str]]] = {
    "repartition": {**_SHARED, "cleanup.policy": "delete"},
    "delay": {**_SHARED, "cleanup.policy": "delete"},
    "changelog": {**_SHARED, "cleanup.policy": "compact", "delete.retention.ms": str(DELETE_RETENTION_MS)},
    "handled": {"cleanup.policy": "compact", "retention.ms": "-1", "retention.bytes": "-1"},
    "types": {"cleanup.policy": "compact", "retention.ms": "-1", "retention.bytes": "-1"},
    "instances": {"cleanup.policy": "compact,delete", "message.timestamp.type": "LogAppendTime"},
    "control": {"cleanup.policy": "compact", "retention.ms": "-1", "retention.bytes": "-1"},
}
"""Settings of internal topics, by kind."""
_PURGED: Final = {"segment.bytes": str(50 << 20)}
_MADE_WITH: Final[Mapping[str, Mapping[str, str]]] = {"repartition": _PURGED, "delay": _PURGED}
"""What they are made with besides, where nothing is declared. Brokers delete whole segments: with their gigabyte each
partition would take that much of the disk, however little of it is still to be read. Fifty MiB are Kafka Streams' (its
internal topics for repartitioning)."""


@dataclass(frozen=True)
class WantedTopic:
    """A topic that the app needs.

    Attributes:
        kind: source and sink are the user's, repartition and changelog are internal.
        partitions: that it must have; None: whatever it has.
        made_with: partitions it is created with where `partitions` does not say; those of internal topics must.
        config: Kafka's settings to create it with; those of internal topics win over it.
        owner: who needs it, for messages: a stream, table or app by its name.
    """

    name: str
    kind: Kind
    partitions: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    made_with: int | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.kind} of {self.owner})" if self.owner else f"{self.name} ({self.kind})"


def ensure_topics(
    admin: TopicMaker,
    wanted: Sequence[WantedTopic],
    *,
    auto_create: bool,
    replication: int = -1,
    default_partitions: int = 1,
    timeout: float = 30.0,
    creation_timeout: float = 60.0,
) -> dict[str, int]:
    """Creates what is missing, checks what exists, and returns the number of partitions of each topic.

    Args:
        auto_create: also create user topics. Internal ones always are.
        replication: of created topics; -1 is the cluster's default.
        default_partitions: of a user topic that does not say.
        timeout: seconds for looking at what is there; `creation_timeout` for making what is not, which a cluster that
            answers may take its time for (many partitions, busy brokers).

    Raises:
        TopicError: one line about all that is missing or does not fit, and what to do. Nothing was created then.
        KafkaUnavailable: the cluster does not answer in time.
    """
    deadline = time.monotonic() + timeout

    def left() -> float:
        return max(deadline - time.monotonic(), 1.0)

    existing = admin.topics(left())
    check_topics(admin, wanted, existing, auto_create=auto_create, timeout=left())
    missing = [topic for topic in wanted if topic.name not in existing]
    if missing:
        deadline = time.monotonic() + creation_timeout
        admin.create_topics([_new(topic, replication, default_partitions) for topic in missing], left())
        existing = _once_known(admin, [topic.name for topic in wanted], deadline)
        # Another instance may have been faster, with another version of the app.
        _check(admin, missing, existing, left())
    return {topic.name: existing[topic.name].partitions for topic in wanted}


def check_topics(
    admin: TopicMaker,
    wanted: Sequence[WantedTopic],
    existing: Mapping[str, TopicInfo],
    *,
    auto_create: bool,
    timeout: float,
) -> None:
    """Raises TopicError where `ensure_topics` would, for what is there and what may not be made."""
    if not auto_create:
        _refuse([topic for topic in wanted if topic.name not in existing and topic.kind not in INTERNAL])
    _check(admin, [topic for topic in wanted if topic.name in existing], existing, timeout)


def _once_known(admin: TopicMaker, names: Sequence[str], deadline: float) -> dict[str, TopicInfo]:
    """All topics, once these are among them: of several brokers one hears of a new topic later than another.

    Raises:
        KafkaUnavailable: that takes too long.
    """
    while True:
        existing = admin.topics(max(deadline - time.monotonic(), 1.0))
        unknown = [name for name in names if name not in existing]
        if not unknown:
            return existing
        if time.monotonic() > deadline:
            raise KafkaUnavailable(
                f"topics {', '.join(unknown)} were created, but not all brokers have them yet: look at their logs"
            )
        time.sleep(0.02)


def _refuse(missing: Sequence[WantedTopic]) -> None:
    if missing:
        names = ", ".join(map(str, missing))
        raise TopicError(f"topics are missing: {names}; create them, or set auto_create_topics to true")


def _new(topic: WantedTopic, replication: int, default_partitions: int) -> NewTopic:
    partitions = topic.partitions or topic.made_with
    if topic.kind in INTERNAL and partitions is None:
        raise ValueError(f"internal topic {topic} needs a partition count")
    config = {**_MADE_WITH.get(topic.kind, {}), **topic.config, **INTERNAL.get(topic.kind, {})}
    return NewTopic(topic.name, partitions or default_partitions, replication, config)


def _check(admin: TopicMaker, topics: Sequence[WantedTopic], existing: Mapping[str, TopicInfo], timeout: float) -> None:
    found = problems(admin, topics, existing, timeout)
    if found:
        raise TopicError("; ".join(chain.from_iterable(found.values())))


def problems(
    admin: TopicMaker, topics: Sequence[WantedTopic], existing: Mapping[str, TopicInfo], timeout: float
) -> dict[str, list[str]]:
    """What does not fit of topics that exist, by name: a line each, which says what to do."""
    internal = [topic.name for topic in topics if topic.kind in INTERNAL]
    configs = admin.topic_configs(internal, timeout) if internal else {}
    found: dict[str, list[str]] = {}
    for topic in topics:
        actual = existing[topic.name].partitions
        wrong = []
        if topic.partitions is not None and topic.partitions != actual:
            wrong.append(_wrong_partitions(topic, actual))
        if topic.kind in INTERNAL:
            wrong += _wrong_settings(topic, configs[topic.name])
        if wrong:
            found[topic.name] = wrong
    return found


def _wrong_partitions(topic: WantedTopic, actual: int) -> str:
    if topic.kind == "delay" and topic.partitions is not None and actual < topic.partitions:
        return (
            f"topic {topic} has {actual} partitions and needs {topic.partitions}, as many as {topic.owner}: "
            f"kafka-topics.sh --alter --topic {topic.name} --partitions {topic.partitions}"
        )
    if topic.kind in INTERNAL:
        return (
            f"topic {topic} has {actual} partitions and needs {topic.partitions}: declare the {actual} that it has, or"
            f" move the app's state: kstream rescale --partitions {topic.partitions}"
        )
    return f"topic {topic} has {actual} partitions, but {topic.partitions} are declared: change the declaration"


def _wrong_settings(topic: WantedTopic, config: Mapping[str, str]) -> list[str]:
    wrong = {
        name: value
        for name, value in INTERNAL[topic.kind].items()
        if name in config and not _fits(name, config[name], value)
    }
    if not wrong:
        return []
    found = ", ".join(f"{name}={config[name]}" for name in wrong)
    change = ",".join(f"{name}=[{value}]" if "," in value else f"{name}={value}" for name, value in wrong.items())
    return [
        f"topic {topic} has {found}, with which data would be lost: kafka-configs.sh --alter --entity-type topics"
        f" --entity-name {topic.name} --add-config {change}"
    ]


def _fits(name: str, actual: str, wanted: str) -> bool:
    if name == "delete.retention.ms":  # longer is fine
        return int(actual) >= int(wanted)
    return actual == wanted
