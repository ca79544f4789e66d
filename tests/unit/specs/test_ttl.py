"""TTL as it is declared: what it says, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import TopologyError
from kstream.specs.ttl import FOREVER, TTL

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [
        (TTL(hours=1), HOUR),
        (TTL(timedelta(hours=1)), HOUR),
        (TTL(days=1, hours=1, minutes=1, seconds=1.5), 25 * HOUR + 61_500),
        (TTL(seconds=0.001), 1),
        (TTL(days=1e12), FOREVER),
    ],
    ids=["hours", "timedelta", "all of them", "a millisecond", "for ever"],
)
def test_a_length(ttl: TTL, milliseconds: int) -> None:
    assert ttl.milliseconds == milliseconds


def test_what_is_not_said_is_as_in_flink() -> None:
    ttl = kstream.TTL(hours=1)
    assert (ttl.update, ttl.visibility, ttl.time) == ("create_and_write", "never_return_expired", "wall")
    assert ttl.cleanup == (kstream.Sweep(),) and not ttl.full_snapshot and ttl.incremental is None
    assert kstream.Incremental() == kstream.Incremental(n=5, every_record=False)
    assert ttl == TTL(minutes=60) and hash(ttl) == hash(TTL(minutes=60)) and ttl != TTL(hours=1, time="event")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"hours": 0},
        {"hours": -1},
        {"hours": float("nan")},
        {"hours": float("inf")},
        {"hours": "1"},
        {"hours": True},
        {"seconds": 0.0001},
        {"length": 3600},
        {"length": timedelta(0)},
        {"length": timedelta(hours=1), "minutes": 5},
        {"hours": 1, "update": "on_read"},
        {"hours": 1, "visibility": "always"},
        {"hours": 1, "time": "processing"},
        {"hours": 1, "existing": None},
        {"hours": 1, "per": "element"},
        {"hours": 1, "per": "entry", "update": "read_and_write"},
        {"hours": 1, "per": "entry", "visibility": "return_expired_if_not_cleaned_up"},
        {"hours": 1, "cleanup": (kstream.Sweep,)},
        {"hours": 1, "cleanup": "sweep"},
        {"hours": 1, "cleanup": kstream.Sweep},
        {"hours": 1, "cleanup": (kstream.Sweep(), kstream.Sweep(5))},
    ],
    ids=lambda given: (
        ",".join(f"{name}={value}" for name, value in given.items() if not isinstance(value, tuple)) or "-"
    ),
)
def test_nonsense_is_refused_where_it_is_declared(given: dict[str, Any]) -> None:
    with pytest.raises(TopologyError, match="TTL"):
        TTL(given.pop("length", None), **given)


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "5"])
def test_clean_ups_count_in_whole_numbers(n: Any) -> None:
    with pytest.raises(TopologyError, match="whole number"):
        kstream.Incremental(n)
    with pytest.raises(TopologyError, match="whole number"):
        kstream.Sweep(n)


def test_a_table_and_an_aggregation_take_nothing_else() -> None:
    app = kstream.App("a")
    with pytest.raises(TopologyError, match=r"table 't': ttl=60 is no kstream\.TTL"):
        app.table("t", key=str, value=int, ttl=60)  # type: ignore[call-overload]
    source = app.topic("in", key=str, value=int)
    with pytest.raises(TopologyError, match=r"ttl='1h' is no kstream\.TTL"):
        app.stream(source).group_by_key().count(ttl="1h")  # type: ignore[arg-type]


def test_an_aggregation_has_no_ttl_per_entry() -> None:
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)
    with pytest.raises(TopologyError, match="aggregate 'n': ttl= with per='entry' is for tables"):
        app.stream(source).group_by_key().aggregate(
            dict[str, int], lambda all, _: all, name="n", ttl=kstream.TTL(hours=1, per="entry")
        )


def test_a_topology_tells_of_it() -> None:
    app = kstream.App("a")
    source = app.topic("in", key=str, value=int)
    app.stream(source).group_by_key().count(name="n", ttl=kstream.TTL(hours=1, time="event"))
    assert "kept 3600 s of event time, create_and_write" in app.topology().describe()


@given(st.integers(0, FOREVER), st.integers(1, FOREVER), st.integers(0, FOREVER - 1))
def test_expired_as_flink_has_it(stamp: int, length: int, now: int) -> None:
    ttl = TTL(timedelta(milliseconds=1))
    object.__setattr__(ttl, "milliseconds", length)
    assert ttl.expired(stamp, now) == (min(stamp + length, FOREVER) <= now)


def test_at_the_instant_it_has_expired_and_before_not() -> None:
    ttl = TTL(seconds=1)
    assert [ttl.expired(500, now) for now in (500, 1499, 1500, 1501)] == [False, False, True, True]


def test_every_record_is_a_truth() -> None:
    with pytest.raises(TopologyError, match=r"Incremental\(every_record='no'\): it is True or False"):
        kstream.Incremental(every_record="no")  # type: ignore[arg-type]
