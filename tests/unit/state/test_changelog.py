"""A changelog gets every change once, in order, also when the producer is full, and knows how far it went."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.state.changelog import Changelog
from kstream.types import Delivered, Headers

changes = st.dictionaries(st.binary(max_size=2), st.one_of(st.none(), st.binary(max_size=2)), min_size=1, max_size=9)


SPEC = StoreSpec("log", schema(str, "key"), schema(int, "value"))


class Full:
    """A producer that is full at the given calls; `wait_for_room` makes room."""

    def __init__(self, full_at: set[int]) -> None:
        self.records: list[tuple[bytes | None, bytes | None, int]] = []
        self.watched: list[Delivered] = []
        self.waits = 0
        self.produced: Counter[str] = Counter()
        self._full_at, self._calls = full_at, 0

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1, *_: object) -> None:
        self._calls += 1
        if self._calls in self._full_at:
            raise BufferError
        assert topic == "log"
        self.records.append((key, value, partition))

    def produce_watched(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        delivered: Delivered,
        headers: Headers | None = None,
    ) -> None:
        self.records.append((key, value, partition))
        self.watched.append(delivered)

    def wait_for_room(self) -> None:
        self.waits += 1


@given(changes=changes, full=st.sets(st.integers(1, 20), max_size=8))
def test_each_change_goes_out_once_and_in_order_however_full_the_queue(
    changes: dict[bytes, bytes | None], full: set[int]
) -> None:
    to = Full(full)
    Changelog("log", 3, SPEC).write(changes, to)  # type: ignore[arg-type]
    assert to.records == [(key, value, 3) for key, value in changes.items()]
    assert len(to.watched) == 1


@pytest.mark.parametrize(
    ("reports", "expected"), [([4], 5), ([None], None), ([4, None], 5), ([4, 9], 10), ([None, 9], 10)]
)
def test_the_offset_is_that_of_the_last_report_that_has_one(reports: list[int | None], expected: int | None) -> None:
    changelog = Changelog("log", 0, SPEC)
    for offset in reports:
        to = Full(set())
        changelog.write({b"a": b"1", b"b": None}, to)  # type: ignore[arg-type]
        report: Delivered = to.watched[0]
        report(offset, None)
    assert changelog.next_offset == expected
