"""What policies make of a record that fails: left out once, with or without a dead letter, and all others there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.errors import AbortRequired, CodecError, ProcessingError, ProducerLost, TopologyError
from kstream.testing import TestDriver
from kstream.types import TopicPartition
from unit.runtime.worker.test_failures import WAYS, Declare, Poison

BAD = (0, 4, 5, 9)


def poisoned(n: int) -> None:
    if n in BAD:
        raise Poison(n)


def run(declare: Declare, call: Callable[[int], None], *policies: Any, feed: Callable[[int], bytes]) -> TestDriver:
    app = kstream.App("failing", on_error=list(policies))
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int)
    declare(app, source, out, call)
    driver = TestDriver(app, partitions=1)
    for n in range(12):
        driver.cluster.append("in", b"k%d" % (n % 3), feed(n))
    driver.commit()
    return driver


def plain(n: int) -> bytes:
    return b"%d" % n


def outputs(driver: TestDriver) -> list[int]:
    return [int(record.value or b"") for record in driver.cluster.records("out")]


def dead(driver: TestDriver, topic: str = "failing-dead-letters") -> list[bytes | None]:
    return [record.value for record in driver.cluster.records(topic)]


@pytest.mark.parametrize("policy", [kstream.Skip(), kstream.DeadLetter()], ids=["skip", "dead letter"])
@pytest.mark.parametrize("declare", WAYS)
def test_what_fails_is_left_out_and_nothing_else(declare: Declare, policy: Any) -> None:
    driver = run(declare, poisoned, policy, feed=plain)
    assert outputs(driver) == [n for n in range(12) if n not in BAD]
    assert driver.cluster.group("failing").offsets[TopicPartition("in", 0)][0] == 12
    if isinstance(policy, kstream.DeadLetter):
        assert dead(driver) == [b"%d" % n for n in BAD]
    driver.close()


@pytest.mark.parametrize("declare", WAYS)
def test_bytes_that_do_not_decode_become_dead_letters(declare: Declare) -> None:
    feed = {4: b"\xff{"}
    driver = run(
        declare, lambda n: None, kstream.DeadLetter("odd", on=(CodecError,)), feed=lambda n: feed.get(n, plain(n))
    )
    assert outputs(driver) == [n for n in range(12) if n != 4]
    (record,) = driver.cluster.records("odd")
    assert (record.key, record.value) == (b"k1", b"\xff{")
    headers = dict(record.headers or ())
    assert headers["__streams.errors.exception"] in (b"msgspec.DecodeError", b"kstream.errors.CodecError")
    assert (headers["__streams.errors.topic"], headers["__streams.errors.partition"]) == (b"in", b"0")
    assert headers["__streams.errors.offset"] == b"4"
    assert b"ColumnError" in (headers["__streams.errors.stacktrace"] or b"")
    assert headers["kstream.app"] == b"failing"
    driver.close()


def _time_of(n: int) -> Any:
    """None has no time, so much is negative, and others raise."""
    if n == 3:
        raise KeyError("at")
    if n == 4:
        sys.exit(3)
    return {1: None, 2: "noon", 5: -5, 6: 2**63}.get(n, 1000 + n)


@pytest.mark.parametrize("together", [True, False], ids=["a batch", "one by one"])
@pytest.mark.parametrize("nullable", [False, True])
def test_a_record_without_an_event_time_fails_in_phase_decode(together: bool, nullable: bool) -> None:
    """The class is the one that `on=` is given."""
    app = kstream.App("timed", on_error=[kstream.DeadLetter(phase="decode")])
    source = app.topic("in", key=str, value=int | None if nullable else int, timestamp=_time_of)  # type: ignore[arg-type]
    app.stream(source).to(app.topic("out", key=str, value=int | None if nullable else int))  # type: ignore[arg-type]
    driver = TestDriver(app, partitions=1)
    for n in range(9):
        if together:
            driver.cluster.append("in", b"k", b"%d" % n)
        else:
            driver.send(source, n, key="k")
    driver.commit()
    assert outputs(driver) == [0, 7, 8]
    found = {}
    for record in driver.cluster.records("timed-dead-letters"):
        headers = dict(record.headers or ())
        assert headers["kstream.phase"] == b"decode"
        found[int(record.value or b"")] = (headers["__streams.errors.exception"] or b"").decode()
    of_kstream = "kstream.errors.CodecError"
    assert found == {
        1: "builtins.TypeError", 2: "builtins.ValueError", 3: "builtins.KeyError", 4: "builtins.SystemExit",
        5: of_kstream, 6: of_kstream,
    }  # fmt: skip
    driver.close()


def test_a_sink_outside_fails_with_its_own_class(caplog: pytest.LogCaptureFixture) -> None:
    class Down(kstream.BatchingSink):
        def write(self, batch: Any) -> None:
            raise OSError("db")

    app = kstream.App("sinking", on_error=[kstream.DeadLetter(on=(OSError,))])
    source = app.topic("in", key=str, value=str)
    app.stream(source).sink(Down(size=1), name="s")
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, "x", key="k")
        driver.commit()
        (letter,) = driver.cluster.records("sinking-dead-letters")
    assert dict(letter.headers or ())["__streams.errors.exception"] == b"builtins.OSError"
    assert "is a dead letter now, in sinking-dead-letters: OSError: " in caplog.text


def test_sys_exit_is_left_out_too() -> None:
    driver = run(WAYS[0], lambda n: sys.exit(3) if n == 4 else None, kstream.Skip(), feed=plain)
    assert outputs(driver) == [n for n in range(12) if n != 4]
    driver.close()


async def itself(n: int) -> None:
    await asyncio.sleep(0)
    leave(n)


async def started(n: int) -> None:
    await asyncio.create_task(itself(n))


async def grouped(n: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(itself(n))
        group.create_task(asyncio.sleep(0))


async def called(n: int) -> None:
    """Not even by a task."""
    done = asyncio.get_running_loop().create_future()

    def call() -> None:
        done.set_exception(ValueError(n)) if n in BAD else done.set_result(None)
        leave(n)

    asyncio.get_running_loop().call_later(0.0, call)
    await done


def leave(n: int) -> None:
    if n in BAD:
        sys.exit(n)


@pytest.mark.parametrize("ends", [itself, started, grouped, called])
def test_sys_exit_of_an_agent_that_has_waited_is_the_failure_of_its_record(
    ends: Callable[[int], Coroutine[Any, Any, None]],
) -> None:
    """It leaves the event loop while others are given a turn, or all wait: it is not theirs, and ends no worker."""
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    @app.agent(source, to=out)
    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            await ends(n)
            yield n

    with TestDriver(app, partitions=4) as driver:
        for n in range(12):
            driver.cluster.append("in", b"k%d" % n, plain(n))
        driver.commit()
        assert sorted(outputs(driver)) == [n for n in range(12) if n not in BAD]
        assert sorted(dead(driver)) == sorted(plain(n) for n in BAD)  # type: ignore[type-var]


def test_the_first_policy_that_fits_decides() -> None:
    def call(n: int) -> None:
        if n == 3:
            raise Poison(n)
        if n == 7:
            raise ValueError(n)

    policies = [kstream.Skip(on=(Poison,)), kstream.Fail(on=(ValueError,)), kstream.DeadLetter()]
    with pytest.raises(ProcessingError) as caught:
        run(WAYS[0], call, *policies, feed=plain)
    assert caught.value.offset == 7


def test_state_has_nothing_of_what_was_left_out() -> None:
    app = kstream.App("failing", on_error=[kstream.Skip()])
    source = app.topic("in", key=str, value=int, partitions=1)
    table = app.table("seen", key=str, value=int)

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        table[ctx.key] = n
        poisoned(n)

    driver = TestDriver(app, partitions=1)
    for n in range(10):
        driver.cluster.append("in", b"k%d" % n, b"%d" % n)
    driver.commit()
    assert dict(driver.table(table)) == {f"k{n}": n for n in range(10) if n not in BAD}
    driver.close()


def test_headers_of_an_earlier_dead_letter_are_replaced() -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    app.stream(app.topic("in", key=str, value=int, partitions=1)).map(lambda n: poisoned(n) or n, value=int).to(
        app.topic("out", key=str, value=int)
    )
    driver = TestDriver(app, partitions=1)
    old = [("mine", b"1"), ("__streams.errors.offset", b"99"), ("kstream.app", b"other"), ("mine", None)]
    driver.cluster.append("in", None, b"4", timestamp=1234, headers=old)
    driver.commit()
    (record,) = driver.cluster.records("failing-dead-letters")
    assert (record.key, record.value, record.timestamp) == (None, b"4", 1234)
    names = [name for name, _ in record.headers or ()]
    assert list(record.headers or ())[:2] == [("mine", b"1"), ("mine", None)]
    assert names.count("__streams.errors.offset") == names.count("kstream.app") == 1
    assert dict(record.headers or ())["__streams.errors.offset"] == b"0"
    driver.close()


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ([kstream.Skip(), kstream.DeadLetter()], "can never decide"),
        ([kstream.Skip(on=(Exception,)), kstream.Fail(on=(ValueError,))], "can never decide"),
        ([ValueError], "is no policy"),
        (kstream.Skip(), "a list of policies"),
    ],
    ids=["behind all", "behind a base class", "no policy", "no list"],
)
def test_nonsense_is_refused(policies: Any, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        kstream.App("failing", on_error=policies)


def test_dead_letters_do_not_go_among_the_marks_on_them() -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter("failing-dead-letters-handled")])
    app.stream(app.topic("in", key=str, value=int)).peek(str)
    with pytest.raises(TopologyError, match="take another name"):
        app.topology()


@pytest.mark.parametrize("on", [("ValueError",), "ValueError", (3,), [ValueError], int])
def test_on_takes_exception_classes(on: Any) -> None:
    with pytest.raises(TopologyError, match="give an exception class, or a tuple of them"):
        kstream.Skip(on=on)


def test_one_class_is_a_tuple_of_one_as_one_phase_is() -> None:
    assert kstream.Skip(on=ValueError, phase="decode") == kstream.Skip(on=(ValueError,), phase=("decode",))
    with pytest.raises(TopologyError, match="can never decide"):
        kstream.App("failing", on_error=[kstream.Skip(on=ValueError), kstream.Fail(on=UnicodeDecodeError)])


@pytest.mark.parametrize("policy", [kstream.Retry, kstream.RetryLater])
def test_a_class_that_is_never_tried_again_is_refused_where_it_would_be(policy: Any) -> None:
    class Declined(kstream.NonRetryable):
        pass

    with pytest.raises(TopologyError, match=r"can never decide: Declined is a kstream\.NonRetryable"):
        policy(on=Declined)


def test_a_policy_is_told_as_it_is_declared() -> None:
    assert repr(kstream.Skip()) == "Skip()"
    assert repr(kstream.Retry(5, on=ConnectionError)) == "Retry(on=(ConnectionError,), attempts=5)"
    assert repr(kstream.DeadLetter("lost", phase=("decode", "encode"))) == (
        "DeadLetter(phase=('decode', 'encode'), topic='lost')"
    )


def test_what_cannot_be_encoded_at_the_commit_becomes_a_dead_letter() -> None:
    class Odd:
        pass

    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=1)
    table = app.table("odd", key=str, value=Any)

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        table[ctx.key] = Odd() if n in BAD else n

    driver = TestDriver(app, partitions=1)
    for n in range(12):
        driver.cluster.append("in", b"k%d" % n, b"%d" % n)
    driver.commit()
    assert dict(driver.table(table)) == {f"k{n}": n for n in range(12) if n not in BAD}
    assert dead(driver) == [b"%d" % n for n in BAD]
    driver.close()


def test_what_is_left_out_is_left_out_once_when_the_worker_dies_meanwhile() -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    calls: list[int] = []
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int)
    app.stream(source).map(lambda n: calls.append(n) or poisoned(n) or n, value=int).to(out)
    driver = TestDriver(app, partitions=1)
    for n in range(12):
        driver.cluster.append("in", b"k%d" % (n % 3), b"%d" % n)
    driver.process()
    driver.crash()
    driver.commit()
    assert outputs(driver) == [n for n in range(12) if n not in BAD]
    assert dead(driver) == [b"%d" % n for n in BAD]
    driver.close()


def _at_once(app: kstream.App, source: Any, out: Any) -> None:
    """It is decided upon within its batch, and nothing is aborted."""
    app.stream(source).map(lambda n: poisoned(n) or n, value=int).to(out)


def _with_care(app: kstream.App, source: Any, out: Any) -> None:
    """The first one aborts; the batch of each other is taken back."""

    @app.agent(source, to=out)
    def agent(n: int) -> int:
        poisoned(n)
        return n


def _after_a_search(app: kstream.App, source: Any, out: Any) -> None:
    """What came before it is committed by itself, and so is it."""

    @app.agent(source, to=out)
    def agent(n: int) -> Any:
        return kstream.Record(None, n) if n in BAD else n


@pytest.mark.parametrize("skip", range(3))
@pytest.mark.parametrize(
    ("error", "after"),
    [(AbortRequired("no"), False), (ProducerLost("gone"), False), (ProducerLost("gone"), True)],
    ids=["aborted", "lost before", "lost after"],
)
@pytest.mark.parametrize("form", [_at_once, _with_care, _after_a_search])
def test_a_commit_that_fails_amid_decisions_repeats_and_loses_nothing(
    form: Callable[..., None], error: Exception, after: bool, skip: int
) -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=1)
    out = app.topic("out", key=str, value=int, config={"cleanup.policy": "compact"})
    form(app, source, out)
    driver = TestDriver(app, partitions=1)
    fault = driver.cluster.faults.plan("producer.commit", error, after=after, skip=skip)
    for n in range(12):
        driver.cluster.append("in", b"k%d" % (n % 3), b"%d" % n)
        if n % 4 == 3:
            driver.commit()
    for _ in range(3):
        driver.commit()
    assert fault.struck
    assert outputs(driver) == [n for n in range(12) if n not in BAD]
    assert dead(driver) == [b"%d" % n for n in BAD]
    driver.close()


@pytest.mark.parametrize(
    "topic,why",
    [("in", "again and again"), ("failing-n-changelog", "own 'n'"), ("failing-by-repartition", "own data")],
)
def test_dead_letters_do_not_go_round_in_a_circle_nor_among_the_apps_own_data(topic: str, why: str) -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter(topic, on=(Poison,)), kstream.Skip()])
    stream = app.stream(app.topic("in", key=str, value=int, partitions=1))
    stream.group_by(lambda n: n, key=int, name="by").count(name="n")
    with pytest.raises(TopologyError, match=rf"'{topic}'.*{why}.*take another name"):
        app.topology()


def test_dead_letters_may_be_read_by_another_part_of_the_app() -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter("odd")])
    source, odd = app.topic("in", key=str, value=int, partitions=1), app.topic("odd", key=bytes, value=bytes)
    app.stream(source).map(lambda n: poisoned(n) or n, value=int).to(app.topic("out", key=str, value=int))
    told: list[bytes] = []
    app.stream(odd, on_error=[]).map(told.append, value=bytes)
    with TestDriver(app, partitions=1) as driver:
        for n in range(12):
            driver.cluster.append("in", b"k", b"%d" % n)
        driver.commit()
    assert told == [b"%d" % n for n in BAD]


def circle() -> Poison:
    """Python lets causes lead in a circle."""
    one, other = Poison("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


class Silent(Exception):
    def __str__(self) -> str:
        sys.exit(3)
        return ""


class Cancelling(Exception):
    def __str__(self) -> str:
        raise asyncio.CancelledError


class Wayward(str):
    def __getitem__(self, _: object) -> str:
        raise IndexError


class Worded(Exception):
    def __str__(self) -> str:
        return Wayward("words")


class Unasked(Exception):
    cause = property(lambda self: 1 // 0)


def nowhere() -> Exception:
    """Of a class that was made without a module."""
    return type("Nowhere", (Exception,), {"__module__": None})("lost")


ODD = {
    "causes in a circle": circle,
    "text that exits": Silent,
    "text that cancels": Cancelling,
    "text of a class of its own": Worded,
    "an attribute that fails": Unasked,
    "of no module": nowhere,
}


@pytest.mark.parametrize("declare", [WAYS[0], WAYS[-1]])
@pytest.mark.parametrize("error", ODD.values(), ids=list(ODD))
def test_odd_exceptions_are_a_records_failure_as_any_other(error: Callable[[], Exception], declare: Declare) -> None:
    def call(n: int) -> None:
        if n in BAD:
            raise error()

    driver = run(declare, call, kstream.Skip(on=(KeyError,)), kstream.DeadLetter(), feed=plain)
    assert outputs(driver) == [n for n in range(12) if n not in BAD]
    assert dead(driver) == [b"%d" % n for n in BAD]
    driver.close()


class Empty(Exception):
    """As of a library that collects what is wrong: with nothing in it, it counts as false."""

    def __len__(self) -> int:
        return 0


def late(n: int) -> int:
    try:
        return {13: 0}[n]
    except KeyError as error:
        raise Late(n) from error


class Late(kstream.NonRetryable):
    """Of a user's own, from one of Python's."""


def refuse(n: int) -> int:
    raise Empty(n)


@pytest.mark.parametrize(("step", "kind"), [(refuse, Empty), (late, Late)])
def test_the_class_that_was_raised_decides_and_is_told(step: Callable[[int], int], kind: type[Exception]) -> None:
    app = kstream.App("odd", on_error=[kstream.Skip()])
    source = app.topic("in", key=str, value=int)
    policies = [kstream.Retry(2, on=(KeyError,)), kstream.DeadLetter(on=(kind,))]
    app.stream(source, on_error=policies).map(step, value=int).to(app.topic("out", key=str, value=int))
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.append("in", b"k", b"1")
        driver.commit()
        (letter,) = driver.cluster.records("odd-dead-letters")
    headers = dict(letter.headers or ())
    assert headers["__streams.errors.exception"] == f"{kind.__module__}.{kind.__qualname__}".encode()
    assert headers["kstream.attempts"] == b"1"


@pytest.mark.parametrize(("error", "attempts"), [(ConnectionError("down"), b"2"), (Late("no"), b"1")])
def test_what_is_in_a_group_counts_as_what_was_raised(error: Exception, attempts: bytes) -> None:
    """`asyncio.TaskGroup` raises nothing else."""
    kind = type(error)
    app = kstream.App("odd", on_error=[kstream.Retry(1, base=0.0, on=(OSError, Late)), kstream.DeadLetter(on=(kind,))])
    source = app.topic("in", key=str, value=int)

    async def fails() -> None:
        raise error

    @app.agent(source)
    async def agent(stream: kstream.AgentStream[str, int]) -> None:
        async for _ in stream:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())

    with TestDriver(app, partitions=1) as driver:
        driver.cluster.append("in", b"k", b"1")
        driver.commit()
        (letter,) = driver.cluster.records("odd-dead-letters")
    headers = dict(letter.headers or ())
    assert headers["__streams.errors.exception"] == b"builtins.ExceptionGroup"
    assert headers["kstream.attempts"] == attempts
    assert f"Of them {kind.__qualname__}: {error}".encode() in (headers["__streams.errors.stacktrace"] or b"")


@pytest.mark.parametrize(
    "error",
    [Poison("x"), SystemExit(3), asyncio.CancelledError(), GeneratorExit(), BaseExceptionGroup("g", [Poison()])],
)
def test_what_fails_behind_a_window_that_closes_is_not_the_record_that_moved_time(error: BaseException) -> None:
    """Whatever is raised: as a dead letter the record would be gone, and the next one after it."""
    app = kstream.App("odd", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    grouped = app.stream(source).group_by_key().window(kstream.Tumbling(seconds=5), grace=timedelta(0))

    def fails(_: int) -> int:
        raise error

    sums = grouped.aggregate(int, lambda total, n: total + n, name="sums", emit="close")
    sums.stream().map(fails, value=int).rekey(str, key=str).to(out)
    driver = TestDriver(app, partitions=1)
    for n in range(3):
        driver.cluster.append("in", b"k", b"%d" % n, 1_700_000_000_000 + n * 60_000)
    driver.commit()
    letters = driver.cluster.records("odd-dead-letters")
    assert [dict(one.headers or ())["kstream.result"] for one in letters] == [b"the result of a window of 'sums'"] * 2
    driver.close(commit=False)


def test_phases_that_are_none_are_refused_in_one_line() -> None:
    with pytest.raises(TopologyError, match="give one of decode"):
        kstream.Skip(phase=("decode", ["process"]))  # type: ignore[arg-type]
