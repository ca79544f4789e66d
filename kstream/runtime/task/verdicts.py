"""Records that a policy has decided to leave out, until their offsets are committed.

Nothing of this survives a restart: the record fails anew then, and its policy decides anew.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from kstream.errors import ProcessingError
from kstream.operators.writer import Writer
from kstream.types import Fetch, TopicPartition

PREFIX = "__streams.errors."
"""Of the headers that Kafka Streams gives a dead letter (KIP-1034)."""
OWN = ("kstream.app", "kstream.task", "kstream.time")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A record is left out. `topic` is where it is written to instead, None is nowhere."""

    topic: str | None
    headers: tuple[tuple[str, bytes], ...] = ()

    def write(self, record: Fetch, writer: Writer) -> None:
        """The dead letter of a fetch of one record: key, value, timestamp and headers as they are, and why."""
        if self.topic is None:
            return
        (key,), (value,), (timestamp,), (own,) = (
            record.keys(), record.values(), record.timestamps(), record.headers(),
        )  # fmt: skip
        headers: list[tuple[str, bytes | None]] = [
            (name, content) for name, content in own or () if not name.startswith(PREFIX) and name not in OWN
        ]
        writer.one(0, 0, self.topic, value, key, timestamp, [*headers, *self.headers], -1)
        writer.release()


def dead_letter(topic: str, app: str, error: ProcessingError, now: float) -> Verdict:
    """The verdict on a record that failed so. `now` is the wall clock."""
    cause = error.__cause__ or error
    kind = type(cause)
    said = {
        f"{PREFIX}exception": f"{kind.__module__}.{kind.__qualname__}",
        f"{PREFIX}message": str(cause),
        f"{PREFIX}stacktrace": "".join(traceback.format_exception(cause)),
        f"{PREFIX}topic": error.topic,
        f"{PREFIX}partition": str(error.partition),
        f"{PREFIX}offset": str(error.offset),
        "kstream.app": app,
        "kstream.task": error.task,
        "kstream.time": str(int(now * 1000)),
    }
    return Verdict(topic, tuple((name, text.encode(errors="backslashreplace")) for name, text in said.items()))


class Verdicts:
    """Those of one task. False while there is none."""

    def __init__(self) -> None:
        self._on: dict[tuple[TopicPartition, int], Verdict] = {}

    def __bool__(self) -> bool:
        return bool(self._on)

    def add(self, at: TopicPartition, offset: int, verdict: Verdict) -> None:
        self._on[at, offset] = verdict

    def of(self, at: TopicPartition, offset: int) -> Verdict | None:
        return self._on.get((at, offset))

    def sound(self, fetch: Fetch) -> int:
        """So many of its records, the first ones, are not to be left out."""
        return next((n for n, offset in enumerate(fetch.offsets()) if (fetch.at, offset) in self._on), len(fetch))

    def committed(self, positions: Mapping[TopicPartition, int]) -> None:
        """What lies before these is over."""
        self._on = {(at, offset): one for (at, offset), one in self._on.items() if offset >= positions[at]}
