"""A store whose values are dicts or lists, and whose entries expire each by itself (TTL per entry). See docs/ttl.md.

What a table hands out is a dict or list that knows when each of its entries was written (state/containers.py). Their
times lie before the value, in the backend and in the changelog (state/forms.py): so they are committed, taken back and
restored with it. A value that is assigned as a plain dict or list is written as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar, Unpack, cast, get_origin

from kstream.codecs import Codec, ColumnError, check_entries, encode_value
from kstream.specs.store import StoreSpec
from kstream.state.backend import Reads
from kstream.state.containers import KINDS, PAST, Timed
from kstream.state.expiring import ExpiringStore
from kstream.state.expiry import ExpiryIndex
from kstream.state.forms import NEVER, STAMP, entries_packed, plain_in, stamp_of, stamps_in
from kstream.state.guarded import UNENCODED
from kstream.state.store import StoreOptions
from kstream.state.time import TaskTime

V = TypeVar("V")


class EntriesCodec(Generic[V]):
    """A dict or list with the times of its entries.

    Args:
        inner: of the value alone.
        kind: dict or list.
        now: the time of what has none yet.
    """

    def __init__(self, inner: Codec[V], kind: type, form: str, now: Callable[[], int]) -> None:
        self.inner, self._plain, self._kind, self._form, self._now = inner, kind, KINDS[kind], form, now

    def timed(self, given: object) -> Any:
        """A plain dict or list, or one of another table, as one with times: it is written now. Anything else as it
        is.

        Raises:
            ValueError: something wrote into it that did not note the time.
        """
        value: Any = given
        kind: Any = given.__class__
        if kind is self._kind and value.now is not self._now:
            value, kind = value.plain(), self._plain
        elif kind is self._kind and len(value.times) != len(value):
            raise ValueError(PAST)
        return self._kind(value, [self._now()] * len(value), self._now) if kind is self._plain else value

    def plain(self, value: Any) -> V:
        return cast("V", value.plain() if value.__class__ is self._kind else value)

    def encode(self, value: V) -> bytes:
        timed: Timed = self.timed(value)
        return entries_packed(timed.stamps(), self._now(), self.inner.encode(cast("V", timed.plain())))

    def decode(self, raw: bytes) -> V:
        value = self.inner.decode(plain_in(self._form, raw))
        return cast("V", self._kind(cast("Any", value), stamps_in(raw, len(cast("Any", value))), self._now))


class EntriesStore(ExpiringStore[V]):
    """See the module's text."""

    CACHE = 1 / 2

    def __init__(self, spec: StoreSpec, backend: Reads, time: TaskTime, **options: Unpack[StoreOptions]) -> None:
        super().__init__(spec, backend, time, **options)
        kind = get_origin(spec.value.kind) or spec.value.kind
        self._timed = EntriesCodec(spec.value.codec, kind, spec.form, lambda: self.now)
        self.value_codec = self._timed
        self.encode = self.encode_exactly if self._check_every == 1 else self._timed.encode
        self._reads = 0  # since the last commit, for the incremental clean-up

    @property
    def _limit(self) -> int:
        """What was written then, or before, has expired."""
        return self.now - self.ttl.milliseconds

    # ---- reading

    def get(self, key: bytes) -> V | None:
        """The value without what has expired. What of it is gone is written so with the commit."""
        self._reads += 1
        found = super().get(key)
        if found is None or (value := cast("Timed", found)).oldest > self._limit:
            return found
        try:
            gone = value.prune(self._limit)
        except ValueError as error:
            self._refuse(key, value, error)
        if gone:
            self._pruned(key, value, gone)
        return found if value else None

    def _pruned(self, key: bytes, value: Timed, gone: int) -> None:
        """So many entries of a value have expired. It is encoded at once: what is done to it in place counts when it is
        assigned, and not before."""
        self.expired += gone
        self._older.pop(key, None)
        self.mutations.forget(key)
        if value:
            self.live[key] = cast("V", value)
            self._dirty[key] = raw = self._timed.encode(cast("V", value))
            if self.verify:
                self.mutations.assigned[key] = raw
        else:
            self.live[key] = self._dirty[key] = None

    def scan(self, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, V]]:
        """As that of a store. What has expired is left out."""
        for key, found in super().scan(start, stop):
            value, limit = cast("Timed", found), self._limit
            if value.oldest <= limit and not (value := value.without(limit)):
                continue
            yield key, cast("V", value)

    def seen(self, raw: bytes) -> bytes | None:
        plain = plain_in(self.spec.form, raw)
        if stamp_of(raw) > self._limit:
            return plain
        value = cast("Timed", self._timed.decode(raw)).without(self._limit)
        return self._timed.inner.encode(cast("V", value.plain())) if value else None

    # ---- writing

    def put(self, key: bytes, value: V) -> None:
        """Assigns. As in Flink, an empty list or dict is no entry."""
        try:
            timed = self._timed.timed(value)
        except ValueError as error:
            self._refuse(key, value, error)
        super().put(key, timed)
        if self.verify:
            self.mutations.copied(key, value, timed)
        if isinstance(timed, Timed) and not timed:
            self.delete(key)

    def _taken(self, value: V) -> V:
        return value

    def encode_exactly(self, value: V, key: bytes | None = None) -> bytes:
        try:
            encode_value(self._timed.inner, self._timed.plain(value))
            return self._timed.encode(value)
        except Exception as error:
            self._refuse(key, value, error)

    def encode_changes(self) -> dict[bytes, bytes | None]:
        if self._encoded:
            return super().encode_changes()
        fresh = [key for key, raw in self._dirty.items() if raw is UNENCODED]
        changes = super().encode_changes()
        for key, raw in changes.items():
            if raw is not None and not isinstance(self.live[key], Timed):  # a function for large values made it
                self.live[key] = self._timed.decode(raw)
        self._check_inside(fresh)
        return changes

    def _check_inside(self, keys: list[bytes]) -> None:
        """That these values come back as they are, the times aside."""
        changes, values, encoded = cast("dict[bytes, bytes]", self._dirty), [], []
        for key in keys:
            values.append(self._timed.plain(cast("V", self.live[key])))
            encoded.append(plain_in(self.spec.form, changes[key]))
        try:
            check_entries(self._timed.inner, values, encoded, self._check_every)
        except ColumnError as error:
            self._encoded = False
            self._dirty[keys[error.index]] = UNENCODED
            self._refuse(keys[error.index], values[error.index], error.__cause__ or error)

    # ---- cleaning up

    def _accesses(self) -> int:
        reads, self._reads = self._reads, 0
        return reads

    def _sweep(self, index: ExpiryIndex, most: int) -> None:
        """Removes what has expired, in the order of the values' oldest entries."""
        due = index.due(self.backend, self.now, most)
        index.fixes.update(dict.fromkeys(due))
        entries = {entry: entry[STAMP:] for entry in due if entry[STAMP:] not in self._dirty}
        found = self.backend.multi_get(self.name, list(entries.values())) if entries else []
        for (entry, key), raw in zip(entries.items(), found, strict=True):
            if key in self._dirty:  # it had another place, too
                continue
            if raw is None:  # a restore has dropped it, and its tombstone is due
                self.live.pop(key, None)
                self._older.pop(key, None)
                self._dirty[key] = None
            elif (
                not self._clear_away(key, raw)
                and (oldest := stamp_of(raw)) != NEVER
                and (place := index.entry(oldest, key)) != entry
            ):
                index.put(place, index.fixes)

    def _go_round(self, count: int) -> None:
        if not count:  # else it would lose its place
            return
        looked, key, limit = 0, b"", self._limit
        expired: list[tuple[bytes, bytes]] = []
        for key, raw in islice(self.backend.scan(self.name, self._round), count):
            looked += 1
            if key not in self._dirty and stamp_of(raw) <= limit:
                expired.append((key, raw))
        for one, raw in expired:
            self._clear_away(one, raw)
        self._round = key + b"\0" if looked == count else b""

    def _clear_away(self, key: bytes, raw: bytes) -> bool:
        """Removes what has expired of a value that is stored so. False: nothing."""
        if stamp_of(raw) > self._limit:
            return False
        value = cast("Timed", self._decoded(key, raw))
        self._pruned(key, value, value.prune(self._limit))
        if not value:  # the cache is not to grow by it
            del self.live[key]
        return True

    # ---- the end of a transaction

    def _moves(self, index: ExpiryIndex) -> dict[bytes, bytes | None]:
        """What becomes of the index: a value stands where its oldest entry is."""
        moves, stored = dict(index.fixes), self.stored_changes()
        found = self.backend.multi_get(self.name, list(stored)) if stored else []
        for (key, raw), before in zip(stored.items(), found, strict=True):
            old, now = (None if one is None else stamp_of(one) for one in (before, raw))
            if old is None or now is None or index.place(old) != index.place(now) or index.entry(old, key) in moves:
                index.move(key, old, now, moves)
        return moves
