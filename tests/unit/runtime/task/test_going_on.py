"""A record that fails where nothing was done with it before: its batch goes on, and nothing is done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import kstream
from kstream.errors import ProcessingError
from kstream.testing import TestDriver

CALLS: Counter[int] = Counter()


def call(n: int) -> int:
    CALLS[n] += 1
    if n % 10 == 7:
        raise ValueError(n)
    return n


def added(seen: list[int], n: int) -> list[int]:
    seen.append(n)  # what fails has changed its accumulator
    call(n)
    return seen


def each(n: int) -> Any:
    yield n
    yield call(n)


Numbers = kstream.Stream[str, int]
STEPS: dict[str, Callable[[Numbers], Any]] = {
    "map": lambda numbers: numbers.map(call, value=int),
    "filter": lambda numbers: numbers.filter(lambda n: call(n) >= 0),
    "flat_map": lambda numbers: numbers.flat_map(lambda n: [call(n), n], value=int),
    "generator": lambda numbers: numbers.flat_map(each, value=int),
    "peek": lambda numbers: numbers.peek(call),
    "rekey": lambda numbers: numbers.rekey(lambda n: str(call(n)), key=str),
    "second": lambda numbers: numbers.filter(lambda n: n % 3 > 0).map(call, value=int),
    "update": lambda numbers: numbers.group_by_key().aggregate(list, added, name="all", value=list[int]).stream(),
    "commit": lambda numbers: (
        numbers.group_by_key().aggregate(list, added, name="all", value=list[int], emit="commit").stream()
    ),
    "unreadable": lambda numbers: numbers.peek(call),
}


def each_as_a_record(n: int) -> Any:
    yield n
    yield kstream.Record(str(n), n)
    yield call(n)


AGENTS: dict[str, Callable[[int], Any]] = {
    "function agent": call,
    "agent of records": lambda n: kstream.Record(str(n), call(n)) if n % 3 else call(n),
    "generator agent": each,
    "generator of records": each_as_a_record,
}


def app_of(step: str) -> kstream.App:
    app = kstream.App("going-on", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=1)
    if step in AGENTS:
        app.agent(source, to=app.topic("out", key=str, value=int, partitions=1))(AGENTS[step])
        return app
    kind = list[int] if step in ("update", "commit") else int
    STEPS[step](app.stream(source)).to(app.topic("out", key=str, value=kind, partitions=1))
    return app


def bytes_of(step: str, n: int) -> bytes:
    return b"no number" if step == "unreadable" and n % 10 == 7 else b"%d" % n


@pytest.mark.parametrize("keys", [1000, 7])
@pytest.mark.parametrize("step", [*STEPS, *AGENTS])
def test_what_fails_is_left_out_and_the_others_are_as_without_it(step: str, keys: int) -> None:
    outputs = []
    for wanted in (range(400), [n for n in range(400) if n % 10 != 7]):
        with TestDriver(app_of(step), partitions=1) as driver:
            for n in wanted:
                driver.cluster.append("in", b"k%d" % (n % keys), bytes_of(step, n))
            driver.commit()
            outputs.append([(record.key, record.value) for record in driver.cluster.records("out")])
            letters = driver.cluster.records("going-on-dead-letters")
            failed = [n for n in wanted if n % 10 == 7 and (step != "second" or n % 3)]
            assert [record.value for record in letters] == [bytes_of(step, n) for n in failed]
            if failed:
                assert {dict(record.headers or ())["kstream.attempts"] for record in letters} == {b"1"}
    if step == "commit":
        outputs = [dict(output) for output in outputs]  # type: ignore[misc]
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("keys", [1000, 7])
@pytest.mark.parametrize("step", [*STEPS, *AGENTS])
def test_nothing_is_called_twice_and_no_transaction_aborted(step: str, keys: int) -> None:
    """Not even for the first that fails."""
    CALLS.clear()
    with TestDriver(app_of(step), partitions=1) as driver:
        for n in range(400):
            driver.cluster.append("in", b"k%d" % (n % keys), bytes_of(step, n))
        driver.commit()
        if (step, keys) == ("commit", 7):  # what the records before it in its batch made of the key is nowhere
            assert driver.worker.aborts == 1
        else:
            assert set(CALLS.values()) == {1}
            assert driver.worker.aborts == 0


def test_a_record_that_is_left_out_comes_before_one_that_takes_the_batch_back() -> None:
    """The first is decided upon where nothing was done with it, the second fails after something was."""
    app = kstream.App("going-on", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=1)
    seen = app.table("seen", key=str, value=int, default=0)

    def later(n: int, ctx: kstream.Context[str]) -> int:
        seen[ctx.key] += 1
        if n % 10 == 9:
            raise ValueError(n)
        return n

    out = app.topic("out", key=str, value=int, partitions=1)
    app.stream(source).map(call, value=int).map(later, value=int).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in range(60):
            driver.cluster.append("in", b"k%d" % (n % 7), b"%d" % n)
        driver.commit()
        good = [n for n in range(60) if n % 10 not in (7, 9)]
        assert [int(record.value or b"") for record in driver.cluster.records("out")] == good
        letters = driver.cluster.records("going-on-dead-letters")
        assert [int(record.value or b"") for record in letters] == [n for n in range(60) if n % 10 in (7, 9)]
        assert {dict(record.headers or ())["kstream.attempts"] for record in letters} == {b"1"}
        assert sum(driver.table(seen).values()) == len(good)
        assert driver.worker.aborts == 1


def test_a_branch_that_did_something_with_it_takes_that_back() -> None:
    app = kstream.App("going-on", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=1)
    numbers = app.stream(source)
    numbers.group_by_key().count(name="n").to(app.topic("counts", key=str, value=int, partitions=1))
    numbers.map(call, value=int).to(app.topic("out", key=str, value=int, partitions=1))
    with TestDriver(app, partitions=1) as driver:
        for n in range(200):
            driver.cluster.append("in", b"k", b"%d" % n)
        driver.commit()
        good = [n for n in range(200) if n % 10 != 7]
        assert [int(record.value or b"") for record in driver.cluster.records("out")] == good
        assert [int(record.value or b"") for record in driver.cluster.records("counts")] == [*range(1, len(good) + 1)]


def test_a_task_that_stops_at_a_record_has_done_nothing_of_it() -> None:
    """The policy for one class of failure leaves out, the other record stops the task."""

    def add(total: int, n: int) -> int:
        if n == 150:
            raise RuntimeError("stop here")
        return total + call(n) * 0 + 1

    app = kstream.App("going-on", on_error=[kstream.Skip(on=(ValueError,))])
    source = app.topic("in", key=str, value=int, partitions=1)
    counted = app.stream(source).group_by_key().aggregate(int, add, name="n", value=int)
    counted.to(app.topic("out", key=str, value=int, partitions=1))
    driver = TestDriver(app, partitions=1)
    for n in range(200):
        driver.cluster.append("in", b"k%d" % (n % 50), b"%d" % n)
    with pytest.raises(ProcessingError, match=r"in\[0\] offset 150: RuntimeError: stop here"):
        driver.commit()
    assert len(driver.cluster.records("out")) == 135
    driver.close(commit=False)


def test_letters_come_in_the_order_of_their_records() -> None:
    """What cannot be read is found before the step begins, and lies behind one that fails in it."""
    with TestDriver(app_of("map"), partitions=1) as driver:
        for value in (b"1", b"7", b"no number", b"17", b"2"):
            driver.cluster.append("in", b"k", value)
        driver.commit()
        letters = driver.cluster.records("going-on-dead-letters")
        assert [record.value for record in letters] == [b"7", b"no number", b"17"]


def fails(n: int) -> None:
    if n % 10 == 7:
        raise ValueError(n)


def with_a_table(app: kstream.App, form: str) -> kstream.Table[str, int]:
    """Functions without a context that change a table, which has one entry."""
    source = app.topic("in", key=str, value=int, partitions=1)
    out = app.topic("out", key=str, value=int, partitions=1)
    seen = app.table("seen", key=str, value=int, default=0, scope="partition")
    stream = app.stream(source)

    def sees(n: int) -> int:
        seen["all"] += 1
        if form in ("map", "fold"):
            fails(n)
        return n

    def folds(total: int, n: int) -> int:
        return total + sees(n)

    if form == "map":
        stream.map(sees, value=int).to(out)
    elif form == "before a filter":
        stream.map(sees, value=int).filter(lambda n: fails(n) is None).to(out)
    elif form == "fold":
        stream.group_by_key().aggregate(int, folds, name="sums", value=int).to(out)
    elif form == "before a fold":
        stream.peek(sees).group_by_key().aggregate(int, lambda a, n: fails(n) or a + n, name="sums", value=int).to(out)
    else:

        @app.agent(stream.peek(sees), to=out)
        def agent(n: int) -> int:
            fails(n)
            return n

    return seen


@pytest.mark.parametrize("form", ["map", "before a filter", "fold", "before a fold", "before an agent"])
def test_a_table_that_a_function_without_a_context_changed_is_as_before(form: str) -> None:
    app = kstream.App("going-on", on_error=[kstream.DeadLetter()])
    seen = with_a_table(app, form)
    with TestDriver(app, partitions=1) as driver:
        for n in range(40):
            driver.cluster.append("in", b"k%d" % (n % 3), b"%d" % n)
        driver.commit()
        assert len(driver.cluster.records("out")) == 36
        assert len(driver.cluster.records("going-on-dead-letters")) == 4
        assert dict(driver.table(seen)) == {"all": 36}


@pytest.mark.parametrize("careful", [False, True])
def test_letters_of_several_steps_are_in_the_order_of_their_records_and_counted(careful: bool) -> None:
    """A later step leaves out records before those that an earlier one left out, or that cannot be decoded."""

    def second(n: int) -> int:
        if n % 10 == 5:
            raise KeyError(n)
        return n

    app = kstream.App("going-on", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=1)
    app.stream(source).map(call, value=int).map(second, value=int).to(app.topic("out", key=str, value=int))
    with TestDriver(app, partitions=1) as driver:
        driver.commit()
        if careful:
            for task in driver.worker.tasks.values():
                task.handling.care.take()
        for n in range(60):
            driver.cluster.append("in", b"k", b"no number" if n % 10 == 9 else b"%d" % n)
        driver.commit()
        letters = driver.cluster.records("going-on-dead-letters")
        left_out = [n for n in range(60) if n % 10 in (5, 7, 9)]
        assert [int(dict(one.headers or ())["__streams.errors.offset"] or b"") for one in letters] == left_out
        assert sum(driver.worker.measures.dead_letters.values()) == len(left_out)
        assert driver.worker.aborts == 0


def test_the_share_of_failures_is_that_of_the_records_until_then() -> None:
    """Those before it in its batch count too: 10 of 60 are less than a fifth."""
    app = kstream.App("going-on", on_error=[kstream.Skip()])
    source = app.topic("in", key=str, value=int, partitions=1)
    app.stream(source).map(lambda n: 1 // (not 50 <= n < 60), value=int).to(app.topic("out", key=str, value=int))
    with TestDriver(app, partitions=1, max_error_rate=0.2) as driver:
        for n in range(64):
            driver.cluster.append("in", b"k", b"%d" % n)
        driver.commit()
        assert len(driver.cluster.records("out")) == 54
        assert driver.worker.aborts == 0


def test_what_fails_after_that_is_not_put_down_to_it() -> None:
    """A key that is too large says not whose it is: fewer records are tried, and nothing is looked for by aborts."""
    app = kstream.App("going-on", on_error=[kstream.DeadLetter()])
    source = app.topic("in", key=str, value=int, partitions=1)
    app.stream(source).map(call, value=int).group_by_key().count(name="n").to(app.topic("out", key=str, value=int))
    with TestDriver(app, partitions=1, max_record_bytes=100) as driver:
        for n in range(200):
            driver.cluster.append("in", b"k" * (200 if n % 10 == 3 else 1), b"%d" % n)
        driver.commit()
        assert len(driver.cluster.records("out")) == 160
        letters = driver.cluster.records("going-on-dead-letters")
        assert [int(one.value or b"") for one in letters] == [n for n in range(200) if n % 10 in (3, 7)]
        assert driver.worker.aborts == 1
