"""Queries over a socket: what a worker answers, how much it does for them, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import StateError, StateUnavailable
from kstream.runtime.process import queries as module
from kstream.runtime.process.channel import WAITING, Channel
from kstream.runtime.process.queries import FIRST, SHARE, TURN, Groups, QueryServer
from kstream.runtime.process.questions import ANSWER_BYTES, VALUE_BYTES, Frames, Query, Result, frame
from kstream.runtime.task.states import TaskState
from kstream.state.forms import STAMP
from kstream.testing import TestDriver
from support.running import until

app = kstream.App("shop")
orders = app.topic("orders", key=str, value=int)
app.stream(orders).group_by_key().sum(int, name="total")


@pytest.fixture(params=["memory", "rocksdb"])
def driver(request: pytest.FixtureRequest) -> Iterator[TestDriver]:
    with TestDriver(app, partitions=2, backend=request.param) as d:
        for n in range(40):
            d.send(orders, n, key=f"k{n:02}")
        d.commit()
        yield d


def server(driver: TestDriver) -> QueryServer:
    _, theirs = socket.socketpair()
    return QueryServer(theirs.detach(), driver.worker.tasks.values)


def answers(driver: TestDriver, *queries: Query) -> list[Result]:
    return list(server(driver).answer(queries))


def total(key: str, number: int = 1, partitions: tuple[int, ...] = ()) -> Query:
    return Query(number, "total", list(partitions), [key.encode()])


def test_queries_are_answered_with_what_is_committed(driver: TestDriver) -> None:
    driver.send(orders, 5, key="k07")
    (found, none) = answers(driver, total("k07", 3), total("k99", 4))
    assert (found.number, found.keys, found.values, sorted(found.partitions)) == (3, [b"k07"], [b"7"], [0, 1])
    assert (none.number, none.keys, sorted(none.partitions)) == (4, [], [0, 1])
    driver.commit()
    assert answers(driver, total("k07"))[0].values == [b"12"]


def test_a_range_comes_page_by_page(driver: TestDriver) -> None:
    found: list[bytes] = []
    for partition in (0, 1):
        start = b""
        while True:
            (page,) = answers(driver, Query(1, "total", [partition], None, start, b"k30", 7))
            assert page.partitions == [partition] and len(page.keys) <= 7
            found += page.keys
            if not page.more:
                break
            assert page.after == page.keys[-1]
            start = page.after + b"\0"
    assert sorted(found) == [b"k%02d" % n for n in range(30)]


def test_a_task_that_does_not_run_answers_nothing(driver: TestDriver) -> None:
    task = next(iter(driver.worker.tasks.values()))
    task.state, before = TaskState.RESTORING, task.state
    asked = [Query(1, "total", [task.partition], [b"k07"]), Query(2, "total", [task.partition], None, limit=5)]
    assert answers(driver, *asked) == [Result(2), Result(1)]
    task.state = before
    assert answers(driver, Query(1, "unknown", [], [b"k07"])) == [Result(1)]


def test_one_task_that_is_damaged_is_left_out_and_what_fails_is_told(
    driver: TestDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = driver.worker.tasks.values()

    def damaged(*_: Any) -> Any:
        raise StateError("damaged")

    monkeypatch.setattr(bad.backend, "multi_get", damaged)
    assert answers(driver, total("k07"))[0].partitions == [good.partition]
    monkeypatch.setattr(good.backend, "multi_get", lambda *_: 1 / 0)
    (told,) = answers(driver, total("k07", 9))
    assert told.number == 9 and told.error == "ZeroDivisionError: division by zero"
    assert len(answers(driver, Query(1, "total", [0], None, limit=5))[0].keys) == 5


def write(driver: TestDriver, values: dict[bytes, bytes]) -> None:
    """Into the backend of partition 0, as if they were committed: Kafka takes no such values by default."""
    task = next(task for task in driver.worker.tasks.values() if task.partition == 0)
    task.backend.write({"total": list(values.items())}, {})


def test_many_large_values_come_in_several_answers(driver: TestDriver) -> None:
    size, keys = 300_000, [b"large %02d" % n for n in range(60)]
    write(driver, dict.fromkeys(keys, bytes(size)))
    left, rounds, found = keys, 0, list[bytes]()
    while left:
        (result,) = answers(driver, Query(1, "total", [0], left))
        assert sum(map(len, result.values)) <= ANSWER_BYTES
        assert result.left == left[len(result.keys) :] and result.partitions == [0]
        found, left, rounds = found + result.keys, result.left, rounds + 1
    assert found == keys and rounds == -(-len(keys) // (ANSWER_BYTES // size))
    few = [Query(n, "total", [0], [key], most=1) for n, key in enumerate(keys)]
    assert [(one.number, one.keys, one.left) for one in answers(driver, *few)] == [
        (n, [key], []) for n, key in enumerate(keys)
    ]


def test_a_value_that_is_too_large_is_said_to_be(driver: TestDriver) -> None:
    write(driver, {b"k50": bytes(VALUE_BYTES + 1), b"k51": b"51"})
    (looked,) = answers(driver, Query(1, "total", [0], [b"k50", b"k51"]))
    assert (looked.keys, looked.left) == ([b"k50"], [b"k51"])
    (page,) = answers(driver, Query(1, "total", [0], None, b"k50", None, 10))
    for result in (looked, page):
        assert (result.keys[0], result.values[0], result.too_large) == (b"k50", b"", {b"k50": VALUE_BYTES + 1})
    rest = answers(driver, Query(1, "total", [0], None, b"k50\0", None, 10))[0]
    assert (rest.keys, rest.more) == ([b"k51"], False)


def test_how_many_keys_go_together_follows_the_size_of_values() -> None:
    groups = Groups()
    assert groups.of("total") == FIRST
    for wanted in (4 * FIRST, 16 * FIRST, TURN, TURN):
        groups.found("total", groups.of("total"), 100 * groups.of("total"))
        assert groups.of("total") == wanted
    groups.found("total", TURN, 100 * ANSWER_BYTES)
    assert groups.of("total") == TURN // 100 and groups.of("other") == FIRST
    groups.found("total", 1, 1000 * ANSWER_BYTES)
    assert groups.of("total") == 1


def test_no_more_than_a_group_and_an_answer_is_read_at_a_time(
    driver: TestDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = next(task for task in driver.worker.tasks.values() if task.partition == 0)
    write(driver, {b"large %02d" % n: bytes(1 << 20) for n in range(40)})
    read: list[int] = []
    multi_get = task.backend.multi_get

    def counted(store: str, keys: Any) -> Any:
        read.append(len(keys))
        return multi_get(store, keys)

    monkeypatch.setattr(task.backend, "multi_get", counted)
    asking = server(driver)
    queries = [Query(n, "total", [0], [b"large %02d" % n]) for n in range(40)]
    assert [len(one.values[0]) for one in asking.answer(queries)] == [1 << 20] * 40
    assert read == [16, *[4] * 6]
    list(asking.answer(queries))
    assert set(read[7:]) == {4}


@given(st.lists(st.integers(1, 9)), st.lists(st.integers(1, 400), max_size=30))
def test_frames_may_come_in_any_pieces(numbers: list[int], cuts: list[int]) -> None:
    data = b"".join(frame(Query(number, "s" * number, [])) for number in numbers)
    frames, found = Frames(Query), []
    for cut in [*cuts, len(data)]:
        found += list(frames.feed(data[:cut]))
        data = data[cut:]
    assert [query.number for query in found] == numbers


def test_over_a_socket(driver: TestDriver) -> None:
    ours, theirs = socket.socketpair()
    QueryServer(theirs.detach(), driver.worker.tasks.values).start()

    async def asked() -> None:
        channel = await Channel.over(ours)
        results = await asyncio.gather(*(channel.ask(total(f"k{n:02}"), 5.0) for n in range(40)))
        assert [result.values for result in results] == [[b"%d" % n] for n in range(40)]
        channel.close()
        with pytest.raises(StateUnavailable, match="ended"):
            await asyncio.sleep(0)
            await channel.ask(total("k01"), 1.0)

    asyncio.run(asked())


def test_a_worker_that_ends_or_is_silent_keeps_nobody_waiting() -> None:
    async def asked() -> None:
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours)
        with pytest.raises(StateUnavailable, match=r"did not answer within 0\.01 s"):
            await channel.ask(total("k01"), 0.01)
        waiting = [asyncio.ensure_future(channel.ask(total("k01"), 30.0)) for _ in range(WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(StateUnavailable, match="more than it has time for"):
            await channel.ask(total("k01"), 1.0)
        theirs.close()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert {str(one) for one in found} == {"its worker has ended"}

    asyncio.run(asked())


def test_a_greedy_client_gets_a_part_of_the_time_only(driver: TestDriver) -> None:
    """However much is asked, the thread rests for nine times as long as it worked."""
    ours, theirs = socket.socketpair()
    asking = QueryServer(theirs.detach(), driver.worker.tasks.values)
    worked: list[float] = []
    answer = asking.answer

    def measured(queries: Any) -> list[Result]:
        began = time.thread_time()
        try:
            return list(answer(queries))
        finally:
            worked.append(time.thread_time() - began)

    asking.answer = measured  # type: ignore[method-assign]
    asking.start()
    ending = threading.Event()

    def greedy() -> None:
        data = b"".join(frame(Query(n, "total", [], [b"k%02d" % k for k in range(40)])) for n in range(200))
        ours.setblocking(False)
        unsent = b""
        while not ending.is_set():
            unsent = unsent or data
            try:
                unsent = unsent[ours.send(unsent) :]
                ours.recv(1 << 20)
            except BlockingIOError:
                time.sleep(0.001)

    thread = threading.Thread(target=greedy)
    began = time.monotonic()
    thread.start()
    time.sleep(1.0)
    until(lambda: len(worked) > 3, "some answers")
    share = sum(worked) / (time.monotonic() - began)
    ending.set()
    thread.join()
    ours.close()
    assert 0 < share < 1.5 * SHARE, share
    assert len(worked) > 3 and TURN < 1000


expiring = kstream.App("shop")
visits = expiring.topic("visits", key=str, value=int)
expiring.stream(visits).group_by_key().sum(int, name="seen", ttl=kstream.TTL(seconds=60))


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_a_page_ends_where_many_entries_in_a_row_have_expired(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKED_AT", 200)
    monkeypatch.setattr(module, "TURN", 100)
    with TestDriver(expiring, partitions=1, backend=backend) as d:
        for n in range(450):
            d.send(visits, 1, key=f"k{n:03}")
        d.send(visits, 1, key="k449")
        d.commit()
        (task,) = d.worker.tasks.values()
        monkeypatch.setattr(task.stores["seen"], "seen", lambda raw: raw[STAMP:] if raw[STAMP:] == b"2" else None)
        read: list[int] = []
        page_of = task.backend.page

        def page(*asked: Any) -> Any:
            found = page_of(*asked)
            read.append(len(found.entries))
            return found

        monkeypatch.setattr(task.backend, "page", page)
        found: list[bytes] = []
        start, pages = b"", 0
        while True:
            (result,) = answers(d, Query(1, "seen", [0], None, start, None, 10))
            found, pages = found + result.keys, pages + 1
            if not result.more:
                break
            start = result.after + b"\0"
        assert found == [b"k449"] and pages == 3
        assert sum(read) == 450 and max(read) == 100
