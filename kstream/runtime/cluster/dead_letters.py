"""Dead letters: records that were set aside because they failed, with headers that say why and where they come from.

Ours have the headers of Kafka Streams (KIP-1034) and some of our own (docs/failures.md). Other programs write dead
letters too, so no header is counted on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from kstream.errors import KafkaUnavailable, TopicError, UsageError
from kstream.runtime.cluster.records import TIMEOUT, Reading, Row, bounds, to_end
from kstream.specs.stored import LETTERS
from kstream.specs.topic import Topic
from kstream.topology import Topology
from kstream.types import AdminClient, Clients, Headers, TopicPartition

STREAMS: Final = "__streams.errors."
"""Before the names of Kafka Streams' headers."""
OURS: Final = frozenset(
    f"kstream.{name}"
    for name in (
        "letter", "app", "task", "time", "agent", "phase", "attempts", "result", "result.step", "result.key",
        "result.value",
    )
)  # fmt: skip
REPLAYED: Final = "kstream.replayed"
"""Of a record that was replayed: which dead letter it was, the last one where there were several."""
REPLAYS: Final = "kstream.replays"
"""How often it was."""

Progress = Callable[[int, int], None]
"""Told how many offsets were passed, of how many."""


def no_progress(done: int, total: int) -> None:
    """For those who do not want to know."""


class Place(NamedTuple):
    """Where a dead letter, or the record that it is about, lies."""

    topic: str
    partition: int
    offset: int

    @property
    def at(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


def place_of(text: str, topics: Sequence[str]) -> Place:
    """`PARTITION:OFFSET` or `TOPIC:PARTITION:OFFSET`.

    Args:
        topics: those of the app's dead letters. With one of them its name may be left out.

    Raises:
        UsageError: it is neither, or the topic is not among them.
    """
    *topic, partition, offset = text.rsplit(":", 2) if text.count(":") else ("", "", "")
    if not (_is_number(partition) and _is_number(offset)):
        raise UsageError(f"{text!r} is no dead letter: write PARTITION:OFFSET, as kstream dlq list shows it")
    if not topic and len(topics) > 1:
        raise UsageError(f"{text} of which topic? write TOPIC:PARTITION:OFFSET; there are {', '.join(topics)}")
    name = topic[0] if topic else topics[0]
    if name not in topics:
        raise UsageError(f"{text}: no dead letters are looked for in topic {name}; they are in {', '.join(topics)}")
    return Place(name, int(partition), int(offset))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


# ---- one of them


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. What its headers do not say is None.

    Attributes:
        row: the record in the topic of dead letters: key, value, timestamp and, among others, headers of the record.
        headers: those of the record itself.
        app, task, agent, phase: where in which app it failed; `agent` is the step or agent.
        time: when (ms since the epoch); where nobody says so, the record's timestamp.
        attempts: how often it was tried.
        exception: its class, with its module; `message` and `stacktrace` are its own.
        source: where the record lies that failed. Partition and offset are -1 where only the topic is known.
        replays: how often it was replayed before it failed this time.
        result: what it is, where it is about no record but a result that failed, as in "the result of a window of 'n'".
        of_step, of_key: the step that put that out, and its key as Python shows it.
        refusal: why it cannot be read, where a later version of kstream wrote it: it is left alone.
    """

    row: Row
    headers: Headers
    time: int
    app: str | None = None
    task: str | None = None
    agent: str | None = None
    phase: str | None = None
    attempts: int | None = None
    exception: str | None = None
    message: str | None = None
    stacktrace: str | None = None
    source: Place | None = None
    replays: int = 0
    result: str | None = None
    of_step: str | None = None
    of_key: str | None = None
    refusal: str | None = None

    @property
    def place(self) -> Place:
        return Place(*self.row.at, self.row.offset)

    @property
    def reason(self) -> str:
        """The exception as people call it: without the module where Python's own has none."""
        return "?" if self.exception is None else self.exception.removeprefix("builtins.")

    @property
    def digest(self) -> str:
        """Of the record's key, value and timestamp: two letters with one source and one digest are about one record."""
        made = blake2b(digest_size=12)
        for part in (self.row.key, self.row.value):
            made.update(b"-" if part is None else b"%d:" % len(part) + part)
        made.update(b"%d" % self.row.timestamp)
        return made.hexdigest()


def letter_of(row: Row) -> Letter:
    """Reads the headers. Never raises: what is not as it should be is as if it were not there."""
    said: dict[str, str] = {}
    own: list[tuple[str, bytes | None]] = []
    for name, value in row.headers:  # of several with one name the last one holds, as in Kafka Streams
        if name.startswith(STREAMS) or name in OURS:
            if value is not None:
                said[name] = value.decode("utf-8", "backslashreplace")
        else:
            own.append((name, value))
    replays = next((value for name, value in reversed(own) if name == REPLAYS), None)
    if refusal := LETTERS.refusal("this dead letter", _number(said.get("kstream.letter")) or 1):
        return Letter(row, own, row.timestamp, said.get("kstream.app"), message=refusal, refusal=refusal)
    time = _number(said.get("kstream.time"))
    return Letter(
        row,
        own,
        row.timestamp if time is None else time,
        said.get("kstream.app"),
        said.get("kstream.task"),
        said.get("kstream.agent"),
        said.get("kstream.phase"),
        _number(said.get("kstream.attempts")),
        said.get(f"{STREAMS}exception"),
        said.get(f"{STREAMS}message"),
        said.get(f"{STREAMS}stacktrace"),
        _source(said),
        (_number(replays.decode("utf-8", "replace")) or 0) if replays else 0,
        said.get("kstream.result"),
        said.get("kstream.result.step"),
        said.get("kstream.result.key"),
    )


def _source(said: Mapping[str, str]) -> Place | None:
    topic = said.get(f"{STREAMS}topic")
    if not topic:
        return None
    numbers = [_number(said.get(f"{STREAMS}{name}")) for name in ("partition", "offset")]
    partition, offset = (-1 if number is None else number for number in numbers)
    return Place(topic, partition, offset)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _is_number(text) else None


# ---- which of them


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted of dead letters; None, and an empty set, is all of them.

    Attributes:
        app: letters of other apps are left out; those that name no app are not.
        reasons: one of these exceptions' classes, with or without the module.
        agents: one of these steps or agents, with or without the kind ("agent price").
        phases: one of these.
        sources: one of these topics is what the record comes from.
        since, until: ms since the epoch, of when they failed; `until` is exclusive.
        places: just these.
    """

    app: str
    reasons: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    phases: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    since: int | None = None
    until: int | None = None
    places: frozenset[Place] | None = None

    def is_ours(self, letter: Letter) -> bool:
        return letter.app is None or letter.app == self.app

    def wants(self, letter: Letter) -> bool:
        """Whether it fits. Whose it is, is not asked."""
        return (
            (self.places is None or letter.place in self.places)
            and _is_one(self.reasons, letter.reason, letter.exception, _last(letter.exception))
            and _is_one(self.agents, letter.agent, (letter.agent or "").partition(" ")[2])
            and _is_one(self.phases, letter.phase)
            and _is_one(self.sources, None if letter.source is None else letter.source.topic)
            and (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
        )


def _is_one(wanted: frozenset[str], *names: str | None) -> bool:
    return not wanted or not wanted.isdisjoint(names)


def _last(name: str | None) -> str | None:
    return None if name is None else name.rpartition(".")[2]


# ---- where they are


def letter_topics(topology: Topology) -> list[str]:
    """The topics of an app's dead letters, in the order of its steps and their policies."""
    policies = (policy for part in topology.parts for own in part.policies for policy in own)
    names = (policy.dead_letters(topology.app) for policy in policies)
    return list(dict.fromkeys(name for name in names if name is not None))


def source_topics(topology: Topology) -> dict[str, Topic[Any, Any]]:
    """What the app reads, by name: repartition topics too."""
    return {source.topic.name: source.topic for part in topology.parts for source in part.sources}


@dataclass(frozen=True, slots=True)
class Span:
    """A topic of dead letters as it is now.

    Attributes:
        id: of the topic; None for brokers before 2.8.
        starts, ends: of each partition.
    """

    topic: str
    id: str | None
    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]


def span_of(admin: AdminClient, topic: str) -> Span:
    """Asks the brokers.

    Raises:
        TopicError: there is no such topic. KafkaUnavailable: no answer in time.
    """
    try:
        found = admin.describe([topic]).result(TIMEOUT).get(topic)
    except TimeoutError:
        raise KafkaUnavailable(f"topic {topic} cannot be looked at: try again") from None
    if found is None:
        raise TopicError(f"there is no topic {topic}: it is made when the app starts with a policy that writes to it")
    return Span(topic, found.id, *bounds(admin, [TopicPartition(topic, number) for number in range(found.partitions)]))


def scan(
    clients: Clients,
    admin: AdminClient,
    span: Span,
    places: frozenset[Place] | None = None,
    on_progress: Progress = no_progress,
) -> Generator[Letter, None, None]:
    """The committed letters up to the ends of `span`, each partition in its order; with `places` no others are read
    than those between the first and the last of each partition.

    Raises:
        KafkaUnavailable: nothing comes any more.
    """
    starts, ends = dict(span.starts), dict(span.ends)
    if places is not None:
        wanted: dict[TopicPartition, list[int]] = {}
        for place in places:
            if place.at in starts and starts[place.at] <= place.offset < ends[place.at]:
                wanted.setdefault(place.at, []).append(place.offset)
        starts = {at: min(offsets) for at, offsets in wanted.items()}
        ends = {at: max(offsets) + 1 for at, offsets in wanted.items()}
    if all(start >= ends[at] for at, start in starts.items()):
        return
    with closing(Reading(clients, admin, starts, ends)) as reading:
        for row in to_end(reading, on_progress):
            if row.offset < ends[row.at]:
                yield letter_of(row)
