"""What an instance asks its workers of committed state, and what they answer: the messages, and how they travel over a
socket. A worker's side is queries.py, an instance's channel.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, Final, Generic, TypeVar

import msgspec

T = TypeVar("T")

PAGE_BYTES: Final = 1 << 20
"""Bytes of a range in one answer; a single entry may have more."""
VALUE_BYTES: Final = 4 << 20
"""The largest value that is answered."""
ANSWER_BYTES: Final = 4 << 20
"""Bytes of the values in one answer to many keys, where nobody says fewer; a single value may have more."""


class Query(msgspec.Struct, array_like=True):
    """A question for committed entries of a store.

    Attributes:
        number: its result has the same.
        partitions: in which it is looked; none: in all that the worker runs.
        keys: to be looked up, encoded; None: it asks for a range, of the one partition.
        start, stop, limit: of the range; `stop` itself is not in it.
        most: bytes of the values of its answer to `keys`; one value may have more.
    """

    number: int
    store: str
    partitions: list[int]
    keys: list[bytes] | None = None
    start: bytes = b""
    stop: bytes | None = None
    limit: int = 0
    most: int = ANSWER_BYTES


class Result(msgspec.Struct, array_like=True):
    """The answer.

    Attributes:
        partitions: those that were looked at; one that is not among them does not run here, or its state is damaged.
        keys: of the entries that were found; `values` and `found_in` (partitions) go with them.
        more: the range has others, behind the key `after`. A page may be empty and have more behind it, where what was
            looked at has expired.
        error: why there is no answer.
        too_large: bytes of the values that have more than VALUE_BYTES, by their keys; these are empty in `values`.
        left: keys that were asked for, and that this answer has no room for.
    """

    number: int
    partitions: list[int] = []
    keys: list[bytes] = []
    values: list[bytes] = []
    found_in: list[int] = []
    more: bool = False
    error: str | None = None
    after: bytes = b""
    too_large: dict[bytes, int] = {}
    left: list[bytes] = []

    def add(self, key: bytes, value: bytes, partition: int) -> None:
        if len(value) > VALUE_BYTES:
            self.too_large[key], value = len(value), b""
        self.keys.append(key)
        self.values.append(value)
        self.found_in.append(partition)


_LENGTH: Final = Struct(">I")


class Frames(Generic[T]):
    """Structs over a stream of bytes, each with its length before it."""

    def __init__(self, kind: type[T]) -> None:
        self._decode: Callable[[Any], T] = msgspec.msgpack.Decoder(kind).decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """What is complete by now. Raises msgspec.MsgspecError for what is none of it."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= _LENGTH.size:
                end = at + _LENGTH.size + _LENGTH.unpack_from(buffer, at)[0]
                if len(buffer) < end:
                    return
                begin, at = at + _LENGTH.size, end
                yield self._decode(bytes(buffer[begin:end]))
        finally:
            del buffer[:at]


_encode = msgspec.msgpack.Encoder().encode


def frame(struct: Query | Result) -> bytes:
    data = _encode(struct)
    return _LENGTH.pack(len(data)) + data
