"""A store with a TTL per entry against plain dicts of values and times, over both backends: reads, writes in place and
of whole values, sweeps, commits, aborts, restores, in any order; and that the expiry index is what its values say."""

from __future__ import annotations

import heapq
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kstream.errors import CodecError, EntryUnreadable, MutatedWithoutAssignment, TopologyError
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.specs.ttl import TTL, Cleanup, FullSnapshot, Incremental, Sweep
from kstream.state.backend import Backend, Mark
from kstream.state.entries import EntriesStore
from kstream.state.expiry import families_of, index_of
from kstream.state.forms import NEVER, headers_of, packed, plain_in, stamp_of, timed_in
from kstream.state.large import Large
from kstream.state.making import make_store
from kstream.state.memory import MemoryBackend
from kstream.state.replayed import replayed
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.store import ENTRY_OVERHEAD
from kstream.state.time import TaskTime
from kstream.testing.fetch import MemoryFetch
from kstream.testing.log import MemoryRecord
from support.cases import examples

ROCKS = RocksMemory(8 << 20, 8 << 20)
LENGTH, BEGAN = 10, 1_000_000
FORM = "wall-entries"


class Hands:
    """A clock that is set by hand."""

    seconds = 1000.0

    def time(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def a_ttl(*cleanups: Cleanup, **more: Any) -> TTL:
    return TTL(seconds=LENGTH, per="entry", cleanup=cleanups or (Sweep(),), **more)


class Held:
    """A store with its backend, its changelog and a clock."""

    def __init__(
        self,
        kind: Any = dict[str, int],
        ttl: TTL | None = None,
        backend: Backend | None = None,
        *,
        cache: int = 1 << 20,
    ) -> None:
        self.spec = StoreSpec("carts", schema(str, "key"), schema(kind, "value"), ttl=ttl or a_ttl())
        self.backend = backend or MemoryBackend(families_of(self.spec))
        self.clock, self.cache = Hands(), cache
        self.time = TaskTime(self.clock)
        self.time.tick()
        self.log: list[tuple[bytes, bytes | None]] = []
        self.anew()

    def anew(self) -> None:
        """A store that knows nothing of what was done to the backend."""
        self.store: EntriesStore[Any] = EntriesStore(self.spec, self.backend, self.time, cache_bytes=self.cache)

    def at(self, seconds: float) -> None:
        self.clock.seconds = 1000.0 + seconds
        self.time.tick()

    def commit(self, records: int = 0) -> dict[bytes, bytes | None]:
        self.store.clean_up(records)
        changes = dict(self.store.stored_changes())
        self.backend.write(self.store.local_changes(), {"carts": Mark(1, 0.0)})
        self.store.committed()
        self.time.committed()
        self.log += changes.items()
        return changes

    def write(self, key: bytes, **entries: int) -> None:
        """These of a dict."""
        value = self.store.get(key)
        value = {} if value is None else value
        value.update(entries)
        self.store.put(key, value)

    def on_disk(self) -> dict[bytes, Any]:
        return {key: self.store.value_codec.decode(raw) for key, raw in self.backend.scan("carts")}

    def indexed(self) -> set[bytes]:
        return {key for key, _ in self.backend.scan(index_of("carts"))}

    def expected_index(self) -> set[bytes]:
        index = self.store.index
        assert index is not None
        oldest = {key: stamp_of(raw) for key, raw in self.backend.scan("carts")}
        return {index.entry(stamp, key) for key, stamp in oldest.items() if stamp != NEVER}

    def replay(self, *records: tuple[bytes, bytes | None, str, float]) -> None:
        """Key, value, form, seconds."""
        log = [
            MemoryRecord("log", 0, offset, BEGAN + int(seconds * 1000), key, value, headers_of(form), offset)
            for offset, (key, value, form, seconds) in enumerate(records)
        ]
        self.backend.write(replayed(self.spec, [key for key, *_ in records], MemoryFetch(log), self.store.now), {})


Model = dict[bytes, list[tuple[str, int, int]]]
"""Of each key what is in it: name, value, time. In a list the names do not count."""

KEYS = [b"a", b"key", b"key2"]
keys = st.sampled_from(KEYS)
names = st.sampled_from(["x", "y", "z"])


class EntriesAgainstDicts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="kstream-entries-"))
        self.now: Model = {}
        self.then: Model = {}
        self.kept: Model | None = None
        self.replays = 0

    @initialize(
        backend=st.sampled_from(["memory", "memory", "rocksdb"]),
        kind=st.sampled_from([dict[str, int], list[int]]),
        entries=st.integers(0, 4),
        most=st.sampled_from([1, 100]),
        cleanups=st.sampled_from([(), (FullSnapshot(),), (Incremental(2),), (Incremental(1, every_record=True),)]),
    )
    def make(self, backend: str, kind: Any, entries: int, most: int, cleanups: tuple[Cleanup, ...]) -> None:
        ttl = a_ttl(Sweep(most), *cleanups)
        self.is_dict, self.most, self.rocks = kind == dict[str, int], most, backend == "rocksdb"
        self.held = Held(kind, ttl, self.made(kind, ttl), cache=entries * 2 * (ENTRY_OVERHEAD + 64))
        self.seconds = 0

    def made(self, kind: Any, ttl: TTL) -> Backend:
        families = families_of(StoreSpec("carts", schema(str, "key"), schema(kind, "value"), ttl=ttl))
        self.replays += 1
        if self.rocks:
            return RocksBackend(self.directory / str(self.replays), families, ROCKS)
        return MemoryBackend(families)

    @property
    def stamp(self) -> int:
        return self.held.time.wall

    def visible(self, model: Model) -> dict[bytes, list[tuple[str, int, int]]]:
        limit = self.stamp - LENGTH * 1000
        found = {key: [one for one in entries if one[2] > limit] for key, entries in model.items()}
        return {key: entries for key, entries in found.items() if entries}

    def shown(self, entries: list[tuple[str, int, int]]) -> Any:
        return {name: n for name, n, _ in entries} if self.is_dict else [n for _, n, _ in entries]

    @rule(seconds=st.sampled_from([0, 1, 3, 5, 9, 10, 11, 100]))
    def wait(self, seconds: int) -> None:
        self.seconds += seconds
        self.held.at(self.seconds)

    @rule(key=keys, name=names, n=st.integers(0, 2))
    def write_one(self, key: bytes, name: str, n: int) -> None:
        """In place; at the same value too."""
        value = self.held.store.get(key)
        entries = self.visible(self.now).get(key, [])
        if self.is_dict:
            value = {} if value is None else value
            value[name] = n
            place = next((at for at, one in enumerate(entries) if one[0] == name), len(entries))
            entries[place : place + 1] = [(name, n, self.stamp)]
        else:
            value = [] if value is None else value
            value.append(n)
            entries.append(("", n, self.stamp))
        self.held.store.put(key, value)
        self.now[key] = entries

    @rule(key=keys, name=names)
    def remove_one(self, key: bytes, name: str) -> None:
        value, entries = self.held.store.get(key), self.visible(self.now).get(key, [])
        if value is None:
            return
        if self.is_dict:
            value.pop(name, None)
            entries = [one for one in entries if one[0] != name]
        else:
            del value[0]
            entries = entries[1:]
        self.held.store.put(key, value)
        self.now[key] = entries

    @rule(key=keys, content=st.dictionaries(names, st.integers(0, 2), max_size=3))
    def write_the_whole(self, key: bytes, content: dict[str, int]) -> None:
        self.held.store.put(key, content if self.is_dict else list(content.values()))
        self.now[key] = [(name, n, self.stamp) for name, n in content.items()]

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        self.held.store.delete(key)
        self.now.pop(key, None)

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        found, entries = self.held.store.get(key), self.visible(self.now).get(key)
        assert found == (None if entries is None else self.shown(entries))
        if found is not None and entries is not None and self.is_dict:
            assert list(found) == [name for name, _, _ in entries]

    @rule(start=st.one_of(st.just(b""), keys), stop=st.one_of(st.none(), keys))
    def scan(self, start: bytes, stop: bytes | None) -> None:
        expected = {
            key: self.shown(entries)
            for key, entries in sorted(self.visible(self.now).items())
            if start <= key and (stop is None or key < stop)
        }
        found = list(self.held.store.scan(start, stop))
        assert [key for key, _ in found] == list(expected) and dict(found) == expected

    @rule(records=st.integers(0, 3))
    def commit(self, records: int) -> None:
        self.held.commit(records)
        if self.most == 100:  # what had expired before it was committed goes with the next commit
            self.held.commit(records)
        limit = self.stamp - LENGTH * 1000
        left = {key: value.without(limit) for key, value in self.held.on_disk().items()}
        assert {key: (value, value.stamps()) for key, value in left.items() if value} == {
            key: (self.shown(entries), [at for *_, at in entries]) for key, entries in self.visible(self.now).items()
        }
        expected = self.held.expected_index()
        assert self.held.indexed() == expected if self.replays == 1 else self.held.indexed() >= expected
        if self.most == 100:
            index = self.held.store.index
            assert index is not None
            oldest = [stamp_of(raw) for _, raw in self.held.backend.scan("carts")]
            assert not any(index.place(at) + LENGTH * 1000 <= self.stamp for at in oldest)
        self.now = {key: list(entries) for key, entries in self.now.items()}
        self.then = {key: list(entries) for key, entries in self.now.items()}
        if self.kept is not None:
            self.kept = dict(self.then)

    @rule()
    def abort(self) -> None:
        self.held.store.aborted()
        self.now = {key: list(entries) for key, entries in self.then.items()}
        if self.kept is not None:
            self.kept = dict(self.now)

    @rule()
    def restart(self) -> None:
        self.held.anew()
        self.now = {key: list(entries) for key, entries in self.then.items()}
        self.kept = None

    @rule()
    def restore(self) -> None:
        """From the changelog, into an empty backend."""
        self.held.backend.close()
        self.held.backend = self.made(self.held.spec.value.kind, self.held.spec.ttl or a_ttl())
        self.restart()
        if self.held.log:
            self.held.replay(*((key, raw, FORM, 0.0) for key, raw in self.held.log))

    @rule()
    def keep(self) -> None:
        if self.kept is None:
            self.held.store.guard(True)
        self.held.store.keep()
        self.kept = {key: list(entries) for key, entries in self.now.items()}

    @precondition(lambda self: self.kept is not None)
    @rule()
    def take_back(self) -> None:
        assert self.kept is not None and self.held.store.take_back()
        self.now = {key: list(entries) for key, entries in self.kept.items()}

    @invariant()
    def nothing_was_written_without_a_commit(self) -> None:
        if hasattr(self, "held"):
            limit = self.stamp - LENGTH * 1000
            left = {key: value.without(limit) for key, value in self.held.on_disk().items()}
            assert {key: value for key, value in left.items() if value} == {
                key: self.shown(entries) for key, entries in self.visible(self.then).items()
            }

    def teardown(self) -> None:
        if hasattr(self, "held"):
            self.held.backend.close()
        shutil.rmtree(self.directory, ignore_errors=True)


TestEntriesAgainstDicts = EntriesAgainstDicts.TestCase
TestEntriesAgainstDicts.settings = examples(20, stateful_step_count=30)


# ---- one thing at a time


def test_at_the_instant_an_entry_is_gone_and_just_before_it_is_there() -> None:
    held = Held()
    held.write(b"a", x=1)
    held.at(3)
    held.write(b"a", y=2)
    held.commit()
    held.at(9.999)
    assert held.store.get(b"a") == {"x": 1, "y": 2}
    held.at(10)
    assert held.store.get(b"a") == {"y": 2}
    held.at(13)
    assert held.store.get(b"a") is None
    assert (held.commit(), held.store.expired) == ({b"a": None}, 2)


def test_writing_an_entry_starts_its_time_anew_and_not_that_of_the_others() -> None:
    held = Held()
    held.write(b"a", x=1, y=1)
    held.commit()
    held.at(6)
    held.write(b"a", x=1)
    held.commit()
    held.at(12)
    assert held.store.get(b"a") == {"x": 1}


def test_a_plain_dict_is_written_as_a_whole() -> None:
    held = Held()
    held.write(b"a", x=1)
    held.commit()
    held.at(6)
    held.store.put(b"a", {**held.store.get(b"a"), "y": 2})  # type: ignore[dict-item]
    held.commit()
    held.at(15)
    assert held.store.get(b"a") == {"x": 1, "y": 2}


def test_the_dict_of_another_store_is_written_as_a_whole() -> None:
    held, other = Held(), Held()
    held.write(b"a", x=1)
    other.at(6)
    other.store.put(b"b", held.store.get(b"a"))
    assert other.store.get(b"b").stamps() == [BEGAN + 6000]


@pytest.mark.parametrize("empty", [{}, None], ids=["empty", "emptied"])
def test_an_empty_value_is_no_entry(empty: dict[str, int] | None) -> None:
    held = Held()
    held.write(b"a", x=1)
    held.commit()
    if empty is None:
        empty = held.store.get(b"a")
        assert empty is not None
        empty.clear()
    held.store.put(b"a", empty)
    assert held.store.get(b"a") is None
    assert held.commit() == {b"a": None}
    assert held.indexed() == set()


def test_what_is_done_in_place_after_entries_went_counts_when_it_is_assigned() -> None:
    held = Held()
    held.write(b"a", x=1)
    held.at(5)
    held.write(b"a", y=1)
    held.commit()
    held.at(11)
    value = held.store.get(b"a")
    value["z"] = 3
    held.commit()
    held.anew()
    assert held.store.get(b"a") == {"y": 1}


def test_a_sweep_removes_what_nobody_reads_and_keeps_the_rest() -> None:
    held = Held()
    held.write(b"a", x=1)
    held.write(b"b", x=1)
    held.at(5)
    held.write(b"a", y=2)
    held.commit()
    assert not held.store.is_due()
    held.at(11)
    assert held.store.is_due()
    changes = held.commit()
    assert changes.keys() == {b"a", b"b"} and changes[b"b"] is None
    assert held.on_disk() == {b"a": {"y": 2}}
    assert held.indexed() == held.expected_index() != set()
    assert held.store.expired == 2
    held.at(16)
    assert held.commit() == {b"a": None}
    assert (held.on_disk(), held.indexed()) == ({}, set())


def test_a_sweep_leaves_alone_what_was_written_with_the_same_commit() -> None:
    held = Held()
    held.write(b"a", x=1)
    held.commit()
    held.at(11)
    held.write(b"a", y=2)
    held.commit()
    assert held.on_disk() == {b"a": {"y": 2}}
    assert held.indexed() == held.expected_index() and len(held.indexed()) == 1


@pytest.mark.parametrize("cleanup", [(Sweep(3),), (Incremental(2),)], ids=["sweep", "incremental"])
def test_a_clean_up_does_no_more_than_it_may_in_one_commit(cleanup: tuple[Cleanup, ...]) -> None:
    held = Held(ttl=a_ttl(*cleanup))
    for n in range(8):
        held.write(b"%d" % n, x=1)
    held.commit()
    held.at(11)
    gone = []
    for _ in range(5):
        held.store.get(b"none")
        before = len(held.on_disk())
        held.commit()
        gone.append(before - len(held.on_disk()))
    assert gone == ([3, 3, 2, 0, 0] if isinstance(cleanup[0], Sweep) else [2, 2, 2, 2, 0])


def test_queries_see_what_has_not_expired() -> None:
    held = Held()
    held.write(b"a", x=1)
    held.at(5)
    held.write(b"a", y=2)
    held.commit()
    (raw,) = held.backend.multi_get("carts", [b"a"])
    assert raw is not None and held.store.seen(raw) == b'{"x":1,"y":2}'
    held.at(10)
    assert held.store.seen(raw) == b'{"y":2}'
    held.at(15)
    assert held.store.seen(raw) is None


def test_a_restore_drops_what_has_expired_as_a_whole_only() -> None:
    held = Held(ttl=a_ttl(FullSnapshot(), Sweep()))
    held.write(b"a", x=1)
    held.write(b"b", x=1)
    held.at(5)
    held.write(b"a", y=2)
    held.commit()
    again = Held(ttl=a_ttl(FullSnapshot(), Sweep()))
    again.at(11)
    again.replay(*((key, raw, FORM, 0.0) for key, raw in held.log))
    assert again.on_disk() == {b"a": {"x": 1, "y": 2}}
    assert again.store.get(b"a") == {"y": 2}
    assert again.commit().keys() == {b"a", b"b"}
    assert again.indexed() == again.expected_index()


@pytest.mark.parametrize(
    ("existing", "form", "stamps"),
    [
        ("from_next_write", "plain", [NEVER, NEVER]),
        ("retroactive", "plain", [BEGAN + 4000] * 2),
        ("from_next_write", "wall", [BEGAN + 3000] * 2),
        ("from_next_write", "event", [NEVER, NEVER]),
        ("retroactive", "event", [BEGAN + 4000] * 2),
        ("retroactive", "event-entries", [BEGAN + 4000] * 2),
        ("retroactive", "wall-entries", [BEGAN + 3000] * 2),
    ],
)
def test_what_was_written_before_the_ttl(existing: Any, form: str, stamps: list[int]) -> None:
    plain = b'{"x":1,"y":2}'
    raw = plain if form == "plain" else timed_in(form, BEGAN + 3000, plain)
    held = Held(ttl=a_ttl(existing=existing))
    held.replay((b"a", raw, form, 4))
    assert held.on_disk()[b"a"].stamps() == stamps
    assert held.indexed() == held.expected_index()
    held.at(5)
    held.write(b"a", x=3)
    held.commit()
    held.at(14.5)
    assert held.store.get(b"a") == ({"x": 3, "y": 2} if stamps[0] == NEVER else {"x": 3})


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        (None, b'{"x":1,"y":2}'),
        (TTL(seconds=LENGTH), packed(BEGAN + 5000) + b'{"x":1,"y":2}'),
        (TTL(seconds=LENGTH, time="event"), packed(NEVER) + b'{"x":1,"y":2}'),
    ],
    ids=["none", "per key", "by events"],
)
def test_another_ttl_reads_what_it_left(ttl: TTL | None, expected: bytes) -> None:
    held = Held()
    held.write(b"a", x=1)
    held.at(5)
    held.write(b"a", y=2)
    ((key, raw),) = held.commit().items()
    spec = StoreSpec("carts", schema(str, "key"), schema(dict[str, int], "value"), ttl=ttl)
    record = MemoryRecord("log", 0, 0, BEGAN, key, raw, headers_of(FORM), 0)
    changes = replayed(spec, [key], MemoryFetch([record]), BEGAN)
    assert dict(changes["carts"]) == {b"a": expected}


def test_a_value_that_comes_back_as_another_is_refused() -> None:
    held = Held(dict[str, Any])
    with pytest.raises(CodecError, match=r"table 'carts'\['a'\]"):
        held.store.put(b"a", {"x": (1, 2)})
    held.store.put(b"a", {"x": [1, 2]})
    held.store.put(b"b", {"x": (1, 2)})  # of a class that has come back: seen at the commit
    for _ in range(2):
        with pytest.raises(CodecError, match=r"table 'carts'\['b'\]"):
            held.store.encode_changes()


def test_another_kind_of_value_is_refused() -> None:
    held = Held()
    with pytest.raises(CodecError, match="list"):
        held.store.put(b"a", [1])
    other = Held(list[int])
    other.store.put(b"a", [1])
    with pytest.raises(CodecError):
        held.store.put(b"a", other.store.get(b"a"))


def test_what_a_function_for_large_values_makes_is_written_as_a_whole() -> None:
    held = Held()
    held.store.large = Large(30, lambda _, value: {"x": value["x"]})
    held.write(b"a", x=1)
    held.commit()
    held.at(5)
    held.write(b"a", y=1, z=1)
    held.commit()
    assert held.store.get(b"a") == held.on_disk()[b"a"] == {"x": 1}
    assert held.store.get(b"a").stamps() == held.on_disk()[b"a"].stamps() == [BEGAN + 5000]


def test_times_that_do_not_fit_their_value_are_named() -> None:
    held = Held()
    held.write(b"a", x=1)
    held.at(5)
    held.write(b"a", y=2)
    held.commit()
    (raw,) = held.backend.multi_get("carts", [b"a"])
    assert raw is not None
    held.backend.write({"carts": [(b"a", raw.replace(plain_in(FORM, raw), b'{"x":1}'))]}, {})
    held.anew()
    with pytest.raises(EntryUnreadable, match="it has 1 entries, and the times of 2"):
        held.store.get(b"a")


@pytest.mark.parametrize("kind", [int, str, set[str], dict[str, int] | None, tuple[int, ...]])
def test_only_dicts_and_lists_have_entries(kind: Any) -> None:
    with pytest.raises(TopologyError, match="table 'carts': ttl= with per='entry' is for values that are dict"):
        StoreSpec("carts", schema(str, "key"), schema(kind, "value"), ttl=a_ttl())


# ---- what user code does with values


@pytest.mark.parametrize("before", [[], [5, 6]], ids=["one time", "several times"])
@pytest.mark.parametrize("late", [False, True], ids=["before it is assigned", "after it is assigned"])
def test_what_heapq_did_to_a_list_is_refused_and_not_lost(before: list[int], late: bool) -> None:
    held = Held(list[int])
    held.store.put(b"a", [4])
    held.at(5)
    for one in before:
        value = held.store.get(b"a")
        value.append(one)
        held.store.put(b"a", value)
    held.commit()
    value = held.store.get(b"a")
    if late:
        held.store.put(b"a", value)
    heapq.heappush(value, 7)
    with pytest.raises(CodecError, match=r"table 'carts'\['a'\].*heapq does that\): work on a copy"):
        held.commit() if late else held.store.put(b"a", value)
    held.store.aborted()
    copied = list(held.store.get(b"a"))
    heapq.heappush(copied, 7)
    held.store.put(b"a", copied)
    held.commit()
    held.anew()
    held.at(12)
    assert sorted(held.store.get(b"a")) == [4, *before, 7]


def test_what_heapq_did_to_a_list_that_has_expired_is_told_when_it_is_read() -> None:
    held = Held(list[int])
    held.store.put(b"a", [4])
    held.commit()
    heapq.heappush(held.store.get(b"a"), 7)
    held.at(11)
    with pytest.raises(CodecError, match=r"table 'carts'\['a'\].*heapq"):
        held.store.get(b"a")


@pytest.mark.parametrize("ttl", [None, TTL(seconds=LENGTH)], ids=["no ttl", "per key"])
@pytest.mark.parametrize("kind", [dict[str, int], list[int]], ids=["dict", "list"])
def test_another_table_keeps_a_plain_copy(ttl: TTL | None, kind: Any) -> None:
    held = Held(kind)
    held.store.put(b"a", {"x": 1} if kind == dict[str, int] else [1])
    spec = StoreSpec("others", schema(str, "key"), schema(kind, "value"), ttl=ttl)
    backend = MemoryBackend(families_of(spec))
    other: Any = make_store(spec, backend, held.time, cache_bytes=1 << 20, check_every=256, verify=False)
    for key in (b"a", b"b"):
        other.put(key, held.store.get(b"a"))
        assert other.get(key).__class__ in (dict, list) and other.get(key) == held.store.get(b"a")
    held.store.get(b"a").clear()
    assert len(other.get(b"a")) == len(other.get(b"b")) == 1
    assert all(other.encode_changes().values())


def verified(kind: Any = list[int]) -> Held:
    """As the TestDriver has it: what it is to find is looked for at each commit."""
    held = Held(kind)
    held.store = EntriesStore(held.spec, held.backend, held.time, cache_bytes=1 << 20, verify=True)
    return held


def looked_at(held: Held) -> None:
    held.store.encode_changes()
    held.store.mutations.verify(held.store)


@pytest.mark.parametrize("other", [False, True], ids=["alone", "beside another key"])
@pytest.mark.parametrize("how", ["changed", "assigned", "read"])
def test_verifying_finds_a_change_of_what_lost_entries_when_it_was_read(how: str, other: bool) -> None:
    held = verified()
    held.store.put(b"a", [1])
    held.at(5)
    value = held.store.get(b"a")
    value.append(2)
    held.store.put(b"a", value)
    looked_at(held)
    held.commit()
    held.at(11)
    value = held.store.get(b"a")
    assert value == [2]
    if how != "read":
        value.append(3)
    if how == "assigned":
        held.store.put(b"a", value)
    if other:
        held.store.put(b"b", [1])
    if how == "changed":
        with pytest.raises(MutatedWithoutAssignment, match=r"'carts'\['a'\]"):
            looked_at(held)
    else:
        looked_at(held)
        held.commit()
        assert held.on_disk()[b"a"] == ([2] if how == "read" else [2, 3])


@pytest.mark.parametrize("again", [None, "plain", "timed", "deleted"])
def test_verifying_finds_a_change_after_a_plain_value_was_assigned(again: str | None) -> None:
    """The table keeps a copy: the change would be lost."""
    held = verified()
    given = [1]
    held.store.put(b"a", given)
    looked_at(held)
    held.store.put(b"a", given)
    given.append(2)
    if again is None:
        with pytest.raises(MutatedWithoutAssignment, match=r"'carts'\['a'\]"):
            looked_at(held)
        return
    if again == "plain":
        held.store.put(b"a", given)
    elif again == "timed":
        held.store.put(b"a", held.store.get(b"a"))
    else:
        held.store.delete(b"a")
    looked_at(held)
    held.commit()
    assert held.on_disk() == ({b"a": [1, 2]} if again == "plain" else {b"a": [1]} if again == "timed" else {})
