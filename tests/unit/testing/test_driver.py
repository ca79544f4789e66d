"""The TestDriver's raw records, which somebody else may have written; and what it is given in place of a topic."""

from __future__ import annotations

from typing import Any

import pytest

import kstream
from kstream.errors import ConfigError, ProcessingError, TopologyError
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


def test_slips_in_settings_are_told_in_tests_too() -> None:
    """`kstream run` refuses them: a test that passes must not hide that."""
    with pytest.raises(
        ConfigError, match=r"worker: there is no such setting \(from App\(...\)\); did you mean workers"
    ):
        TestDriver(_app(worker=2))
    with pytest.raises(ConfigError, match=r"commit_interval: .*\(from App"):
        TestDriver(_app(commit_interval="soon"))
    with pytest.raises(ConfigError, match=r"wrokers: there is no such setting \(from TestDriver\(...\)\)"):
        TestDriver(_app(), wrokers=2)
    with TestDriver(_app(), commit_interval="2s") as d:
        assert d._settings.commit_interval == 2.0


def _app(**settings: Any) -> kstream.App:
    made = kstream.App("slips", **settings)
    made.stream(made.topic("in", key=str, value=int)).to(made.topic("out", key=str, value=int))
    return made
