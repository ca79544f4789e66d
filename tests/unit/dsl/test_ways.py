"""branch, merge, repartition, through, to a chosen topic, debug and sample."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import kstream
from kstream.errors import TopologyError
from kstream.operators import looking
from kstream.testing import TestDriver


def app_with(*outs: str) -> tuple[kstream.App, Any, list[Any]]:
    app = kstream.App("ways")
    return app, app.topic("in", key=str, value=int), [app.topic(name, key=str, value=int) for name in outs]


def test_a_record_goes_the_first_way_whose_predicate_is_true() -> None:
    app, source, (large, even, rest) = app_with("large", "even", "others")
    ways = app.stream(source).branch(large=lambda n: n > 100, even=lambda n, ctx: n % 2 == 0 and ctx.offset < 4)
    assert list(ways) == ["large", "even", "rest"]
    for name, topic in (("large", large), ("even", even), ("rest", rest)):
        ways[name].to(topic)
    with TestDriver(app) as driver:
        for n in (101, 3, 4, 102, 6):  # offsets 0 to 4
            driver.send(source, n, key="k")
        assert (driver.values(large), driver.values(even), driver.values(rest)) == ([101, 102], [4], [3, 6])


def test_a_predicate_that_fails_fails_its_record_alone() -> None:
    app, source, (out,) = app_with("out")
    app.stream(source, on_error=[kstream.Skip()]).branch(tenth=lambda n: 10 // n > 1)["tenth"].to(out)
    with TestDriver(app) as driver:
        for n in (1, 0, 2):
            driver.send(source, n, key="k")
        assert driver.values(out) == [1, 2]


@pytest.mark.parametrize(
    ("predicates", "said"),
    [
        ({}, "give each way a name"),
        ({"rest": bool}, "'rest' is that of the records"),
        ({"a": 5}, "5"),
    ],
)
def test_ways_that_cannot_be(predicates: dict[str, Any], said: str) -> None:
    app, source, _ = app_with()
    with pytest.raises(TopologyError, match=said):
        app.stream(source).branch(**predicates)


def test_streams_of_several_topics_are_merged() -> None:
    app, source, (other, out) = app_with("other", "out")
    app.stream(source).merge(app.stream(other).map(lambda n: -n)).group_by_key().sum(int, name="sum").to(out)
    with TestDriver(app, partitions=2) as driver:
        driver.send(source, 5, key="k")
        driver.send(other, 3, key="k")
        driver.send(source, 1, key="k")
        assert driver.values(out) == [5, 2, 3]
    assert [part.name for part in app.topology().parts] == ["in+other"]


def test_a_merged_stream_that_was_rekeyed_is_moved_to_its_keys() -> None:
    app, source, (out,) = app_with("out")
    stream = app.stream(source)
    merged = stream.merge(stream.rekey(lambda n: str(n % 2)))
    merged.group_by_key().count(name="n").to(out)
    assert any("repartition" in part.name for part in app.topology().parts)


def test_what_cannot_be_merged() -> None:
    app, source, _ = app_with()
    texts, ints = app.topic("texts", key=str, value=str), app.topic("ints", key=int, value=int)
    stream = app.stream(source)
    with pytest.raises(TopologyError, match="values of type str"):
        stream.merge(app.stream(texts))  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="keys of type int"):
        stream.merge(app.stream(ints))  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="takes streams"):
        stream.merge(source)
    with pytest.raises(TopologyError, match="the other streams"):
        stream.merge()


def test_repartition_moves_records_and_goes_on() -> None:
    app, source, (out,) = app_with("out")
    app.stream(source).rekey(lambda n: str(n % 3)).repartition(name="thirds", parallelism=3).to(out)
    with TestDriver(app) as driver:
        for n in range(9):
            driver.send(source, n, key="k")
        assert sorted(driver.values(out)) == list(range(9))
        assert len(driver.worker.tasks) == 4 + 3


def test_through_writes_a_topic_and_reads_it() -> None:
    app, source, (between, out) = app_with("between", "out")
    app.stream(source).map(lambda n: n + 1).through(between).map(lambda n: 10 * n).to(out)
    with TestDriver(app) as driver:
        driver.send(source, 1, key="k")
        assert (driver.values(between), driver.values(out)) == ([2], [20])


def test_the_topic_is_chosen_record_by_record() -> None:
    app, source, (odd, even) = app_with("odd", "even")
    app.stream(source).to(lambda n: odd if n % 2 else even)
    with TestDriver(app) as driver:
        for n in range(5):
            driver.send(source, n, key="k")
        assert (driver.values(odd), driver.values(even)) == ([1, 3], [0, 2, 4])


def test_a_chosen_topic_must_be_one_and_fit() -> None:
    app, source, (out,) = app_with("out")
    texts = app.topic("texts", key=str, value=str)
    chosen: list[Any] = [out, "out", texts, out]
    letters = app.topic("letters", key=bytes, value=bytes)
    app.stream(source, on_error=[kstream.DeadLetter("letters")]).to(lambda n: chosen[n])
    with TestDriver(app) as driver:
        for n in range(4):
            driver.send(source, n, key="k")
        assert driver.values(out) == [0, 3]
        why = [dict(record.headers or ())["__streams.errors.message"] for record in driver.records(letters)]
    assert [b"which is no topic" in one for one in why] == [True, False]
    assert b"declared value=str, for values of type int" in (why[1] or b"")


def test_debug_says_what_comes_by(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(looking.time, "monotonic", lambda: clock[0])
    app, source, (out,) = app_with("out")
    app.stream(source).debug("what comes").to(out)
    with caplog.at_level(logging.INFO, looking.__name__), TestDriver(app) as driver:
        for n, at in ((1, 100.0), (2, 105.0), (3, 109.9), (4, 110.0)):
            clock[0] = at
            driver.send(source, n, key="k", timestamp=1_700_000_000_000)
        assert driver.values(out) == [1, 2, 3, 4]
    lines = [record.message for record in caplog.records if record.name == looking.__name__]
    assert lines == [
        "what comes: 1 records, the first; now 'k': 1 at 1700000000000",
        "what comes: 4 records, 0.3/s; now 'k': 4 at 1700000000000",
    ]


def test_a_sample_is_a_share_and_the_same_again() -> None:
    def run(rate: float, name: str) -> list[int]:
        app, source, (out,) = app_with("out")
        app.stream(source).sample(rate, name).to(out)
        with TestDriver(app) as driver:
            for n in range(2000):
                driver.cluster.append("in", b"k", str(n).encode())
            driver.process()
            return driver.values(out)

    some = run(0.1, "a")
    assert 140 < len(some) < 260 and run(0.1, "a") == some != run(0.1, "b")
    assert len(run(1, "a")) == 2000


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, True, float("nan"), "0.5"])
def test_rates_that_are_none(rate: Any) -> None:
    app, source, _ = app_with()
    with pytest.raises(TopologyError, match="no share"):
        app.stream(source).sample(rate)


def test_the_description_shows_a_merged_step_once_with_all_behind_it() -> None:
    app, source, (out,) = app_with("out")
    stream = app.stream(source)
    stream.merge(stream.map(lambda n: n)).filter(bool).to(out)
    said = app.topology().describe()
    assert said.count("to out") == 1 and said.count("merge in-merge (above)") == 1


class Noted(msgspec.Struct):
    n: int


def test_what_is_passed_on_as_it_came_is_so_in_company_too() -> None:
    """A field that the type does not have, and the form of the JSON, stay: alone and beside others of its batch."""
    app = kstream.App("ways")
    source, out = app.topic("in", key=str, value=Noted), app.topic("out", key=str, value=Noted)
    ways = app.stream(source).branch(odd=lambda noted: noted.n % 2)
    ways["odd"].map(lambda noted: Noted(-noted.n), value=Noted).merge(ways["rest"]).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in range(4):
            driver.cluster.append("in", b"k", b'{"n": %d, "note": "x"}' % n)
        driver.process()
        driver.commit()
        written = [record.value for record in driver.cluster.records("out")]
    assert written == [b'{"n": 0, "note": "x"}', b'{"n":-1}', b'{"n": 2, "note": "x"}', b'{"n":-3}']


def test_an_agent_that_waits_gets_all_that_comes_meanwhile() -> None:
    app, source, (out,) = app_with("out")
    group = app.stream(source).group_by_key()
    counts, sums = group.count(name="n", emit="commit"), group.sum(int, name="s", emit="commit")

    @app.agent(counts.stream().merge(sums.stream()), to=out)
    async def slow(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            await asyncio.sleep(0)
            yield n

    with TestDriver(app, partitions=1) as driver:
        for n in range(40):
            driver.cluster.append("in", str(n).encode(), b"7")
        driver.process()
        driver.commit()
        assert sorted(driver.values(out)) == [1] * 40 + [7] * 40


def test_samples_of_samples_and_of_names_with_a_common_end() -> None:
    app, source, (out, one, other) = app_with("out", "one", "other")
    stream = app.stream(source)
    stream.sample(0.5).sample(0.5).to(out)
    stream.sample(0.5, "orders-by-country").to(one)
    stream.sample(0.5, "clicks-by-country").to(other)
    with TestDriver(app, partitions=1) as driver:
        for n in range(2000):
            driver.cluster.append("in", b"k", str(n).encode())
        driver.process()
        assert 400 < len(driver.values(out)) < 600
        assert 300 < len(set(driver.values(one)) & set(driver.values(other))) < 700


def test_debug_fails_no_record(caplog: pytest.LogCaptureFixture) -> None:
    app, source, (out,) = app_with("out")
    app.stream(source).debug().to(out)
    with caplog.at_level(logging.INFO, looking.__name__), TestDriver(app, partitions=1) as driver:
        driver.send_raw(source, b"no number", key=b"k")
        driver.commit()
        assert [record.value for record in driver.cluster.records("out")] == [b"no number"]
    assert "one that cannot be shown" in caplog.text


def test_streams_with_different_policies_are_not_merged() -> None:
    app, source, (other, out) = app_with("other", "out")
    merged = app.stream(source, on_error=[kstream.Skip()]).merge(app.stream(other))
    merged.map(lambda n: n + 1).to(out)
    with pytest.raises(TopologyError, match="different on_error="):
        app.topology()


def test_streams_and_topics_of_another_app() -> None:
    app, source, (out,) = app_with("out")
    another = kstream.App("another")
    elsewhere = another.topic("elsewhere", key=str, value=int)
    with pytest.raises(TopologyError, match="of another app"):
        app.stream(source).merge(another.stream(elsewhere))
    app.stream(source, on_error=[kstream.Skip()]).to(lambda n: elsewhere if n else out)
    with TestDriver(app) as driver:
        driver.send(source, 1, key="k")
        driver.send(source, 0, key="k")
        assert driver.values(out) == [0]


@pytest.mark.parametrize(
    "write",
    [
        lambda stream: stream.to(stream.node.topic),
        lambda stream: stream.through(stream.node.topic),
        lambda stream: stream.map(lambda n: n + 1, value=int).peek(print).merge(stream).to(stream.node.topic),
    ],
)
def test_a_loop_that_no_record_leaves_is_refused(write: Any) -> None:
    app, source, _ = app_with()
    write(app.stream(source))
    with pytest.raises(TopologyError, match=r"topic 'in' is written with each record .* leave records out before"):
        app.topology()


def test_one_that_records_leave_is_not() -> None:
    app, source, (out,) = app_with("out")
    stream = app.stream(source)
    stream.filter(lambda n: n > 0).map(lambda n: n - 1, value=int).to(source)
    stream.branch(more=lambda n: n > 99)["more"].to(source)
    stream.filter(lambda n: n == 0).to(out)
    with TestDriver(app) as driver:
        driver.send(source, 2, key="k")
        assert (driver.values(source), driver.values(out)) == ([2, 1, 0], [0])
