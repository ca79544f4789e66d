"""`kstream tail`: the records of a topic as they come, decoded as the app would."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import clients_of, find, partitions_of, topics_of
from kstream.cli.operate import Subject
from kstream.codecs.text import Decoded, decoded, milliseconds, moment
from kstream.errors import KafkaUnavailable, UsageError
from kstream.escape import escaped
from kstream.runtime.cluster.records import TIMEOUT, Reading, Row, bounds
from kstream.specs.topic import Topic
from kstream.types import AdminClient, TopicPartition

PLACES: Final = "beginning, end, an offset, or a time such as 2026-01-31T12:00:00Z"


class Shown(msgspec.Struct, omit_defaults=True):
    """A record as --json writes it. `timestamp` is in ms since the epoch.

    Attributes:
        undecodable: what could not be decoded, "key" or "value", and why; its bytes are shown as text then.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: Any
    value: Any
    headers: list[tuple[str, str | None]] = []
    undecodable: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Record:
    """A record that was decoded, as far as that goes."""

    row: Row
    key: Decoded
    value: Decoded
    headers: list[tuple[str, str | None]]

    @property
    def errors(self) -> dict[str, str]:
        sides = {"key": self.key, "value": self.value}
        return {name: side.error for name, side in sides.items() if side.error is not None}

    @property
    def searched(self) -> str:
        """What --grep looks at."""
        return " ".join([self.key.text, self.value.text, *(f"{name}={value}" for name, value in self.headers)])


def run(
    on: Subject, target: str, name: str, *, start: str, count: int | None, grep: str | None, once: bool, as_json: bool
) -> int:
    """The command: until Ctrl-C, `count` records were shown, or with `once` the end, as it is now, was reached.

    Raises:
        UsageError: there is no such topic, or an option makes no sense. KafkaUnavailable: no answer in time.
    """
    assert on.app is not None
    topics = topics_of(on.app.topology())
    name = on.app.names.typed(name, topics)
    topic = find("topic", name, topics, on.app.name)
    wanted = matching(grep)
    clients = clients_of(on)
    out = writer(as_json)
    with closing(clients.admin()) as admin:
        at = [TopicPartition(name, number) for number in range(partitions_of(admin, name, on.servers, target))]
        firsts, ends = bounds(admin, at)
        starts = positions(admin, start, firsts, ends)
        with closing(Reading(clients, admin, starts, ends)) as reading:
            try:
                for record in follow(reading, topic, wanted, count=count, once=once):
                    out(record)
            except KeyboardInterrupt:  # which is how to leave it
                return 0
            except BrokenPipeError:  # who reads has seen enough; Python would complain at its exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def follow(
    reading: Reading, topic: Topic[Any, Any], wanted: Callable[[Record], bool], *, count: int | None, once: bool
) -> Iterator[Record]:
    """The records that are wanted, those that came together in the order of their time stamps, until there were
    `count`; with `once` no further than to the end as it was."""
    left = count
    while left is None or left > 0:
        if once and reading.ended:
            return
        for row in sorted(reading.take(), key=lambda row: row.timestamp):
            record = decode(topic, row)
            if not wanted(record):
                continue
            yield record
            if left is not None:
                left -= 1
                if left == 0:
                    return


def positions(
    admin: AdminClient, start: str, firsts: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Where to begin in each partition. An offset that is not there is the nearest one that is.

    Raises:
        UsageError: `start` says nothing of the kind.
    """
    if start == "beginning":
        return firsts
    if start == "end":
        return ends
    if re.fullmatch(r"\d{1,18}", start):
        return {at: min(max(int(start), first), ends[at]) for at, first in firsts.items()}
    if re.match(r"\d{4}-", start) is None:
        raise UsageError(f"--from {start}: write {PLACES}")
    try:
        found = admin.offsets_at(list(firsts), milliseconds(start, "--from")).result(TIMEOUT)
    except TimeoutError:
        raise KafkaUnavailable("the offsets for the time of --from cannot be read: try again") from None
    return {at: ends[at] if offset is None else offset for at, offset in found.items()}


def matching(grep: str | None) -> Callable[[Record], bool]:
    """Raises UsageError: `grep` is no regular expression."""
    if grep is None:
        return lambda _: True
    try:
        search = re.compile(grep).search
    except re.error as error:
        raise UsageError(f"--grep {grep}: {error}") from None
    return lambda record: search(record.searched) is not None


def decode(topic: Topic[Any, Any], row: Row) -> Record:
    key, value = decoded(topic.key.codec, row.key, key=True), decoded(topic.value.codec, row.value)
    headers = [
        (name, None if value is None else value.decode("utf-8", "backslashreplace")) for name, value in row.headers
    ]
    return Record(row, key, value, headers)


# ---- how it looks


def writer(as_json: bool) -> Callable[[Record], None]:
    """Writes each record at once: who looks on sees it when it comes."""
    if as_json:
        return lambda record: human.write_json(shown(record), indented=False)
    out = human.console()
    return lambda record: out.print(line(record), soft_wrap=True)


def shown(record: Record) -> Shown:
    row = record.row
    return Shown(
        row.at.topic, row.at.partition, row.offset, row.timestamp, record.key.plain, record.value.plain,
        record.headers, record.errors,
    )  # fmt: skip


def line(record: Record) -> Text:
    row = record.row
    text = Text.assemble(
        (moment(row.timestamp), "dim"), (f"  {row.at.partition}@{row.offset}", "dim"),
        "  ", (record.key.text, "cyan"), "  ", record.value.text,
    )  # fmt: skip
    for name, value in record.headers:
        text.append(f"  {escaped(name)}={escaped(value or '')}", style="dim")
    for side, why in record.errors.items():
        text.append(f"  {side} cannot be decoded: {why}", style="red")
    return text
