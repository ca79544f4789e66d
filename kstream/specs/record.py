"""A record to be written, with a key of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

from kstream.clock import since_epoch
from kstream.errors import CodecError
from kstream.types import Headers

K = TypeVar("K")
V = TypeVar("V")


class Record(Generic[K, V]):
    """What a function returns or yields to choose the key (and timestamp, headers) of an output.

    `value` None is a tombstone, allowed only into a topic declared `T | None`.
    `timestamp` is a datetime (naive means UTC) or ms since the epoch; None keeps the input record's.
    `headers` are pairs of a name and bytes or None; a str goes as UTF-8.
    """

    __slots__ = ("headers", "key", "timestamp", "value")

    def __init__(
        self, key: K, value: V, timestamp: datetime | int | None = None, headers: Headers | None = None
    ) -> None:
        self.key, self.value, self.timestamp, self.headers = key, value, timestamp, headers

    def __repr__(self) -> str:
        return f"Record(key={self.key!r}, value={self.value!r}, timestamp={self.timestamp!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return (self.key, self.value, self.timestamp, self.headers) == (
            other.key, other.value, other.timestamp, other.headers,
        )  # fmt: skip

    __hash__ = None  # type: ignore[assignment]


EPOCH_IS_NOW = (
    "event time 1970-01-01T00:00:00Z cannot be written: Kafka's client takes 0 ms for 'now'; give another time "
    "(1 ms, say), by the topic's timestamp= or Record(timestamp=...)"
)


def milliseconds(at: object) -> int:
    """A datetime (naive means UTC) or ms since the epoch, as ms since the epoch.

    Raises:
        CodecError: it is neither.
    """
    if isinstance(at, datetime):
        return since_epoch(at)
    if isinstance(at, int) and at.__class__ is int:  # no bool
        return at
    raise CodecError(f"the timestamp {at!r} is neither a datetime nor a whole number of ms since the epoch")


def checked_timestamp(at: object) -> int:
    """Milliseconds since the epoch, of a record to be written.

    Raises:
        CodecError: it is no datetime and no int, or none that Kafka can carry.
    """
    at = milliseconds(at)
    if at == 0:
        raise CodecError(EPOCH_IS_NOW)
    if not 0 < at < 2**63:
        raise CodecError(f"the timestamp {at} does not fit into Kafka's timestamp: ms since 1970, 64 bits")
    return at


def checked_headers(headers: object) -> list[tuple[str, bytes | None]]:
    """Headers in the one form that Kafka's client and the TestDriver carry alike.

    Raises:
        CodecError: they are not pairs of a str and bytes, str or None.
    """
    if not isinstance(headers, (list, tuple)):
        raise CodecError(f"headers are a list of (name, value) pairs, not {type(headers).__name__}")
    checked: list[tuple[str, bytes | None]] = []
    for pair in headers:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise CodecError(f"the header {pair!r} is not a (name, value) pair")
        name, value = pair
        try:
            value = value.encode() if isinstance(value, str) else value
            _ = isinstance(name, str) and name.encode()
        except UnicodeEncodeError as error:
            raise CodecError(f"the header {pair!r} has no form as UTF-8: {error}") from error
        if isinstance(name, str) and "\0" in name:
            raise CodecError(f"the header {pair!r}: Kafka's client would cut the name at its NUL")
        if not isinstance(name, str) or not (value is None or isinstance(value, bytes)):
            raise CodecError(f"the header {pair!r}: the name must be a str, the value bytes, str or None")
        checked.append((name, value))
    return checked
