"""Records that say what time it is in the tasks that write a repartition topic."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kstream.operators import marks
from kstream.operators.marks import HEADER, TOGETHER, Mark, mark_of
from kstream.state.watermark import IDLE


class Outlet:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Any]] = []
        self.produced = Counter[str]()

    def produce(self, _topic: str, _value: None, _key: None, partition: int, *more: Any) -> None:
        self.sent.append((partition, more[-1]))


def test_one_record_speaks_for_many_tasks_and_not_for_any_number() -> None:
    outlet, said = Outlet(), [Mark(task=n, time=IDLE, meanwhile=n) for n in range(TOGETHER + 2)]
    marks.write(outlet, "t", 2, said, 1000)  # type: ignore[arg-type]
    assert [partition for partition, _ in outlet.sent] == [0, 1, 0, 1]
    heard = [mark for partition, headers in outlet.sent if not partition for mark in (mark_of(headers) or said[0]).all]
    assert [(one.task, one.meanwhile) for one in heard] == [(n, n) for n in range(TOGETHER + 2)]
    assert max(len(headers[0][1]) for _, headers in outlet.sent) < 65_536


def test_one_that_speaks_for_itself_is_as_it_was() -> None:
    mark = mark_of([(HEADER, b'{"v":1,"task":3,"time":5,"more":"of a later release"}')])
    assert mark == Mark(task=3, time=5)
    assert list(mark.all) == [mark]
