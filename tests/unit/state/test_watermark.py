"""The time of a task: the least over its inputs, never back."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from kstream.state.watermark import IDLE, UNKNOWN, Watermark


def test_one_input_less_what_it_is_out_of_order() -> None:
    time = Watermark({"in": 5}, {})
    assert time.running("in", [10, 8, 20, 15, 21]) == [5, 5, 15, 15, 16]
    assert time.now == time.of_input("in") == 16


def test_the_least_of_several() -> None:
    time = Watermark({"a": 0, "b": 0}, {})
    assert time.running("a", [10, 20]) == [UNKNOWN, UNKNOWN]
    assert time.running("b", [5, 15, 30]) == [5, 15, 20]
    assert time.running("a", [25, 40]) == [25, 30]


def test_an_idle_input_holds_nothing_back_until_something_comes() -> None:
    time = Watermark({"a": 0, "b": 0}, {})
    time.running("a", [10])
    assert time.is_idle("b", 0.0) and not time.is_idle("b", 0.0)
    assert time.now == 10 and not time.idle
    assert time.running("b", [3]) == [10]  # too late to hold back what has been
    assert time.running("a", [20]) == [10]


def test_where_all_are_idle_it_stands() -> None:
    time = Watermark({"a": 0}, {})
    time.running("a", [10])
    assert time.is_idle("a", 0.0) and time.idle and time.now == 10
    assert time.running("a", [11]) == [11] and not time.idle


def test_a_repartition_topic_has_the_least_that_its_tasks_said() -> None:
    time = Watermark({}, {"by": 3})
    time.heard("by", 0, 10)
    time.heard("by", 1, 20)
    assert time.now == UNKNOWN  # one has not been heard of
    assert time.running("by", [99, 100]) == [UNKNOWN] * 2  # its records do not move it
    time.heard("by", 2, IDLE)
    assert time.now == 10
    time.heard("by", 2, 4)  # it has something again
    time.heard("by", 0, 30)
    assert time.now == 10
    time.heard("by", 2, 25)
    assert time.now == 20


def test_what_is_taken_back() -> None:
    time = Watermark({"a": 0, "b": 0}, {})
    time.running("a", [10])
    time.running("b", [10])
    time.committed()
    time.keep()
    time.running("a", [30])
    time.is_idle("b", 0.0)
    assert time.now == 30
    time.take_back()
    assert time.now == 10
    time.running("b", [12])
    time.running("a", [12])
    time.rewind()
    assert time.now == 10 and time.of_input("b") == 10


def test_what_is_shown_of_an_input_is_what_holds_time_back() -> None:
    time = Watermark({}, {"by": 3})
    assert time.seen() == {"by": (UNKNOWN, False)}
    time.heard("by", 0, 1000)
    time.heard("by", 1, IDLE)
    assert time.seen() == {"by": (UNKNOWN, False)}  # nothing is heard of the last
    time.heard("by", 2, IDLE, 700)
    assert time.now == 1000 and time.seen() == {"by": (1000, False)}
    time.heard("by", 0, 5000)
    time.heard("by", 2, 4000)
    assert time.seen() == {"by": (4000, False)}
    for task in (0, 2):
        time.heard("by", task, IDLE)
    assert time.now == 5000 and time.seen() == {"by": (5000, True)}
    assert time.of_input("by") == UNKNOWN  # what is committed is of all: each may come back


def test_after_a_restart_it_is_what_was_committed() -> None:
    time = Watermark({"a": 0}, {"by": 2})
    time.seed(50, {"a": 70, "by": 40})
    assert time.now == 50 and time.of_input("a") == 70 and time.of_input("by") == 40
    time.heard("by", 0, 60)
    assert time.now == 50  # of the other no more is known than 40
    time.heard("by", 1, 55)
    assert time.now == 55


def test_a_task_that_no_longer_says_that_it_is_idle_is_not_believed() -> None:
    now = [0.0]
    time = Watermark({}, {"by": 2}, 10.0, lambda: now[0])
    time.heard("by", 0, 10)
    time.heard("by", 1, IDLE)
    assert time.now == 10
    now[0] = 9.0
    time.doubt()
    time.heard("by", 1, IDLE)
    now[0] = 15.0
    time.doubt()
    time.heard("by", 0, 20)
    assert time.now == 20
    now[0] = 20.0
    time.doubt()
    time.heard("by", 0, 30)
    assert time.now == 20


TOPICS = st.sampled_from("ab")
MOVES = st.one_of(
    st.tuples(st.just("record"), TOPICS, st.integers(0, 100)),
    st.tuples(st.just("all are idle"), st.just(""), st.integers(0, 10)),
    st.tuples(st.just("is idle"), TOPICS, st.integers(0, 10)),
    st.tuples(st.just("time goes on"), st.just(""), st.integers(1, 50)),
    st.tuples(st.sampled_from(["takes back", "aborts"]), TOPICS, st.integers(0, 200)),
)


@given(st.lists(MOVES, max_size=30))
@example([("record", "a", 1), ("all are idle", "", 0), ("takes back", "a", 1), ("time goes on", "", 1)])
@example([("record", "a", 1), ("all are idle", "", 0), ("aborts", "a", 1), ("time goes on", "", 1)])
def test_what_is_taken_back_leaves_no_trace(moves: list[tuple[str, str, int]]) -> None:
    """Of two that live through the same, one is given records besides that fail: the time is that of the other, now and
    by the clock."""
    clock = [0.0]
    plain, tried = (Watermark({"a": 0, "b": 0}, {}, clock=lambda: clock[0], by_clock="ab") for _ in range(2))
    for move, topic, seconds in moves:
        if move == "time goes on":
            clock[0] += seconds
        elif move in ("takes back", "aborts"):
            tried.committed()
            tried.keep()
            tried.running(topic, [seconds * 1000])
            tried.take_back() if move == "takes back" else tried.rewind()
        elif move == "record":
            for one in (plain, tried):
                one.running(topic, [seconds * 1000])
        else:
            for one in (plain, tried):
                for idle in topic or "ab":
                    one.is_idle(idle, clock[0] - seconds)
                one.go_by_clock()
        assert tried.by_clock() == plain.by_clock() and tried.now == plain.now
        assert tried.seen() == plain.seen()


def test_a_task_that_there_is_none_of_any_more_holds_time_back_for_a_while_only() -> None:
    """The input before was another one, with more partitions. Its tasks' marks lie in the backlog, and they would say
    nothing more for ever. One that was added since says something soon, and holds back from then on."""
    now = [0.0]
    time = Watermark({}, {"by": 1}, 10.0, lambda: now[0])
    time.committed()
    time.heard("by", 2, 4, old=True)
    time.heard("by", 1, 5, old=True)
    time.heard("by", 0, 20)
    time.heard("by", 1, 6)
    assert time.now == 4
    now[0] = 11.0
    time.doubt()
    time.heard("by", 2, 4, old=True)  # as it is read again
    time.heard("by", 0, 30)
    assert time.now == 6
    time.heard("by", 1, 25)
    time.heard("by", 2, 26, old=True, more=True)
    assert time.now == 25
    time.rewind()
    time.heard("by", 0, 40)
    assert time.now == 40


def test_what_was_said_beside_such_a_task_counts() -> None:
    now = [0.0]
    time = Watermark({}, {"by": 1}, 10.0, lambda: now[0])
    time.heard("by", 1, 5, old=True)
    now[0] = 11.0
    time.doubt()
    time.heard("by", 0, 20, more=True, old=True)
    time.heard("by", 1, 6, old=True)
    assert time.now == 20


def test_what_would_be_is_without_such_a_task_too() -> None:
    now = [0.0]
    time = Watermark({"own": 0}, {"by": 1}, 10.0, lambda: now[0])
    time.heard("by", 1, 5, old=True)
    time.heard("by", 0, 20)
    now[0] = 11.0
    assert time.would_be("own", [30]) == time.running("own", [30]) == [20]
