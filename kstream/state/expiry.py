"""The expiry index of a store: its keys in the order of time, so that what has expired is found without a look at the
rest.

It lies in the backend beside the store, in the same write, and nowhere else: a restore makes it anew. An entry is a
place in time and a key. Places are coarse (a sixty-fourth of the TTL), so that a key that is written all the time moves
seldom, and has one entry: it follows from the time of the key's value. Entries that stand elsewhere (a restore leaves
some where a changelog has a key several times, and so does a TTL of another length) are put right when their place is
due.
"""

from __future__ import annotations

from typing import Final

from kstream.specs.store import StoreSpec
from kstream.specs.ttl import FOREVER
from kstream.state.backend import Reads
from kstream.state.forms import NEVER, STAMP

PARTS: Final = 64
"""Places within a TTL. An entry is swept one such part after it expired, at the latest."""

LOOKED_AT: Final = 10_000
"""Entries that an incremental clean-up looks at in one commit, at most."""

_EXPIRY: Final = "#expiry"
_ENDS: Final = "#sessions"


def index_of(store: str) -> str:
    """What the index of a store is called in the backend. No store can be called so."""
    return store + _EXPIRY


def ends_of(store: str) -> str:
    """What the index is called by which sessions, and Kafka Streams' sliding windows, close (state/places.py)."""
    return store + _ENDS


def families_of(spec: StoreSpec) -> tuple[str, ...]:
    """What the backend keeps of a store, by name: its entries, and its index where it has one (timers have, too)."""
    if spec.holds in ("sessions", "recent"):
        return spec.name, ends_of(spec.name)
    if spec.holds == "timers":
        return spec.name, index_of(spec.name)
    if spec.ttl is None or spec.ttl.sweep is None:
        return (spec.name,)
    return spec.name, index_of(spec.name)


def store_of(family: str) -> str:
    """Of which store it is."""
    return family.removesuffix(_EXPIRY).removesuffix(_ENDS)


class ExpiryIndex:
    """Of one store.

    Attributes:
        fixes: entries that were put right or removed since the last commit.
    """

    def __init__(self, store: str, ttl: int) -> None:
        self.name = index_of(store)
        self._ttl, self.width = ttl, max(1, ttl // PARTS)
        self.fixes: dict[bytes, bytes | None] = {}
        self._due = 0  # nothing expires before
        self._start = b""  # nothing lies before
        self._reached = b""  # the same, when what was swept is committed

    def place(self, stamp: int) -> int:
        """Where a key of this time stands: at the end of a part, so that all that is due there has expired."""
        return (stamp // self.width + 1) * self.width

    def entry(self, stamp: int, key: bytes) -> bytes:
        return self.place(stamp).to_bytes(STAMP, "big") + key

    def is_due(self, now: int) -> bool:
        return now >= self._due

    def due(self, backend: Reads, now: int, most: int) -> list[bytes]:
        """The first entries whose places are due; no more than `most`."""
        found: list[bytes] = []
        self._due = FOREVER
        for raw, _ in backend.scan(self.name, self._start):
            expires = int.from_bytes(raw[:STAMP], "big") + self._ttl
            if expires > now or len(found) == most:
                self._due = expires
                break
            found.append(raw)
        if found:
            self._reached = found[-1]
        return found

    def move(self, key: bytes, old: int | None, new: int | None, to: dict[bytes, bytes | None]) -> None:
        """Notes in `to` that the time of a key is another now; None: it is not there."""
        if old is not None and old != NEVER:
            to[self.entry(old, key)] = None
        if new is not None and new != NEVER:
            self.put(self.entry(new, key), to)

    def put(self, entry: bytes, to: dict[bytes, bytes | None]) -> None:
        """Notes in `to` that there is this entry."""
        to[entry] = b""
        self._due = min(self._due, int.from_bytes(entry[:STAMP], "big") + self._ttl)
        if entry < self._reached:
            self._start, self._reached = min(self._start, entry), entry

    def committed(self) -> None:
        self.fixes = {}
        self._start = self._reached

    def aborted(self) -> None:
        """Also where the backend has other contents now."""
        self.fixes = {}
        self._due, self._start, self._reached = 0, b"", b""
