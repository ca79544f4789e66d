"""The store of an aggregation over Kafka Streams' sliding windows.

An entry is a key with the records that its windows may have. The windows follow from these, so they are not stored:
which there are, and what they have, is asked when they are told. (Kafka Streams stores a result for each window, two
for each record, and makes new ones of copies of them: a window then lacks a record whose own window was closed before
it came, and what a fold is given has the order in which records came.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from kstream.codecs.windowed import START, start_in, stored_start
from kstream.errors import EntryUnreadable
from kstream.specs.kafka_sliding import Recent
from kstream.specs.store import StoreSpec
from kstream.state.places import PlacedStore


class _Times(msgspec.Struct):
    """Of an entry, what places need: a field of Recent."""

    times: list[int]


_times = msgspec.json.Decoder(_Times).decode


def places_of_records(spec: StoreSpec, entries: Mapping[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    """Places in the index for these entries, as they are encoded: no window ends before its first record.

    Raises:
        EntryUnreadable: one has no records.
    """
    places: dict[bytes, bytes | None] = {}
    for key, raw in entries.items():
        if raw is None:
            continue
        try:
            first = _times(raw).times[0]
        except (ValueError, IndexError) as error:
            raise EntryUnreadable(
                f"table {spec.name!r}: what it has of {key!r} are no records of sliding windows: {error}; a store of "
                "another kind had this name: give the windows another name="
            ) from error
        places[stored_start(first) + key] = b""
    return places


class Window(NamedTuple):
    """One of a key, which has records.

    Attributes:
        end: its last ms.
        values: what is kept of its records, in the order of their times.
    """

    end: int
    key: bytes
    values: list[Any]


def values_until(recent: Recent[Any], end: int, apart: int) -> list[Any]:
    """Of the window that ends then (ms; the end is in it)."""
    times = recent.times
    first, stop = bisect_left(times, end - apart), bisect_right(times, end)
    if not recent.late:
        return recent.values[first:stop]
    some = slice(first, stop)
    rows = zip(times[some], recent.late[some], recent.values[some], strict=True)
    return [value for at, late, value in rows if at + late <= end]


def ends_between(recent: Recent[Any], first: int, stop: int, apart: int) -> list[int]:
    """When windows end, from `first` on, before `stop` (ms), in their order. Some of these may be empty: those behind
    a record that no other follows."""
    times, late = recent.times, recent.late
    if stop <= first:
        return []
    own, to = bisect_left(times, first), bisect_left(times, stop)
    ends = set(times[own:to])
    if late:
        ends = {at for at, by in zip(times[own:to], late[own:to], strict=True) if not by}
    behind = apart + 1
    ends.update(at + behind for at in times[bisect_left(times, first - behind) : bisect_left(times, stop - behind)])
    return sorted(ends)


class SlidingStore(PlacedStore[Recent[Any]]):
    """See the module's text. Each key has a place no later than the first end of its open windows."""

    def over(self, before: int, most: int, floor: int, apart: int) -> Iterator[list[Window]]:
        """The windows that end before this time (ms), in the order of their ends, then of their keys, of about `most`
        keys at a time. What no other window has is gone from the store.

        Args:
            floor: windows that end before were over already.
            apart: by how many ms the records of a window are at most.
        """
        live = self.live
        while places := self.due(before, most):
            lows: dict[bytes, int] = {}
            for place in places:
                lows.setdefault(place[START:], start_in(place))  # the first of each key: they are in their order
            self.load(lows)
            # where there may be more places, only as far as these go: windows of other keys may end in between
            last = places[-1] if len(places) == most else None
            over: list[Window] = []
            shorter: list[bytes] = []
            for key, low in lows.items():
                recent = live[key]
                if recent is None:
                    continue
                stop = before if last is None else start_in(last) + (key <= last[START:])
                for end in ends_between(recent, max(low, floor, recent.since or low), stop, apart):
                    if values := values_until(recent, end, apart):
                        over.append(Window(end, key, values))
                gone = bisect_left(recent.times, stop - apart - 1)
                if gone == len(recent.times):
                    self.delete(key)
                    continue
                if gone:
                    _drop(recent, gone, stop)
                    shorter.append(key)
                times = recent.times
                later = bisect_left(times, stop)
                self.look_at(key, min((times[0] + apart + 1, *times[later : later + 1])))
            self.changed(shorter)
            over.sort(key=lambda window: window[:2])
            if over:
                yield over


def _drop(recent: Recent[Any], count: int, since: int) -> None:
    """Takes out the first records, which only windows had that end before `since`."""
    del recent.times[:count]
    del recent.values[:count]
    del recent.late[:count]
    if not any(recent.late):
        recent.late = []
    recent.since = max(since, recent.since)
