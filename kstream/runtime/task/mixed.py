"""Records of several inputs as one batch, in the order in which they come. Nothing but what is in this file makes a
difference between that and a fetch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kstream.operators.pieces import Pieces
from kstream.operators.source import Source
from kstream.types import Fetch, TopicPartition


class _Part(NamedTuple):
    """What is of one input, and the place of each record among all."""

    fetch: Fetch
    places: Sequence[int]


class Mixed(Pieces):
    """They are pushed one input after the other, each with the places that its records have: by these what they cause
    is put in order. What a `types.Fetch` says of its first and last record is of whatever inputs these are.

    Attributes:
        parts: what is of each input.
        at_work: the part that is being pushed, or that has the record at fault; None: not known.
    """

    __slots__ = ("at_work", "parts")

    def __init__(self, pieces: Sequence[Fetch]) -> None:
        super().__init__(pieces)
        of: dict[TopicPartition, tuple[list[Fetch], list[int]]] = {}
        for piece, start in zip(pieces, self._starts, strict=False):
            some, places = of.setdefault(piece.at, ([], []))
            some.append(piece)
            places.extend(range(start, start + len(piece)))
        self.parts = [_Part(as_one(some), places) for some, places in of.values()]
        self.at_work: _Part | None = None

    def push(self, sources: Mapping[str, Source], works_on: Callable[[Fetch], None]) -> None:
        """See Task: `works_on` is told of each part."""
        for part in self.parts:
            self.at_work = part
            works_on(part.fetch)
            sources[part.fetch.at.topic].push_fetch(part.fetch, part.places)
        self.at_work = None


def as_one(pieces: Sequence[Fetch]) -> Fetch:
    """Of one input."""
    return pieces[0] if len(pieces) == 1 else Pieces(pieces)


def parts_of(fetch: Fetch) -> Sequence[Fetch]:
    """What is of each input."""
    return [part.fetch for part in fetch.parts] if isinstance(fetch, Mixed) else (fetch,)


def where(fetch: Fetch) -> str:
    """As messages have it; of a mixed one the part at work, or at fault, where that is known."""
    part = fetch.at_work if isinstance(fetch, Mixed) else None  # read once: another thread may ask
    return " and ".join(map(_where, parts_of(fetch) if part is None else (part.fetch,)))


def _where(fetch: Fetch) -> str:
    first, last = fetch.first_offset, fetch.last_offset
    return f"{fetch.at} offset {first}" if first == last else f"{fetch.at}, offsets {first} to {last}"


def at_fault(fetch: Fetch, sources: Mapping[str, Source]) -> int | None:
    """Which record something failed on, where that is known."""
    if not isinstance(fetch, Mixed):
        return sources[fetch.at.topic].at_fault
    if (part := fetch.at_work) is None or (row := sources[part.fetch.at.topic].at_fault) is None:
        return None
    return part.places[row]


def is_at_fault(fetch: Fetch, sources: Mapping[str, Source], place: int | None) -> None:
    """It is known which one is; None: none of them."""
    row, at = place, fetch.at
    if isinstance(fetch, Mixed):
        fetch.at_work = next((part for part in fetch.parts if place in part.places), None)
        if fetch.at_work is None:
            return
        row, at = fetch.at_work.places.index(place), fetch.at_work.fetch.at
    if (origin := sources[at.topic].origin) is not None:
        origin.at_fault = row
