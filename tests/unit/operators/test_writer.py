"""Outputs leave in the order of the inputs that caused them, whichever branch they took."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kstream.codecs import resolve
from kstream.operators.batch import Batch
from kstream.operators.origin import Origin
from kstream.operators.writer import AFTER_ALL, DirectWriter, OrderedWriter

ORIGIN: Any = Origin(None, topic="in")  # type: ignore[arg-type]

BYTES = resolve(bytes, what="bytes")


class Outlet:
    """Takes records; full at each `every`th call."""

    def __init__(self, every: int = 0) -> None:
        self.records: list[tuple[str, bytes | None, bytes | None, int, Any, int]] = []
        self.produced: Counter[str] = Counter()
        self._every, self._calls = every, 0

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1, callback: None = None,
        on_delivery: None = None, timestamp: int = 0, headers: Any = None, /,
    ) -> None:  # fmt: skip
        self._calls += 1
        if self._every and self._calls % self._every == 0:
            raise BufferError
        self.records.append((topic, value, key, timestamp, headers, partition))

    def wait_for_room(self) -> None:
        pass


def column(values: list[bytes], origin: Any = None, rows: list[int] | None = None) -> Batch:
    return Batch(len(values), BYTES, BYTES, origin=origin, rows=rows, timestamps=list(range(1, len(values) + 1)))


rows = st.lists(st.integers(0, 5), max_size=6).map(sorted)


@given(branches=st.lists(rows, min_size=1, max_size=4), every=st.sampled_from([0, 2, 3]))
def test_by_input_and_then_by_node(branches: list[list[int]], every: int) -> None:
    outlet = Outlet(every)
    writer = OrderedWriter(outlet)
    for order in reversed(range(len(branches))):
        places = branches[order]
        values = [b"%d.%d.%d" % (row, order, n) for n, row in enumerate(places)]
        writer.column(order, column(values, origin=ORIGIN, rows=places), "t", list(values), [b"k"] * len(values))
    assert outlet.records == []
    writer.release()
    expected = sorted((row, order, n) for order, places in enumerate(branches) for n, row in enumerate(places))
    assert [value for _, value, *_ in outlet.records] == [b"%d.%d.%d" % one for one in expected]
    assert outlet.produced.total() == len(expected)
    writer.release()
    assert outlet.produced.total() == len(expected)


def test_single_records_and_columns_are_put_in_one_order_and_what_no_input_caused_comes_last() -> None:
    outlet = Outlet()
    writer = OrderedWriter(outlet)
    writer.column(1, column([b"last"]), "t", [b"last"], [None])
    writer.one(2, 1, "t", b"second", b"k", 7, [("h", b"1")], 3)
    writer.column(3, column([b"first"], origin=ORIGIN, rows=[0]), "t", [b"first"], [b"k"])
    writer.one(0, AFTER_ALL, "t", b"nearly last", None, 1, None, -1)
    writer.release()
    assert [record[1] for record in outlet.records] == [b"first", b"second", b"nearly last", b"last"]
    assert outlet.records[1] == ("t", b"second", b"k", 7, [("h", b"1")], 3)


def test_what_was_staged_is_dropped_at_reset() -> None:
    outlet = Outlet()
    writer = OrderedWriter(outlet)
    writer.one(0, 0, "t", b"1", None, 1, None, -1)
    writer.reset()
    writer.release()
    assert outlet.records == []


@given(count=st.integers(0, 9), every=st.sampled_from([0, 2, 3]))
def test_the_direct_way_sends_each_record_once_however_full_the_queue(count: int, every: int) -> None:
    outlet = Outlet(every)
    writer = DirectWriter(outlet)
    values = [b"%d" % n for n in range(count)]
    writer.column(0, column(values), "t", list(values), [None] * count)
    writer.one(0, 0, "t", b"one", None, 9, None, 2)
    assert [value for _, value, *_ in outlet.records] == [*values, b"one"]
    assert outlet.produced.total() == count + 1
