"""The TestDriver's raw records, which somebody else may have written; and what it is given in place of a topic."""

from __future__ import annotations

from typing import Any

import pytest

import kstream
from kstream.errors import ProcessingError, TopologyError
from kstream.testing import TestDriver

app = kstream.App("raw")
numbers = app.topic("numbers", key=str, value=int)
doubled = app.topic("doubled", key=str, value=int)
app.stream(numbers).map(lambda value: value * 2, value=int).to(doubled)


def test_bytes_go_in_as_they_are() -> None:
    with TestDriver(app) as d:
        d.send_raw(numbers, b"7", key=b"ann", timestamp=5, headers=[("a", None)])
        (record,) = d.records(doubled)
        assert (record.key, record.value, record.timestamp) == ("ann", 14, 5)
        d.send_raw(numbers, b"8", partition=3)
        assert d.cluster.records("numbers")[1].partition == 3


def test_bytes_that_are_of_no_such_type_fail_as_they_would() -> None:
    with TestDriver(app, partitions=1) as d:
        with pytest.raises(ProcessingError) as raised:
            d.send_raw(numbers, b"\xff", key=b"ann")
        assert (raised.value.topic, raised.value.offset) == ("numbers", 0)


def test_names_are_neither_topics_nor_tables() -> None:
    name: Any = "numbers"
    with TestDriver(app) as d:
        for call in (lambda: d.send(name, 1), lambda: d.send_raw(name, b"1"), lambda: d.values(name)):
            with pytest.raises(TopologyError, match=r" takes a topic, not 'numbers': give it what app\.topic\("):
                call()
        with pytest.raises(TopologyError, match="table takes a table, not 'numbers'"):
            d.table(name)
