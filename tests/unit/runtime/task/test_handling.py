"""Records that fail under policies: left out, tried again, given up; with whatever else is in their batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import AbortRequired, AgentTooSlow, ProcessingError, TopologyError
from kstream.partitioning import partition_of
from kstream.runtime.task.care import TRIAL
from kstream.testing import TestDriver
from support.cases import examples
from support.failing import app_of, feed, put_out
from support.strikes import Kind, Planner, Strikes
from unit.runtime.worker.test_failures import WAYS, Declare, Poison

STRIKES = Strikes()
RETRY = kstream.Retry(3, base=1.0, max=60.0, jitter=0.0)


def aborts(driver: TestDriver) -> int:
    return driver.worker.aborts


@examples(25)
@given(
    st.sampled_from(WAYS),
    st.sets(st.integers(0, 199), max_size=40),
    st.lists(st.integers(1, 90), max_size=12),
    st.integers(0, 3),
)
def test_however_the_input_is_cut_all_but_what_fails_is_there(
    declare: Declare, bad: set[int], sizes: list[int], faults: int
) -> None:
    def call(n: int) -> None:
        if n in bad:
            raise Poison(n)

    with TestDriver(app_of(declare, call, kstream.DeadLetter()), partitions=1) as driver:
        planned = Planner(driver.cluster, STRIKES)
        for skip in range(faults):
            planned.plan(Kind("producer.commit", AbortRequired, False), skip)
        feed(driver, range(200))
        driver.cluster.batch_sizes = iter(sizes)
        for _ in range(faults + 1):
            driver.commit()
        planned.count()
        assert put_out(driver) == [n for n in range(200) if n not in bad]
        assert put_out(driver, "failing-dead-letters") == sorted(bad)
        last = {n % 3: n for n in range(200) if n not in bad}
        for name in ("seen", "last"):
            found = {
                key: value
                for task in driver.worker.tasks.values() if name in task.stores
                for key, value in task.stores[name].scan()
            }  # fmt: skip
            assert found in ({}, {b"k%d" % key: n for key, n in last.items()})


def test_most_planned_faults_struck() -> None:
    """Of the runs above: else they would say little about failures."""
    STRIKES.check(share=0.9)


@pytest.mark.parametrize("declare", WAYS)
def test_once_care_is_taken_a_failing_record_costs_no_abort(declare: Declare) -> None:
    def call(n: int) -> None:
        if n % 10 == 7:
            raise Poison(n)

    with TestDriver(app_of(declare, call, kstream.Skip()), partitions=1) as driver:
        feed(driver, range(20))
        driver.commit()
        before = aborts(driver)
        feed(driver, range(20, 200))
        driver.commit()
        assert aborts(driver) == before
        assert put_out(driver) == [n for n in range(200) if n % 10 != 7]


def test_an_accumulator_changed_in_place_is_taken_back() -> None:
    app = kstream.App("failing", on_error=[kstream.Skip()])
    source = app.topic("in", key=str, value=int, partitions=1)

    def fold(seen: list[int], n: int) -> list[int]:
        seen.append(n)
        if n % 5 == 3:
            raise Poison(n)
        return seen

    table = app.stream(source).group_by_key().aggregate(list, fold, name="seen", value=list[int], emit="commit")
    changes = app.topic("changes", key=str, value=list[int])
    table.to(changes)
    with TestDriver(app, partitions=1) as driver:
        for start in range(0, 300, 50):
            feed(driver, range(start, start + 50))
            driver.process()
        assert dict(driver.table(table)) == {
            f"k{key}": [n for n in range(300) if n % 3 == key and n % 5 != 3] for key in range(3)
        }
        assert driver.values(changes)[-1][-1] in (297, 299, 296)


def test_a_table_changed_in_place_and_not_assigned_is_taken_back() -> None:
    app = kstream.App("failing", on_error=[kstream.Skip()])
    source = app.topic("in", key=str, value=int, partitions=1)
    table = app.table("seen", key=str, value=list[int], default=list)
    total = app.table("total", key=str, value=int, default=0, scope="partition")

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        seen = table[ctx.key]
        seen.append(n)
        total["all"] += 1
        if n % 7 == 2:
            raise Poison(n)
        if n % 7 == 3:
            del total["all"]
            raise Poison(n)
        table[ctx.key] = seen

    with TestDriver(app, partitions=1) as driver:
        for start in range(0, 210, 30):
            feed(driver, range(start, start + 30))
            driver.process()
        good = [n for n in range(210) if n % 7 not in (2, 3)]
        assert dict(driver.table(table)) == {f"k{key}": [n for n in good if n % 3 == key] for key in range(3)}
        assert driver.table(total)["all"] == len(good)


@pytest.mark.parametrize("declare", WAYS)
def test_a_record_is_tried_again_after_pauses_and_what_is_behind_it_waits(declare: Declare) -> None:
    calls: list[int] = []

    def call(n: int) -> None:
        calls.append(n)
        if n in (3, 4) and calls.count(n) <= 3:
            raise Poison(n)

    with TestDriver(app_of(declare, call, RETRY, kstream.DeadLetter()), partitions=1) as driver:
        feed(driver, range(6))
        driver.commit()
        assert put_out(driver) == [0, 1, 2]
        assert 4 not in calls or declare.__name__ in ("by_map", "by_fold", "by_fold_at_commit", "by_function")
        for seconds in (0.9, 0.2, 2.0):
            driver.advance(seconds)
        for _ in range(8):
            driver.advance(8.0)
        assert put_out(driver) == list(range(6))
        assert put_out(driver, "failing-dead-letters") == []
        assert calls.count(5) <= 3


def test_when_all_attempts_were_made_the_next_policy_decides_and_says_how_many() -> None:
    calls: list[int] = []

    def call(n: int) -> None:
        calls.append(n)
        if n == 2:
            raise Poison(n)

    with TestDriver(app_of(WAYS[3], call, RETRY, kstream.DeadLetter()), partitions=1) as driver:
        feed(driver, range(5))
        driver.commit()
        first = calls.count(2)
        for seconds, more in ((0.99, 0), (0.02, 1), (1.97, 1), (0.04, 2), (3.9, 2), (0.2, 3)):
            driver.advance(seconds)
            assert calls.count(2) == first + more
        assert put_out(driver) == [0, 1, 3, 4]
        (letter,) = driver.cluster.records("failing-dead-letters")
        headers = dict(letter.headers or ())
        assert headers["kstream.attempts"] == b"4"
        assert headers["kstream.phase"] == b"process"
        assert headers["kstream.agent"] == b"agent agent"
        measures = driver.worker.measures
        assert measures.retried["in", "Poison"] == 3
        assert measures.dead_letters["failing-dead-letters", "Poison"] == 1


def test_a_wait_holds_up_its_own_task_only() -> None:
    app = kstream.App("failing", on_error=[RETRY])
    source, out = app.topic("in", key=str, value=int, partitions=2), app.topic("out", key=str, value=int)

    @app.agent(source, to=out)
    def agent(n: int) -> int:
        if n == 0:
            raise Poison(n)
        return n

    with TestDriver(app) as driver:
        for n in range(20):
            driver.cluster.append("in", None, b"%d" % n, partition=n % 2)
        assert sorted(driver.values(out)) == list(range(1, 20, 2))


def test_a_crash_begins_the_attempts_anew_and_loses_nothing() -> None:
    calls: list[int] = []

    def call(n: int) -> None:
        calls.append(n)
        if n == 2 and calls.count(2) < 5:
            raise Poison(n)

    with TestDriver(app_of(WAYS[0], call, RETRY), partitions=1) as driver:
        feed(driver, range(5))
        driver.commit()
        driver.advance(1.1)
        driver.crash()
        for _ in range(4):
            driver.advance(30.0)
        assert put_out(driver) == list(range(5))


def test_what_does_not_decode_is_not_tried_again_unless_that_is_said() -> None:
    for retry, rests in ((RETRY, False), (kstream.Retry(1, phase="decode"), True)):
        with TestDriver(app_of(WAYS[0], lambda n: None, retry, kstream.Skip()), partitions=1) as driver:
            driver.cluster.append("in", b"k", b"\xff")
            driver.process()
            (task,) = driver.worker.tasks.values()
            assert (task.rests_until > driver.worker.now) is rests


class Passing(kstream.Retryable):
    pass


class Lasting(kstream.NonRetryable):
    pass


@pytest.mark.parametrize(
    ("error", "policy", "phase", "fits"),
    [
        (Passing(), kstream.Retry(), "decode", True),
        (Lasting(), kstream.Retry(), "process", False),
        (Lasting(), kstream.Retry(on=(Exception,)), "process", False),
        (ValueError(), kstream.Retry(), "process", True),
        (ValueError(), kstream.Retry(), "produce", True),
        (ValueError(), kstream.Retry(), "encode", False),
        (ValueError(), kstream.Retry(on=(ValueError,)), "encode", True),
        (KeyError(), kstream.Retry(on=(ValueError,)), "process", False),
        (KeyError(), kstream.Skip(phase="decode"), "process", False),
        (KeyError(), kstream.Skip(phase=("decode", "process")), "process", True),
    ],
    ids=range(10),
)
def test_which_policy_fits(error: Exception, policy: Any, phase: Any, fits: bool) -> None:
    assert policy.fits(error, phase) is fits


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0}, {"attempts": 1.5}, {"attempts": True}, {"base": -1}, {"base": 5, "max": 1},
        {"multiplier": 0.5}, {"jitter": 1}, {"jitter": float("nan")}, {"phase": "later"}, {"base": "1"},
    ],
    ids=range(10),
)  # fmt: skip
def test_a_retry_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TopologyError, match=next(iter(wrong))):
        kstream.Retry(**wrong)


def test_agents_have_policies_of_their_own_before_the_stream_s_and_the_app_s() -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter("of-app")])
    one, two, three = (app.topic(name, key=str, value=int, partitions=1) for name in ("one", "two", "three"))
    out = app.topic("out", key=str, value=int)

    def fail(n: int) -> int:
        raise Poison(n)

    def name_of(n: int) -> str:
        return str(n)

    app.agent(one, name="own", on_error=[kstream.DeadLetter("of-agent")])(fail)
    app.stream(two, on_error=[kstream.DeadLetter("of-stream")]).map(fail, value=int).to(out)
    behind = app.stream(three, on_error=[kstream.DeadLetter("of-three")]).group_by(name_of, key=str, name="by")
    behind.aggregate(int, lambda total, n: fail(n), name="sums")
    four = app.topic("four", key=str, value=int, partitions=1)
    app.agent(four, name="none")(fail)
    with TestDriver(app, partitions=1) as driver:
        for topic in (one, two, three, four):
            driver.send(topic, 1, key="k")
        driver.commit()
        for topic in ("of-agent", "of-stream", "of-three", "of-app"):
            assert len(driver.cluster.records(topic)) == 1


def test_a_topic_has_one_set_of_policies() -> None:
    app = kstream.App("failing")
    source = app.topic("in", key=str, value=int)
    app.stream(source, on_error=[kstream.Skip()])
    app.stream(source, on_error=[kstream.Skip()])
    app.stream(source)
    with pytest.raises(TopologyError, match="two on_error"):
        app.stream(source, on_error=[kstream.DeadLetter()])


def test_an_empty_list_stops_the_task_though_the_app_would_skip() -> None:
    app = kstream.App("failing", on_error=[kstream.Skip()])

    @app.agent(app.topic("in", key=str, value=int), on_error=[])
    def agent(n: int) -> None:
        raise Poison(n)

    driver = TestDriver(app)
    with pytest.raises(ProcessingError):
        driver.send(app.topology().parts[0].sources[0].topic, 1)
    driver.close(commit=False)


def test_from_a_share_of_failures_on_nothing_more_is_left_out() -> None:
    def call(n: int) -> None:
        if n >= 100 and n % 2:
            raise Poison(n)

    driver = TestDriver(app_of(WAYS[0], call, kstream.Skip()), partitions=1, max_error_rate=0.2)
    feed(driver, range(110))
    driver.commit()
    with pytest.raises(ProcessingError) as caught:
        feed(driver, range(110, 400))
        driver.process()
    assert "max_error_rate=0.2" in str(caught.value)
    assert driver.worker.measures.skipped["in", "Poison"] >= 10
    driver.close(commit=False)


def by_an_agent(app: kstream.App, source: kstream.Topic[str, int]) -> None:
    table = app.table("seen", key=str, value=int, default=0)

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        table[ctx.key] += n


def by_an_aggregation(app: kstream.App, source: kstream.Topic[str, int]) -> None:
    app.stream(source).group_by_key().aggregate(int, lambda total, n: total + n, name="seen")


@pytest.mark.parametrize("declare", [by_an_agent, by_an_aggregation])
def test_a_table_entry_that_cannot_be_read_any_more_has_a_phase_and_is_named(declare: Callable[..., None]) -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter(phase="restore")])
    source = app.topic("in", key=str, value=int, partitions=1)
    declare(app, source)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="k1")
        driver.commit()
        (task,) = driver.worker.tasks.values()
        task.backend.write({"seen": [(b"k0", b"{}")]}, {})
        feed(driver, [0, 1])
        driver.commit()
        (letter,) = driver.cluster.records("failing-dead-letters")
        headers = dict(letter.headers or ())
        assert headers["kstream.phase"] == b"restore"
        assert b"table 'seen'['k0']" in (headers["__streams.errors.message"] or b"")


def test_an_agent_that_is_too_slow_has_failed() -> None:
    app = kstream.App("failing", on_error=[kstream.DeadLetter(on=(AgentTooSlow,))])
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int)
    cancelled: list[int] = []

    @app.agent(source, to=out, timeout=0.05)
    async def agent(stream: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
        async for n in stream:
            try:
                if n == 2:
                    await asyncio.Event().wait()
                yield n
            except asyncio.CancelledError:
                cancelled.append(n)
                raise

    with TestDriver(app, partitions=1) as driver:
        feed(driver, range(5))
        assert driver.values(out) == [0, 1, 3, 4]
        assert cancelled and set(cancelled) == {2}
        assert put_out(driver, "failing-dead-letters") == [2]


@pytest.mark.parametrize("timeout", [0, -1, True, float("inf"), "5"], ids=range(5))
def test_a_timeout_that_cannot_be_is_refused(timeout: Any) -> None:
    app = kstream.App("failing")
    with pytest.raises(TopologyError, match="timeout"):

        @app.agent(app.topic("in", key=str, value=int), timeout=timeout)
        async def agent(stream: kstream.AgentStream[str, int]) -> None: ...


def test_a_function_cannot_be_interrupted() -> None:
    app = kstream.App("failing")
    with pytest.raises(TopologyError, match="async agents"):

        @app.agent(app.topic("in", key=str, value=int), timeout=1.0)
        def agent(n: int) -> None: ...


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize("declare", WAYS)
def test_an_exception_that_cannot_say_what_it_is_about_is_as_any_other(declare: Declare) -> None:
    def call(n: int) -> None:
        if n in (1, 4, 5):
            raise Mute(n)

    with TestDriver(app_of(declare, call, kstream.DeadLetter()), partitions=1) as driver:
        feed(driver, range(8))
        driver.commit()
        assert put_out(driver) == [0, 2, 3, 6, 7]
        assert put_out(driver, "failing-dead-letters") == [1, 4, 5]
        (letter, *_) = driver.cluster.records("failing-dead-letters")
        assert b"Mute (its text cannot be had)" in (dict(letter.headers or ())["__streams.errors.message"] or b"")


@pytest.mark.parametrize(
    "policies",
    [(kstream.Skip(),), (kstream.DeadLetter(),), (RETRY, kstream.Skip()), ()],
    ids=["skip", "dead letter", "retry", "none"],
)
def test_each_failure_is_counted_at_its_operator(policies: tuple[Any, ...]) -> None:
    """With and without a policy."""
    app = kstream.App("failing", on_error=list(policies))
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int)
    app.stream(source).map(lambda n: n, value=int).filter(lambda n: 10 // n > 0).to(out)
    driver = TestDriver(app, partitions=1)
    driver.cluster.append("in", b"k", b"1")
    driver.cluster.append("in", b"k", b"0")
    driver.cluster.append("in", b"k", b"no number")
    for _ in range(4):
        try:
            driver.advance(100.0)
        except ProcessingError:
            assert not policies
    (part,) = driver.worker.measures.parts.values()
    failed = {name: count for name, count in zip(part.operators, part.failed, strict=True) if count}
    if not policies:
        assert failed.keys() == {"filter in-map-filter"}  # it stands there
    else:
        # where it is decoded: and once more, since what comes before it is left out after it was decided upon
        tried = {"filter in-map-filter": 4, "map in-map": 2} if RETRY in policies else None
        assert failed == (tried or {"filter in-map-filter": 1, "map in-map": 1})
    driver.close(commit=False)


def test_the_policies_of_the_step_decide_and_the_letter_names_it_once_care_is_taken_too() -> None:
    """Where the loop goes on without the record, the error was caught within the step."""
    app = kstream.App("failing", on_error=[kstream.Fail()])
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int)
    app.stream(source, on_error=[kstream.DeadLetter()]).filter(lambda n: 10 // n > 0).to(out)
    with TestDriver(app, partitions=1) as driver:
        for _ in range(3):
            feed(driver, [1, 0, 2])
            driver.commit()
        letters = [dict(row.headers or ()) for row in driver.cluster.records("failing-dead-letters")]
        assert [headers["kstream.agent"] for headers in letters] == [b"filter in-filter"] * 3


@pytest.mark.parametrize("policy", [kstream.Skip(), kstream.DeadLetter()], ids=["skip", "dead letter"])
def test_what_is_left_out_is_counted_once_it_is_committed(policy: Any) -> None:
    """A record that was left out is doubted when one before it is left out later, and fails again: it is one, all the
    same. Here the commit fails too, and all of it is done again."""
    app = kstream.App("failing", on_error=[policy])
    source, out = app.topic("in", key=str, value=int, partitions=1), app.topic("out", key=str, value=int)
    seen: list[int] = []

    @app.agent(source, to=out)
    def agent(n: int) -> int:
        seen.append(n)
        if n in (0, 4) or (n == 2 and 4 in seen):
            raise Poison(n)
        return n

    with TestDriver(app, partitions=1) as driver:
        feed(driver, range(1))
        driver.commit()  # care is taken from here on
        feed(driver, range(1, 6))
        driver.cluster.faults.plan("producer.commit", AbortRequired("no"), skip=0)
        driver.commit()
        measures = driver.worker.measures
        assert sum(measures.skipped.values()) + sum(measures.dead_letters.values()) == 1, "nothing more is committed"
        driver.commit()
        counts = measures.skipped if isinstance(policy, kstream.Skip) else measures.dead_letters
        assert put_out(driver) == [1, 3, 5]
        assert list(counts.values()) == [3]


@pytest.mark.parametrize("ways", ["function", "generator", "async", "branches"])
def test_the_first_failures_of_all_tasks_of_a_sub_topology_cost_one_abort(ways: str) -> None:
    """Where what was done with a record has to be taken back: once one has failed, the other tasks take care too."""
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    def call(n: int) -> int:
        if n % 10 == 7:
            raise Poison(n)
        return n

    if ways == "function":

        @app.agent(source, to=out)
        def function(n: int, ctx: kstream.Context[str]) -> int:
            return call(n)

    elif ways == "generator":

        @app.agent(source, to=out)
        def generator(n: int, ctx: kstream.Context[str]) -> Any:
            yield call(n)

    elif ways == "async":

        @app.agent(source, to=out)
        async def agent(values: kstream.AgentStream[str, int]) -> AsyncIterator[int]:
            async for n in values:
                yield call(n)

    else:
        numbers = app.stream(source)
        numbers.group_by_key().count(name="n")
        numbers.map(call, value=int).to(out)

    with TestDriver(app, partitions=4) as driver:
        for n in range(400):
            driver.cluster.append("in", b"k%d" % n, b"%d" % n)
        driver.commit()
        assert {task.partition for task in driver.worker.tasks.values() if task.records} == {0, 1, 2, 3}
        assert aborts(driver) == 1
        letters = driver.cluster.records("failing-dead-letters")
        assert sorted(int(one.value or b"") for one in letters) == [n for n in range(400) if n % 10 == 7]
        found = sorted(int(record.value or b"") for record in driver.cluster.records("out"))
        assert found == [n for n in range(400) if n % 10 != 7]


def test_care_that_is_taken_on_another_s_account_ends_sooner() -> None:
    app = kstream.App("failing", on_error=[kstream.Skip()])
    source, other = app.topic("in", key=str, value=int), app.topic("other", key=str, value=int)

    @app.agent(source)
    def agent(n: int, ctx: kstream.Context[str]) -> None:
        if n == 1:
            raise Poison(n)

    @app.agent(other)
    def beside(n: int) -> None:
        pass

    with TestDriver(app, partitions=2) as driver:
        keys = {partition_of(b"%d" % n, 2): b"%d" % n for n in range(9)}
        for at in (0, 1):
            driver.cluster.append("in", keys[at], b"0")
            driver.cluster.append("other", keys[at], b"0")
        driver.commit()
        driver.cluster.append("in", keys[0], b"1")
        driver.commit()

        def careful() -> set[str]:
            return {name for name, task in driver.worker.tasks.items() if task.handling.care}

        for at in (0, 1):
            for _ in range(TRIAL - 1):
                driver.cluster.append("in", keys[at], b"0")
                driver.cluster.append("other", keys[at], b"0")
        driver.commit()
        assert careful() == {"in/0", "in/1"}
        for at in (0, 1):
            driver.cluster.append("in", keys[at], b"0")
        driver.commit()
        assert careful() == {"in/0"}
        assert aborts(driver) == 1


@pytest.mark.parametrize("what", ["key", "large key", "headers"])
@pytest.mark.parametrize("form", ["map", "agent", "async"])
def test_a_key_or_headers_that_cannot_be_read_are_the_failure_of_their_record_only(form: str, what: str) -> None:
    """Those of a batch are read together, when the first record asks for its own."""
    app = kstream.App("failing", on_error=[kstream.DeadLetter()])
    source, out = app.topic("in", key=int, value=int), app.topic("out", key=int, value=int)

    def asks(n: int, ctx: kstream.Context[int]) -> int:
        assert (ctx.headers if what == "headers" else ctx.key) is not None
        return n

    if form == "map":
        app.stream(source).map(asks, value=int).rekey(lambda n: n, key=int).to(out)
    elif form == "agent":

        @app.agent(source, to=out)
        def agent(n: int, ctx: kstream.Context[int]) -> kstream.Record[int, int]:
            return kstream.Record(n, asks(n, ctx))

    else:

        @app.agent(source, to=out)
        async def waits(values: kstream.AgentStream[int, int], ctx: kstream.Context[int]) -> AsyncIterator[Any]:
            async for n in values:
                yield kstream.Record(n, asks(n, ctx))

    bad = {"key": b"no number", "large key": b"1" * 200, "headers": b"1"}[what]
    with TestDriver(app, partitions=1, max_record_bytes=100) as driver:
        for n in range(60):
            fails = n % 10 == 7
            headers = [("h", b"1" * 200 if fails and what == "headers" else b"1")]
            driver.cluster.append("in", bad if fails else b"1", b"%d" % n, headers=headers)
        driver.commit()
        letters = [int(one.value or b"") for one in driver.cluster.records("failing-dead-letters")]
        assert letters == [n for n in range(60) if n % 10 == 7]
        found = [int(one.value or b"") for one in driver.cluster.records("out")]
        assert found == [n for n in range(60) if n % 10 != 7]
