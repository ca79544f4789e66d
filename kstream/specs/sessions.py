"""Sessions, as they are declared, and as they are kept while they are open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

import msgspec

from kstream.codecs.base import Codec, name_of
from kstream.errors import TopologyError
from kstream.specs.windows import length_of

V = TypeVar("V")


@dataclass(frozen=True, slots=True, init=False)
class Session:
    """Windows that grow: a record of a key belongs to the session whose records are within `gap` of it, and sessions
    that meet become one. (Kafka Streams' SessionWindows, Flink's EventTimeSessionWindows.)

    Two records that are exactly `gap` apart are in one session, as in both.

    Args:
        gap: how long after its last record a session is over, as a timedelta; or in `days`, `hours`, `minutes`,
            `seconds`, which are added up.
        gap_of: instead of that, a function that takes a value and returns how long after this record another one may
            come that is in its session, as a timedelta. (Flink's dynamic gap.)

    Attributes:
        gap: in ms; 0 with `gap_of`.

    Raises:
        TopologyError: there can be no such sessions.
    """

    gap: int
    gap_of: Callable[[Any], timedelta] | None

    def __init__(
        self, gap: timedelta | None = None, *, gap_of: Callable[[Any], timedelta] | None = None, days: float = 0,
        hours: float = 0, minutes: float = 0, seconds: float = 0,
    ) -> None:  # fmt: skip
        parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        if gap_of is not None and (gap is not None or any(parts.values())):
            raise TopologyError("Session: give it a gap, or gap_of=, a function that says it of each record: not both")
        object.__setattr__(self, "gap", 0 if gap_of is not None else length_of(gap, parts, "Session", "gap"))
        object.__setattr__(self, "gap_of", gap_of)

    def __str__(self) -> str:
        return f"session gap {'of each record' if self.gap_of is not None else timedelta(milliseconds=self.gap)}"


class OpenSession(msgspec.Struct, Generic[V]):
    """A session of a key that may still grow.

    Attributes:
        start, end: the times of its first and its last record, in ms since the epoch.
        value: its result so far.
    """

    start: int
    end: int
    value: V

    @property
    def until(self) -> int:
        """What the place of a session goes by: its end, where all have one gap."""
        return self.end


class VaryingSession(OpenSession[V], Generic[V]):
    """One whose records each said a gap.

    Attributes:
        until: the latest time of a record that may still come to it, in ms since the epoch.
    """

    until: int


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[OpenSession[bytes]]).decode


@dataclass(frozen=True, slots=True)
class OpenSessions:
    """The codec of lists of sessions whose values have a codec of their own: JSON as that of others, with the bytes of
    each value as base64."""

    values: Codec[Any]

    @property
    def version(self) -> str:
        return self._version(getattr(self.values, "version", None))

    @property
    def reads(self) -> list[str]:
        return [self._version(one) for one in getattr(self.values, "reads", ())]

    def _version(self, of_values: object) -> str:
        return f"1 of {name_of(self.values)}" + ("" if of_values is None else f" {of_values}")

    def encode(self, sessions: list[OpenSession[Any]]) -> bytes:
        encode = self.values.encode
        return _encode([OpenSession(one.start, one.end, encode(one.value)) for one in sessions])

    def decode(self, data: bytes) -> list[OpenSession[Any]]:
        decode = self.values.decode
        return [OpenSession(one.start, one.end, decode(one.value)) for one in _decode(data)]
