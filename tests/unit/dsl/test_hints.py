"""A method that is looked for in the wrong place: the error says where it is, or what stands in its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import kstream

app = kstream.App("hints")
topic = app.topic("in", key=str, value=int)
stream = app.stream(topic)
counted = stream.group_by_key().count(name="n")
table = app.table("t", key=str, value=int)


@pytest.mark.parametrize(
    ("look", "match"),
    [
        (lambda: stream.count, r"'Stream' object has no attribute 'count': group first, with group_by_key\(\)"),
        (lambda: stream.aggregate(int, max), "group first"),
        (lambda: stream.group_by_key().map(str), r"stream\(\) gives the grouped records"),
        (lambda: stream.group_by_key().to(topic), r"stream\(\) gives the grouped records"),
        (lambda: stream.window(kstream.Tumbling(minutes=1), grace=timedelta(0)), "group first"),
        (lambda: stream.suppress, r"a table has it: to_table\(name\)\.suppress"),
        *(
            (lambda group=group: group.window, r"no attribute 'window': aggregate it first: count\(\)")
            for group in (
                stream.group_by_key().window(windows, grace=timedelta(0))
                for windows in (
                    kstream.Tumbling(minutes=1),
                    kstream.Cumulating(hours=1, step=timedelta(minutes=1)),
                    kstream.LocalDays("UTC"),
                    kstream.Session(minutes=1),
                    kstream.Sliding(minutes=1),
                    kstream.KafkaSliding(minutes=1),
                )
            )
        ),
        (
            lambda: stream.group_by_key().window(kstream.Counting(2)).window,
            "no attribute 'window': aggregate it first: sum",
        ),
        (lambda: counted.map(str), r"stream\(\) gives the changes as a stream"),
        (lambda: counted.sink, "stream() gives the changes as a stream".replace("()", r"\(\)")),
        (lambda: table.stream, "a table that agents write emits no changes: only aggregations do"),
        (lambda: table.to(topic), "emits no changes"),
        (lambda: table.setdefault("a", 1), r"'Table' object has no attribute 'setdefault': write table\[key\] = value"),
        (lambda: table.clear, "one key at a time"),
        (lambda: stream.nothing, "'Stream' object has no attribute 'nothing'$"),
    ],
)
def test_the_error_says_what_to_write(look: Callable[[], Any], match: str) -> None:
    with pytest.raises(AttributeError, match=match):
        look()


def test_who_asks_whether_there_is_one_is_answered() -> None:
    assert not hasattr(stream, "count")
    assert hasattr(stream, "map")


def test_tables_find_their_attributes_the_fast_way() -> None:
    """With `__getattr__` in its class a table takes twice as long for each attribute, eight times a record."""
    assert not hasattr(type(table), "__getattr__")


def test_the_result_of_an_aggregation_cannot_be_written() -> None:
    result: Any = counted
    with pytest.raises(TypeError, match="'AggregateTable' object does not support item assignment"):
        result["a"] = 1
    with pytest.raises(TypeError, match="deletion"):
        del result["a"]
