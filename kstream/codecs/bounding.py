"""How deep the JSON of an input record may be, and how long a number in it: found from its bytes, before it is decoded.

Records too short to be out of bounds are not looked at. In others the opening brackets are counted and a few windows
looked through; only where that leaves it open is a record gone through.
That a number is measured by its characters is as in Jackson's stream read constraints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from kstream.codecs.base import BuiltIn, Codec
from kstream.codecs.columns import EXCERPT
from kstream.errors import JsonOutOfBounds

WINDOW: Final = 32
"""Bytes in a row that are all of numbers, from which on it is looked whether a number is too long."""

PASSES: Final = 4
"""Levels that are taken off at C speed. More are rare, and a record made of them would take seconds."""

_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")  # +1 and -1 as signed bytes
_OTHERS: Final = bytes(set(range(256)) - set(b'[]{}"'))
_NUMBER: Final = b"0123456789.-+eE"


@dataclass(frozen=True, slots=True)
class JsonBounds:
    """Of the JSON of a record.

    Args:
        depth: lists and objects inside one another.
        number: characters of a number, sign, point and exponent among them. One in quotes is text.
    """

    depth: int
    number: int

    @property
    def free(self) -> int:
        """Bytes up to which a record is in bounds, whatever it is."""
        return min(2 * self.depth, self.number)

    def outside(self, codec: Codec[Any], column: Sequence[bytes | None]) -> tuple[int, JsonOutOfBounds] | None:
        """The first that is out of bounds, by index, and what to raise; None where none is, or it is no JSON."""
        if not isinstance(codec, BuiltIn) or not codec.json:
            return None
        free = self.free
        for index, data in enumerate(column):
            if data is not None and len(data) > free:
                what = self._broken_by(data)
                if what is not None:
                    return index, JsonOutOfBounds(f"{what} (in {data[:EXCERPT]!r})")
        return None

    def _broken_by(self, data: bytes) -> str | None:
        size = len(data)
        # bytes.count looks at each byte; this leaps from one to the next
        if (
            size > 2 * self.depth
            and 2 * size - len(data.replace(b"{", b"")) - len(data.replace(b"[", b"")) > self.depth
            and (levels := deeper(data, self.depth))
        ):
            return f"JSON of {levels:,} levels, more than max_json_depth ({self.depth:,})"
        if size > self.number and (length := longer_number(data, self.number)):
            return f"a number of {length:,} characters in JSON, more than max_number_length ({self.number:,})"
        return None


def deeper(data: bytes, depth: int) -> int:
    """How many brackets are open at once, outside of strings, where that is more than `depth`; else 0. It may err in
    what is no JSON."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # only brackets and quotes are left, then no strings: without a bracket in it a string is two quotes in a row
    left = data.translate(_BRACKETS, _OTHERS).replace(b'"' * 8, b"").replace(b'""', b"")
    if b'"' in left:
        left = b"".join(left.split(b'"')[::2])
    for taken in range(PASSES):
        if left.count(b"[") <= depth - taken:
            return 0
        left = left.replace(b"[]", b"") if taken < depth else left  # the innermost level
    steps = memoryview(left.translate(_STEPS)).cast("b")
    levels = max(accumulate(steps), default=0) + min(PASSES, depth)
    return levels if levels > depth else 0


def longer_number(data: bytes, longest: int) -> int:
    """The characters of the first number, outside of strings, that has more than `longest`; 0 where none has."""
    window = min(WINDOW, longest // 2)
    step = longest + 2 - window  # one that is too long has all of one window
    for at in range(0, len(data) - window + 1, step):
        if data[at] in _NUMBER and not data[at : at + window].translate(None, _NUMBER):
            return _first_longer(data, longest)
    return 0


def _first_longer(data: bytes, longest: int) -> int:
    in_bounds = re.compile(
        rb'(?:[^"0-9.eE+-]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[0-9.eE+-]{1,%d}+(?![0-9.eE+-]))*+' % longest, re.DOTALL
    )
    found = in_bounds.match(data)
    rest = data[found.end() :] if found else data
    return len(rest) - len(rest.lstrip(_NUMBER))
