"""Pieces of a fetch that were taken one after the other, as one again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain

from kstream.types import Fetch, Headers, TopicPartition


class Pieces:
    """A `types.Fetch` of several, of one partition, each of which follows on the one before."""

    __slots__ = ("_starts", "pieces")

    def __init__(self, pieces: Sequence[Fetch]) -> None:
        self.pieces = pieces
        self._starts = list(accumulate(map(len, pieces), initial=0))  # and where the last one ends

    @property
    def at(self) -> TopicPartition:
        return self.pieces[0].at

    @property
    def first_offset(self) -> int:
        return self.pieces[0].first_offset

    @property
    def last_offset(self) -> int:
        return self.pieces[-1].last_offset

    @property
    def first_timestamp(self) -> int:
        return self.pieces[0].first_timestamp

    @property
    def last_timestamp(self) -> int:
        return self.pieces[-1].last_timestamp

    def __len__(self) -> int:
        return self._starts[-1]

    def keys(self) -> list[bytes | None]:
        return list(chain.from_iterable(piece.keys() for piece in self.pieces))

    def values(self) -> list[bytes | None]:
        return [value for piece in self.pieces for value in piece.values()]

    def timestamps(self) -> list[int]:
        return [at for piece in self.pieces for at in piece.timestamps()]

    def offsets(self) -> list[int]:
        return [offset for piece in self.pieces for offset in piece.offsets()]

    def headers(self) -> list[Headers | None]:
        return [headers for piece in self.pieces for headers in piece.headers()]

    def cut(self, start: int, stop: int) -> Fetch:
        kept: list[Fetch] = []
        for place in range(bisect_right(self._starts, start) - 1, len(self.pieces)):
            begins, ends = self._starts[place : place + 2]
            if begins >= stop:
                break
            kept.append(self.pieces[place].cut(max(start, begins) - begins, min(stop, ends) - begins))
        return kept[0] if len(kept) == 1 else type(self)(kept)
