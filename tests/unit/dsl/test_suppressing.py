"""`suppress`: changes of a table that are told later, and once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import ProcessingError, TopologyError
from kstream.operators import process
from kstream.runtime.task import overdue
from kstream.testing import TestDriver
from support.cases import cases
from support.feeding import cut

ERA = 10_000


def app_of(after: int, clock: Any = "event") -> tuple[kstream.App, Any, Any, Any]:
    app = kstream.App("suppressed")
    rows = app.topic("rows", key=str, value=str | None, partitions=1)
    out = app.topic("out", key=str, value=str | None, partitions=1)
    table = app.stream(rows).to_table("rows")
    told = table.suppress(timedelta(milliseconds=after), name="told", clock=clock)
    told.to(out)
    return app, rows, told, out


ROW = st.tuples(st.sampled_from("kl"), st.one_of(st.none(), st.sampled_from("abc")), st.integers(0, 60))


@cases
@given(
    rows=st.lists(ROW, max_size=40), after=st.integers(1, 15),
    cuts=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["process", "crash", "abort", "commit"])), max_size=6),
    pieces=st.booleans(),
)  # fmt: skip
def test_a_row_is_told_when_it_is_due_as_it_is_then(
    rows: list[tuple[str, str | None, int]], after: int, cuts: list[tuple[int, str]], pieces: bool
) -> None:
    """However the input is cut, with crashes and aborts in between, and where more are due at once than are told in one
    piece. Of one that came and went meanwhile nothing is told; one that has passed its time already, for it came late,
    is told when time goes on."""
    with pytest.MonkeyPatch.context() as few:
        if pieces:
            few.setattr(process, "AT_ONCE", 1)
            few.setattr(overdue, "PIECE", 1)
        _told_when_due(rows, after, dict(cuts))


def _told_when_due(rows: list[tuple[str, str | None, int]], after: int, cuts: dict[int, str]) -> None:
    app, _, told, out = app_of(after)
    now, due, last = -1, dict[str, int](), dict[str, str | None]()
    table, wanted = dict[str, str](), list[tuple[str, str | None, int]]()
    with TestDriver(app) as driver:
        for place, (key, value, at) in enumerate(rows):
            driver.cluster.append("rows", key.encode(), None if value is None else value.encode(), timestamp=ERA + at)
            if at > now:
                now = at
                for when, one in sorted((when, one) for one, when in due.items() if when < now):
                    del due[one]
                    if (row := last[one]) is not None:
                        table[one] = row
                    elif table.pop(one, None) is None:
                        continue
                    wanted.append((one, row, when))
            last[key] = value
            due.setdefault(key, at + after)
            cut(driver, cuts.get(place, ""))  # one at most, so that an abort has something to take back
        assert [(one.key, one.value, one.timestamp - ERA) for one in driver.records(out)] == wanted
        assert dict(driver.table(told)) == table


@pytest.mark.parametrize("count", [250, pytest.param(25_000, marks=pytest.mark.more)])
def test_many_rows_that_are_due_at_once_are_told_by_pieces_without_an_abort(
    count: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for a timer that sets itself again and again: all since the last commit was aborted each time."""
    if count < process.AT_ONCE:
        monkeypatch.setattr(process, "AT_ONCE", count // 3)
        monkeypatch.setattr(overdue, "PIECE", count // 25)
    keys = [f"{n:05}" for n in range(count)]
    app, rows, told, out = app_of(1000)
    with TestDriver(app, poll_batch=5000, commit_interval=60.0, transaction_timeout=300.0) as driver:
        for key in keys:
            driver.cluster.append("rows", key.encode(), b"a", timestamp=ERA)
        driver.commit()
        for key in ("z", *keys[:3]):
            driver.cluster.append("rows", key.encode(), b"b", timestamp=ERA + 5000)
        for _ in range(12):
            driver.worker.step()
        driver.worker.commit_now()
        so_far = len(driver.cluster.records("out"))
        assert 0 < so_far < len(keys), "a commit came in between"
        driver.crash()
        driver.commit()
        assert [one.key for one in driver.records(out)] == keys
        assert driver.worker.aborts == 0
        driver.send(rows, "c", key="z", timestamp=ERA + 9000)
        assert len(dict(driver.table(told))) == len(keys) + 1
    assert not [one for one in caplog.records if one.levelname == "WARNING"]


@pytest.mark.parametrize("how", ["idle", "marks"])
def test_so_it_is_where_no_record_moves_time(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "AT_ONCE", 10)
    monkeypatch.setattr(overdue, "PIECE", 3)
    app = kstream.App("suppressed")
    rows = app.topic("rows", key=str, value=str, partitions=1, idle_advance=True)
    out = app.topic("out", key=str, value=str | None, partitions=1)
    stream = app.stream(rows)
    if how == "marks":
        stream = stream.rekey(lambda value, ctx: ctx.key, key=str)
    stream.to_table("rows").suppress(timedelta(seconds=1), name="told").to(out)
    keys = [f"{n:02}" for n in range(40)]
    with TestDriver(app, partitions=1) as driver:
        for key in keys:
            driver.cluster.append("rows", key.encode(), b"a", timestamp=ERA)
        for _ in range(20):
            driver.advance(1)
        assert [one.key for one in driver.records(out)] == keys
        assert driver.worker.aborts == 0


def test_by_the_wall_clock_a_quiet_topic_is_told_too() -> None:
    app, rows, told, out = app_of(5_000, "wall")
    with TestDriver(app) as driver:
        for value in "abc":
            driver.send(rows, value, key="k")
        driver.advance(4)
        assert driver.values(out) == []
        driver.crash()
        driver.advance(2)
        assert driver.values(out) == ["c"]
        assert dict(driver.table(told)) == {"k": "c"}


def test_a_change_without_a_time_says_what_its_user_can_do() -> None:
    app, *_ = app_of(5_000)
    with TestDriver(app) as driver:
        driver.cluster.append("rows", b"k", b"a", timestamp=-1)
        with pytest.raises(ProcessingError) as failed:
            driver.process()
        said = str(failed.value)
        assert "suppress 'told' counts from the time of a change, and the one of 'k' has none" in said
        assert "declare timestamp= for its topic, or suppress(..., clock='wall')" in said and "at=" not in said
        driver.close(commit=False)
    app, _, _, out = app_of(5_000, "wall")
    with TestDriver(app) as driver:
        driver.cluster.append("rows", b"k", b"a", timestamp=-1)
        driver.process()
        driver.advance(6)
        assert driver.values(out) == ["a"]


def test_it_can_be_joined_and_goes_by_undeclared_types() -> None:
    app = kstream.App("joined")
    numbers, out = app.topic("numbers", key=str, value=int), app.topic("out", key=str, value=str)
    table = app.stream(numbers).map(lambda n: {"n": n}).to_table("rows").suppress(timedelta(seconds=1), name="told")
    app.stream(numbers).join(table, lambda n, row: f"{n} {row}", value=str).to(out)
    with TestDriver(app, partitions=1) as driver:
        for at, n in ((10_000, 1), (10_500, 2), (11_001, 3), (11_002, 4)):
            driver.send(numbers, n, key="k", timestamp=at)
        assert driver.values(out)[-1] == "4 {'n': 2}"


def test_what_is_refused() -> None:
    app = kstream.App("refused")
    numbers = app.topic("numbers", key=int, value=int)
    table = app.stream(numbers).to_table("numbers")
    counts = app.stream(numbers).group_by_key().count(name="timed", ttl=kstream.TTL(hours=1))
    windows = app.stream(numbers).group_by_key().window(kstream.Tumbling(minutes=1), grace=timedelta(0))
    for one, after, named, said in (
        (table, timedelta(0), {}, "1 at least"),
        (table, 5, {}, "is not a timedelta"),
        (table, timedelta(1), {"clock": "sun"}, "neither 'event' nor 'wall'"),
        (counts, timedelta(1), {}, "expire"),
        (windows.count(name="windows"), timedelta(1), {}, "a row for each window"),
    ):
        asked: Any = one
        with pytest.raises(TopologyError, match=said):
            asked.suppress(after, name="told", **named)
