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
from kstream.runtime.process.channel import WAITING, Channel
from kstream.runtime.process.queries import SHARE, TURN, Frames, Query, QueryServer, Result, frame
from kstream.runtime.task.states import TaskState
from kstream.testing import TestDriver

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


def total(key: str, number: int = 1, partitions: tuple[int, ...] = ()) -> Query:
    return Query(number, "total", list(partitions), [key.encode()])


def test_queries_are_answered_with_what_is_committed(driver: TestDriver) -> None:
    driver.send(orders, 5, key="k07")
    (found, none) = server(driver).answer([total("k07", 3), total("k99", 4)])
    assert (found.number, found.keys, found.values, sorted(found.partitions)) == (3, [b"k07"], [b"7"], [0, 1])
    assert (none.number, none.keys, sorted(none.partitions)) == (4, [], [0, 1])
    driver.commit()
    assert server(driver).answer([total("k07")])[0].values == [b"12"]


def test_a_range_comes_page_by_page(driver: TestDriver) -> None:
    found: list[bytes] = []
    for partition in (0, 1):
        start = b""
        while True:
            (page,) = server(driver).answer([Query(1, "total", [partition], None, start, b"k30", 7)])
            assert page.partitions == [partition] and len(page.keys) <= 7
            found += page.keys
            if not page.more:
                break
            start = page.keys[-1] + b"\0"
    assert sorted(found) == [b"k%02d" % n for n in range(30)]


def test_a_task_that_does_not_run_answers_nothing(driver: TestDriver) -> None:
    task = next(iter(driver.worker.tasks.values()))
    task.state, before = TaskState.RESTORING, task.state
    asked = [Query(1, "total", [task.partition], [b"k07"]), Query(2, "total", [task.partition], None, limit=5)]
    assert server(driver).answer(asked) == [Result(2), Result(1)]
    task.state = before
    assert server(driver).answer([Query(1, "unknown", [], [b"k07"])]) == [Result(1)]


def test_one_task_that_is_damaged_is_left_out_and_what_fails_is_told(
    driver: TestDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = driver.worker.tasks.values()

    def damaged(*_: Any) -> Any:
        raise StateError("damaged")

    monkeypatch.setattr(bad.backend, "multi_get", damaged)
    assert server(driver).answer([total("k07")])[0].partitions == [good.partition]
    monkeypatch.setattr(good.backend, "multi_get", lambda *_: 1 / 0)
    (told,) = server(driver).answer([total("k07", 9)])
    assert told.number == 9 and told.error == "ZeroDivisionError: division by zero"
    assert len(server(driver).answer([Query(1, "total", [0], None, limit=5)])[0].keys) == 5


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
            return answer(queries)
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
    share = sum(worked) / (time.monotonic() - began)
    ending.set()
    thread.join()
    ours.close()
    assert 0 < share < 1.5 * SHARE, share
    assert len(worked) > 3 and TURN < 1000
