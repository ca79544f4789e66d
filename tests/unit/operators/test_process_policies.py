"""Timers that fail: tried again, skipped, or their task stops. No record is blamed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.codecs.timers import key_and_name
from kstream.errors import AbortRequired, KStreamError, TimerFailed, TopologyError
from kstream.testing import TestDriver
from unit.operators.test_process import Asked, Definition

MS = timedelta(milliseconds=1)


class Failing(kstream.Processor[str, int, str]):
    """Its timers fail as often as the records of their keys say."""

    n = kstream.ValueState(int, default=0)
    fails: dict[str, int]
    clock: Any

    def process(self, value: int, ctx: Any) -> None:
        self.n.value += 1
        ctx.emit(f"{ctx.key}{value}")
        if value:
            ctx.timer(after=10 * MS, name="t", clock=self.clock)

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
        self.n.value += 10
        ctx.emit(f"{ctx.key} timer {self.n.value}")
        if self.fails.get(ctx.key, 0) > 0:
            self.fails[ctx.key] -= 1
            raise ValueError("no")


def app_of(*policies: Any, clock: Any = "event", **fails: int) -> tuple[kstream.App, Any, Any]:
    made: Any = type("Made", (Failing,), {"clock": clock, "fails": dict(fails)})
    app = kstream.App("failing", on_error=list(policies))
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    app.stream(source).process(made, name="p").to(out)
    return app, source, out


def send_all(driver: TestDriver, source: Any, *records: tuple[str, int, int]) -> None:
    for key, value, at in records:
        driver.cluster.append("in", key.encode(), str(value).encode(), at)
    driver.process()


RECORDS = (("a", 1, 1000), ("b", 2, 1001), ("a", 0, 1005), ("c", 3, 1020), ("d", 0, 1020), ("e", 0, 1050))
GOOD = ["a1", "b2", "a0", "a timer 12", "b timer 11", "c3", "d0", "c timer 11", "e0"]


def test_a_timer_that_fails_stops_its_task_and_says_which() -> None:
    app, source, _ = app_of(a=99)
    with TestDriver(app, partitions=1) as driver:
        said = r"task in/0: on_timer of processor 'p' failed for key 'a', timer 't' of 1010 \(ms\): ValueError: no"
        with pytest.raises(KStreamError, match=said) as found:
            send_all(driver, source, *RECORDS)
        assert isinstance(found.value.__cause__, TimerFailed) and found.value.__cause__.at == 1010


@pytest.mark.parametrize("commits", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_a_timer_is_skipped(together: bool, commits: bool) -> None:
    app, source, out = app_of(kstream.DeadLetter(), kstream.Skip(phase="timer"), a=99, c=99)
    with TestDriver(app, partitions=1) as driver:
        for one in [RECORDS] if together else [(record,) for record in RECORDS]:
            send_all(driver, source, *one)
            if commits:
                driver.commit()
        assert driver.values(out) == [one for one in GOOD if "a t" not in one and "c t" not in one]
        assert driver.cluster.records("failing-dead-letters") == []
        kept = {record.key: record.value for record in driver.cluster.records("failing-p-timers-changelog")}
        assert not any(kept.values())
        assert driver.worker.measures.errors["timer", "ValueError"] >= 2
        driver.crash()
        assert driver.values(out) == [one for one in GOOD if "a t" not in one and "c t" not in one]


@pytest.mark.parametrize("together", [False, True])
def test_a_timer_is_tried_again_and_what_comes_behind_it_waits(together: bool) -> None:
    app, source, out = app_of(kstream.Retry(5, base=2.0, jitter=0.0), a=2, c=1)
    with TestDriver(app, partitions=1) as driver:
        for one in [RECORDS] if together else [(record,) for record in RECORDS]:
            send_all(driver, source, *one)
        assert not any("timer" in one for one in driver.values(out))
        driver.advance(2.1)
        assert not any("timer" in one for one in driver.values(out))
        driver.advance(4.1)
        assert driver.values(out) == GOOD[: GOOD.index("c timer 11")]
        driver.advance(2.1)
        assert driver.values(out) == GOOD


class SetAnew(kstream.Processor[str, int, str]):
    """A record says for when its timer is set; 0 sets none. The first firing fails."""

    fails: list[int]

    def process(self, value: int, ctx: Any) -> None:
        if value:
            ctx.timer(at=value)
        ctx.emit(f"{value}")

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
        if self.fails[0]:
            self.fails[0] -= 1
            raise ValueError("no")
        ctx.emit(f"fired {timer.at}")


@pytest.mark.parametrize("aborts", [False, True])
@pytest.mark.parametrize("fails", [1, 2])
@pytest.mark.parametrize("way", ["together", "apart", "committed"])
def test_a_timer_that_is_set_anew_for_the_same_time_is_not_the_one_that_was_skipped(
    way: str, fails: int, aborts: bool
) -> None:
    made: Any = type("Made", (SetAnew,), {"fails": [fails]})
    app = kstream.App("failing", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    app.stream(source).process(made, name="p").to(out)
    with TestDriver(app, partitions=1) as driver:
        for value, at in ((50, 1), (0, 60), (50, 60), (0, 70), (50, 70), (0, 80)):
            driver.cluster.append("in", b"k", str(value).encode(), at)
            if way != "together":
                driver.process()
            if way == "committed":
                driver.commit()
        driver.process()
        if aborts:
            driver.cluster.faults.plan("producer.commit", AbortRequired("no"), skip=0)
        driver.commit()
        fired = ["50", "fired 50"] if fails == 1 else ["50"]
        assert driver.values(out) == ["50", "0", *fired, "0", "50", "fired 50", "0"]


def test_after_the_last_attempt_the_next_policy_decides() -> None:
    app, source, out = app_of(kstream.Retry(2, base=1.0, jitter=0.0), kstream.Skip(), a=99)
    with TestDriver(app, partitions=1) as driver:
        send_all(driver, source, *RECORDS)
        for _ in range(5):
            driver.advance(2.0)
        assert driver.values(out) == [one for one in GOOD if "a timer" not in one]


def test_a_timer_of_the_wall_clock_that_fails_at_a_commit_blames_no_record() -> None:
    app, source, out = app_of(kstream.Retry(3, base=2.0, jitter=0.0), kstream.DeadLetter(), clock="wall", a=2)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a")
        driver.commit()
        driver.cluster.append("in", b"c", b"0")
        driver.clock.advance(1)
        driver.commit()
        driver.advance(2.1)
        assert driver.values(out) in (["a1"], ["a1", "c0"])
        driver.advance(4.1)
        assert sorted(driver.values(out)) == ["a timer 11", "a1", "c0"]
        assert driver.cluster.records("failing-dead-letters") == []


def test_what_time_alone_makes_due_is_tried_again() -> None:
    """Time goes on because all inputs are idle, and no record comes."""
    app, source, out = app_of(kstream.Retry(3, base=2.0, jitter=0.0), a=2)
    with TestDriver(app, partitions=2, idle_timeout=5.0) as driver:
        driver.send(source, 1, key="a", timestamp=1000, partition=0)
        driver.send(source, 0, key="z", timestamp=1011, partition=0)
        for _ in range(4):
            driver.advance(3.0)
        assert driver.values(out) == ["a1", "a timer 11", "z0"]


def test_what_is_done_with_a_timers_result_blames_no_record() -> None:
    app = kstream.App("failing", on_error=[kstream.Skip(phase="timer"), kstream.DeadLetter()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)

    class Sets(kstream.Processor[str, int, int]):
        def process(self, value: int, ctx: Any) -> None:
            ctx.timer(after=MS)

        def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
            ctx.emit(1)
            ctx.emit(0)

    app.stream(source).process(Sets, name="p").map(lambda n: 1 // n, value=int).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.send(source, 1, key="a", timestamp=1000)
        driver.send(source, 1, key="a", timestamp=1010)
        driver.commit()
        (letter,) = driver.cluster.records("failing-dead-letters")
        assert (letter.key, letter.value, letter.timestamp) == (b"a", b"0", 1001)
        assert driver.values(out) == [1]


def test_a_record_that_fails_is_taken_back_with_the_timers_it_made_due() -> None:
    class Sometimes(Failing):
        clock = "event"
        fails: dict[str, int] = {}  # noqa: RUF012

        def process(self, value: int, ctx: Any) -> None:
            super().process(value, ctx)
            if value < 0:
                raise ValueError(value)

    app = kstream.App("failing", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    app.stream(source).process(Sometimes, name="p").to(out)
    records = (("a", 1, 1000), ("b", -1, 1005), ("c", -1, 1020), ("d", 1, 1020), ("a", -2, 1021), ("e", 0, 1040))
    for together in (False, True):
        for commits in (False, True):
            with TestDriver(app, partitions=1) as driver:
                for one in [records] if together else [(record,) for record in records]:
                    send_all(driver, source, *one)
                    if commits:
                        driver.commit()
                assert driver.values(out) == ["a1", "a timer 11", "d1", "d timer 11", "e0"]


@pytest.mark.parametrize("policy", [kstream.DeadLetter, kstream.RetryLater])
def test_what_a_timer_cannot_have_is_refused(policy: Any) -> None:
    with pytest.raises(TopologyError, match="a timer is no record"):
        policy(phase=("process", "timer"))


def test_a_dead_letter_covers_no_timers() -> None:
    kstream.App("a", on_error=[kstream.DeadLetter(), kstream.Skip(phase="timer")])
    with pytest.raises(TopologyError, match="can never decide"):
        kstream.App("a", on_error=[kstream.Skip(), kstream.Skip(phase="timer")])


class AskedOrFailing(Asked):
    def process(self, value: list[Any], ctx: Any) -> None:
        super().process(value, ctx)
        if value[0] == "fail":
            raise ValueError(value)

    def on_timer(self, timer: kstream.Timer, ctx: Any) -> None:
        super().on_timer(timer, ctx)
        if timer.at % 5 == 0:
            raise ValueError(timer)


class DefinitionWithFailures(Definition):
    def fire(self, at: int, key: str, name: str) -> None:
        if at % 5 == 0:
            del self.timers[key, name]  # is skipped
        else:
            super().fire(at, key, name)

    def record(self, key: str, what: str, name: str, after: int, at: int) -> None:
        if what == "fail":  # time goes on, and nothing else
            n, out = dict(self.n), len(self.out)
            super().record(key, what, name, after, at)
            if self.out[out:]:
                self.n[key] -= 1
                self.out.pop()
            assert self.n.get(key, 0) >= n.get(key, 0)
        else:
            super().record(key, what, name, after, at)


failing_steps = st.tuples(
    st.sampled_from("kl"),
    st.sampled_from(["set", "set", "set", "cancel", "count", "fail"]),
    st.sampled_from("abc"),
    st.integers(-6, 12),
    st.integers(0, 40).map(lambda at: 1000 + at),
)


failing_scripts = st.lists(
    st.lists(failing_steps, min_size=1, max_size=6) | st.sampled_from(["commit", "crash"]), max_size=12
)


@given(failing_scripts, st.sampled_from(["memory", "rocksdb"]))
def test_records_and_timers_that_fail_are_left_out_and_nothing_else(script: list[Any], backend: str) -> None:
    app = kstream.App("asked", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=list[Any]), app.topic("out", key=str, value=str)
    app.stream(source).process(AskedOrFailing, name="p").to(out)
    check_failures(script, backend, app, source, out)


def check_failures(script: list[Any], backend: str, app: kstream.App, source: Any, out: Any) -> None:
    definition = DefinitionWithFailures(0)
    with TestDriver(app, partitions=1, backend=backend) as driver:
        for part in script:
            if part == "commit":
                driver.commit()
            elif part == "crash":
                driver.crash()
            else:
                for key, what, name, after, at in part:
                    driver.cluster.append("in", key.encode(), source.value.codec.encode([what, name, after]), at)
                    definition.record(key, what, name, after, at)
                driver.process()
        assert [(one.key, one.value, one.timestamp) for one in driver.records(out)] == definition.out
        kept = {record.key: record.value for record in driver.cluster.records("asked-p-timers-changelog")}
        left = {key_and_name(key or b"") for key, value in kept.items() if value is not None}
        assert left == {(key.encode(), name) for key, name in definition.timers}
