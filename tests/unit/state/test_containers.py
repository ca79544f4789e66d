"""Dicts and lists whose entries have times, against plain ones beside a list of times."""

from __future__ import annotations

import copy
import heapq
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.state.containers import TimedDict, TimedList
from kstream.state.forms import NEVER


class Now:
    at = 100

    def __call__(self) -> int:
        return self.at


def a_list(values: list[Any], times: list[int]) -> tuple[TimedList, Now]:
    now = Now()
    return TimedList(values, times, now), now


LIST_CHANGES: dict[str, Any] = {
    "append": lambda one: one.append((7, 200)),
    "extend": lambda one: one.extend(iter([(8, 200), (9, 200)])),
    "extend by itself": lambda one: one.extend(one),
    "insert": lambda one: one.insert(1, (5, 200)),
    "insert from the end": lambda one: one.insert(-1, (5, 200)),
    "set": lambda one: one.__setitem__(-1, (4, 200)),
    "set a slice": lambda one: one.__setitem__(slice(1, 2), [(1, 200), (2, 200)]),
    "set every other": lambda one: one.__setitem__(slice(None, None, 2), [(6, 200)] * len(one[::2])),
    "delete": lambda one: one.__delitem__(0),
    "delete a slice": lambda one: one.__delitem__(slice(0, 2)),
    "pop": lambda one: one.pop(),
    "pop the first": lambda one: one.pop(0),
    "clear": lambda one: one.clear(),
    "reverse": lambda one: one.reverse(),
    "add": lambda one: one.__iadd__([(3, 200)]),
    "three times": lambda one: one.__imul__(3),
    "no times": lambda one: one.__imul__(0),
}


class Pairs(list[tuple[int, int]]):
    """Values with their times: what a change does to these, it does to values and times."""


@pytest.mark.parametrize("change", LIST_CHANGES)
@given(values=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 100)), min_size=2, max_size=5))
def test_a_list_has_the_times_of_its_elements(change: str, values: list[tuple[int, int]]) -> None:
    pairs = Pairs(values)
    LIST_CHANGES[change](pairs)
    timed, now = a_list([value for value, _ in values], [at for _, at in values])
    now.at = 200

    class Bare:
        """Gives a change the values only."""

        def __getattr__(self, name: str) -> Any:
            return lambda *given: getattr(timed, name)(*map(bare, given))

        def __len__(self) -> int:
            return len(timed)

        def __getitem__(self, index: Any) -> Any:
            return timed[index]

        def __iter__(self) -> Any:
            return iter(timed)

    def bare(one: Any) -> Any:
        if isinstance(one, tuple):
            return one[0]
        if isinstance(one, Bare):
            return timed
        return one if isinstance(one, int | slice) else [bare(each) for each in one]

    LIST_CHANGES[change](Bare())
    assert list(timed) == [value for value, _ in pairs]
    assert len(timed.times) == len(timed)
    if change not in ("extend by itself", "three times"):  # what they add is written now
        assert timed.times == [at for _, at in pairs]
    else:
        first = len(values)
        assert timed.times == [at for _, at in values] + [200] * (len(timed) - first)
    assert timed.oldest <= min(timed.times, default=NEVER)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 100)), max_size=6), st.booleans())
def test_a_list_is_sorted_with_its_times(values: list[tuple[int, int]], reverse: bool) -> None:
    timed, _ = a_list([value for value, _ in values], [at for _, at in values])
    timed.sort(reverse=reverse)
    values.sort(key=lambda pair: pair[0], reverse=reverse)
    assert [*zip(timed, timed.times, strict=True)] == values
    timed.sort(key=lambda value: -value)
    values.sort(key=lambda pair: -pair[0])
    assert [*zip(timed, timed.times, strict=True)] == values


def test_what_fails_leaves_a_list_as_it_was() -> None:
    timed, _ = a_list([1, 2], [10, 20])
    for fail in (lambda: timed.pop(5), lambda: timed.remove(9), lambda: timed.__setitem__(5, 0)):
        with pytest.raises((IndexError, ValueError)):
            fail()
    with pytest.raises(ValueError, match="size"):
        timed[::2] = [1, 2, 3]
    assert (timed, timed.times) == ([1, 2], [10, 20])
    timed.remove(1)
    assert (timed, timed.times) == ([2], [20])


def test_a_dict_has_the_times_of_its_entries() -> None:
    now = Now()
    timed = TimedDict({"a": 1, "b": 2, "c": 3, "d": 4}, [10, 20, 30, 40], now)
    timed["a"] = 5
    timed.update({"e": 6}, f=7)
    timed |= {"g": 8}
    assert timed.setdefault("b", 9) == 2 and timed.setdefault("h", 9) == 9
    del timed["c"]
    assert timed.pop("d") == 4 and timed.pop("none", 0) == 0 and timed.popitem() == ("h", 9)
    with pytest.raises(KeyError):
        timed.pop("none")
    with pytest.raises(KeyError):
        del timed["none"]
    assert timed == {"a": 5, "b": 2, "e": 6, "f": 7, "g": 8}
    assert timed.stamps() == [100, 20, 100, 100, 100]
    timed.clear()
    assert (timed, timed.times, timed.stamps()) == ({}, {}, [])


def test_a_write_at_the_same_value_counts() -> None:
    timed = TimedDict({"a": True}, [10], Now())
    timed["a"] = True
    assert timed.times == {"a": 100}


@pytest.mark.parametrize(("limit", "left"), [(9, "abc"), (10, "bc"), (29, "c"), (30, "")])
def test_what_is_not_later_than_the_limit_goes(limit: int, left: str) -> None:
    timed = TimedDict({"a": 1, "b": 2, "c": 3}, [10, 20, 30], Now())
    other, _ = a_list(["a", "b", "c"], [10, 20, 30])
    assert "".join(timed.without(limit)) == "".join(other.without(limit)) == left
    assert len(timed) == len(other) == 3
    assert timed.prune(limit) == other.prune(limit) == 3 - len(left)
    assert "".join(timed) == "".join(other) == left
    assert timed.stamps() == other.stamps() == [{"a": 10, "b": 20, "c": 30}[one] for one in left]
    assert timed.oldest == other.oldest == min(timed.stamps(), default=NEVER)


def test_copies_are_plain() -> None:
    timed = TimedDict({"a": [1]}, [10], Now())
    other, _ = a_list([[1]], [10])
    for copied in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)), lambda one: one.copy()):
        assert copied(timed).__class__ is dict and copied(timed) == timed
        assert copied(other).__class__ is list and copied(other) == other
    assert copy.deepcopy(timed)["a"] is not timed["a"]
    assert (timed | {}).__class__ is dict and other[:].__class__ is list and (other + other).__class__ is list
    assert TimedDict.fromkeys("ab", 1) == {"a": 1, "b": 1}
    assert msgspec.json.encode(timed.plain()) == b'{"a":[1]}'


def test_a_key_function_that_writes_into_its_list_is_told_as_by_a_plain_one() -> None:
    timed, _ = a_list([2, 1], [10, 20])

    def grow(value: int) -> int:
        timed.append(0)
        return value

    with pytest.raises(ValueError, match="list modified during sort"):
        timed.sort(key=grow)
    assert (timed, timed.times) == ([2, 1, 0, 0], [10, 20, 100, 100])


def test_what_is_written_past_the_times_is_told() -> None:
    timed, _ = a_list([1, 2], [10, 20])
    heapq.heappush(timed, 3)
    other = TimedDict({"a": 1, "b": 2}, [10, 20], Now())
    dict.__delitem__(other, "a")
    third = TimedDict({"a": 1}, [10], Now())
    dict.__setitem__(third, "b", 2)
    for one in (timed, other, third):
        for read in (one.stamps, lambda one=one: one.prune(15), lambda one=one: one.without(15)):
            with pytest.raises(ValueError, match=r"heapq does that\): work on a copy"):
                read()
