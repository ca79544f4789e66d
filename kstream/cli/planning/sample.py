"""Records to measure an app with: from a file of JSON lines, or the latest of its own source topics."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import msgspec

from kstream.cli.operate import Subject
from kstream.clock import since_epoch
from kstream.codecs.base import BuiltIn, is_nullable
from kstream.dsl.deployed import Names
from kstream.errors import ConfigError, KafkaUnavailable, TopicError
from kstream.specs.schema import UNKNOWN, Schema
from kstream.specs.topic import Topic
from kstream.topology import Topology
from kstream.types import BEGINNING, TopicPartition

TIMEOUT: Final = 20.0
LATEST: Final = 20_000
"""Records that are read of each source topic, where no file is given."""

LINE: Final = '{"topic": ..., "key": ..., "value": ..., "timestamp": ...}'


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One record as Kafka has it. `timestamp` is in ms since the epoch; 0 is that of the moment when it is sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp: int = 0


class Sample:
    """Records of the app's source topics. `origin` says where they come from.

    Raises:
        ConfigError: there are none.
    """

    def __init__(self, records: Sequence[SampleRecord], origin: str) -> None:
        if not records:
            raise ConfigError(f"{origin}: no records in it; one line each: {LINE}")
        self.records, self.origin = records, origin

    def __len__(self) -> int:
        return len(self.records)

    def of(self, topics: Collection[str]) -> Sample | None:
        """Its records of these topics, if there are any."""
        records = [one for one in self.records if one.topic in topics]
        return Sample(records, self.origin) if records else None

    @property
    def topics(self) -> set[str]:
        return {one.topic for one in self.records}

    def repeated(self, start: int, count: int) -> Iterator[SampleRecord]:
        """The records `start` to `start + count` of the sample said again and again."""
        begin = start % len(self.records)
        return islice(cycle(self.records), begin, begin + count)

    @property
    def bytes(self) -> float:
        """Of a record's key and value, in the mean."""
        return sum(len(one.key or b"") + len(one.value or b"") for one in self.records) / len(self.records)

    @property
    def keys(self) -> int:
        """Distinct keys, by topic, added up."""
        return len({(one.topic, one.key) for one in self.records if one.key is not None})

    @property
    def hottest(self) -> float:
        """The share (0..1) of all records that the most frequent key has; 0 without keys."""
        counts = Counter((one.topic, one.key) for one in self.records if one.key is not None)
        return max(counts.values(), default=0) / len(self.records)


def sources_of(topology: Topology) -> dict[str, Topic[Any, Any]]:
    """The topics that others write and the app reads, by name."""
    topics = (source.topic for part in topology.parts for source in part.sources)
    return {topic.name: topic for topic in topics if not topic.internal}


# ---- from a file


def from_file(path: Path, topology: Topology, names: Names | None = None) -> Sample:
    """Reads JSON lines. Keys and values are JSON as the declared types have it; bytes are base64.

    `topic` may be left out where the app reads one only, `key` and `timestamp` always; a timestamp is a number of ms
    since the epoch, or text as RFC 3339 has it.

    Args:
        names: of the app, whose topics may then be called as the code calls them.

    Raises:
        ConfigError: the file cannot be read, or a line of it; the line's number is told.
    """
    sources = sources_of(topology)
    called = {} if names is None else {names.declared(topic): topic for topic in sources.values()}
    try:
        with path.open("rb") as lines:
            records = [
                _record(line, f"{path}:{number}", sources, called)
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]
    except OSError as error:
        raise ConfigError(f"--records {path}: {error.strerror or error}") from error
    return Sample(records, str(path))


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    value: msgspec.Raw
    topic: str | None = None
    key: msgspec.Raw = msgspec.Raw(b"null")
    timestamp: int | float | datetime | None = None


_decode = msgspec.json.Decoder(_Line).decode


def _record(
    line: bytes, where: str, sources: Mapping[str, Topic[Any, Any]], called: Mapping[str, Topic[Any, Any]]
) -> SampleRecord:
    try:
        read = _decode(line)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{where}: {error}; a line is {LINE}") from error
    if read.topic is None and len(sources) > 1:
        raise ConfigError(f'{where}: the app reads {", ".join(sources)}: say which one with "topic"')
    name = read.topic
    topic = next(iter(sources.values())) if name is None else sources.get(name) or called.get(name)
    if topic is None:
        raise ConfigError(f"{where}: the app does not read a topic {name!r}, but {', '.join(sources)}")
    key = _bytes(topic.key, read.key, f"{where}: the key")
    value = _bytes(topic.value, read.value, f"{where}: the value")
    return SampleRecord(topic.name, key, value, _milliseconds(read.timestamp))


def _bytes(schema: Schema, raw: msgspec.Raw, what: str) -> bytes | None:
    """JSON as it stands in the file, in the codec of its topic."""
    given = msgspec.json.decode(raw)
    if given is None and (what.endswith("key") or is_nullable(schema.codec)):
        return None
    try:
        if not isinstance(schema.codec, BuiltIn):  # a codec of the user's: nobody else knows what its bytes look like
            return base64.b64decode(given, validate=True)
        typed = given if schema.kind in (UNKNOWN, None, Any, object) else msgspec.json.decode(raw, type=schema.kind)
        return schema.codec.encode(typed)
    except Exception as error:  # whatever the codec says
        wanted = schema if isinstance(schema.codec, BuiltIn) else f"base64 of what {schema} writes"
        raise ConfigError(f"{what} is not {wanted}: {' '.join(str(error).split())}") from error


def _milliseconds(at: float | datetime | None) -> int:
    if isinstance(at, datetime):
        return since_epoch(at)
    return int(at or 0)


# ---- from the app's own topics


def from_topics(topology: Topology, on: Subject) -> Sample:
    """Reads the latest records of the source topics; nothing is committed or changed there.

    Raises:
        TopicError: there are no such topics, or nothing is in them. KafkaUnavailable: no answer.
    """
    sources, hint = sources_of(topology), f"give a sample with --records FILE, lines of {LINE}"
    admin = on.clients.admin()
    try:
        try:
            existing = admin.topics(TIMEOUT)
        except KafkaUnavailable as error:
            raise KafkaUnavailable(f"no sample: {error}; or {hint}") from error
        there = [name for name in sources if name in existing]
        if not there:
            raise TopicError(f"no sample: {', '.join(sources)} are not at {on.servers}: {hint}")
        at = [TopicPartition(name, number) for name in there for number in range(existing[name].partitions)]
        starts, ends = admin.start_offsets(at).result(TIMEOUT), admin.end_offsets(at).result(TIMEOUT)
    finally:
        admin.close()
    share = {name: LATEST // existing[name].partitions + 1 for name in there}
    positions = {one: max(starts[one], ends[one] - share[one.topic]) for one in at if ends[one] > starts[one]}
    records = _read(on, positions, ends) if positions else []
    if not records:
        raise TopicError(f"no sample: nothing is in {', '.join(there)} at {on.servers}: {hint}")
    return Sample(records, f"the latest records of {', '.join(there)} at {on.servers}")


def _read(
    on: Subject, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> list[SampleRecord]:
    """From these positions to the ends as they were, at most `TIMEOUT` seconds."""
    reader = on.clients.reader()
    left, records, deadline = set(positions), [], time.monotonic() + TIMEOUT
    try:
        reader.assign(positions)
        while left and time.monotonic() < deadline:
            polled = reader.poll(LATEST, 0.5)
            for fetch in polled.fetches:
                columns = zip(fetch.keys(), fetch.values(), fetch.timestamps(), strict=True)
                records += [SampleRecord(fetch.at.topic, key, value, at) for key, value, at in columns]
                if fetch.last_offset + 1 >= ends[fetch.at]:
                    left.discard(fetch.at)
            left -= {at for at, end in polled.ends.items() if end >= ends.get(at, BEGINNING)}
    finally:
        reader.close()
    return records
