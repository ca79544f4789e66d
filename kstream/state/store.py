"""A store: an overlay of live objects over the committed data of a backend.

Reads go overlay -> object cache -> backend; writes stay in the overlay, as live objects, and are encoded once, at
commit. After the commit the overlay becomes the cache; after an abort both are dropped, because any object read since
the last commit may have been changed in place.

`live` maps a key (bytes) to its value, or to None for a key known to be absent. It is public on purpose: the
aggregation loop reads and writes it without a call per record, between `load` and `changed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, cast

from kstream.codecs import Codec, encode_value
from kstream.errors import CodecError, MutatedWithoutAssignment, TableError
from kstream.specs.store import StoreSpec
from kstream.state.backend import Backend

V = TypeVar("V")

#: What an entry of the overlay or cache costs besides its encoded bytes: the objects, their headers, the dict slot.
ENTRY_OVERHEAD = 300


class _Unencoded:
    """Stands in the overlay for a value that is to be encoded at commit."""


UNENCODED = _Unencoded()


class Store(Generic[V]):
    """One store of one task.

    Args:
        cache_bytes: about how much memory clean entries may hold between commits.
        verify: remember what was read and fail at commit when it was changed without assignment (TestDriver).
    """

    def __init__(self, spec: StoreSpec, backend: Backend, *, cache_bytes: int, verify: bool = False) -> None:
        self.name = spec.name
        self.spec = spec
        self.key_codec: Codec[Any] = spec.key.codec
        self.value_codec: Codec[V] = spec.value.codec
        self.encode: Callable[[V], bytes] = self.value_codec.encode
        if verify:  # and values must be of the declared type, or they would not come back after a restart
            self.encode = cast("Callable[[V], bytes]", partial(encode_value, self.value_codec))
        self.live: dict[bytes, V | None] = {}
        self._older: dict[bytes, V | None] = {}  # the cache's previous generation: what is used moves to `live`
        self._dirty: dict[bytes, bytes | _Unencoded | None] = {}
        self._encoded = True  # whether everything in `_dirty` is bytes by now
        self._backend = backend
        self._cache_bytes = cache_bytes
        self._value_bytes = 64.0  # running mean of encoded entries
        self.verify = verify
        self.check: Callable[[bytes], bool] | None = None
        self.check_each = False
        self._assigned: dict[bytes, bytes] = {}
        self._defaults: dict[bytes, tuple[V, Callable[[], V]]] = {}
        self._read: set[bytes] = set()
        self._clean_at_commit = 0
        self.hits = 0  # keys of batches that were live
        self.misses = 0  # keys that were fetched from the backend

    # ---- reading

    def load(self, keys: Iterable[bytes | None]) -> set[bytes | None]:
        """Brings keys into `live`, with one multi-get for all that are missing. Returns what was not there before.

        None among the keys is not loaded, and comes back in the result.
        """
        distinct = set(keys)
        missing = distinct.difference(self.live)
        self.hits += len(distinct) - len(missing)
        if missing:
            wanted = [key for key in missing if key is not None]
            if self._older:
                older = self._older
                for key in wanted:
                    if key in older:
                        self.live[key] = older.pop(key)
                asked, wanted = len(wanted), [key for key in wanted if key not in self.live]
                self.hits += asked - len(wanted)
            self.misses += len(wanted)
            self._fetch(wanted)
        return missing

    def get(self, key: bytes) -> V | None:
        """The value, live: a change made in place counts only when it is assigned back with `put`."""
        try:
            value = self.live[key]
        except KeyError:
            self.load((key,))
            value = self.live[key]
        if self.verify:
            self._read.add(key)
        return value

    def scan(self) -> Iterator[tuple[bytes, V]]:
        """All entries, uncommitted changes included, in the order of their keys."""
        changed = {key: self.live[key] for key in self._dirty}
        pending = iter(sorted(changed))
        upcoming = next(pending, None)
        decode = self.value_codec.decode
        for key, raw in self._backend.scan(self.name):
            while upcoming is not None and upcoming < key:
                if changed[upcoming] is not None:
                    yield upcoming, cast("V", changed[upcoming])
                upcoming = next(pending, None)
            if upcoming == key:
                if changed[key] is not None:
                    yield key, cast("V", changed[key])
                upcoming = next(pending, None)
            else:
                yield key, decode(raw)
        while upcoming is not None:
            if changed[upcoming] is not None:
                yield upcoming, cast("V", changed[upcoming])
            upcoming = next(pending, None)

    def _fetch(self, keys: Sequence[bytes]) -> None:
        if not keys:
            return
        found = self._backend.multi_get(self.name, keys)
        if found.count(None) == len(found):  # new keys come in whole batches
            self.live.update(dict.fromkeys(keys))
            return
        decode, live = self.value_codec.decode, self.live
        for key, raw in zip(keys, found, strict=True):
            live[key] = None if raw is None else decode(raw)

    # ---- writing

    def put(self, key: bytes, value: V) -> None:
        if self.check_each:
            self._check_home(key)
        if self.verify:
            self._assigned[key] = self.encode(value)
        self.live[key] = value
        self._dirty[key] = UNENCODED
        self._encoded = False

    def delete(self, key: bytes) -> None:
        if self.check_each:
            self._check_home(key)
        self._assigned.pop(key, None)
        self.live[key] = None
        self._dirty[key] = None

    def changed(self, keys: Iterable[bytes | None]) -> None:
        """These keys of `live` were assigned; they are encoded at commit."""
        self._dirty.update(dict.fromkeys(cast("Iterable[bytes]", keys), UNENCODED))
        self._encoded = False

    def changed_to(self, keys: Iterable[bytes | None], encoded: Iterable[bytes | None]) -> None:
        """These keys of `live` were assigned, and this is how their values are encoded."""
        self._dirty.update(zip(cast("Iterable[bytes]", keys), encoded, strict=True))

    def check_one_change(self) -> None:
        """Raises TableError when one of the changed keys (any) has its home elsewhere."""
        for key in self._dirty:
            self._check_home(key)
            return

    def _check_home(self, key: bytes) -> None:
        if self.check is not None and not self.check(key):
            raise TableError(
                f"key {self.key_codec.decode(key)!r} of table {self.name!r} belongs to another partition: group_by "
                f"that key before the agent, or declare the table scope='partition'"
            )

    # ---- the end of a transaction

    @property
    def uncommitted(self) -> int:
        """Changed keys since the last commit."""
        return len(self._dirty)

    @property
    def overlay_bytes(self) -> int:
        """About how much memory was taken since the last commit, by reads and writes."""
        grown = max(0, len(self.live) - self._clean_at_commit)
        return int(max(grown, len(self._dirty)) * (self._value_bytes + ENTRY_OVERHEAD))

    def encode_changes(self) -> dict[bytes, bytes | None]:
        """The changes since the last commit, encoded: keys in the order of their first change, None deletes."""
        dirty, live, encode = self._dirty, self.live, self.encode
        if self._encoded:
            return cast("dict[bytes, bytes | None]", dirty)
        try:
            for key, raw in dirty.items():
                if raw is UNENCODED:
                    dirty[key] = encode(cast("V", live[key]))
        except Exception as error:
            raise CodecError(f"table {self.name!r}[{self.key_codec.decode(key)!r}]: {error}") from error
        self._encoded = True
        return cast("dict[bytes, bytes | None]", dirty)

    def committed(self) -> None:
        """The changes are in the backend: the overlay becomes the cache, which is trimmed to its size."""
        if self._dirty:
            sample = next(iter(self._dirty.values()))
            if isinstance(sample, bytes):
                self._value_bytes += 0.1 * (len(sample) - self._value_bytes)
        self._dirty = {}
        self._encoded = True
        self._read.clear()
        limit = self._cache_bytes / (self._value_bytes + ENTRY_OVERHEAD)
        if len(self.live) > limit / 2:
            self._older, self.live = self.live, {}
        self._clean_at_commit = len(self.live)

    def aborted(self) -> None:
        self._dirty = {}
        self._encoded = True
        self._read.clear()
        self._assigned.clear()
        self._defaults.clear()
        self.live = {}
        self._older = {}
        self._clean_at_commit = 0

    def remember_default(self, key: bytes, value: V, make: Callable[[], V]) -> None:
        """A default was handed out for an absent key (only when verifying)."""
        self._defaults[key] = value, make

    def verify_reads(self) -> None:
        """Raises MutatedWithoutAssignment when a value was changed after it was read, or after it was assigned."""
        for key, then in self._assigned.items():
            assigned = self.live.get(key)
            if assigned is not None and self.encode(assigned) != then:
                raise self._mutated(key)
        self._assigned.clear()
        for key, (value, make) in self._defaults.items():
            if key not in self._dirty and self.encode(value) != self.encode(make()):
                raise self._mutated(key)
        self._defaults.clear()
        for key in self._read.difference(self._dirty):
            now = self.live.get(key)
            raw = None if now is None else self.encode(now)
            if raw != self._backend.multi_get(self.name, [key])[0]:
                raise self._mutated(key)

    def _mutated(self, key: bytes) -> MutatedWithoutAssignment:
        return MutatedWithoutAssignment(
            f"the value of {self.name!r}[{self.key_codec.decode(key)!r}] was changed in place and not assigned: "
            f"write table[key] = value, or the change is lost"
        )
