"""A record to be written, with a key of its own."""

from __future__ import annotations

from typing import Generic, TypeVar

from kstream.types import Headers

K = TypeVar("K")
V = TypeVar("V")


class Record(Generic[K, V]):
    """What a function returns or yields to choose the key (and timestamp, headers) of an output.

    `value` None is a tombstone, allowed only into a topic declared `T | None`.
    `timestamp` is in ms since the epoch; None keeps the input record's.
    """

    __slots__ = ("headers", "key", "timestamp", "value")

    def __init__(self, key: K, value: V, timestamp: int | None = None, headers: Headers | None = None) -> None:
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
