"""What is refused where a sink is declared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.errors import TopologyError


class Plain(kstream.BatchingSink):
    def write(self, batch: Sequence[kstream.SinkRecord[Any, Any]]) -> None: ...


class Exact(Plain):
    needs_offsets = True


class NoWrite(kstream.BatchingSink):
    pass


def declare() -> kstream.Stream[str, int]:
    app = kstream.App("sinks")
    return app.stream(app.topic("in", key=str, value=int))


@pytest.mark.parametrize(
    ("sink", "match"),
    [
        pytest.param(lambda: Plain, "an object of a subclass of kstream.BatchingSink, not Plain", id="class"),
        pytest.param(lambda: print, "an object of a subclass", id="function"),
        pytest.param(NoWrite, r"NoWrite has no write\(\)", id="no write"),
        pytest.param(lambda: Plain(0), "size=0 is not a number of records", id="size"),
        pytest.param(lambda: Plain(True), "size=True is not a number of records", id="bool"),
        pytest.param(lambda: Plain(1.5), "size=1.5", id="fraction"),  # type: ignore[arg-type]
        pytest.param(lambda: Plain(timeout=0), "timeout=0 is not a time in seconds", id="timeout"),
        pytest.param(lambda: Plain(timeout=float("nan")), "timeout=nan is not a time", id="nan"),
    ],
)
def test_what_cannot_be_a_sink(sink: Any, match: str) -> None:
    with pytest.raises(TopologyError, match=match):
        declare().sink(sink())


def test_a_sink_is_for_one_stream() -> None:
    stream, sink = declare(), Plain()
    stream.sink(sink)
    with pytest.raises(TopologyError, match="the sink 'in-sink' is used twice: make an object of Plain for each"):
        stream.sink(sink, name="other")


def test_names_are_unique() -> None:
    app = kstream.App("sinks")
    stream = app.stream(app.topic("in", key=str, value=int))
    stream.sink(Plain())
    stream.sink(Plain())
    with pytest.raises(TopologyError, match="two declarations of the sink 'in-sink': give one of them another name="):
        app.topology()


def test_a_sink_that_needs_offsets_refuses_records_that_have_none() -> None:
    counts = declare().group_by_key().count(name="n", emit="commit").stream()
    counts.sink(Plain())
    with pytest.raises(TopologyError, match="needs the offset of each record, and the changes of 'n' have none"):
        counts.map(str, value=str).sink(Exact())
    closed = (
        declare().group_by_key().window(kstream.Tumbling(minutes=1), grace=timedelta(0)).count(name="w", emit="close")
    )
    with pytest.raises(TopologyError, match="needs the offset of each record, and the changes of 'w' have none"):
        closed.stream().sink(Exact())
    declare().group_by_key().count(name="n").stream().sink(Exact())


def test_it_is_described() -> None:
    app = kstream.App("sinks")
    app.stream(app.topic("in", key=str, value=int)).sink(Plain(5), name="to-db")
    assert "-> outside to-db  Plain size=5" in app.topology().describe()
