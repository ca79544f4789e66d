"""Records of a delay topic: what they say of themselves, and how they look to the steps that process them again.

A record that a `RetryLater` sets aside has its key, value, headers and timestamp, byte for byte, and one header behind
all others, which is JSON:

    kstream.delayed: {"v":1,"topic":"orders","partition":3,"offset":41,"moved":1,"failed":4,"due":1769860800000,...}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from kstream.operators.wrapping import Wrapping
from kstream.specs.stored import DELAYED, number_in
from kstream.types import Fetch, Headers

HEADER: Final = "kstream.delayed"

Count = Annotated[int, msgspec.Meta(ge=0)]
OutOfReach = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=0)]


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What the header says.

    Attributes:
        topic, partition, offset: where the record lies that was set aside.
        moved: how often it was.
        failed: how often it has failed.
        due: when it is processed again (ms since the epoch).
        timestamp: its own, where Kafka's client cannot write it: 0 is "now" to it, and less is none.
    """

    v: int = DELAYED.number
    topic: str
    partition: Count
    offset: Count
    moved: Count = 0
    failed: Count = 0
    due: Count = 0
    timestamp: OutOfReach | None = None

    def header(self) -> tuple[str, bytes]:
        return HEADER, msgspec.json.encode(self)


def note_of(headers: Headers | None) -> Note | None:
    """What the last of a record's headers says; None where others wrote the record."""
    if not headers or headers[-1][0] != HEADER:
        return None
    said = headers[-1][1] or b""
    try:
        return msgspec.json.decode(said, type=Note)
    except msgspec.MsgspecError:
        found = number_in(said)
        return Note(v=found, topic="", partition=0, offset=0) if found > DELAYED.number else None


class Delayed(Wrapping):
    """A `types.Fetch` of a delay topic: headers and timestamps as the records had them when they failed."""

    __slots__ = ("notes",)

    def __init__(self, fetch: Fetch, notes: Sequence[Note | None] | None = None) -> None:
        super().__init__(fetch)
        self.notes = list(map(note_of, fetch.headers())) if notes is None else notes

    def timestamps(self) -> list[int]:
        return [
            written if note is None or note.timestamp is None else note.timestamp
            for written, note in zip(self._fetch.timestamps(), self.notes, strict=True)
        ]

    def origins(self) -> list[int]:
        """The offsets of the records that were set aside."""
        pairs = zip(self._fetch.offsets(), self.notes, strict=True)
        return [own if note is None else note.offset for own, note in pairs]

    def headers(self) -> list[Headers | None]:
        pairs = zip(self._fetch.headers(), self.notes, strict=True)
        return [headers if note is None or headers is None else headers[:-1] or None for headers, note in pairs]

    def cut(self, start: int, stop: int) -> Delayed:
        return Delayed(self._fetch.cut(start, stop), self.notes[start:stop])

    @property
    def refusal(self) -> str | None:
        """Why they cannot be read: of the first that a later version wrote."""
        for row, note in enumerate(self.notes):
            if note is not None and note.v > DELAYED.number:
                return DELAYED.refusal(f"the record of {self.at} at offset {self.offsets()[row]}", note.v)
        return None

    def due(self, now: int) -> int:
        """How many of the first records are due `now` (ms since the epoch). Those without a note are at once."""
        late = (row for row, note in enumerate(self.notes) if note is not None and note.due > now)
        return next(late, len(self))
