"""Records that fail late: at the commit, by the broker, or by leaving the program. One task stops, no other does."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import CodecError, ProcessingError, TopicError
from kstream.partitioning import partition_of
from kstream.runtime.task.states import TaskState
from unit.runtime.harness import Fleet

DAY = 86_400_000
BAD = 13

Declare = Callable[[kstream.App, "kstream.Topic[str, int]"], None]


def keyless_to_compacted(app: kstream.App, source: Any) -> None:
    sink = app.topic("sink", key=str, value=int, config={"cleanup.policy": "compact"})

    @app.agent(source, to=sink)
    def agent(n: int, ctx: kstream.Context[str]) -> Any:
        return kstream.Record(None if n == BAD else ctx.key, n)


def of_tomorrow(app: kstream.App, source: Any) -> None:
    sink = app.topic("sink", key=str, value=int)

    @app.agent(source, to=sink)
    def agent(n: int, ctx: kstream.Context[str]) -> Any:
        return kstream.Record(ctx.key, n, timestamp=ctx.timestamp + (9000 * DAY if n == BAD else 0))


def of_tomorrow_behind_a_count(app: kstream.App, source: Any) -> None:
    late = app.topic("late", key=str, value=int, config={"message.timestamp.after.max.ms": str(2**62)})

    @app.agent(source, to=late)
    def agent(n: int, ctx: kstream.Context[str]) -> Any:
        return kstream.Record(ctx.key, n, timestamp=ctx.timestamp + (9000 * DAY if n == BAD else 0))

    sink = app.topic("sink", key=str, value=int)
    app.stream(late).group_by_key(name="again").count(name="n").to(sink)


def into_another_partition(app: kstream.App, source: Any) -> None:
    sink = app.topic("sink", key=str, value=int)

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        ctx.send(sink, n, partition=99 if n == BAD else 0)


def too_large_for_the_client(app: kstream.App, source: Any) -> None:
    table = app.table("notes", key=str, value=bytes)

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        if n <= BAD:  # a later value of the key, in the same commit, would take its place
            table[ctx.key] = os.urandom(2_000_000 if n == BAD else 10)


def too_large_for_the_changelog(app: kstream.App, source: Any) -> None:
    table = app.table("notes", key=str, value=bytes, changelog={"max.message.bytes": "10000"})

    @app.agent(source)
    async def agent(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> None:
        async for n in stream:
            if n <= BAD:
                table[ctx.key] = os.urandom(50_000 if n == BAD else 10)


def too_large_for_the_sink(app: kstream.App, source: Any) -> None:
    sink = app.topic("sink", key=str, value=bytes, config={"max.message.bytes": "10000"})
    app.stream(source).map(lambda n: os.urandom(50_000 if n == BAD else 10), value=bytes).to(sink)


def leaves_a_function(app: kstream.App, source: Any) -> None:
    app.stream(source).map(lambda n: sys.exit(3) if n == BAD else n, value=int).to(
        app.topic("sink", value=int, key=str)
    )


def leaves_an_async_agent(app: kstream.App, source: Any) -> None:
    @app.agent(source, to=app.topic("sink", key=str, value=int))
    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            if n == BAD:
                sys.exit(0)
            yield n


def leaves_a_fold(app: kstream.App, source: Any) -> None:
    def fold(total: int, n: int) -> int:
        if n == BAD:
            sys.exit("enough")
        return total + n

    app.stream(source).group_by_key().aggregate(int, fold, name="sums", emit="commit").to(
        app.topic("sink", key=str, value=int)
    )


CASES: dict[str, tuple[Declare, str, tuple[str, ...]]] = {
    "no key for a compacted topic": (keyless_to_compacted, "in", ("sink", "INVALID_RECORD", "without a key")),
    "a time out of bounds": (of_tomorrow, "in", ("sink", "INVALID_TIMESTAMP")),
    "the same behind a count": (of_tomorrow_behind_a_count, "late", ("sink", "INVALID_TIMESTAMP")),
    "a partition that is not there": (into_another_partition, "in", ("sink[99]", "no such partition")),
    "larger than the client takes": (
        too_large_for_the_client,
        "in",
        ("notes-changelog", "2,000,0", "bad", "the producer takes 1,000,000 bytes"),
    ),
    "larger than the changelog takes": (
        too_large_for_the_changelog,
        "in",
        ("notes-changelog", "50,0", "bad", "takes 10,000 bytes"),
    ),
    "larger than the sink takes": (too_large_for_the_sink, "in", ("sink", "50,0", "topic sink takes 10,000 bytes")),
    "a function that leaves": (leaves_a_function, "in", ("SystemExit: 3",)),
    "an async agent that leaves": (leaves_an_async_agent, "in", ("SystemExit", "0")),
    "a fold that leaves": (leaves_a_fold, "in", ("SystemExit: enough",)),
}


class Beside:
    """The app of a case, with another sub-topology beside it in the same worker."""

    def __init__(self, directory: Path, declare: Declare, guarantee: str) -> None:
        self.app = kstream.App("refused")
        self.source = self.app.topic("in", key=str, value=int)
        declare(self.app, self.source)
        self.other, self.out = self.app.topic("other", key=str, value=int), self.app.topic("out", key=str, value=int)
        self.app.stream(self.other).group_by_key().count(name="beside").to(self.out)
        self.fleet = Fleet(self.app, directory, partitions=2, processing_guarantee=guarantee)
        self.good = next(f"k{i}" for i in range(9) if partition_of(b"k%d" % i, 2) == 1)
        self.bad = next(f"bad{i}" for i in range(9) if partition_of(b"bad%d" % i, 2) == 0)


@pytest.fixture(params=["exactly_once", "at_least_once"])
def guarantee(request: Any) -> Iterator[str]:
    yield request.param


@pytest.mark.parametrize("case", CASES)
def test_it_stops_its_task_and_no_other(tmp_path: Path, case: str, guarantee: str) -> None:
    declare, topic, told = CASES[case]
    beside = Beside(tmp_path, declare, guarantee)
    fleet = beside.fleet
    worker = fleet.start("a")
    fleet.settle()
    for n in range(40):
        fleet.send(beside.source, [beside.bad], n)  # one of them is 13
        fleet.send(beside.source, [beside.good], 100 + n)
        fleet.send(beside.other, ["x", "y"])
    for _ in range(200):
        fleet.step("a", seconds=0.02)
        failed = [task for task in worker.tasks.values() if task.state is TaskState.FAILED]
        if failed:
            break
    (task,) = failed
    error = task.error
    assert isinstance(error, ProcessingError)
    assert (error.topic, error.partition) == (topic, 0)
    assert error.offset == BAD, str(error)
    for word in told:
        assert word in str(error)

    aborts, restarts = worker.aborts, worker.measures.producer_restarts
    for _ in range(120):  # it is tried again some times
        fleet.send(beside.other, ["x"])
        fleet.step("a", seconds=0.25)
    assert task.state in (TaskState.FAILED, TaskState.RESTORING, TaskState.RUNNING)
    outputs = fleet.outputs(beside.out)["x"]
    assert outputs[-120:] == list(range(outputs[-120], outputs[-120] + 120)), "once each"
    if guarantee == "exactly_once":  # else the first failure may have others count twice, the later ones not
        assert outputs == list(range(1, 161))
    assert fleet.committed(topic)[0] == BAD, "the good ones before it are committed"
    tries = task.measures.retries
    assert 3 <= tries <= 10
    assert worker.aborts - aborts <= tries, "a try takes back one transaction at most, its own"
    assert worker.measures.producer_restarts - restarts <= tries
    fleet.close()


def test_a_user_who_may_not_ask_for_the_limit_hears_of_the_refusal_all_the_same(tmp_path: Path) -> None:
    """The figure is missing then, and what the refusal says stands: topic, key, size, and which settings to look at."""
    beside = Beside(tmp_path, too_large_for_the_sink, "exactly_once")
    fleet = beside.fleet
    worker = fleet.start("a")
    for n in range(BAD + 1):
        fleet.send(beside.source, [beside.bad], n)
    error = TopicError("this user may not DESCRIBE_CONFIGS topic sink")
    struck = fleet.cluster.faults.plan("admin.topic_configs", error)
    failed: list[Any] = []
    while not failed:
        fleet.step("a", seconds=0.02)
        failed = [task for task in worker.tasks.values() if task.state is TaskState.FAILED]
    said = str(failed[0].error)
    assert struck.struck and f"in[0] offset {BAD}: " in said and "record for sink" in said and "50,0" in said
    assert "max.message.bytes" in said and "10,000" not in said
    fleet.close()


def test_a_value_that_cannot_be_encoded_names_its_record(tmp_path: Path) -> None:
    class Odd:
        pass

    def declare(app: kstream.App, source: Any) -> None:
        table = app.table("odd", key=str, value=Any)

        @app.agent(source)
        def agent(n: int, ctx: kstream.Context[str]) -> None:
            if n <= BAD:
                table[ctx.key] = Odd() if n == BAD else n

    beside = Beside(tmp_path, declare, "exactly_once")
    fleet = beside.fleet
    worker = fleet.start("a")
    for n in range(40):
        fleet.send(beside.source, [beside.bad], n)
    for _ in range(200):
        fleet.step("a", seconds=0.02)
    (task,) = [task for task in worker.tasks.values() if task.error]
    assert isinstance(task.error, ProcessingError)
    assert task.error.offset == BAD
    assert isinstance(task.error.__cause__, CodecError)
    assert "'odd'" in str(task.error) and beside.bad in str(task.error)
    assert fleet.committed("in")[0] == BAD
    fleet.close()


def test_what_the_broker_takes_later_goes_on(tmp_path: Path) -> None:
    """Not allowed for a while: nothing is lost, and nothing twice."""

    def declare(app: kstream.App, source: Any) -> None:
        app.stream(source).to(app.topic("sink", key=str, value=int))

    beside = Beside(tmp_path, declare, "exactly_once")
    fleet = beside.fleet
    worker = fleet.start("a")
    fleet.settle()
    fleet.cluster.deny("sink", write=True)
    fleet.send(beside.source, [beside.bad], 1)
    fleet.send(beside.source, [beside.bad], 2)
    for _ in range(60):
        fleet.step("a", seconds=0.05)
    (task,) = [task for task in worker.tasks.values() if task.state is TaskState.FAILED]
    assert "TOPIC_AUTHORIZATION_FAILED" in str(task.error)
    assert "sink" in str(task.error)
    fleet.cluster.deny("sink")
    fleet.settle()
    for _ in range(60):
        fleet.step("a", seconds=0.3)
    assert [int(record.value or b"") for record in fleet.cluster.records("sink")] == [1, 2]
    assert task.state is TaskState.RUNNING
    fleet.close()


@pytest.mark.parametrize("how", ["denied", "deleted"])
def test_a_changelog_that_takes_nothing_is_no_records_fault(tmp_path: Path, how: str) -> None:
    """With dead letters for whatever fails, each record of the topic would become one, good as it is."""
    app = kstream.App("svc", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int)
    table = app.table("notes", key=str, value=int)

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        table[ctx.key] = n

    plain, out = app.topic("plain", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(plain).to(out)
    fleet = Fleet(app, tmp_path, restart_jitter=0.0)
    worker = fleet.start("a")
    fleet.send(source, [f"k{n}" for n in range(30)])
    fleet.settle()
    if how == "denied":
        fleet.cluster.deny("svc-notes-changelog", write=True)
    else:
        fleet.cluster.delete_topic("svc-notes-changelog")
    fleet.send(source, [f"k{n}" for n in range(30)])
    said: dict[str, str] = {}
    for _ in range(300):
        fleet.step(seconds=0.05)
        said |= {task.name: str(task.error) for task in worker.tasks.values() if task.state is TaskState.FAILED}
    assert said.keys() == {f"in/{partition}" for partition in range(4)}, said
    assert all("svc-notes-changelog" in line for line in said.values()), said
    assert how == "denied" or all("reset" in line for line in said.values()), said
    assert not fleet.cluster.records("svc-dead-letters")
    fleet.send(plain, ["a", "b"])
    fleet.step(times=100, seconds=0.05)
    assert fleet.outputs(out) == {"a": [1], "b": [1]}
    if how == "denied":
        fleet.cluster.deny("svc-notes-changelog")
        fleet.step(times=400, seconds=0.1)
        assert fleet.stores("notes") == fleet.changelog("notes")
    fleet.close()


@pytest.mark.parametrize("how", ["at once", "taken back"])
@pytest.mark.parametrize(
    ("policy", "lost"),
    [(kstream.DeadLetter("letters"), "letters"), (kstream.RetryLater([1]), "refused-in-retry-1s")],
    ids=["dead letters", "a delay topic"],
)
def test_a_letter_that_cannot_be_written_holds_up_nothing_but_what_comes_behind_it(
    tmp_path: Path, policy: Any, lost: str, how: str
) -> None:
    """What is before its record is committed, and its tries, which it has alone, take back nobody's work."""

    def declare(app: kstream.App, source: Any) -> None:
        def call(n: int, *_: Any) -> int:
            if n == 13 and not mended:
                raise ValueError(n)
            return n

        def with_context(n: int, ctx: kstream.Context[str]) -> int:
            return call(n)

        sink = app.topic("sink", key=str, value=int)
        app.stream(source, on_error=[policy]).map(with_context if how == "taken back" else call, value=int).to(sink)

    mended: list[bool] = []
    beside = Beside(tmp_path, declare, "exactly_once")
    fleet = beside.fleet
    worker = fleet.start("a")
    fleet.settle()
    fleet.cluster.deny(lost, write=True)
    for n in range(30):
        fleet.send(beside.source, [beside.bad], n)
        fleet.send(beside.other, ["x"])
    for _ in range(200):
        fleet.step("a", seconds=0.02)
        failed = [task for task in worker.tasks.values() if task.state is TaskState.FAILED]
        if failed:
            break
    (task,) = failed
    assert lost in str(task.error) and " offset " not in str(task.error), "no record's fault"
    assert [int(record.value or b"") for record in fleet.cluster.records("sink")] == list(range(13))
    assert fleet.committed("in")[0] == 13
    aborts = worker.aborts
    for _ in range(120):  # it is tried again some times
        fleet.send(beside.other, ["x"])
        fleet.step("a", seconds=0.25)
    assert fleet.outputs(beside.out)["x"] == list(range(1, 151))
    tries = task.measures.retries
    assert tries >= 3 and worker.aborts - aborts <= tries, "each takes back its own transaction only"
    fleet.cluster.deny(lost)
    while not fleet.cluster.records(lost):
        fleet.step("a", seconds=0.25)
    mended.append(True)
    fleet.step("a", times=40, seconds=0.25)
    found = [int(record.value or b"") for record in fleet.cluster.records("sink")]
    assert sorted(found) == [n for n in range(30) if n != 13 or lost != "letters"]
    assert [int(record.value or b"") for record in fleet.cluster.records(lost)] == [13]
    fleet.close()


@pytest.mark.parametrize(
    ("lost", "policy"),
    [("out", kstream.DeadLetter()), ("svc-g-repartition", kstream.Skip()), ("sent", kstream.RetryLater([1]))],
    ids=["an output", "a repartition topic", "ctx.send"],
)
@pytest.mark.parametrize("how", ["denied", "deleted"])
@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_an_output_that_takes_nothing_is_no_records_fault(
    tmp_path: Path, policy: Any, how: str, guarantee: str, lost: str
) -> None:
    """Nothing is set aside, the task says which topic it is, and nothing is missing once it is there again."""
    app = kstream.App("svc", on_error=[policy])
    source = app.topic("in", key=str, value=int)
    out, sent, counts = (app.topic(name, key=str, value=int) for name in ("out", "sent", "counts"))

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> int:
        ctx.send(sent, n)
        return n

    app.stream(source).group_by(lambda n: str(n % 3), key=str, name="g").count(name="c").to(counts)
    fleet = Fleet(app, tmp_path, partitions=1, processing_guarantee=guarantee)
    worker = fleet.start("a")
    for n in range(10):
        fleet.send(source, ["k"], n)
    fleet.settle()
    if how == "denied":
        fleet.cluster.deny(lost, write=True)
    else:
        fleet.cluster.delete_topic(lost)
    for n in range(10, 20):
        fleet.send(source, ["k"], n)
    said: set[str] = set()
    for _ in range(200):
        fleet.step(seconds=0.1)
        said |= {str(task.error) for task in worker.tasks.values() if task.state is TaskState.FAILED}
    written = [line for line in said if not line.startswith("task svc-g-repartition/0")]  # it may not read it either
    assert written and all(line.startswith("task in/0: ") and lost in line for line in written), said
    assert all(" offset " not in line for line in written), said
    for name, info in fleet.cluster.topics().items():
        assert not (info and name.endswith(("-dead-letters", "-retry-1s")) and fleet.cluster.records(name)), name
    assert not worker.measures.skipped
    if how == "denied":
        fleet.cluster.deny(lost)
    elif lost != "svc-g-repartition":
        fleet.cluster.create_topic(lost, 1)
    else:
        fleet.close()
        return
    fleet.step(times=400, seconds=0.3)
    if lost == "svc-g-repartition":
        again = sum(map(max, fleet.outputs(counts).values()))
        assert again == 20 if guarantee == "exactly_once" else again >= 20
    else:
        records = [int(record.value or b"") for record in fleet.cluster.records(lost)]
        if guarantee == "exactly_once":
            assert records == list(range(0 if how == "denied" else 10, 20))
        assert set(records) >= set(range(10, 20)), records
    assert all(task.state is TaskState.RUNNING for task in worker.tasks.values())
    fleet.close()


def test_each_attempt_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = kstream.App("svc")
    source = app.topic("in", key=str, value=int)
    app.stream(source).to(app.topic("out", key=str, value=int))
    fleet = Fleet(app, tmp_path, partitions=1)
    worker = fleet.start("a")
    fleet.settle()
    fleet.cluster.delete_topic("out")
    fleet.send(source, ["k"])
    fleet.step(times=200, seconds=0.1)
    (task,) = worker.tasks.values()
    lines = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert task.measures.retries >= 3
    assert len(lines) in (task.measures.retries, task.measures.retries + 1), lines
    assert all("topic out: the topic does not exist" in line and "is tried again" in line for line in lines), lines
    fleet.close()


def test_a_topic_that_the_record_chose_and_that_is_gone_is_the_records_failure(tmp_path: Path) -> None:
    """Those for other topics go on."""
    app = kstream.App("svc", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int)
    even, odd = app.topic("even", key=str, value=int), app.topic("odd", key=str, value=int)
    app.stream(source).to(lambda n: odd if n % 2 else even)
    fleet = Fleet(app, tmp_path, partitions=1)
    worker = fleet.start("a")
    fleet.settle()
    fleet.cluster.delete_topic("odd")
    for n in range(20):
        fleet.send(source, ["k"], n)
    fleet.settle()
    assert fleet.outputs(even) == {"k": list(range(0, 20, 2))}
    assert [int(one.value or b"") for one in fleet.cluster.records("svc-dead-letters")] == list(range(1, 20, 2))
    assert all(task.state is TaskState.RUNNING for task in worker.tasks.values())
    fleet.close()


def test_a_timer_is_not_skipped_because_its_output_is_gone(tmp_path: Path) -> None:
    class Later(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            ctx.timer(after=timedelta(seconds=1), clock="wall")

        def on_timer(self, timer: Any, ctx: Any) -> None:
            ctx.emit(7)

    app = kstream.App("svc", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    app.stream(source).process(Later, name="later").to(out)
    fleet = Fleet(app, tmp_path, partitions=1)
    worker = fleet.start("a")
    fleet.send(source, ["k"])
    fleet.settle()
    fleet.cluster.delete_topic("out")
    said: set[str] = set()
    for _ in range(100):
        fleet.step(seconds=0.1)
        said |= {str(task.error) for task in worker.tasks.values() if task.state is TaskState.FAILED}
    assert said and all("topic out: the topic does not exist" in line for line in said), said
    fleet.cluster.create_topic("out", 1)
    fleet.step(times=400, seconds=0.3)
    assert fleet.outputs(out) == {"k": [7]}
    fleet.close()


def _keyless(app: kstream.App, source: Any, sink: Any) -> None:
    @app.agent(source, to=sink)
    def agent(n: int, ctx: kstream.Context[str]) -> Any:
        return kstream.Record(None if n < 0 else ctx.key, abs(n))


def _ahead(app: kstream.App, source: Any, sink: Any) -> None:
    """Each further than the one before it."""

    @app.agent(source, to=sink)
    async def agent(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[Any]:
        async for n in stream:
            ahead = 9000 * DAY + 60_000 * abs(n)
            yield kstream.Record(ctx.key, abs(n), timestamp=ctx.timestamp + (ahead if n < 0 else 0))


def _behind(app: kstream.App, source: Any, sink: Any) -> None:
    @app.agent(source, to=sink)
    def agent(n: int, ctx: kstream.Context[str]) -> Any:
        return kstream.Record(ctx.key, abs(n), timestamp=ctx.timestamp - (9 * DAY + 60_000 * abs(n) if n < 0 else 0))


def _large(app: kstream.App, source: Any, sink: Any) -> None:
    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        ctx.send(sink, abs(n), headers=[("note", b"-" * 10)])
        if n < 0:
            ctx.send(sink, 0, headers=[("note", b"-")], key="x" * 1_100_000)


OFTEN = {"no key": _keyless, "a time ahead": _ahead, "a time behind": _behind, "larger than the client takes": _large}


@pytest.mark.parametrize("state", [True, False], ids=["with state", "without"])
@pytest.mark.parametrize("case", OFTEN)
def test_many_that_kafka_refuses_cost_the_search_for_one(tmp_path: Path, case: str, state: bool) -> None:
    app = kstream.App("svc", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int)
    config = {"cleanup.policy": "compact", "message.timestamp.before.max.ms": str(DAY)}
    sink = app.topic("sink", key=str, value=int, config=config)
    OFTEN[case](app, source, sink)
    if state:
        seen = app.table("seen", key=str, value=int, default=int)

        @app.agent(source)
        def counts(n: int, ctx: kstream.Context[str]) -> None:
            seen[ctx.key] += 1

    fleet = Fleet(app, tmp_path, partitions=1)
    worker = fleet.start("a")
    fleet.settle()

    def feed(first: int) -> None:
        for n in range(first, first + 500):
            fleet.send(source, ["k"], -n if n % 10 == 3 else n)
        fleet.settle()

    feed(1)
    first = worker.aborts
    assert 0 < first <= 16
    feed(501)
    assert worker.aborts - first <= 2, "as with what fails in user code"
    fleet.step(seconds=61)
    again = worker.aborts
    feed(1001)
    assert worker.aborts - again <= 16
    if case != "larger than the client takes":  # that is known without asking
        assert worker.aborts > again, "Kafka is asked again"
    good = [n for n in range(1, 1501) if n % 10 != 3]
    assert [n for n in fleet.outputs(sink)["k"] if n] == good
    letters = fleet.cluster.records("svc-dead-letters")
    assert [-int(one.value or b"") for one in letters] == [n for n in range(1, 1501) if n % 10 == 3]
    if state:
        assert fleet.stores("seen") == fleet.changelog("seen") == {(0, b"k"): b"%d" % len(good)}
    fleet.close()


@pytest.mark.parametrize("fails", [False, True], ids=["left out", "one stops the task"])
def test_without_state_what_kafka_refuses_has_nothing_processed_again(tmp_path: Path, fails: bool) -> None:
    """All that a record puts out is left out with it, whichever step Kafka refuses something of; the policies of that
    step decide."""
    app = kstream.App("svc")
    source = app.topic("in", key=str, value=int)
    one, other = (app.topic(name, key=str, value=int, config={"cleanup.policy": "compact"}) for name in "ab")
    plain, calls = app.topic("plain", key=str, value=int), 0
    stops = [kstream.Skip(on=(RuntimeError,))] if fails else []

    @app.agent(source, to=one, on_error=[kstream.DeadLetter()])
    def first(n: int, ctx: kstream.Context[str]) -> Any:
        nonlocal calls
        calls += 1
        return kstream.Record(None if n % 10 == 3 else ctx.key, n)

    @app.agent(source, to=other, on_error=[*stops, kstream.Skip(on=(kstream.errors.RecordRefused,))])
    def second(n: int, ctx: kstream.Context[str]) -> Any:
        if fails and n == 1995:
            raise ValueError
        return kstream.Record(None if n % 10 in (5, 8) else ctx.key, n)

    app.stream(source).to(plain)
    fleet = Fleet(app, tmp_path, partitions=1)
    worker = fleet.start("a")
    fleet.settle()
    for n in range(100):
        fleet.send(source, ["k"], n)
    fleet.settle()
    calls, aborts = 0, worker.aborts
    for n in range(100, 2000):
        fleet.send(source, ["k"], n)
    fleet.step(times=400) if fails else fleet.settle()
    end = 1995 if fails else 2000
    (task,) = worker.tasks.values()
    assert (task.error is not None) is fails
    if not fails:
        assert calls == 1900 and worker.aborts == aborts
    good = [n for n in range(end) if n % 10 not in (3, 5, 8)]
    assert [
        int(record.value or b"") for topic in (one, other, plain) for record in fleet.cluster.records(topic.name)
    ] == 3 * good
    letters = [int(record.value or b"") for record in fleet.cluster.records("svc-dead-letters")]
    assert letters == [n for n in range(end) if n % 10 == 3]
    assert worker.measures.skipped.total() == sum(n % 10 in (5, 8) for n in range(end))
    fleet.close()


def test_what_is_as_large_as_one_that_was_refused_comes_to_kafka_alone(tmp_path: Path) -> None:
    """A topic's limit counts compressed bytes: what is as large may be taken, or not. A refusal costs one abort."""
    app = kstream.App("svc", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int)
    sink = app.topic("sink", key=str, value=bytes, config={"max.message.bytes": "10000"})
    seen = app.table("seen", key=str, value=int, default=int)

    @app.agent(source, to=sink)
    def agent(n: int, ctx: kstream.Context[str]) -> bytes:
        seen[ctx.key] += 1
        if n < 0:
            return os.urandom(30_000 - 10 * n)
        return b"%d" % n + bytes(60_000 if n == 607 else 20_000 if n % 50 == 7 else 0)

    fleet = Fleet(app, tmp_path, partitions=1)
    worker = fleet.start("a")
    fleet.settle()

    def feed(first: int) -> int:
        """Returns how many transactions were aborted."""
        before = worker.aborts
        for n in range(first, first + 500):
            fleet.send(source, ["k"], -n if n % 50 == 3 else n)
        fleet.settle()
        return worker.aborts - before

    assert 0 < feed(1) <= 16 + 9
    assert feed(501) <= 10 + 9, "one for each that Kafka refuses; a search after one that it took"
    fleet.step(seconds=61)
    assert feed(1001) <= 16 + 9, "Kafka is asked again"
    good = [n for n in range(1, 1501) if n % 50 != 3]
    assert [int((one.value or b"").rstrip(b"\0")) for one in fleet.cluster.records("sink")] == good
    letters = fleet.cluster.records("svc-dead-letters")
    assert [-int(one.value or b"") for one in letters] == [n for n in range(1, 1501) if n % 50 == 3]
    assert fleet.stores("seen") == fleet.changelog("seen") == {(0, b"k"): b"%d" % len(good)}
    fleet.close()


@pytest.mark.parametrize("care", [False, True], ids=["the first", "later ones"])
def test_of_two_steps_that_write_to_one_topic_the_one_that_did_is_to_blame(tmp_path: Path, care: bool) -> None:
    """An agent's topic, and one that is chosen record by record: each has its own policy."""
    app = kstream.App("svc")
    source = app.topic("in", key=str, value=int)
    sink = app.topic("sink", key=str, value=bytes, config={"max.message.bytes": "10000"})

    @app.agent(source, to=sink, on_error=[kstream.DeadLetter("of-the-agent")])
    def agent(n: int) -> bytes:
        return os.urandom(20_000 if n % 10 == 5 else 10)

    numbers = app.stream(source, on_error=[kstream.DeadLetter("of-the-choice")])
    numbers.map(lambda n: os.urandom(20_000 if n % 10 == 7 else 10), value=bytes).to(lambda value: sink)
    fleet = Fleet(app, tmp_path, partitions=1)
    worker = fleet.start("a")
    fleet.settle()
    for first in (0, 50) if care else (0,):
        for n in range(first, first + 50):
            fleet.send(source, ["k"], n)
        fleet.settle()
    assert all(task.state is TaskState.RUNNING for task in worker.tasks.values())
    last = 100 if care else 50
    for topic, digit in (("of-the-agent", 5), ("of-the-choice", 7)):
        letters = [int(one.value or b"") for one in fleet.cluster.records(topic)]
        assert letters == list(range(digit, last, 10)), topic
    assert len(fleet.cluster.records("sink")) == 2 * last * 8 // 10
    fleet.close()


def test_what_is_tried_again_is_kafkas_to_refuse(tmp_path: Path) -> None:
    """A topic that was mended meanwhile takes it, though it refused another a moment ago."""
    app = kstream.App("svc", on_error=[kstream.Retry(3, base=5.0, jitter=0.0), kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int)
    sink = app.topic("sink", key=str, value=int, config={"cleanup.policy": "compact"})
    _keyless(app, source, sink)
    fleet = Fleet(app, tmp_path, partitions=1)
    fleet.start("a")
    fleet.send(source, ["k"], -1)
    for _ in range(200):
        fleet.step(seconds=0.3)
        if fleet.cluster.topics().get("svc-dead-letters") and fleet.cluster.records("svc-dead-letters"):
            break
    assert len(fleet.cluster.records("svc-dead-letters")) == 1
    fleet.send(source, ["k"], -2)
    fleet.step(times=4, seconds=0.3)
    fleet.cluster.configure("sink", {"cleanup.policy": "delete"})
    fleet.step(times=60, seconds=0.3)
    assert len(fleet.cluster.records("svc-dead-letters")) == 1
    assert fleet.outputs(sink) == {None: [2]}
    fleet.close()
