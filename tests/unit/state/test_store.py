"""A store against a dict: reads through overlay, cache and backend, over both backends, with commits and aborts."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kstream.errors import CodecError, MutatedWithoutAssignment, TableError
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.state.backend import Backend, Mark
from kstream.state.memory import MemoryBackend
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.store import ENTRY_OVERHEAD, Store
from support.cases import examples

ROCKS = RocksMemory(8 << 20, 8 << 20)


class Box(msgspec.Struct):
    n: int = 0


SPEC = StoreSpec("boxes", schema(str, "key"), schema(Box, "value"))


def a_store(backend: Backend | None = None, *, cache: int = 1 << 20, verify: bool = False) -> Store[Box]:
    return Store(SPEC, backend or MemoryBackend(["boxes"]), cache_bytes=cache, verify=verify)


def commit(store: Store[Any], backend: Backend) -> dict[bytes, bytes | None]:
    changes = dict(store.encode_changes())
    backend.write({store.name: changes.items()}, {store.name: Mark(1, 0.0)})
    store.committed()
    return changes


KEYS = [b"a", b"b", b"bb", b"c", b"d"]
keys = st.sampled_from(KEYS)


class StoreAgainstDict(RuleBasedStateMachine):
    """The cache holds few entries, so that they are evicted, and found again, all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="kstream-store-"))
        self.committed: dict[bytes, int] = {}
        self.now: dict[bytes, int] = {}
        self.changed: set[bytes] = set()
        self.kept: tuple[dict[bytes, int], set[bytes]] | None = None  # None: it is not guarded

    @initialize(kind=st.sampled_from(["memory", "memory", "rocksdb"]), entries=st.integers(0, 6), guarded=st.booleans())
    def make(self, kind: str, entries: int, guarded: bool) -> None:
        self.backend: Backend = (
            MemoryBackend(["boxes"]) if kind == "memory" else RocksBackend(self.directory, ["boxes"], ROCKS)
        )
        self.store = a_store(self.backend, cache=entries * (ENTRY_OVERHEAD + 64))
        self.abort(guarded)

    @rule(key=keys, n=st.integers(0, 9))
    def put(self, key: bytes, n: int) -> None:
        self.store.put(key, Box(n))
        self.now[key] = n
        self.changed.add(key)

    @rule(key=keys)
    def change_in_place_and_assign(self, key: bytes) -> None:
        box = self.store.get(key)
        if box is None:
            box = Box()
        box.n += 1
        self.store.put(key, box)
        self.now[key] = box.n
        self.changed.add(key)

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        self.store.delete(key)
        self.now.pop(key, None)
        self.changed.add(key)

    @rule(column=st.lists(keys, min_size=1, max_size=6), encoded=st.booleans(), fails=st.one_of(keys, st.none()))
    def fold_a_column(self, column: list[bytes], encoded: bool, fails: bytes | None) -> None:
        """As the aggregation does: load, change `live`, say what was changed. Where one more record fails, what it did
        is undone, as far as that is known."""
        self.store.load(column if fails is None else [*column, fails])
        taken = []
        for key in column:
            box = self.store.live[key] or Box()
            box.n += 10
            self.store.live[key] = box
            taken.append(self.store.encode(box))
            self.now[key] = self.now.get(key, 0) + 10
        if fails is not None:
            last = {key: one for key, one in zip(column, taken, strict=True)}.get(fails)
            box = self.store.live[fails] or Box()
            box.n += 1000
            if self.store.undo(fails, last):
                box = self.store.live[fails] or Box()
                assert (self.store.live[fails] is None) == (fails not in self.now)
            else:  # it was assigned, and is not encoded
                assert last is None and fails in self.changed
                box.n -= 1000
            assert box.n == self.now.get(fails, 0)
        if encoded:
            self.store.changed_to(column, taken)
        else:
            self.store.changed(column)
        self.changed.update(column)

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        box = self.store.get(key)
        assert (None if box is None else box.n) == self.now.get(key)

    @rule(column=st.lists(st.one_of(keys, st.none()), max_size=6))
    def load(self, column: list[bytes | None]) -> None:
        assert (None in self.store.load(column)) == (None in column)
        for key in column:
            if key is not None:
                box = self.store.live[key]
                assert (None if box is None else box.n) == self.now.get(key)

    @rule(twice=st.booleans())
    def commit(self, twice: bool) -> None:
        if twice:
            self.store.encode_changes()  # commit-time emission encodes before the checkpoint does
        changes = commit(self.store, self.backend)
        assert set(changes) == self.changed
        assert {key: None if raw is None else msgspec.json.decode(raw)["n"] for key, raw in changes.items()} == {
            key: self.now.get(key) for key in self.changed
        }
        self.committed, self.changed = dict(self.now), set()
        self.keep()

    @rule(guarded=st.booleans())
    def abort(self, guarded: bool) -> None:
        self.store.guard(guarded)  # care is taken from an abort on
        self.kept = ({}, set()) if guarded else None
        self.store.aborted()
        self.now, self.changed = dict(self.committed), set()
        self.keep()

    @rule()
    def keep(self) -> None:
        if self.kept is not None:
            self.store.keep()
            self.kept = dict(self.now), set(self.changed)

    @rule(spoilt=st.one_of(keys, st.none()), walked=st.booleans())
    def take_back(self, spoilt: bytes | None, walked: bool) -> None:
        if self.kept is None:
            return
        for key, one in list(self.store.scan()) if walked else ():
            one.n += 1000
            self.store.put(key, one)
        box = None if spoilt is None else self.store.get(spoilt)
        if box is not None:
            box.n += 100
        assert self.store.take_back()
        self.now, self.changed = dict(self.kept[0]), set(self.kept[1])
        for key, value in self.store.live.items():
            assert (None if value is None else value.n) == self.now.get(key)

    @rule()
    def change_all_that_it_walks_over(self) -> None:
        for key, box in list(self.store.scan()):
            box.n += 1
            self.store.put(key, box)
            self.now[key] += 1
            self.changed.add(key)

    @invariant()
    def a_scan_shows_all_that_is_there(self) -> None:
        if hasattr(self, "backend") and self.kept is None:  # where it is guarded, a scan takes notes
            assert [(key, box.n) for key, box in self.store.scan()] == sorted(self.now.items())

    @rule(start=keys, stop=st.one_of(keys, st.none()))
    def scan_a_range(self, start: bytes, stop: bytes | None) -> None:
        found = [(key, box.n) for key, box in self.store.scan(start, stop)]
        assert found == [(key, n) for key, n in sorted(self.now.items()) if start <= key < (stop or b"~")]

    @invariant()
    def nothing_uncommitted_is_in_the_backend(self) -> None:
        if hasattr(self, "backend"):
            found = {key: msgspec.json.decode(raw)["n"] for key, raw in self.backend.scan("boxes")}
            assert found == self.committed
            assert self.store.uncommitted == len(self.changed)

    def teardown(self) -> None:
        if hasattr(self, "backend"):
            self.backend.close()
        shutil.rmtree(self.directory)


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestStoreAgainstDict.settings = examples(40, stateful_step_count=30)


class Counted(MemoryBackend):
    """Keeps what was fetched."""

    def __init__(self, stores: list[str]) -> None:
        super().__init__(stores)
        self.calls: list[list[bytes]] = []

    def multi_get(self, store: str, keys: Any) -> list[bytes | None]:
        self.calls.append(sorted(keys))
        return super().multi_get(store, keys)


def test_missing_keys_of_a_column_are_fetched_at_once() -> None:
    backend = Counted(["boxes"])
    store = a_store(backend)
    store.load([b"a", b"b", b"a", None])
    store.load([b"b", b"c"])
    store.load([b"a", b"b", b"c"])
    assert backend.calls == [[b"a", b"b"], [b"c"]]


LOOKED_UP = [b"a", b"b", b"a", None, b"a", b"c", b"b", None, b"c", b"a"]


@pytest.mark.parametrize("size", range(1, len(LOOKED_UP) + 1))
def test_a_key_is_counted_for_each_record_however_the_records_are_cut(size: int) -> None:
    store = a_store()
    for start in range(0, len(LOOKED_UP), size):
        store.load(LOOKED_UP[start : start + size])
    assert (store.hits, store.misses) == (5, 3)


def test_what_fell_out_of_the_newest_generation_is_found_in_the_one_before_without_a_fetch() -> None:
    backend = Counted(["boxes"])
    store = a_store(backend, cache=8 * (ENTRY_OVERHEAD + 64))
    for n in range(6):
        store.put(b"%d" % n, Box(n))
    commit(store, backend)
    assert store.live == {}
    backend.calls.clear()
    assert store.get(b"3") == Box(3)
    store.load([b"1", b"2"])
    assert backend.calls == []


def test_absent_keys_are_remembered_and_found_once_they_are_written() -> None:
    backend = MemoryBackend(["boxes"])
    store = a_store(backend)
    assert store.get(b"a") is None
    store.put(b"a", Box(1))
    commit(store, backend)
    assert store.get(b"a") == Box(1)


def test_an_aborted_change_in_place_is_forgotten_though_it_was_never_assigned() -> None:
    backend = MemoryBackend(["boxes"])
    store = a_store(backend)
    store.put(b"a", Box(1))
    commit(store, backend)
    box = store.get(b"a")
    assert box is not None
    box.n = 99
    store.aborted()
    assert store.get(b"a") == Box(1)


def test_the_cache_is_bounded() -> None:
    """Faust #247: memory that grows with the number of keys."""
    backend = MemoryBackend(["boxes"])
    store = a_store(backend, cache=100 * (ENTRY_OVERHEAD + 64))
    for n in range(2000):
        store.put(b"%d" % n, Box(n))
        if n % 10 == 9:
            commit(store, backend)
            assert len(store.live) + len(store._older) <= 130
    assert store.get(b"3") == Box(3)


def test_an_overlay_that_is_larger_than_the_cache_is_let_go_at_the_commit() -> None:
    """What stays is a cache, and not a second overlay beside the next one."""
    backend = MemoryBackend(["boxes"])
    store = a_store(backend, cache=100 * (ENTRY_OVERHEAD + 64))
    for n in range(5000):
        store.put(b"%d" % n, Box(n))
    commit(store, backend)
    assert store.live == {} and 50 <= len(store._older) <= 110
    assert b"4999" in store._older, "what was used last"
    assert store.get(b"3") == Box(3)


def test_what_the_overlay_takes_grows_with_reads_and_writes_and_shrinks_at_commit() -> None:
    backend = MemoryBackend(["boxes"])
    store = a_store(backend)
    assert store.overlay_bytes == 0
    for n in range(50):
        store.put(b"%d" % n, Box(n))
    assert store.overlay_bytes >= 50 * ENTRY_OVERHEAD
    commit(store, backend)
    assert store.overlay_bytes == 0
    store.load([b"x%d" % n for n in range(20)])
    assert store.overlay_bytes >= 20 * ENTRY_OVERHEAD
    store.aborted()
    assert store.overlay_bytes == 0


def test_a_value_that_cannot_be_encoded_names_table_and_key() -> None:
    store: Store[Any] = a_store()
    with pytest.raises(CodecError, match=r"table 'boxes'\['a'\]: a value of type object cannot be kept as Box"):
        store.put(b"a", object())
    store.live[b"a"] = object()
    store.changed([b"a"])
    with pytest.raises(CodecError, match=r"table 'boxes'\['a'\]: a value of type object cannot be kept as Box"):
        store.encode_changes()


def test_the_first_value_of_a_class_is_compared_where_it_is_put_and_each_where_it_is_committed() -> None:
    store: Store[Any] = a_store()
    with pytest.raises(CodecError, match=r"'boxes'\['a'\].*Expected `int`, got `float` - at `\$\.n`"):
        store.put(b"a", Box(0.5))  # type: ignore[arg-type]
    store.put(b"a", Box(1))
    store.put(b"b", Box(0.5))  # type: ignore[arg-type]
    with pytest.raises(CodecError, match=r"'boxes'\['b'\].*Expected `int`, got `float` - at `\$\.n`"):
        store.encode_changes()


@pytest.mark.parametrize("bad", [0.5, True])
def test_accumulators_that_came_encoded_are_compared_too(bad: Any) -> None:
    store: Store[Any] = a_store()
    store.load([b"a", b"b"])
    store.live.update({b"a": Box(1), b"b": Box(bad)})
    store.changed_to([b"a", b"b"], [store.encode(store.live[key]) for key in (b"a", b"b")])
    with pytest.raises(CodecError, match=r"'boxes'\['b'\]"):
        store.encode_changes()


class Loose(msgspec.Struct):
    counts: dict[str, int]


def test_equal_is_not_the_same() -> None:
    """A Counter comes back as a dict, and lacks what it had as a Counter: found in a sample, or wherever it is put."""
    spec = StoreSpec("loose", schema(str, "key", key=True), schema(Loose, "value"))
    sampled: Store[Loose] = Store(spec, MemoryBackend(["loose"]), cache_bytes=1 << 20)
    exact: Store[Loose] = Store(spec, MemoryBackend(["loose"]), cache_bytes=1 << 20, check_every=1)
    for store in (sampled, exact):
        store.put(b"a", Loose({}))
    with pytest.raises(CodecError, match=r"'loose'\['b'\].*\.counts: Counter"):
        exact.put(b"b", Loose(Counter("b")))
    sampled.put(b"b", Loose(Counter("b")))
    sampled.encode_changes()
    sampled.put(b"a", Loose(Counter("b")))  # the first of a commit is in the sample
    with pytest.raises(CodecError, match=r"'loose'\['a'\].*\.counts: Counter"):
        sampled.encode_changes()


def test_what_is_stored_in_another_form_names_table_and_key() -> None:
    """The type has gained a required field since."""
    backend = MemoryBackend(["boxes"])
    backend.write({"boxes": {b"a": b'{"m":1}', b"b": b'{"n":"x"}'}.items()}, {})
    store = a_store(backend)
    store.get(b"a")
    for read in (lambda: store.get(b"b"), lambda: store.load([b"a", b"b"]), lambda: list(store.scan())):
        store.aborted()
        with pytest.raises(CodecError, match=r"table 'boxes'\['b'\] cannot be read as Box: Expected `int`.*default"):
            read()


def test_a_key_of_elsewhere() -> None:
    store = a_store()
    store.check = lambda key: key == b"home"
    store.put(b"away", Box())
    with pytest.raises(TableError, match="'away' of table 'boxes' belongs to another partition"):
        store.check_one_change()
    store.check_each = True
    store.put(b"home", Box())
    for write in (lambda: store.put(b"away", Box()), lambda: store.delete(b"away")):
        with pytest.raises(TableError):
            write()


def test_verifying_does_not_mind_another_form_of_the_same_value() -> None:
    """5 in a field of floats is stored as 5, read as 5.0, and would be stored as 5.0."""
    spec = StoreSpec("balance", schema(str, "key", key=True), schema(float, "value"))
    backend = MemoryBackend(["balance"])
    store: Store[float] = Store(spec, backend, cache_bytes=1 << 20, verify=True)
    store.put(b"a", 5)
    commit(store, backend)
    store.aborted()
    assert store.get(b"a") == 5.0
    store.mutations.verify(store)


@pytest.mark.parametrize("assigned", [False, True])
@pytest.mark.parametrize("how", ["read", "default", "after assignment", "absent"])
def test_verifying_finds_what_was_changed_and_not_assigned(how: str, assigned: bool) -> None:
    backend = MemoryBackend(["boxes"])
    store = a_store(backend, verify=True)
    store.put(b"a", Box(1))
    commit(store, backend)
    store.mutations.verify(store)
    if how == "read":
        box = store.get(b"a")
    elif how == "default":
        box = Box()
        store.mutations.default(b"a", box, Box)
    elif how == "after assignment":
        box = Box(5)
        store.put(b"a", box)
    else:
        assert store.get(b"b") is None
        store.mutations.verify(store)
        return
    assert box is not None
    box.n += 1
    if assigned:
        store.put(b"a", box)
        store.mutations.verify(store)
    else:
        with pytest.raises(MutatedWithoutAssignment, match=r"'boxes'\['a'\]"):
            store.mutations.verify(store)


# ---- what one batch did


def test_what_a_batch_did_to_live_entries_that_it_walked_over_is_taken_back() -> None:
    store = a_store()
    store.guard(True)
    store.put(b"a", Box(1))
    store.keep()
    for key, box in list(store.scan()):
        box.n += 5
        store.put(key, box)
    assert store.take_back()
    assert store.get(b"a") == Box(1)


def test_an_entry_that_cannot_be_read_back_cannot_be_taken_back_to() -> None:
    few = schema(Annotated[int, msgspec.Meta(le=10)], "value")
    store: Store[int] = Store(StoreSpec("few", schema(str, "key"), few), MemoryBackend(["few"]), cache_bytes=1 << 20)
    store.put(b"a", 1)
    store.put(b"a", 11)  # is refused at the commit
    store.guard(True)
    store.get(b"a")
    assert not store.take_back()
