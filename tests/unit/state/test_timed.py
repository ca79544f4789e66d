"""A store with a TTL against a dict, over both backends: reads, writes, folds, sweeps, commits, aborts, in any order;
and that the expiry index is exactly what its entries say."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.specs.ttl import FOREVER, TTL, Cleanup, Existing, FullSnapshot, Incremental, Sweep, Update, Visibility
from kstream.state.backend import Backend, Mark
from kstream.state.expiry import families_of, index_of
from kstream.state.forms import HEADER, NEVER, packed, stamp_of
from kstream.state.memory import MemoryBackend
from kstream.state.replayed import replayed
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.state.store import ENTRY_OVERHEAD
from kstream.state.time import TaskTime
from kstream.state.timed import TimedStore
from kstream.testing.fetch import MemoryFetch
from kstream.testing.log import MemoryRecord
from kstream.types import Headers
from support.cases import examples

ROCKS = RocksMemory(8 << 20, 8 << 20)
SECOND = 1000


class Box(msgspec.Struct):
    n: int = 0


class Hands:
    """A clock that is set by hand, back too."""

    seconds = 1000.0

    def time(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def a_spec(ttl: TTL) -> StoreSpec:
    return StoreSpec("boxes", schema(str, "key"), schema(Box, "value"), ttl=ttl)


class Held:
    """A store with its backend, and a clock."""

    def __init__(self, ttl: TTL, backend: Backend | None = None, *, cache: int = 1 << 20) -> None:
        spec = a_spec(ttl)
        self.backend = backend or MemoryBackend(families_of(spec))
        self.clock = Hands()
        self.time = TaskTime(self.clock)
        self.time.tick()
        self.store: TimedStore[Box] = TimedStore(spec, self.backend, self.time, cache_bytes=cache)

    def at(self, seconds: float) -> None:
        self.clock.seconds = 1000.0 + seconds
        self.time.tick()

    def commit(self, records: int = 0) -> dict[bytes, bytes | None]:
        self.store.clean_up(records)
        changes = dict(self.store.stored_changes())
        self.backend.write(self.store.local_changes(), {"boxes": Mark(1, 0.0)})
        self.store.committed()
        self.time.committed()
        return changes

    def put(self, key: bytes, n: int = 1) -> None:
        self.store.put(key, Box(n))

    def n(self, key: bytes) -> int | None:
        box = self.store.get(key)
        return None if box is None else box.n

    def on_disk(self) -> dict[bytes, int]:
        """The times of its entries, in seconds since the clock began."""
        return {key: stamp_of(raw) // SECOND - 1000 for key, raw in self.backend.scan("boxes")}

    def indexed(self) -> set[bytes]:
        return {key for key, _ in self.backend.scan(index_of("boxes"))}

    def check_index(self) -> None:
        assert self.store.index is not None
        entries = {(stamp_of(raw), key) for key, raw in self.backend.scan("boxes")}
        assert self.indexed() == {self.store.index.entry(stamp, key) for stamp, key in entries if stamp != NEVER}


KEYS = [b"a", b"b", b"key", b"key2", b""]
keys = st.sampled_from(KEYS)
TTL_SECONDS = 10


class TimedAgainstDict(RuleBasedStateMachine):
    """The cache holds few entries, so that they are evicted, and found again, all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="kstream-timed-"))
        self.now: dict[bytes, tuple[int, int]] = {}  # value and time
        self.then: dict[bytes, tuple[int, int]] = {}  # the same as committed
        self.kept: dict[bytes, tuple[int, int]] | None = None  # None: it is not guarded

    @initialize(
        kind=st.sampled_from(["memory", "memory", "rocksdb"]),
        entries=st.integers(0, 6),
        update=st.sampled_from(["create_and_write", "read_and_write"]),
        visibility=st.sampled_from(["never_return_expired", "return_expired_if_not_cleaned_up"]),
        most=st.sampled_from([1, 2, 100]),
        cleanups=st.sampled_from([(), (FullSnapshot(),), (Incremental(2),), (Incremental(1, every_record=True),)]),
    )
    def make(
        self,
        kind: str,
        entries: int,
        update: Update,
        visibility: Visibility,
        most: int,
        cleanups: tuple[Cleanup, ...],
    ) -> None:
        ttl = TTL(seconds=TTL_SECONDS, update=update, visibility=visibility, cleanup=(Sweep(most), *cleanups))
        names = families_of(a_spec(ttl))
        self.rocks = kind == "rocksdb"
        backend = RocksBackend(self.directory, names, ROCKS) if self.rocks else MemoryBackend(names)
        self.ttl, self.most = ttl, most
        self.held = Held(ttl, backend, cache=entries * (ENTRY_OVERHEAD + 64))
        self.store = self.held.store
        self.seconds = 0

    @property
    def stamp(self) -> int:
        return self.held.time.wall

    def expired(self, key: bytes) -> bool:
        return key in self.now and self.ttl.expired(self.now[key][1], self.stamp)

    @rule(seconds=st.sampled_from([0, 1, 3, 5, 9, 10, 11, 100]))
    def wait(self, seconds: int) -> None:
        self.seconds += seconds
        self.held.at(self.seconds)

    @rule(back=st.integers(1, 200))
    def set_the_clock_back(self, back: int) -> None:
        before = self.stamp
        self.held.at(self.seconds - back)
        assert self.stamp == before

    @rule(key=keys, n=st.integers(1, 9))
    def put(self, key: bytes, n: int) -> None:
        self.held.put(key, n)
        self.now[key] = n, self.stamp

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        self.store.delete(key)
        self.now.pop(key, None)

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        found, expired = self.held.n(key), self.expired(key)
        hidden = expired and self.ttl.visibility == "never_return_expired"
        assert found == (None if hidden or key not in self.now else self.now[key][0])
        if expired:
            del self.now[key]
        elif key in self.now and self.ttl.update == "read_and_write":
            self.now[key] = self.now[key][0], self.stamp

    @rule(column=st.lists(keys, min_size=1, max_size=6))
    def fold_a_column(self, column: list[bytes]) -> None:
        """As the aggregation does."""
        self.store.load(column)
        self.store.expire(column, None)
        taken = []
        for key in column:
            if self.expired(key) and self.ttl.visibility == "never_return_expired":
                self.now.pop(key)
            box = self.store.live[key] or Box()
            box.n += 10
            self.store.live[key] = box
            taken.append(self.store.encode(box))
            self.now[key] = self.now.get(key, (0, 0))[0] + 10, self.stamp
        self.store.written(column, None)
        self.store.changed_to(column, taken)

    @rule(start=st.one_of(st.just(b""), keys), stop=st.one_of(st.none(), keys))
    def scan(self, start: bytes, stop: bytes | None) -> None:
        shows = self.ttl.visibility != "never_return_expired"
        expected = {
            key: n
            for key, (n, _) in self.now.items()
            if (shows or not self.expired(key)) and start <= key and (stop is None or key < stop)
        }
        found = list(self.store.scan(start, stop))
        assert [key for key, _ in found] == sorted(expected)
        assert {key: box.n for key, box in found} == expected

    @rule(records=st.integers(0, 3))
    def commit(self, records: int) -> None:
        changes = self.held.commit(records)
        self.held.check_index()
        if self.most == 100:  # what had expired before it was committed goes with the next commit
            changes |= self.held.commit(records)
        left = {key: (msgspec.json.decode(raw[8:], type=Box).n, stamp_of(raw)) for key, raw in self.disk.items()}
        for key, entry in self.now.items():  # what is not there any more had expired, and went with a tombstone
            if key in left:
                assert left[key] == entry
            else:
                assert self.ttl.expired(entry[1], self.stamp) and key in changes and changes[key] is None
        assert left.keys() <= self.now.keys()
        self.held.check_index()
        if self.most == 100:
            assert not any(self.store.index and self.store.index.place(stamp) + self.ttl.milliseconds <= self.stamp
                           for _, stamp in left.values())  # fmt: skip
        self.now, self.then = dict(left), dict(left)
        if self.kept is not None:
            self.kept = dict(left)

    @property
    def disk(self) -> dict[bytes, bytes]:
        return dict(self.held.backend.scan("boxes"))

    @rule()
    def abort(self) -> None:
        self.store.aborted()
        self.now = dict(self.then)
        if self.kept is not None:
            self.kept = dict(self.then)

    @rule()
    def keep(self) -> None:
        """A batch begins, and can be taken back."""
        if self.kept is None:
            self.store.guard(True)
        self.store.keep()
        self.kept = dict(self.now)

    @precondition(lambda self: self.kept is not None)
    @rule()
    def take_back(self) -> None:
        assert self.kept is not None
        assert self.store.take_back()
        self.now = dict(self.kept)

    @invariant()
    def nothing_was_written_without_a_commit(self) -> None:
        if hasattr(self, "store"):
            assert {key: stamp_of(raw) for key, raw in self.disk.items()} == {
                key: stamp for key, (_, stamp) in self.then.items()
            }

    def teardown(self) -> None:
        if hasattr(self, "held"):
            self.held.backend.close()
        shutil.rmtree(self.directory, ignore_errors=True)


TestTimedAgainstDict = TimedAgainstDict.TestCase
TestTimedAgainstDict.settings = examples(15, stateful_step_count=30)


# ---- one thing at a time


def test_at_the_instant_an_entry_is_gone_and_just_before_it_is_there() -> None:
    held = Held(TTL(seconds=10))
    held.put(b"a")
    held.commit()
    held.at(9.999)
    assert held.n(b"a") == 1
    held.at(10)
    assert held.n(b"a") is None


def test_an_expired_entry_is_returned_once_where_that_is_wanted() -> None:
    held = Held(TTL(seconds=10, visibility="return_expired_if_not_cleaned_up"))
    held.put(b"a", 7)
    held.commit()
    held.at(10)
    assert [held.n(b"a"), held.n(b"a")] == [7, None]
    assert held.commit() == {b"a": None}


@pytest.mark.parametrize(("update", "kept"), [("create_and_write", False), ("read_and_write", True)])
def test_reading_starts_the_time_anew_or_does_not(update: Update, kept: bool) -> None:
    held = Held(TTL(seconds=10, update=update))
    held.put(b"a")
    held.commit()
    held.at(6)
    assert held.n(b"a") == 1
    assert held.commit() == ({b"a": packed(1_006_000) + b'{"n":1}'} if kept else {})
    held.at(12)
    assert (held.n(b"a") == 1) == kept


def test_a_refresh_stores_what_was_stored_not_what_was_changed_in_place() -> None:
    held = Held(TTL(seconds=10, update="read_and_write"))
    held.put(b"a")
    held.commit()
    held.at(6)
    box = held.store.get(b"a")
    assert box is not None
    box.n = 99
    held.commit()
    assert held.backend.multi_get("boxes", [b"a"]) == [packed(1_006_000) + b'{"n":1}']


@pytest.mark.parametrize("length", [FOREVER, FOREVER - 1, 1 << 62])
def test_times_that_are_too_large_do_not_overflow(length: int) -> None:
    held = Held(TTL(days=1e12 if length > 1 << 62 else (1 << 62) / 86_400_000))
    held.put(b"a")
    held.commit()
    held.at(1e9)
    assert held.n(b"a") == 1
    assert held.commit() == {}
    held.check_index()


def test_a_sweep_removes_what_nobody_reads() -> None:
    held = Held(TTL(seconds=10))
    held.put(b"a")
    held.commit()
    held.at(9)
    assert not held.store.is_due()
    held.at(11)
    assert held.store.is_due()
    assert held.commit() == {b"a": None}
    assert (held.on_disk(), held.indexed(), held.store.expired) == ({}, set(), 1)
    assert not held.store.is_due()


def test_a_sweep_never_deletes_a_key_refreshed_in_the_same_flush() -> None:
    """Quix #1129: it did, and the write was lost."""
    held = Held(TTL(seconds=10))
    held.put(b"a", 1)
    held.put(b"b", 1)
    held.commit()
    held.at(11)
    held.put(b"a", 2)
    assert held.commit() == {b"a": packed(1_011_000) + b'{"n":2}', b"b": None}
    assert held.on_disk() == {b"a": 11}
    held.check_index()
    assert held.n(b"a") == 2


def test_a_sweep_leaves_keys_alone_that_begin_like_the_expired_one() -> None:
    """Quix #1122: what belonged to key2 went with key."""
    held = Held(TTL(seconds=10))
    held.put(b"key")
    held.commit()
    held.at(5)
    for other in (b"key2", b"key\x00", b"ke", b"key\xff"):
        held.put(other)
    held.commit()
    held.at(11)
    assert held.commit() == {b"key": None}
    assert held.on_disk() == {b"key2": 5, b"key\x00": 5, b"ke": 5, b"key\xff": 5}
    held.check_index()


def test_a_key_that_is_deleted_and_made_again_and_again_has_one_entry_in_the_index() -> None:
    held = Held(TTL(seconds=10))
    for second in range(50):
        held.at(second / 10)
        held.put(b"a")
        held.commit()
        held.store.delete(b"a")
        held.commit()
        assert held.indexed() == set()
        held.put(b"a")
        held.commit()
        assert len(held.indexed()) == 1


def test_a_key_written_without_a_look_at_it_has_one_entry_in_the_index() -> None:
    held = Held(TTL(seconds=10), cache=0)
    for second in range(10):
        held.at(second)
        held.put(b"a")
        held.commit()
        held.commit()
        held.check_index()


def test_an_index_entry_whose_key_is_gone_goes_when_its_place_is_due() -> None:
    held = Held(TTL(seconds=10))
    held.put(b"a")
    held.commit()
    held.backend.write({"boxes": [(b"a", None)]}, {})
    held.store.aborted()  # a restore: the backend has other contents now
    held.at(20)
    assert held.commit() == {b"a": None}
    assert held.indexed() == set()


@pytest.mark.parametrize("cleanup", [(Sweep(3),), (Incremental(2),)], ids=["sweep", "incremental"])
def test_a_clean_up_does_no_more_than_it_may_in_one_commit(cleanup: tuple[Cleanup, ...]) -> None:
    held = Held(TTL(seconds=10, cleanup=cleanup))
    for n in range(8):
        held.put(b"%d" % n)
    held.commit()
    held.at(11)
    gone = []
    for _ in range(5):
        held.n(b"none")
        before = len(held.on_disk())
        held.commit()
        gone.append(before - len(held.on_disk()))
    assert gone == ([3, 3, 2, 0, 0] if isinstance(cleanup[0], Sweep) else [2, 2, 2, 2, 0])


@pytest.mark.parametrize("written", [3, 40])
def test_a_sweep_keeps_up_with_any_turnover_of_keys(written: int) -> None:
    held = Held(TTL(seconds=64, cleanup=(Sweep(most=4),)))
    for second in range(300):
        held.at(second)
        for n in range(written):
            held.put(b"%d" % (second * written + n))
        held.commit()
        assert len(held.on_disk()) == len(held.indexed()) <= 67 * written


def test_a_key_is_asked_for_its_own_time_whatever_the_oldest_in_the_cache_is() -> None:
    """That the oldest in the cache has expired says so of nothing else."""
    held = Held(TTL(seconds=10, cleanup=()))
    for second, key in enumerate([b"old", b"a", b"b"]):
        held.at(5 * second)
        held.put(key)
        held.commit()
    for second, column, left in [
        (14.999, [b"a", b"b", b"a"], {b"a", b"b"}),
        (15, [b"b", b"a", b"b"], {b"b"}),
        (16, [b"a", b"b"], {b"b"}),
        (19.999, [b"b"], {b"b"}),
        (20, [b"b", b"old"], set()),
    ]:
        held.at(second)
        held.store.load(column)
        held.store.expire(column, None)
        assert {key for key in column if held.store.live[key] is not None} == left
        held.commit()


def test_what_was_written_since_the_commit_expires_too() -> None:
    held = Held(TTL(seconds=10, cleanup=()))
    column: list[bytes | None] = [b"a"]
    held.store.load(column)
    held.store.live[b"a"] = Box(1)
    held.store.written(column, None)
    held.store.changed(column)
    held.at(9.999)
    held.store.expire(column, None)
    assert held.store.live[b"a"] is not None
    held.at(10)
    held.store.expire(column, None)
    assert held.store.live[b"a"] is None


def test_a_key_is_counted_for_each_record_and_cleaned_up_after_once_a_batch() -> None:
    held = Held(TTL(seconds=10, cleanup=(Incremental(1),)))
    for key in (b"x", b"y", b"z"):
        held.put(key)
    held.commit()
    held.at(11)
    held.store.load([b"a", b"a", None, b"b", None, b"a"])
    assert (held.store.hits, held.store.misses) == (2, 2)
    held.commit()
    assert len(held.on_disk()) == 1


def test_the_incremental_clean_up_goes_round_and_counts_records_where_told() -> None:
    held = Held(TTL(seconds=10, cleanup=(Incremental(1, every_record=True),)))
    held.put(b"a")
    held.put(b"b")
    held.commit()
    held.at(11)
    held.commit()
    assert len(held.on_disk()) == 2  # nothing was read, no record came
    held.commit(records=1)
    assert len(held.on_disk()) == 1
    held.commit(records=5)
    assert len(held.on_disk()) == 0


def test_the_incremental_clean_up_keeps_its_place_over_commits_without_accesses() -> None:
    held = Held(TTL(seconds=10, cleanup=(Incremental(1, every_record=True),)))
    for key in (b"", b"a", b"b", b"c"):
        held.put(key)
    held.commit()
    held.at(5)
    held.put(b"")
    held.put(b"a")
    held.commit(records=2)  # these are looked at, and stay
    held.at(11)
    held.commit()
    held.commit(records=2)
    assert set(held.on_disk()) == {b"", b"a"}
    held.at(16)
    held.commit()
    held.commit(records=1)  # the end of the round was not known yet
    held.commit(records=1)
    assert set(held.on_disk()) == {b"a"}


def test_only_what_was_there_is_counted_as_expired() -> None:
    held = Held(TTL(seconds=10, cleanup=(FullSnapshot(), Sweep())))
    held.at(14)
    replay(held, (b"a", ENTRY, "wall", 3))
    assert (held.commit(), held.store.expired) == ({b"a": None}, 0)  # the restore had dropped it
    held.put(b"b")
    held.commit()
    held.at(30)
    assert (held.commit(), held.store.expired) == ({b"b": None}, 1)


def test_without_a_clean_up_an_entry_stays_until_it_is_read() -> None:
    held = Held(TTL(seconds=10, cleanup=()))
    held.put(b"a")
    held.commit()
    held.at(100)
    held.commit()
    assert held.on_disk() == {b"a": 0}
    assert held.n(b"a") is None
    assert held.commit() == {b"a": None}


def test_another_length_holds_for_what_is_there_already() -> None:
    held = Held(TTL(seconds=10))
    held.put(b"a")
    held.put(b"b")
    held.commit()
    longer = Held(TTL(seconds=100), held.backend)
    longer.at(50)
    assert longer.n(b"a") == 1
    longer.put(b"a", 2)
    longer.commit()
    longer.at(101)
    assert longer.commit() == {b"b": None}
    longer.check_index()
    shorter = Held(TTL(seconds=5), held.backend)
    shorter.at(101)
    assert shorter.commit() == {b"a": None}
    shorter.commit()
    assert shorter.indexed() == set()


# ---- restore


def replay(held: Held, *records: tuple[bytes, bytes | None, str | None, float]) -> None:
    """Key, value, form, seconds."""
    log = [
        MemoryRecord("log", 0, offset, 1_000_000 + int(seconds * 1000), key, value, _headers(form), offset)
        for offset, (key, value, form, seconds) in enumerate(records)
    ]
    fetch = MemoryFetch(log)
    names = [key for key, *_ in records]
    held.backend.write(replayed(held.store.spec, names, fetch, held.store.now), {})


def _headers(form: str | None) -> Headers | None:
    return None if form is None else [(HEADER, form.encode())]


ENTRY = packed(1_003_000) + b'{"n":3}'


def test_a_restore_makes_entries_and_index_anew() -> None:
    held = Held(TTL(seconds=10))
    replay(held, (b"a", ENTRY, "wall", 3), (b"b", ENTRY, "wall", 3), (b"b", None, "wall", 4))
    held.check_index()
    assert (held.n(b"a"), held.n(b"b")) == (3, None)
    held.at(13)
    assert held.n(b"a") is None


@pytest.mark.parametrize(
    ("existing", "form", "stamp"),
    [
        ("from_next_write", None, NEVER),
        ("retroactive", None, 1_004_000),
        ("from_next_write", "event", NEVER),
        ("retroactive", "event", 1_004_000),
        ("retroactive", "wall", 1_003_000),
    ],
)
def test_what_was_written_before_the_ttl(existing: Existing, form: str | None, stamp: int) -> None:
    held = Held(TTL(seconds=10, existing=existing))
    replay(held, (b"a", b'{"n":3}' if form is None else ENTRY, form, 4))
    assert {key: stamp_of(raw) for key, raw in held.backend.scan("boxes")} == {b"a": stamp}
    held.check_index()
    held.at(1e6)
    assert held.n(b"a") == (3 if stamp == NEVER else None)


def test_a_restore_drops_what_has_expired_and_its_tombstone_follows() -> None:
    held = Held(TTL(seconds=10, cleanup=(FullSnapshot(), Sweep())))
    held.at(14)
    replay(held, (b"a", ENTRY, "wall", 3), (b"b", packed(1_005_000) + b'{"n":5}', "wall", 5))
    assert held.on_disk() == {b"b": 5}
    assert held.commit() == {b"a": None}
    held.check_index()


def test_where_a_changelog_has_a_key_several_times_the_index_is_put_right_in_time() -> None:
    held = Held(TTL(seconds=10))
    for second in (1, 2, 3):
        replay(held, (b"a", packed(1_000_000 + second * SECOND) + b"{}", "wall", second))
    assert len(held.indexed()) == 3
    held.at(12.5)
    assert held.commit() == {}
    held.check_index()
    assert held.n(b"a") == 0


@pytest.mark.parametrize("time", ["wall", "event"])
def test_a_restart_does_not_set_time_back(time: Literal["wall", "event"]) -> None:
    held = Held(TTL(seconds=10, time=time))
    held.time.running([1_050_000])
    held.at(50)
    event, wall = held.time.event, held.time.wall
    again = Held(TTL(seconds=10, time=time))
    again.time.seed(event, wall)
    again.at(7)
    assert again.store.now == 1_050_000


def test_an_abort_takes_event_time_back_and_a_commit_keeps_it() -> None:
    time: Any = TaskTime(Hands())
    assert time.running([5, 3, 9]) == [5, 5, 9]
    time.committed()
    assert time.running([20]) == [20]
    time.rewind()
    assert time.running([7]) == [9]
    time.keep()
    time.running([30])
    time.take_back()
    assert time.event == 9


def test_what_lies_on_disk_is_read_without_its_times(tmp_path: Path) -> None:
    from kstream.specs.schema import schema as schema_of
    from kstream.state.changelog import Changelog
    from kstream.state.rocksdb import RocksReader

    spec = StoreSpec("boxes", schema_of(str, "key"), schema_of(Box, "value"), ttl=TTL(seconds=10))
    backend = RocksBackend(tmp_path, families_of(spec), ROCKS)
    about = Changelog("log", 0, spec).packed
    backend.write({"boxes": [(b"a", ENTRY)], index_of("boxes"): [(b"12345678a", b"")]}, {"boxes": Mark(1, 0.0, about)})
    backend.close()
    reader = RocksReader(tmp_path, ROCKS)
    assert reader.stores == ["boxes"]
    assert list(reader.scan("boxes")) == [(b"a", b'{"n":3}')]
    assert reader.multi_get("boxes", [b"a", b"b"]) == [b'{"n":3}', None]
    reader.close()


def test_an_index_is_dropped_when_its_store_comes_without_it(tmp_path: Path) -> None:
    """What is done to the store from then on would be missing in it. Other families are left alone."""
    index = index_of("boxes")
    every = ["boxes", index, "other", index_of("other")]
    found: dict[str, bool] = {}
    for names in (every, ["boxes"], every):
        backend = RocksBackend(tmp_path, names, ROCKS)
        found = {name: backend.mark(name) is not None for name in names}
        backend.write({name: [(b"k", b"v")] for name in names}, {name: Mark(1, 0.0) for name in names})
        backend.close()
    assert found == {"boxes": True, index: False, "other": True, index_of("other"): True}
