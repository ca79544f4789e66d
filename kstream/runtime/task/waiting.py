"""Records that were set aside: a partition of a delay topic."""

from __future__ import annotations

from kstream.operators.delayed import Note


class Waiting:
    """A delay topic's partition.

    Attributes:
        seconds: that each of its records waits.
        due: when the one at offset `head` is processed (monotonic).
        notes: of the records that are buffered, or processed and not committed, by their offsets.
    """

    __slots__ = ("due", "head", "notes", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds, self.head, self.due = seconds, -1, 0.0
        self.notes: dict[int, Note] = {}
