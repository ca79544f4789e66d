"""A store whose entries expire (TTL). See docs/ttl.md for what that means.

The time of each live entry stands beside `live`: `_stamps` has what is committed, `_new` and `_newer` what was written
or refreshed since, before and after the last `keep`. In the backend and in the changelog it stands before the value
(state/forms.py). An expired entry is removed where it is read, and by the clean-ups, which are a part of the
checkpoint: either way its tombstone goes to the changelog in the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from itertools import islice
from operator import add
from typing import TypeVar, Unpack, cast

from kstream.specs.store import StoreSpec
from kstream.specs.ttl import FOREVER
from kstream.state.backend import Reads
from kstream.state.expiring import ExpiringStore
from kstream.state.expiry import ExpiryIndex
from kstream.state.forms import NEVER, STAMP, Prefixes, stamp_of, unpack
from kstream.state.store import StoreOptions
from kstream.state.time import TaskTime

V = TypeVar("V")


class TimedStore(ExpiringStore[V]):
    """See the module's text.

    Args:
        time: of the task.
    """

    CACHE = 3 / 4

    def __init__(self, spec: StoreSpec, backend: Reads, time: TaskTime, **options: Unpack[StoreOptions]) -> None:
        super().__init__(spec, backend, time, **options)
        self._refreshes = self.ttl.update == "read_and_write"
        self._shows = self.ttl.visibility == "return_expired_if_not_cleaned_up"
        self._stamps: dict[bytes, int] = {}
        self._new: dict[bytes, int] = {}
        self._newer: dict[bytes, int] = {}
        self._blind: set[bytes] = set()  # written without a look at what was there
        self._floor = self._first = FOREVER  # no committed entry in the cache is older, none written since a commit
        self._asked = 0  # keys whose times were looked at because of what `_floor` said
        self._loaded: tuple[Iterable[bytes | None], set[bytes | None]] = (), set()
        self._stored: dict[bytes, bytes | None] | None = None  # what the next commit stores, once that is known
        self._scanned = 0  # the time of the entry that a scan has just decoded
        # for the incremental clean-up: reads since a commit, and what was counted that it leaves out
        self._looked = self._counted = 0

    def _stamp(self, key: bytes) -> int | None:
        """The time of a live entry."""
        stamp = self._newer.get(key)
        if stamp is None:
            stamp = self._new.get(key)
        return self._stamps.get(key) if stamp is None else stamp

    # ---- reading

    def load(self, keys: Collection[bytes | None]) -> Set[bytes | None]:
        distinct = set(keys)
        self._loaded = keys, distinct
        again = len(keys) - len(distinct)
        if again and None in distinct:
            again -= sum(key is None for key in keys) - 1
        self.hits += again
        self._counted += again  # the clean-up goes by keys
        return super().load(distinct)

    def _distinct(self, keys: Sequence[bytes | None]) -> set[bytes | None]:
        """Each of the keys once. Those of a batch were loaded just now."""
        loaded, distinct = self._loaded
        return distinct if loaded is keys else set(keys)

    def get(self, key: bytes) -> V | None:
        self._looked += key in self.live  # if not, it is counted as a miss
        value = super().get(key)
        if value is None or (stamp := self._stamp(key)) is None:  # None: a fold is about to write it
            return value
        now = self.now
        if self.ttl.expired(stamp, now):
            self._remove(key)
            return value if self._shows else None
        if self._refreshes and stamp != now:
            self._newer[key] = now
        return value

    def scan(self, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, V]]:
        """As that of a store. What has expired is left out, if that is hidden."""
        for key, value in super().scan(start, stop):
            stamp = self._stamp(key)
            if self._shows or not self.ttl.expired(self._scanned if stamp is None else stamp, self.now):
                yield key, value

    def _decoded(self, key: bytes, raw: bytes) -> V:
        self._scanned = stamp_of(raw)
        return super()._decoded(key, raw[STAMP:])

    def _fetch(self, keys: Sequence[bytes]) -> None:
        if not keys:
            return
        found = self.backend.multi_get(self.name, keys)
        if found.count(None) == len(found):
            self.live.update(dict.fromkeys(keys))
            return
        decode, live, stamps, oldest = self.value_codec.decode, self.live, self._stamps, self._floor
        for key, raw in zip(keys, found, strict=True):
            if raw is None:
                live[key] = None
                continue
            (stamp,) = unpack(raw)
            stamps[key] = stamp
            if stamp < oldest:
                oldest = stamp
            try:
                live[key] = decode(raw[STAMP:])
            except Exception:
                self._decoded(key, raw)
                raise
        self._floor = oldest

    def stored(self, key: bytes) -> bytes | None:
        raw = super().stored(key)
        return None if raw is None else raw[STAMP:]

    def seen(self, raw: bytes) -> bytes | None:
        hidden = not self._shows and self.ttl.expired(stamp_of(raw), self.now)
        return None if hidden else raw[STAMP:]

    # ---- writing

    def put(self, key: bytes, value: V) -> None:
        self._look_away(key)
        super().put(key, value)
        now = self._newer[key] = self.now
        if now < self._first:
            self._first = now

    def delete(self, key: bytes) -> None:
        self._look_away(key)
        super().delete(key)

    def _look_away(self, key: bytes) -> None:
        if key not in self.live and key not in self._older:
            self._blind.add(key)

    def _remove(self, key: bytes) -> None:
        """An entry that has expired. Its tombstone is written, unless it is written anew before the commit."""
        self.live[key] = self._dirty[key] = None
        self.mutations.forget(key)
        self.expired += 1

    # ---- a column at a time, for aggregations

    def expire(self, keys: Sequence[bytes | None], times: Sequence[int] | None) -> None:
        """These keys, which are live, are used next: what has expired is not there.

        Args:
            times: at each of the keys, in event time; they rise. Within the TTL of a key only its first one decides.
        """
        if not keys or self._shows:
            return
        last = self.now if times is None else times[-1]
        limit = last - self.ttl.milliseconds  # what is later has not expired by then
        if min(self._floor, self._first) > limit:
            return
        asked = cast("set[bytes]", self._distinct(keys))
        self._asked += len(asked)
        if self._first > limit:  # then only what is committed can have expired
            at = self._stamps.get
            asked = {key for key in asked if at(key, FOREVER) <= limit}
        if not asked:
            return
        first = None if times is None else dict(zip(reversed(keys), reversed(times), strict=True))
        for key in sorted(asked):
            stamp = None if self.live[key] is None else self._stamp(key)
            if stamp is not None and self.ttl.expired(stamp, last if first is None else first[key]):
                self._remove(key)

    def written(self, keys: Sequence[bytes | None], times: Sequence[int] | None) -> None:
        """These keys of `live` were written, at these times."""
        if not keys:
            return
        if times is None:
            now = self.now
            self._newer.update(cast("dict[bytes, int]", dict.fromkeys(self._distinct(keys), now)))
        else:
            now = times[0]
            self._newer.update(zip(cast("Sequence[bytes]", keys), times, strict=True))
        self._first = min(self._first, now)

    # ---- what one batch did

    def keep(self) -> None:
        super().keep()
        if self._new:
            self._new.update(self._newer)
            self._newer.clear()
        else:
            self._new, self._newer = self._newer, {}

    def take_back(self, keys: Iterable[bytes] | None = None) -> bool:
        listed = None if keys is None else list(keys)
        if not super().take_back(listed):
            return False
        for key in list(self._newer) if listed is None else listed:
            self._newer.pop(key, None)
        return True

    # ---- cleaning up

    def _accesses(self) -> int:
        since = self._looked + self.hits + self.misses - self._counted
        self._looked, self._counted = 0, self.hits + self.misses
        return since

    def _sweep(self, index: ExpiryIndex, most: int) -> None:
        """Removes what has expired, in the order of time."""
        due, now = index.due(self.backend, self.now, most), self.now
        index.fixes.update(dict.fromkeys(due))
        entries = {entry: entry[STAMP:] for entry in due}
        for entry, (key, stamp) in zip(entries, self._unchanged(list(entries.values())), strict=True):
            if stamp is None and key in self._dirty:
                continue
            if stamp is None or self.ttl.expired(stamp, now):
                self._clear_away(key, stamp)  # None: a restore has dropped it, and its tombstone is due
            elif stamp != NEVER and (place := index.entry(stamp, key)) != entry:
                index.put(place, index.fixes)

    def _unchanged(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int | None]]:
        """Each key with the time of its entry; None where there is none, and where it was written or deleted since the
        last commit."""
        unknown = [key for key in keys if key not in self._stamps and key not in self._dirty]
        found = dict(zip(unknown, self.backend.multi_get(self.name, unknown), strict=True)) if unknown else {}
        for key in keys:
            if key in self._dirty:
                yield key, None
            elif (refreshed := self._newer.get(key, self._new.get(key))) is not None:
                yield key, refreshed
            elif key in self._stamps:
                yield key, self._stamps[key]
            else:
                raw = found[key]
                yield key, None if raw is None else stamp_of(raw)

    def _go_round(self, count: int) -> None:
        if not count:  # else it would lose its place
            return
        looked, key = 0, b""
        expired: list[tuple[bytes, int]] = []
        for key, raw in islice(self.backend.scan(self.name, self._round), count):
            looked += 1
            stamp = self._newer.get(key, self._new.get(key, stamp_of(raw)))
            if key not in self._dirty and self.ttl.expired(stamp, self.now):
                expired.append((key, stamp))
        for one, stamp in expired:
            self._clear_away(one, stamp)
        self._round = key + b"\0" if looked == count else b""

    def _clear_away(self, key: bytes, stamp: int | None) -> None:
        """Removes an entry that nobody uses now: the cache is not to grow by it."""
        self.live.pop(key, None)
        self._older.pop(key, None)
        self._dirty[key] = None
        self.expired += stamp is not None
        if self.index is not None:
            self.index.move(key, stamp, None, self.index.fixes)

    # ---- the end of a transaction

    def stored_changes(self) -> dict[bytes, bytes | None]:
        if self._stored is None:
            self.keep()
            changes, stamps, prefixes = self.encode_changes(), self._new, Prefixes()
            if all(changes.values()):
                before = map(prefixes.__getitem__, map(stamps.__getitem__, changes))
                stored = dict(zip(changes, map(add, before, changes.values()), strict=True))
            else:
                stored = {key: None if raw is None else prefixes[stamps[key]] + raw for key, raw in changes.items()}
            if self._refreshes:  # those that were only read are stored as they were, under another time
                refreshed = [key for key in stamps if key not in changes]
                found = self.backend.multi_get(self.name, refreshed)
                for key, raw in zip(refreshed, found, strict=True):
                    if raw is not None:
                        stored[key] = prefixes[stamps[key]] + raw[STAMP:]
            self._stored = stored
        return self._stored

    def _moves(self, index: ExpiryIndex) -> dict[bytes, bytes | None]:
        """What becomes of the index."""
        stored, known, new, width = self.stored_changes(), self._stamps, self._new, index.width
        moves = dict(index.fixes)
        if blind := [key for key in self._blind if key in stored]:
            found = self.backend.multi_get(self.name, blind)
            known.update((key, stamp_of(raw)) for key, raw in zip(blind, found, strict=True) if raw is not None)
            self._blind.clear()
        if (start := self._first // width) == self.now // width and all(stored.values()):
            start *= width  # all were written in the same part of time: those that were there already stay
            moved = [key for key in stored if not start <= known.get(key, -1) < NEVER]
        else:
            moved = list(stored)
        for key in moved:
            old, now = known.get(key), None if stored[key] is None else new[key]
            if old is None or now is None or old == NEVER or old // width != now // width:
                index.move(key, old, now, moves)
        for entry, stays in index.fixes.items():  # a key that was met by the sweep, and written anew at the same place
            key = entry[STAMP:]
            if stays is None and stored.get(key) is not None and index.entry(new[key], key) == entry:
                index.put(entry, moves)
        return moves

    def committed(self) -> None:
        self.keep()
        self._stamps.update(self._new)
        if not all(self._dirty.values()):
            for key in [key for key, raw in self._dirty.items() if raw is None]:
                self._stamps.pop(key, None)
        self._new, self._stored, self._loaded = {}, None, ((), set())
        self._blind.clear()
        older = self._older
        super().committed()
        if self._older is not older:  # the cache turned over
            self._stamps = {key: stamp for key, stamp in self._stamps.items() if key in self._older}
        self._floor, self._first = min(self._floor, self._first), FOREVER
        if self._asked > len(self._stamps):  # so often that it pays to look how old the oldest is
            self._floor, self._asked = min(self._stamps.values(), default=FOREVER), 0

    def aborted(self) -> None:
        super().aborted()
        self._stamps, self._new, self._newer, self._stored = {}, {}, {}, None
        self._blind.clear()
        self._floor = self._first = FOREVER
