"""State that expires, in workers that restart, restore, hand tasks over and crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import AbortRequired, ProducerLost
from kstream.runtime.cluster.metadata import decode
from kstream.runtime.task.states import TaskState
from kstream.specs.ttl import TTL
from kstream.state.expiry import index_of
from kstream.state.forms import HEADER, NEVER, PLAIN, STAMP, form_of, stamp_of
from kstream.state.timed import TimedStore
from unit.runtime.harness import Fleet

KEYS = [f"k{i}" for i in range(12)]
MINUTE = kstream.TTL(minutes=1)
Make = Callable[..., Fleet]


class Visits:
    """Counts by key, in an aggregation and in a table; both with this TTL."""

    def __init__(self, ttl: TTL | None = MINUTE, *, event: bool = False) -> None:
        self.app = kstream.App("visits")
        self.source = self.app.topic("in", key=str, value=int, timestamp=(lambda at: at) if event else None)
        self.out = self.app.topic("out", key=str, value=int)
        self.app.stream(self.source).group_by_key().count(name="n", ttl=ttl).to(self.out)
        seen = self.app.table("seen", key=str, value=int, default=0, ttl=ttl)

        @self.app.agent(self.source)
        def see(_: int, ctx: kstream.Context[str]) -> None:
            seen[ctx.key] += 1


@pytest.fixture(params=["memory", "rocksdb"])
def make(request: Any, tmp_path: Path) -> Iterator[Make]:
    made: list[Fleet] = []

    def fleet(visits: Visits, *, partitions: int = 2, **settings: Any) -> Fleet:
        one = Fleet(visits.app, tmp_path, partitions=partitions, backend=request.param, **settings)
        made.append(one)
        return one

    yield fleet
    for one in made:
        one.close()


def declared_anew(fleet: Fleet, visits: Visits) -> None:
    """The same service with another declaration: it is stopped, and started on the same cluster and disk."""
    for name in list(fleet.workers):
        fleet.leave(name)
    fleet.app, fleet.topology = visits.app, visits.app.topology()


def without_disk(fleet: Fleet) -> None:
    shutil.rmtree(fleet.settings.state_dir, ignore_errors=True)


def send(fleet: Fleet, visits: Visits, keys: list[str] = KEYS, value: int = 1) -> None:
    fleet.send(visits.source, keys, value)
    fleet.settle()


def counts(fleet: Fleet, store: str) -> dict[str, int]:
    """What is to be seen."""
    return {
        key.decode(): value
        for worker in fleet.workers.values()
        for task in worker.tasks.values()
        for key, value in task.stores[store].scan()
    }


def idle(fleet: Fleet, seconds: float) -> None:
    """Time goes on without records."""
    fleet.clock.advance(seconds)
    fleet.step(times=6, seconds=0.6)
    fleet.settle()


def plain(fleet: Fleet, store: str) -> dict[tuple[int, bytes], bytes]:
    """What the changelog has, without times."""
    found = {}
    for record in fleet.cluster.records(f"visits-{store}-changelog"):
        assert record.key is not None
        found.pop((record.partition, record.key), None)
        if record.value is not None:
            timed = form_of(record.headers) != PLAIN
            found[record.partition, record.key] = record.value[STAMP:] if timed else record.value
    return found


def check(fleet: Fleet, *, exact: bool = True) -> None:
    """Stores are their changelogs, and each index is what its store says; or (not `exact`) has that at least."""
    for name in ("n", "seen"):
        timed = any(spec.name == name and spec.ttl for part in fleet.topology.parts for spec in part.stores)
        values = {key: raw[STAMP:] if timed else raw for key, raw in fleet.stores(name).items()}
        assert values == plain(fleet, name)
        for worker in fleet.workers.values():
            for task in worker.tasks.values():
                store = task.stores[name]
                if isinstance(store, TimedStore) and store.index is not None:
                    entries = [(stamp_of(raw), key) for key, raw in task.backend.scan(name)]
                    expected = {store.index.entry(stamp, key) for stamp, key in entries if stamp != NEVER}
                    indexed = {key for key, _ in task.backend.scan(index_of(name))}
                    assert indexed == expected if exact else indexed >= expected


def test_state_goes_where_no_records_come(make: Make) -> None:
    visits = Visits()
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits)
    idle(fleet, 50)
    assert len(counts(fleet, "n")) == len(counts(fleet, "seen")) == len(KEYS)
    offsets = fleet.committed("in")
    idle(fleet, 15)
    assert fleet.stores("n") == fleet.changelog("n") == fleet.stores("seen") == fleet.changelog("seen") == {}
    assert fleet.committed("in") == offsets
    check(fleet)
    commits = fleet.workers["a"].commits
    idle(fleet, 200)
    assert fleet.workers["a"].commits == commits  # nothing is left to do
    send(fleet, visits)
    assert fleet.outputs(visits.out) == {key: [1, 1] for key in KEYS}


@pytest.mark.parametrize("end", ["leave", "crash"])
@pytest.mark.parametrize("disk", [True, False], ids=["disk", "no disk"])
def test_times_live_through_a_restart(make: Make, end: str, disk: bool) -> None:
    visits = Visits()
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits, KEYS)
    fleet.clock.advance(40)
    send(fleet, visits, KEYS[:4])
    getattr(fleet, end)("a")
    if not disk:
        without_disk(fleet)
    fleet.clock.advance(30)
    fleet.start("a")
    fleet.settle()
    assert counts(fleet, "n") == counts(fleet, "seen") == dict.fromkeys(KEYS[:4], 2)
    idle(fleet, 5)
    check(fleet)
    assert len(fleet.changelog("n")) == 4
    send(fleet, visits)
    assert fleet.outputs(visits.out) == {key: [1, 2, 3] if key in KEYS[:4] else [1, 1] for key in KEYS}


def test_a_task_that_moves_takes_its_times_along(make: Make) -> None:
    visits = Visits()
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits)
    fleet.clock.advance(30)
    fleet.start("b")
    fleet.settle()
    assert {len(worker.tasks) for worker in fleet.workers.values()} == {1}
    send(fleet, visits, KEYS[:6])
    fleet.clock.advance(40)
    fleet.leave("a")
    fleet.settle()
    assert counts(fleet, "n") == dict.fromkeys(KEYS[:6], 2)
    idle(fleet, 5)
    check(fleet)


def test_a_sweep_is_noticed_by_the_worker_that_had_the_task_before(make: Make) -> None:
    """It moves no offset: by its offsets the state of the first worker would still be current."""
    visits = Visits()
    fleet = make(visits, partitions=1)
    fleet.start("a")
    send(fleet, visits)
    fleet.expire("a")
    fleet.start("b")
    fleet.settle("b")
    offsets = fleet.committed("in")
    fleet.clock.advance(70)
    fleet.step("b", times=6, seconds=0.6)
    fleet.settle("b")
    assert fleet.changelog("n") == {} and fleet.committed("in") == offsets
    fleet.leave("b")
    fleet.settle("a")
    assert fleet.stores("n") == fleet.stores("seen") == {}
    idle(fleet, 2)  # entries of the index whose keys are gone go when their place is due
    check(fleet)


def test_a_crash_before_the_sweep_is_committed_takes_it_back(make: Make) -> None:
    visits = Visits()
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits)
    for error in (AbortRequired, ProducerLost, AbortRequired):
        fleet.cluster.fail_next("commit", error("planned"))
    fleet.clock.advance(70)
    fleet.step(times=30, seconds=0.6)
    fleet.settle()
    idle(fleet, 1)
    assert fleet.changelog("n") == {}
    check(fleet)


class Carts:
    """What each key was seen with, in a dict and in a list; with this TTL."""

    def __init__(self, ttl: TTL | None) -> None:
        self.app = kstream.App("visits")
        self.source = self.app.topic("in", key=str, value=int)
        self.out = self.app.topic("out", key=str, value=int)
        each = self.app.table("each", key=str, value=dict[str, int], default=dict, ttl=ttl)
        last = self.app.table("last", key=str, value=list[int], default=list, ttl=ttl)

        @self.app.agent(self.source)
        def see(value: int, ctx: kstream.Context[str]) -> None:
            all, values = each[ctx.key], last[ctx.key]
            all[f"v{value}"] = all.get(f"v{value}", 0) + 1
            values.append(value)
            each[ctx.key], last[ctx.key] = all, values


EACH = kstream.TTL(minutes=1, per="entry")


@pytest.mark.parametrize("end", ["leave", "crash"])
@pytest.mark.parametrize("disk", [True, False], ids=["disk", "no disk"])
def test_times_of_entries_live_through_a_restart(make: Make, end: str, disk: bool) -> None:
    visits: Any = Carts(EACH)
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits, KEYS, 1)
    fleet.clock.advance(40)
    send(fleet, visits, KEYS[:4], 2)
    getattr(fleet, end)("a")
    if not disk:
        without_disk(fleet)
    fleet.clock.advance(10)
    fleet.start("a")
    fleet.settle()
    assert counts(fleet, "each") == {key: {"v1": 1, "v2": 1} if key in KEYS[:4] else {"v1": 1} for key in KEYS}
    fleet.clock.advance(10)
    fleet.cluster.fail_next("commit", AbortRequired("planned"))
    send(fleet, visits, KEYS[:1], 2)
    assert counts(fleet, "each") == {key: {"v2": 1 + (key == KEYS[0])} for key in KEYS[:4]}
    assert counts(fleet, "last") == {key: [2] * (1 + (key == KEYS[0])) for key in KEYS[:4]}
    idle(fleet, 5)
    assert fleet.changelog("each").keys() == {raw for raw in fleet.changelog("each") if raw[1].decode() in KEYS[:4]}
    assert len(fleet.changelog("each")) == len(fleet.changelog("last")) == 4
    idle(fleet, 100)
    assert fleet.changelog("each") == fleet.changelog("last") == fleet.stores("each") == fleet.stores("last") == {}


def test_a_ttl_per_entry_is_put_on_and_taken_off_state_that_is_there(make: Make) -> None:
    visits: Any = Carts(None)
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits, ["k"], 1)
    fleet.clock.advance(1000)
    declared_anew(fleet, again := Carts(EACH))  # type: ignore[arg-type]
    fleet.start("a")
    send(fleet, again, ["k"], 2)  # type: ignore[arg-type]
    idle(fleet, 70)
    assert counts(fleet, "each") == {"k": {"v1": 1}} and counts(fleet, "last") == {"k": [1]}
    send(fleet, again, ["k"], 3)  # type: ignore[arg-type]
    declared_anew(fleet, again := Carts(MINUTE))  # type: ignore[arg-type]
    fleet.start("a")
    fleet.settle()
    assert counts(fleet, "each") == {"k": {"v1": 1, "v3": 1}}
    declared_anew(fleet, again := Carts(EACH))  # type: ignore[arg-type]
    fleet.start("a")
    fleet.settle()
    assert counts(fleet, "last") == {"k": [1, 3]}
    declared_anew(fleet, again := Carts(None))  # type: ignore[arg-type]
    fleet.start("a")
    send(fleet, again, ["k"], 3)  # type: ignore[arg-type]
    idle(fleet, 1000)
    assert counts(fleet, "each") == {"k": {"v1": 1, "v3": 2}} and counts(fleet, "last") == {"k": [1, 3, 3]}


def test_event_time_is_that_of_the_commit_after_a_restart(make: Make) -> None:
    """A record that only moves time on writes nothing: without the time in the commit, what had expired by it would be
    there again after a restart."""
    visits = Visits(kstream.TTL(seconds=10, time="event", cleanup=()), event=True)
    fleet = make(visits, partitions=1)
    fleet.start("a")
    send(fleet, visits, ["x"], 100_000)
    send(fleet, visits, ["y"], 115_000)
    for _ in range(2):
        fleet.leave("a")
        without_disk(fleet)
        fleet.start("a")
        fleet.settle()
        assert counts(fleet, "n") == {"y": 1}
    (said,) = {decode(text, at) for at, (_, text) in fleet.cluster.group("visits").offsets.items()}
    assert said.event_time == 115_000
    send(fleet, visits, ["x"], 101_000)  # out of order: time does not go back
    assert fleet.outputs(visits.out)["x"] == [1, 1]


def test_event_time_moves_with_records_not_with_the_clock(make: Make) -> None:
    visits = Visits(kstream.TTL(seconds=10, time="event"), event=True)
    fleet = make(visits, partitions=1)
    fleet.start("a")
    send(fleet, visits, ["x"], 100_000)
    idle(fleet, 3600)
    assert counts(fleet, "n") == {"x": 1}
    send(fleet, visits, ["y"], 111_000)
    idle(fleet, 2)
    assert counts(fleet, "n") == counts(fleet, "seen") == {"y": 1}
    assert len(fleet.changelog("n")) == 1
    check(fleet)


def test_the_wall_clock_that_is_set_back_over_a_restart(make: Make) -> None:
    visits = Visits()
    fleet = make(visits, partitions=1)
    fleet.start("a")
    fleet.clock.advance(1000)
    send(fleet, visits)
    fleet.leave("a")
    fleet.clock._elapsed -= 900.0  # another machine, whose clock is behind
    fleet.start("a")
    send(fleet, visits, KEYS[:1])
    assert fleet.outputs(visits.out)["k0"] == [1, 2]
    idle(fleet, 200)
    assert len(counts(fleet, "n")) == len(KEYS)  # time stands until the clock has caught up
    idle(fleet, 800)
    assert counts(fleet, "n") == {}


@pytest.mark.parametrize("kind", ["wall", "event"])
def test_a_committed_time_that_is_far_ahead_is_told_once(
    make: Make, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        return [line for line in lines if "ahead of this machine's clock" in line]

    visits = Visits(kstream.TTL(minutes=1, time=kind), event=True)
    fleet = make(visits, partitions=1)
    fleet.start("a")
    fleet.clock.advance(1000)
    send(fleet, visits, KEYS, int(fleet.clock.time() * 1000))
    fleet.leave("a")
    fleet.clock._elapsed -= 50.0
    fleet.start("a")
    fleet.settle()
    assert not said()
    fleet.leave("a")
    fleet.clock._elapsed -= 900.0
    fleet.start("a")
    fleet.settle()
    (line,) = said()
    assert line.startswith(f"task {fleet.task('a', 0).name}: the {kind} time of its state") and " is 9" in line
    restores = sum(fleet.workers["a"].restorer.durations.counts)
    fleet.cluster.fail_next("commit", ProducerLost("planned"))
    send(fleet, visits, KEYS, int(fleet.clock.time() * 1000))
    assert sum(fleet.workers["a"].restorer.durations.counts) > restores
    assert len(said()) == 1


# ---- TTL on state that is there


@pytest.mark.parametrize("how", ["restart", "restore", "rebalance"])
@pytest.mark.parametrize("existing", ["from_next_write", "retroactive"])
def test_ttl_is_put_on_state_that_is_there(make: Make, how: str, existing: Any) -> None:
    before = Visits(None)
    fleet = make(before)
    fleet.start("a")
    send(fleet, before)
    timed = Visits(replace_ttl(existing=existing))
    again(fleet, timed, how)
    fleet.settle()
    send(fleet, timed, KEYS[:3])
    assert fleet.outputs(timed.out) == {key: [1, 2] if key in KEYS[:3] else [1] for key in KEYS}
    idle(fleet, 30)
    check(fleet)
    idle(fleet, 40)
    left = [] if existing == "retroactive" else KEYS[3:]
    assert counts(fleet, "n") == counts(fleet, "seen") == dict.fromkeys(left, 1)
    check(fleet)


@pytest.mark.parametrize("how", ["restart", "restore", "rebalance"])
def test_ttl_is_changed_on_state_that_is_there(make: Make, how: str) -> None:
    visits = Visits()
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits)
    longer = Visits(kstream.TTL(hours=1))
    again(fleet, longer, how)
    idle(fleet, 100)
    assert counts(fleet, "n") == dict.fromkeys(KEYS, 1)
    send(fleet, longer, KEYS[:2])
    shorter = Visits(kstream.TTL(seconds=20))
    again(fleet, shorter, how)
    fleet.settle()
    assert counts(fleet, "n") == dict.fromkeys(KEYS[:2], 2)
    idle(fleet, 60)
    assert fleet.stores("n") == fleet.changelog("n") == {}


@pytest.mark.parametrize("how", ["restart", "restore", "rebalance"])
def test_ttl_is_taken_off_state_that_is_there(make: Make, how: str) -> None:
    visits = Visits()
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits)
    off = Visits(None)
    again(fleet, off, how)
    idle(fleet, 500)
    assert counts(fleet, "n") == dict.fromkeys(KEYS, 1)
    send(fleet, off, KEYS)
    assert fleet.outputs(off.out) == {key: [1, 2] for key in KEYS}
    assert set(fleet.changelog("n").values()) == {b"2"}
    check(fleet)


def test_from_the_clock_to_event_time(make: Make) -> None:
    visits = Visits(event=True)
    fleet = make(visits, partitions=1)
    fleet.start("a")
    send(fleet, visits, KEYS, 1000)
    by_event = Visits(kstream.TTL(seconds=10, time="event"), event=True)
    again(fleet, by_event, "restart")
    send(fleet, by_event, KEYS[:1], 1_000_000)
    send(fleet, by_event, KEYS[1:2], 2_000_000)
    idle(fleet, 1)
    assert counts(fleet, "n") == dict.fromkeys(KEYS[2:], 1) | {"k1": 2}


BY_EVENT = kstream.TTL(minutes=1, time="event", cleanup=())


@pytest.mark.parametrize("how", ["restart", "restore", "rebalance"])
@pytest.mark.parametrize("meanwhile", [None, BY_EVENT], ids=["off", "event"])
def test_ttl_comes_back_after_another_declaration(make: Make, how: str, meanwhile: TTL | None) -> None:
    """What was written meanwhile has no time of the clock, and the index of before knows nothing of it."""
    visits = Visits()
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits)
    other = Visits(meanwhile)
    again(fleet, other, how)
    send(fleet, other, KEYS[:2])
    back = Visits()
    again(fleet, back, how)
    check(fleet)
    assert counts(fleet, "n") == counts(fleet, "seen") == dict.fromkeys(KEYS, 1) | dict.fromkeys(KEYS[:2], 2)
    send(fleet, back, KEYS[1:3])
    assert fleet.outputs(back.out) == {key: list(range(1, 2 + (key in KEYS[:2]) + (key in KEYS[1:3]))) for key in KEYS}
    idle(fleet, 70)
    idle(fleet, 10)
    left = [key for key in KEYS[:2] if key not in KEYS[1:3]]
    assert counts(fleet, "n") == counts(fleet, "seen") == dict.fromkeys(left, 2)
    check(fleet)


@pytest.mark.parametrize("flushed", [True, False], ids=["flushed", "not flushed"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 10, 20])
def test_ttl_comes_back_after_a_crash_on_the_way_off(tmp_path: Path, steps: int, flushed: bool) -> None:
    """Its index is dropped, its store is rebuilt or not, records were counted or not."""
    visits = Visits()
    fleet = Fleet(visits.app, tmp_path, partitions=1, backend="rocksdb")
    fleet.start("a")
    send(fleet, visits)
    other = Visits(None)
    declared_anew(fleet, other)
    fleet.send(other.source, KEYS[:2], 1)
    fleet.start("a")
    fleet.step(times=steps)
    for task in fleet.workers["a"].tasks.values():
        if flushed and task.state is TaskState.RUNNING:
            task.backend.flush()
    fleet.crash("a")
    back = Visits()
    declared_anew(fleet, back)
    fleet.start("a")
    fleet.settle()
    check(fleet)
    assert fleet.outputs(back.out) == {key: [1, 2] if key in KEYS[:2] else [1] for key in KEYS}
    send(fleet, back, KEYS[1:])
    idle(fleet, 70)
    idle(fleet, 10)
    assert set(counts(fleet, "n")) <= {"k0"}
    check(fleet)
    fleet.close()


def test_a_sweep_that_is_added_rebuilds_the_store_and_says_why(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    visits = Visits(replace_ttl(cleanup=()))
    fleet = make(visits, partitions=1)
    fleet.start("a")
    send(fleet, visits)
    fleet.clock.advance(10)
    again(fleet, Visits(), "restart")
    said = [record.getMessage() for record in caplog.records if "is rebuilt" in record.getMessage()]
    on_disk = "rocksdb" in fleet.task("a", 0).backend.kind
    assert ["its expiry index is not there, and is made with it (Sweep)" in one for one in said] == [True] * (
        2 * on_disk
    )
    check(fleet)
    idle(fleet, 60)
    assert fleet.stores("n") == fleet.changelog("n") == {}


def replace_ttl(**given: Any) -> TTL:
    return kstream.TTL(minutes=1, **given)


def again(fleet: Fleet, visits: Visits, how: str) -> None:
    """The service runs with another declaration from now on."""
    declared_anew(fleet, visits)
    if how == "restore":
        without_disk(fleet)
    fleet.start("a")
    fleet.settle()
    if how == "rebalance":
        fleet.start("b")
        fleet.settle()


# ---- the index


def test_a_crash_between_the_flushes_of_a_store_and_its_index_loses_no_entry(
    tmp_path: Path, tmp_path_factory: Any
) -> None:
    """The store's entries are on disk, those of its index are not: without the older mark they would never expire."""
    visits = Visits()
    fleet = Fleet(visits.app, tmp_path, partitions=1, backend="rocksdb")
    fleet.start("a")
    send(fleet, visits, KEYS[:2])
    backend: Any = fleet.task("a", 0).backend
    backend.flush()
    send(fleet, visits)
    for name in ("n", "seen"):
        backend._stores[name][0].flush()
    copy = tmp_path_factory.mktemp("copies") / "flushed"
    shutil.copytree(tmp_path, copy)
    fleet.crash("a")
    shutil.rmtree(tmp_path)
    shutil.copytree(copy, tmp_path)
    fleet.start("a")
    fleet.settle()
    check(fleet, exact=False)
    idle(fleet, 70)
    assert fleet.stores("n") == fleet.changelog("n") == {}
    idle(fleet, 2)
    check(fleet)
    fleet.close()


def test_a_steady_turnover_of_keys_leaves_disk_changelog_and_index_flat(tmp_path: Path) -> None:
    visits = Visits(kstream.TTL(seconds=10))
    fleet = Fleet(visits.app, tmp_path, partitions=1, backend="rocksdb")
    fleet.start("a")
    sizes = []
    for turn in range(30):
        fleet.send(visits.source, [f"{turn}-{i}" for i in range(100)])
        fleet.clock.advance(2.0)
        fleet.settle()
        backend = fleet.task("a", 0).backend
        fleet.cluster.compact("visits-n-changelog")
        live = fleet.task("a", 0).stores["n"]
        assert isinstance(live, TimedStore)
        sizes.append(
            (
                sum(1 for _ in backend.scan("n")),
                sum(1 for _ in backend.scan(index_of("n"))),
                len(fleet.changelog("n")),
                len(live._stamps),
            )
        )
    most = [max(one) for one in zip(*sizes[10:], strict=True)]
    assert most[0] <= 800 and most[:3] == [most[0]] * 3 and most[3] <= 2 * most[0]
    fleet.close()


# ---- records and forms


def test_a_changelog_record_says_its_form(make: Make) -> None:
    visits = Visits()
    fleet = make(visits)
    fleet.start("a")
    send(fleet, visits, ["x"])
    (record,) = fleet.cluster.records("visits-n-changelog")
    assert list(record.headers or ()) == [(HEADER, b"wall")]
    assert record.value is not None and record.value[STAMP:] == b"1"
    now = int(fleet.clock.time() * 1000)
    assert now - 5000 <= stamp_of(record.value) <= now


def test_a_form_of_a_later_version_stops_the_task_by_name(make: Make) -> None:
    visits = Visits(None)
    fleet = make(visits)
    fleet.cluster.append("visits-n-changelog", b"w", b"1", partition=0)
    fleet.cluster.append("visits-n-changelog", b"x", b"1", partition=0, headers=[(HEADER, b"versioned")])
    fleet.start("a")
    fleet.step(times=20)
    tasks = {task.partition: task for task in fleet.workers["a"].tasks.values()}
    assert (tasks[0].state, tasks[1].state) == (TaskState.FAILED, TaskState.RUNNING)
    text = str(tasks[0].error)
    assert f"task {tasks[0].name} stopped: the record of changelog visits-n-changelog[0] at offset 1" in text
    assert "later version" in text


def test_a_steady_commit_is_numbered(make: Make) -> None:
    visits = Visits(replace_ttl())
    fleet = make(visits, partitions=1)
    fleet.start("a")
    for number in range(1, 4):
        send(fleet, visits, ["x"])
        found = {decode(text, at).commit for at, (_, text) in fleet.cluster.group("visits").offsets.items()}
        assert found == {number}
