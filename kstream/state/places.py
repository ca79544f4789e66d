"""A store whose keys are looked at when their time has come: sessions that may be over, windows that close.

The index of these times lies in the backend beside the store, in the same write, and nowhere else: a restore makes it
anew. So nothing else is read to find what is due.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Final, TypeVar, Unpack

from kstream.codecs.windowed import START, start_in, stored_start
from kstream.specs.store import StoreSpec
from kstream.state.backend import Changes, Reads
from kstream.state.expiry import ends_of, families_of
from kstream.state.store import Store, StoreOptions

V = TypeVar("V")

PLACE_OVERHEAD: Final = 300
"""Bytes of memory that a place takes that is not committed yet."""
_NEVER: Final = b"\xff" * (START + 1)
"""Behind all places."""


class Places:
    """Which keys to look at, in the order of time: a place is a time (ms, as windows have theirs), then the key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.changes: dict[bytes, bytes | None] = {}  # since the last commit
        self._new: list[bytes] = []  # a heap of those of them that are there
        self._first = b""  # there is none before
        self._taken: list[bytes] = []  # since the last `keep`, while that is kept

    def put(self, place: bytes) -> None:
        if self.changes.get(place) is None:
            self.changes[place] = b""
            heappush(self._new, place)
            if place < self._first:
                self._first = place

    def take(self, backend: Reads, stop: bytes, most: int, *, guarded: bool) -> list[bytes]:
        """The first places before `stop`, `most` of them at most. They are gone."""
        if self._first >= stop:
            return []
        found: list[bytes] = []
        new, changes = self._new, self.changes
        stored = (place for place, _ in backend.scan(self.name, self._first))
        old = next(stored, _NEVER)
        while True:
            while changes.get(old, b"") is None:  # it was taken before
                old = next(stored, _NEVER)
            place = min(new[0], old) if new else old
            if place >= stop or len(found) == most:
                break
            if new and new[0] == place:
                heappop(new)
            if old == place:
                changes[place] = None
                old = next(stored, _NEVER)
            else:
                del changes[place]
            found.append(place)
        self._first = place  # so no scan goes through what was deleted before
        if guarded:
            self._taken += found
        return found

    def first(self, backend: Reads) -> bytes | None:
        """The first place of all."""
        stored = (place for place, _ in backend.scan(self.name, self._first))
        old = next((place for place in stored if self.changes.get(place, b"") is not None), _NEVER)
        self._first = min(self._new[0], old) if self._new else old
        return None if self._first == _NEVER else self._first

    def keep(self) -> None:
        self._taken.clear()

    def take_back(self) -> None:
        taken, self._taken = self._taken, []
        for place in taken:
            self.put(place)

    def committed(self) -> None:
        self.changes, self._new = {}, []
        self._taken.clear()

    def aborted(self) -> None:
        """Also where the backend has other contents now."""
        self.committed()
        self._first = b""


class PlacedStore(Store[V]):
    """See the module's text."""

    def __init__(self, spec: StoreSpec, backend: Reads, **options: Unpack[StoreOptions]) -> None:
        super().__init__(spec, backend, **options)
        self.places = Places(ends_of(self.name))
        self.families = families_of(self.spec)

    def look_at(self, key: bytes, at: int) -> None:
        """The key is looked at when this time (ms) is over."""
        self.places.put(stored_start(at) + key)

    def first_place(self) -> int | None:
        """Nothing is to be looked at before (ms); None: there is nothing."""
        first = self.places.first(self.backend)
        return None if first is None else start_in(first)

    def due(self, before: int, most: int) -> list[bytes]:
        """The first places before this time (ms), about `most` of them. They are gone."""
        return self.places.take(self.backend, stored_start(before), most, guarded=self._before is not None)

    # ---- what one batch did

    def keep(self) -> None:
        super().keep()
        self.places.keep()

    def take_back(self, keys: Iterable[bytes] | None = None) -> bool:
        if keys is None:
            self.places.take_back()
        return super().take_back(keys)

    # ---- the end of a transaction

    @property
    def overlay_bytes(self) -> int:
        return super().overlay_bytes + PLACE_OVERHEAD * len(self.places.changes)

    def local_changes(self) -> dict[str, Changes]:
        changes: dict[str, Changes] = super().local_changes()
        if self.places.changes:
            changes[self.places.name] = self.places.changes.items()
        return changes

    def committed(self) -> None:
        super().committed()
        self.places.committed()

    def aborted(self) -> None:
        super().aborted()
        self.places.aborted()
