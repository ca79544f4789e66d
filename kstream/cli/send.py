"""`kstream send`: records into a topic, as the app itself would write them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from kstream.cli import human
from kstream.cli.data.reading import clients_of, find, partitions_of, topics_of
from kstream.cli.operate import Subject
from kstream.codecs.text import from_json, from_text, milliseconds
from kstream.errors import RecordRefused, TransactionError, UsageError
from kstream.runtime.cluster.writing import write_record
from kstream.specs.topic import Topic
from kstream.types import Clients, Headers

FLUSH_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to send. `timestamp` is in ms since the epoch; 0 is now."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers | None


class Line(msgspec.Struct):
    """A line of --records, as `kstream tail --json` writes it; what else is in it does not matter."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    key: msgspec.Raw = msgspec.Raw(b"null")
    timestamp: int | str | None = None
    headers: list[tuple[str, str | None]] | dict[str, str | None] = []


def run(
    on: Subject,
    target: str,
    name: str,
    values: Sequence[str],
    *,
    file: Path | None,
    records: Path | None,
    key: str | None,
    headers: Sequence[str],
    timestamp: str | None,
    partition: int | None,
) -> int:
    """The command.

    Raises:
        UsageError: there is no such topic, or something does not fit its types; or Kafka refuses a record.
    """
    assert on.app is not None
    topics = topics_of(on.app.topology())
    name = on.app.names.typed(name, topics)
    topic = find("topic", name, topics, on.app.name)
    if topic.internal:
        raise UsageError(f"topic {name} is internal to {on.app.name}: what is written there would damage its state")
    if sum((bool(values), file is not None, records is not None)) > 1:
        raise UsageError("give values, or --file, or --records: one of them")
    common = Outgoing(
        None if key is None else from_text(topic.key.codec, key, "--key"),
        None,
        0 if timestamp is None else milliseconds(timestamp, "--timestamp"),
        headers_of(headers) or None,
    )
    if values:
        outgoing: Iterable[Outgoing] = [
            _with(common, value=from_text(topic.value.codec, value, f"the value {_short(value)}")) for value in values
        ]
    elif records is not None:
        outgoing = from_lines(records, topic, common, whole=True)
    else:
        outgoing = from_lines(file or Path("-"), topic, common, whole=False)
    clients = clients_of(on)
    with closing(clients.admin()) as admin:
        count = partitions_of(admin, name, on.servers, target)
    if partition is not None and partition >= count:
        raise UsageError(f"--partition {partition}: topic {name} has {count} partitions, numbered from 0")
    sent = send(clients, name, outgoing, -1 if partition is None else partition)
    human.console().print(f"{human.plural(sent, 'record')} sent to {name}", markup=False)
    return 0


def send(clients: Clients, topic: str, outgoing: Iterable[Outgoing], partition: int = -1) -> int:
    """Sends them, in order, and waits until all are delivered. Returns how many there were.

    Raises:
        UsageError: Kafka refuses one, or a line is bad; what was sent before stays sent.
    """
    sent = 0
    with closing(clients.producer(None)) as producer:
        try:
            for one in outgoing:
                write_record(producer, topic, one.value, one.key, partition, one.timestamp, one.headers)
                sent += 1
        except (RecordRefused, UsageError) as error:
            producer.flush(FLUSH_SECONDS)
            before = f"; {human.plural(sent, 'record')} before it sent" if sent else ""
            raise UsageError(f"{error}{before}") from error
        except TransactionError:
            raise
        try:
            producer.flush(FLUSH_SECONDS)
        except TransactionError as error:
            raise UsageError(str(error)) from error
    return sent


def from_lines(path: Path, topic: Topic[Any, Any], common: Outgoing, *, whole: bool) -> Iterator[Outgoing]:
    """A record for each line that is not empty: its value, or with `whole` all of it; "-" is standard input.

    Raises:
        UsageError: the file cannot be read, or a line; the line's number is told.
    """
    name = "standard input" if str(path) == "-" else str(path)
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as lines:
            for number, line in _numbered(lines):
                where = f"{name}:{number}"
                yield (
                    _record(line, where, topic, common)
                    if whole
                    else _with(common, value=from_json(topic.value.codec, line, f"{where}: the value"))
                )
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from error


def _numbered(lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    return ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())


def _record(line: bytes, where: str, topic: Topic[Any, Any], common: Outgoing) -> Outgoing:
    try:
        read = msgspec.json.decode(line, type=Line)
    except msgspec.MsgspecError as error:
        raise UsageError(f'{where}: {error}; a line is {{"key": ..., "value": ..., "timestamp": ...}}') from error
    key = common.key
    if bytes(read.key) != b"null":
        key = from_json(topic.key.codec, read.key, f"{where}: the key")
    headers = read.headers.items() if isinstance(read.headers, dict) else read.headers
    given = [(name, None if value is None else value.encode()) for name, value in headers]
    timestamp = common.timestamp if read.timestamp is None else milliseconds(str(read.timestamp), f"{where}: timestamp")
    value = from_json(topic.value.codec, read.value, f"{where}: the value")
    return Outgoing(key, value, timestamp, [*(common.headers or ()), *given] or None)


def headers_of(given: Sequence[str]) -> list[tuple[str, bytes | None]]:
    """`name=value` pairs of --header.

    Raises:
        UsageError: one has no `=`.
    """
    headers: list[tuple[str, bytes | None]] = []
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise UsageError(f"--header {one}: write --header NAME=VALUE")
        headers.append((name, value.encode()))
    return headers


def _with(common: Outgoing, *, value: bytes | None) -> Outgoing:
    return Outgoing(common.key, value, common.timestamp, common.headers)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
