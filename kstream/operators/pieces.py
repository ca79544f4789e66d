"""Pieces of a fetch that were taken one after the other, as one again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from kstream.types import Fetch, Headers, TopicPartition


class Pieces:
    """A `types.Fetch` of several, of one partition, each of which follows on the one before."""

    __slots__ = ("_pieces", "_size")

    def __init__(self, pieces: Sequence[Fetch]) -> None:
        self._pieces, self._size = pieces, sum(map(len, pieces))

    @property
    def at(self) -> TopicPartition:
        return self._pieces[0].at

    @property
    def first_offset(self) -> int:
        return self._pieces[0].first_offset

    @property
    def last_offset(self) -> int:
        return self._pieces[-1].last_offset

    @property
    def first_timestamp(self) -> int:
        return self._pieces[0].first_timestamp

    @property
    def last_timestamp(self) -> int:
        return self._pieces[-1].last_timestamp

    def __len__(self) -> int:
        return self._size

    def keys(self) -> list[bytes | None]:
        return list(chain.from_iterable(piece.keys() for piece in self._pieces))

    def values(self) -> list[bytes | None]:
        return [value for piece in self._pieces for value in piece.values()]

    def timestamps(self) -> list[int]:
        return [at for piece in self._pieces for at in piece.timestamps()]

    def offsets(self) -> list[int]:
        return [offset for piece in self._pieces for offset in piece.offsets()]

    def headers(self) -> list[Headers | None]:
        return [headers for piece in self._pieces for headers in piece.headers()]

    def cut(self, start: int, stop: int) -> Fetch:
        kept: list[Fetch] = []
        for piece in self._pieces:
            size = len(piece)
            if start < size and stop > 0:
                kept.append(piece.cut(max(start, 0), min(stop, size)))
            start, stop = start - size, stop - size
        return kept[0] if len(kept) == 1 else Pieces(kept)
