"""A store: an overlay of live objects over the committed data of a backend.

Reads go overlay -> object cache -> backend; writes stay in the overlay, as live objects, and are encoded once, at
commit. After the commit the overlay becomes the cache; after an abort both are dropped, because any object read since
the last commit may have been changed in place.

`live` maps a key (bytes) to its value, or to None for a key known to be absent. It is public on purpose: the
aggregation loop reads and writes it without a call per record, between `load` and `changed`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from itertools import islice
from typing import Any, NoReturn, NotRequired, TypedDict, TypeVar, cast

from kstream.codecs import SAMPLE, Codec, ColumnError, check_column, check_entries, encode_value
from kstream.errors import CodecError, EntryUnreadable, TableError
from kstream.specs.store import StoreSpec
from kstream.state.backend import Changes, Reads
from kstream.state.containers import plain_of
from kstream.state.guarded import UNENCODED, Guarded, Mark
from kstream.state.large import Large
from kstream.state.mutations import Mutations
from kstream.state.scanning import KeyOrder, overlaid
from kstream.state.weighing import weight_of

V = TypeVar("V")

ENTRY_OVERHEAD = 300
"""What an entry of the overlay or cache costs besides its value: its key, its encoded bytes, places in dicts."""

WEIGHED = 8
"""The values of the first so many commits are weighed, one of each, and then one of each so many commits."""
FIRST = 4096
"""So many of those that were written are looked at."""
SPREAD = 2_654_435_761
"""Knuth's multiplier: which one, so that each run takes the same."""

NO_KEY = frozenset((None,))
NOTHING: Set[bytes | None] = frozenset()


class StoreOptions(TypedDict):
    """What each store is made with besides: see `Store`."""

    cache_bytes: int
    check_every: NotRequired[int]
    verify: NotRequired[bool]


class Store(Guarded[V]):
    """One store of one task.

    Args:
        cache_bytes: about how much memory clean entries may hold between commits.
        check_every: of how many entries one is compared, to the last type inside, with what it comes back as; whether
            it can be read back is tried of each.
        verify: remember what was read and fail at commit when it was changed without assignment (TestDriver).
    """

    def __init__(
        self, spec: StoreSpec, backend: Reads, *, cache_bytes: int, check_every: int = SAMPLE, verify: bool = False
    ) -> None:
        self.name, self.spec = spec.name, spec
        self.families: tuple[str, ...] = (spec.name,)  # what the backend keeps of it, by name
        self.key_codec: Codec[Any] = spec.key.codec
        self.value_codec: Codec[V] = spec.value.codec
        self.encode: Callable[[V], bytes] = self.value_codec.encode
        self._check_every = 1 if verify else check_every
        if self._check_every == 1:
            self.encode = self.encode_exactly
        self._classes: set[type] = set()  # of values that came back exactly as they were
        self.live: dict[bytes, V | None] = {}
        self._older: dict[bytes, V | None] = {}  # the cache's previous generation: what is used moves to `live`
        self._dirty: dict[bytes, bytes | Mark | None] = {}
        self._order: KeyOrder | None = None  # of the keys of `_dirty`, where there was a scan
        self._encoded = True  # whether everything in `_dirty` is bytes by now, and can be read back
        self.backend, self._cache_bytes = backend, cache_bytes
        self._value_bytes, self._to_weigh = 64.0, 0  # running mean of memory; values that were or might be weighed
        self.verify, self._watched = verify, verify
        self.check: Callable[[bytes], bool] | None = None
        self.check_each = False
        self.mutations: Mutations[V] = Mutations()
        self._clean_at_commit = 0
        self._before = None
        self.large = Large()
        self.batch_keys: Sequence[bytes | None] = ()  # of the last batch, until the commit
        self.hits = self.misses = 0  # keys of records that needed no fetch from the backend, and those that did
        self.expired = 0  # entries that were removed because they had expired

    # ---- reading

    def load(self, keys: Collection[bytes | None]) -> Set[bytes | None]:
        """Brings keys into `live`, with one multi-get for all that are missing. Returns what was not there before, and
        None where it is among the keys: that is not loaded."""
        if self._before is None and all(map(self.live.__contains__, keys)):  # the usual case, and the quickest look
            self.hits += len(keys)
            return NOTHING
        distinct = set(keys)
        missing = distinct.difference(self.live)
        self.hits += len(keys)
        if missing:
            wanted = [key for key in missing if key is not None]
            if len(wanted) < len(missing):
                self.hits -= sum(key is None for key in keys)
            if self._older:
                older = self._older
                for key in wanted:
                    if key in older:
                        self.live[key] = older.pop(key)
                wanted = [key for key in wanted if key not in self.live]
            self.hits -= len(wanted)
            self.misses += len(wanted)
            self._fetch(wanted)
        if self._before is not None:
            self._remember_all(cast("set[bytes]", distinct - NO_KEY))
        return missing

    def get(self, key: bytes) -> V | None:
        """The value, live: a change made in place counts only when it is assigned back with `put`."""
        try:
            value = self.live[key]
        except KeyError:
            self.load((key,))
            value = self.live[key]
        if self._watched:
            self._remember(key)
            if self.verify:
                self.mutations.read.add(key)
        return value

    def scan(self, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, V]]:
        """The entries from the key `start` on, before `stop` (None: to the end), uncommitted changes included, in the
        order of their keys."""
        if self._order is None:
            self._order = KeyOrder(self._dirty)
        elif new := len(self._dirty) - len(self._order):
            self._order.added += islice(reversed(self._dirty), new)
        changed = {key: self.live.get(key) for key in self._order.between(start, stop)}
        if self._before is not None:  # these are live: what is done to them in place may come to be assigned
            self._remember_all(set(changed))
        read = self._handed_out if self.verify else self._decoded
        return overlaid(changed, self.backend.scan(self.name, start, stop), read)

    def _handed_out(self, key: bytes, raw: bytes) -> V:
        return self.mutations.handed_out(self, key, self._decoded(key, raw))

    def _fetch(self, keys: Sequence[bytes]) -> None:
        if not keys:
            return
        found = self.backend.multi_get(self.name, keys)
        if found.count(None) == len(found):  # new keys come in whole batches
            self.live.update(dict.fromkeys(keys))
            return
        decode, live = self.value_codec.decode, self.live
        try:
            for key, raw in zip(keys, found, strict=True):
                live[key] = None if raw is None else decode(raw)
        except Exception:
            self._decoded(key, cast("bytes", raw))
            raise

    def _decoded(self, key: bytes, raw: bytes) -> V:
        try:
            return self.value_codec.decode(raw)
        except Exception as error:
            raise EntryUnreadable(
                f"{self.entry(key)} cannot be read as {self.spec.value}: {error}; it was stored by another version of "
                f"the type: give new fields a default, or let the type take the old form too"
            ) from error

    def entry(self, key: bytes) -> str:
        """The entry as errors name it."""
        try:
            shown = repr(self.key_codec.decode(key))
        except Exception:  # a key of another type is what the error may be about
            shown = repr(key)
        return f"table {self.name!r}[{shown}]"

    # ---- writing

    def put(self, key: bytes, value: V) -> None:
        """Assigns. The first value of each class is encoded at once, and compared with what comes back.

        Raises:
            CodecError: it would not come back as it was.
            TableError: the key belongs to another partition (where `check_each`).
        """
        if self.check_each:
            self._check_home(key)
        if value.__class__ not in self._classes:
            value = self._taken(value)
            self._check_first(key, value)
        if self._before is not None and key not in self._before:
            self.load((key,))
        self.live[key] = value
        self._dirty[key] = UNENCODED
        self._encoded = False

    def _taken(self, value: V) -> V:
        return cast("V", plain_of(value))

    def _check_first(self, key: bytes, value: V) -> None:
        if value.__class__ in self._classes:
            return
        raw = self.encode_exactly(value, key)
        if self._check_every > 1:
            self._classes.add(value.__class__)
        if self.verify:
            self.mutations.assigned[key] = raw

    def encode_exactly(self, value: V, key: bytes | None = None) -> bytes:
        try:
            return cast("bytes", encode_value(self.value_codec, value))
        except Exception as error:
            self._refuse(key, value, error)

    def _refuse(self, key: bytes | None, value: object, error: BaseException) -> NoReturn:
        where = f"table {self.name!r}" if key is None else self.entry(key)
        found = value.__class__.__qualname__
        raise CodecError(f"{where}: a value of type {found} cannot be kept as {self.spec.value}: {error}") from error

    def delete(self, key: bytes) -> None:
        if self.check_each:
            self._check_home(key)
        self.mutations.unassigned(key)
        if self._before is not None and key not in self._before:
            self.load((key,))
        self.live[key] = None
        self._dirty[key] = None

    def changed(self, keys: Iterable[bytes | None]) -> None:
        """These keys of `live` were assigned; they are encoded at commit."""
        self._dirty.update(dict.fromkeys(cast("Iterable[bytes]", keys), UNENCODED))
        self._encoded = False

    def changed_to(self, keys: Sequence[bytes | None], encoded: Sequence[bytes | None], *, kept: bool = True) -> None:
        """These keys of `live` were assigned, and this is how their values are encoded.

        Args:
            kept: for `undo`, and for the commit. Else each key that has changed is encoded once more at the commit.
                That takes less: bytes that outlive their batch scatter the memory in which the next are made, which
                cost a fold of small records 200 ns each, an eighth of its time.

        Raises:
            CodecError: they cannot be read back (seen of a sample).
        """
        keys, encoded = cast("Sequence[bytes]", keys), cast("Sequence[bytes]", encoded)
        try:
            check_column(self.value_codec, encoded, self._check_every)
        except ColumnError as error:
            self._refuse(keys[error.index], self.live[keys[error.index]], error.__cause__ or error)
        if kept:
            self._dirty.update(zip(keys, encoded, strict=True))
            self._encoded = False  # it is not known yet whether they can be read back
        else:
            self.changed(keys)

    def check_one_change(self) -> None:
        """Raises TableError when one of the changed keys (any) has its home elsewhere."""
        if self._dirty:
            self._check_home(next(iter(self._dirty)))

    def _check_home(self, key: bytes) -> None:
        if self.check is not None and not self.check(key):
            raise TableError(
                f"key {self.key_codec.decode(key)!r} of table {self.name!r} belongs to another partition: group_by "
                "that key before the agent, declare the table scope='partition', or, where it is the record's own key, "
                "let what writes the input use partitioner=murmur2_random"
            )

    # ---- the end of a transaction

    @property
    def uncommitted(self) -> int:
        """Changed keys since the last commit."""
        return len(self._dirty)

    @property
    def now(self) -> int:
        """Where its entries expire, what time it is for them: ms since the epoch."""
        return 0

    @property
    def changed_keys(self) -> Set[bytes]:
        """Since the last commit."""
        return self._dirty.keys()

    @property
    def overlay_bytes(self) -> int:
        """About how much memory was taken since the last commit, by reads and writes."""
        if not self._to_weigh:  # the first transaction may be a large one
            self._weigh()
        grown = max(0, len(self.live) - self._clean_at_commit)
        return int(max(grown, len(self._dirty)) * (self._value_bytes + ENTRY_OVERHEAD))

    @property
    def cached_bytes(self) -> int:
        """About how much memory clean entries take."""
        clean = len(self.live) + len(self._older) - max(len(self.live) - self._clean_at_commit, len(self._dirty), 0)
        return int(max(0, clean) * (self._value_bytes + ENTRY_OVERHEAD))

    def encode_changes(self) -> dict[bytes, bytes | None]:
        """The changes since the last commit, encoded: keys in the order of their first change, None deletes.

        Each entry is read back: a restart, or another member, must find what is here now.

        Raises:
            CodecError: names table, key and the value's type.
        """
        dirty = cast("dict[bytes, bytes | None]", self._dirty)
        if self._encoded:
            return dirty
        live, encode = cast("dict[bytes, V]", self.live), self.encode
        key = b""
        try:
            for key, raw in self._dirty.items():
                if raw is UNENCODED:
                    dirty[key] = encode(live[key])
        except Exception as error:
            self._refuse(key, live[key], error)
        kept = dirty if all(dirty.values()) else {key: raw for key, raw in dirty.items() if raw is not None}
        values, encoded = list(map(live.__getitem__, kept)), cast("list[bytes]", list(kept.values()))
        dirty.update(self.large.look(self, kept, values, encoded))
        try:
            check_entries(self.value_codec, values, encoded, self._check_every)
        except ColumnError as error:
            self._refuse(list(kept)[error.index], values[error.index], error.__cause__ or error)
        self._encoded = True
        return dirty

    def stored_changes(self) -> dict[bytes, bytes | None]:
        """The changes as they go to the changelog."""
        return self.encode_changes()

    def local_changes(self) -> dict[str, Changes]:
        """The changes as they go to the backend, by family."""
        changes = self.stored_changes()
        return {self.name: changes.items()} if changes else {}

    def seen(self, raw: bytes) -> bytes | None:
        """What is to be seen, encoded, of an entry as the backend has it; None: nothing. Any thread may ask."""
        return raw

    def committed(self) -> None:
        """The changes are in the backend: the overlay becomes the cache, which is trimmed to its size."""
        self._weigh()
        self._dirty, self._order, self._encoded = {}, None, True
        self.mutations.read.clear()
        limit = self._cache_bytes / (self._value_bytes + ENTRY_OVERHEAD)
        if len(self.live) > limit:  # an overlay may be many times the cache: what was loaded last stays
            self._older, self.live = dict(islice(reversed(self.live.items()), int(limit))), {}
        elif len(self.live) > limit / 2:
            self._older, self.live = self.live, {}
        self.keep()
        self._clean_at_commit = len(self.live)

    def _weigh(self) -> None:
        """Looks how much memory a value takes that was written since the last commit, or else read. Any of them: the
        first is of a key that comes often, and where values grow with each record it is a large one."""
        number, dirty = self._to_weigh + 1, self._dirty
        if number <= WEIGHED or number % WEIGHED == 0:
            if dirty:
                key = next(islice(dirty, number * SPREAD % min(len(dirty), FIRST), None))
            else:
                key = next(reversed(self.live), b"")
            value = self.live.get(key)
            if value is None:
                return
            self._value_bytes += max(0.1, 1 / number) * (self._mean_weight(key, value) - self._value_bytes)
        self._to_weigh = number

    def _mean_weight(self, key: bytes, value: V) -> float:
        """What those that were written weigh on average, by this one of them; and where they are encoded, by the
        longest: a few large ones may be most of it."""
        weight, written = float(weight_of(value)), islice(self._dirty.items(), FIRST)
        if len(self._dirty) == 1:
            return weight
        lengths = {one: len(raw) for one, raw in written if isinstance(raw, bytes) and raw}
        if not lengths:
            return weight
        mean, longest = sum(lengths.values()) / len(lengths), max(lengths, key=lengths.__getitem__)
        weight *= min(1.0, mean / lengths.get(key, mean))
        return max(weight, weight_of(self.live.get(longest)) * mean / lengths[longest])

    def aborted(self) -> None:
        self._dirty, self._order, self._encoded = {}, None, True
        self.mutations.clear()
        self.keep()
        self.live, self._older = {}, {}
        self._clean_at_commit = 0

    def stored(self, key: bytes) -> bytes | None:
        """How the value is encoded that the last commit left; None where it left none."""
        return self.backend.multi_get(self.name, [key])[0]
