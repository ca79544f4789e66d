"""How large an input record may be: in an operator, and in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kstream
from kstream.errors import RecordTooLarge
from kstream.operators import bounds
from kstream.runtime.task.states import TaskState
from kstream.testing.cluster import MemoryCluster
from kstream.testing.fetch import MemoryFetch
from kstream.types import Headers

from ..runtime.harness import Fleet

MOST = 1000


def fetch(*records: tuple[bytes | None, bytes | None, Headers | None]) -> MemoryFetch:
    cluster = MemoryCluster()
    cluster.create_topic("t")
    return MemoryFetch([cluster.append("t", key, value, headers=headers) for key, value, headers in records])


def check(found: MemoryFetch) -> None:
    """As what reads all of it does."""
    bounds.check_values(found, found.values(), MOST)
    bounds.check_keys(found, found.keys(), MOST)
    bounds.check_headers(found, found.headers(), MOST)


SMALL = (b"k" * 10, b"v" * 20, [("name", b"x"), ("none", None)])


@pytest.mark.parametrize(
    ("record", "size"),
    [
        ((None, b"v" * 1001, None), 1001),
        ((b"k" * 1001, None, None), 1001),
        ((b"k" * 400, b"v" * 400, [("h" * 100, b"x" * 101)]), 1001),
        ((b"k" * 501, b"v" * 500, None), 1001),
        ((None, None, [("h" * 1001, None)]), 1001),
        ((b"", b"", [("h", b"x" * 500), ("h", b"x" * 499)]), 1001),
    ],
    ids=["value", "key", "all", "key and value", "header name", "headers"],
)
def test_a_record_over_the_limit_is_found_whatever_makes_it_so(
    record: tuple[bytes | None, bytes | None, Headers | None], size: int
) -> None:
    for rows in ([record], [SMALL, record, SMALL]):
        with pytest.raises(RecordTooLarge, match=rf"^{size:,} bytes of .*, more than .* \(1,000\)$"):
            check(fetch(*rows))


def test_records_up_to_the_limit_pass_however_many_there_are() -> None:
    check(fetch((b"k" * 300, b"v" * 600, [("h" * 50, b"x" * 50)]), *[SMALL] * 100))
    check(fetch((None, None, None)))


class App:
    def __init__(self) -> None:
        self.app = kstream.App("bounded")
        self.source = self.app.topic("in", key=str, value=dict)
        self.out = self.app.topic("out", key=str, value=int)
        self.app.stream(self.source).map(len, value=int).to(self.out)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def fleet(app: App, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(app.app, tmp_path, partitions=1, max_record_bytes="1KiB")
    yield fleet
    fleet.close()


def test_a_record_over_the_limit_fails_like_any_other_bad_record(app: App, fleet: Fleet) -> None:
    """It is named, without being decoded: it is no JSON at all. What came before it is committed."""
    fleet.start("a")
    fleet.send(app.source, ["a", "b"], {"x": 1})
    fleet.cluster.append("in", b"c", b"[" * 5000)
    fleet.send(app.source, ["d"], {"x": 1})
    fleet.step(times=20)
    (task,) = fleet.workers["a"].tasks.values()
    assert task.state is TaskState.FAILED
    assert str(task.error) == (
        "task in/0 stopped at in[0] offset 2: RecordTooLarge: 5,001 bytes of key, value and headers, "
        "more than max_record_bytes (1,024)"
    )
    assert fleet.committed("in") == {0: 2}


def test_an_error_that_is_kept_does_not_keep_the_batch(app: App, fleet: Fleet) -> None:
    """A batch may be large, and the pause long."""
    fleet.start("a")
    fleet.cluster.append("in", b"c", b"[" * 5000)
    fleet.step(times=10)
    (task,) = fleet.workers["a"].tasks.values()
    error: BaseException | None = task.error
    assert error is not None and error.__cause__ is not None
    while error is not None:
        assert error.__traceback__ is None
        error = error.__cause__
