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
