"""What Kafka refused lately is refused without it; what is not certain is left to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

import kstream
from kstream.codecs import resolve
from kstream.errors import RecordRefused
from kstream.operators.batch import Batch
from kstream.operators.origin import Origin
from kstream.operators.refusals import AROUND, SECONDS, Refusals, Suspected
from kstream.operators.writer import DirectWriter, OrderedWriter
from kstream.testing import ManualClock, TestDriver

BYTES = resolve(bytes, what="bytes")
HOUR = 3_600_000
LARGEST = 1000


class Known:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.refusals = Refusals(self.clock, LARGEST)

    @property
    def now(self) -> int:
        return int(self.clock.time() * 1000)

    def learn(
        self, code: str, *, key: bytes | None = b"k", size: int = 2, at: int = 0, known: bool = False, ago: float = 0.5
    ) -> None:
        """`ago` is when the client got it."""
        now = self.clock.time()
        self.refusals.learn(
            RecordRefused(code, "t", -1, key, size, timestamp=at, asked=now - ago, told=now, known=known)
        )  # fmt: skip

    def refuses(self, *, value: bytes | None = b"v", key: bytes | None = b"k", at: int | None = None) -> str | None:
        found = self.refusals.found("t", [b"", value], [b"k", key], [self.now, self.now if at is None else at])
        if not found:
            return None
        ((row, error),) = found
        assert row == 1
        return error.code


@pytest.fixture
def known() -> Known:
    return Known()


def test_no_key(known: Known) -> None:
    assert known.refuses(key=None) is None
    known.learn("INVALID_RECORD", key=None)
    assert known.refuses(key=None) == "INVALID_RECORD"
    assert known.refuses(key=b"") is None
    assert known.refusals.found("other", [b""], [None], [known.now]) == []


def test_times_at_least_as_far_out_of_bounds(known: Known) -> None:
    known.learn("INVALID_TIMESTAMP", at=known.now - 5 * HOUR)
    known.learn("INVALID_TIMESTAMP", at=known.now + 5 * HOUR)
    known.learn("INVALID_TIMESTAMP", at=known.now + 7 * HOUR)
    known.learn("INVALID_TIMESTAMP", at=known.now - 7 * HOUR)
    assert known.refuses(at=known.now - 5 * HOUR) == "INVALID_TIMESTAMP"
    assert known.refuses(at=known.now - 5 * HOUR + 1) is None
    assert known.refuses(at=known.now + 5 * HOUR + 500) == "INVALID_TIMESTAMP"
    assert known.refuses(at=known.now + 5 * HOUR + 499) is None, "it was refused some time ago"
    assert known.refuses() is None


def test_time_goes_on(known: Known) -> None:
    """What was too far ahead is less so, what lay too far behind is more so."""
    ahead, behind = known.now + 5 * HOUR + 500, known.now - 5 * HOUR
    known.learn("INVALID_TIMESTAMP", at=known.now + 5 * HOUR)
    known.learn("INVALID_TIMESTAMP", at=behind)
    known.clock.advance(10.0)
    assert known.refuses(at=ahead) is None
    assert known.refuses(at=behind + 10_000) == "INVALID_TIMESTAMP"


def test_larger_than_the_client_takes(known: Known) -> None:
    """That needs no refusal before. Headers are the client's to count."""
    for _ in range(2):
        assert known.refuses(value=b"v" * (LARGEST - AROUND)) == "MSG_SIZE_TOO_LARGE"
        assert known.refuses(value=b"v" * (LARGEST - AROUND - 1)) is None
        known.learn("MSG_SIZE_TOO_LARGE", size=LARGEST + 1)


@pytest.mark.parametrize("ordered", [False, True], ids=["direct", "ordered"])
def test_a_writer_that_holds_what_is_too_large_for_the_client_says_so(known: Known, ordered: bool) -> None:
    outlet: Any = Outlet()
    writer = OrderedWriter(outlet, known.refusals) if ordered else DirectWriter(outlet, known.refusals, holds=True)
    writer.one(1, 4, "t", b"v" * (LARGEST - AROUND - 1), b"k", 1, None, -1)
    assert writer.heed() == []
    origin: Any = Origin(None, topic="in")  # type: ignore[arg-type]
    batch = Batch(2, BYTES, BYTES, origin=origin, rows=[2, 7], timestamps=[1, 1])
    writer.column(3, batch, "t", [None, b"v" * LARGEST], [b"k", b"k"])
    ((row, error, order, cause),) = writer.heed()
    assert (row, error.code, error.known, order, cause) == (7, "MSG_SIZE_TOO_LARGE", False, 3, None)
    writer.reset()
    assert writer.heed() == []


def test_what_is_as_large_as_one_that_a_broker_refused_is_suspected(known: Known) -> None:
    """The topic's limit counts compressed bytes."""

    def suspected(size: int) -> Suspected | None:
        found = known.refusals.found("t", [b"v" * (size - 1)], [b"k"], [known.now])
        for _, error in found:
            assert isinstance(error, Suspected)
            return error
        return None

    known.learn("MSG_SIZE_TOO_LARGE", size=600)
    known.learn("MSG_SIZE_TOO_LARGE", size=500)
    assert suspected(499) is None
    innocent = suspected(520)
    assert innocent is not None and innocent.size == 520
    known.refusals.taken(innocent)
    assert suspected(520) is None and suspected(521) is not None
    known.clock.advance(SECONDS)
    assert suspected(900) is None


@pytest.mark.parametrize("code", ["TOPIC_AUTHORIZATION_FAILED", "INVALID_RECORD", "INVALID_TIMESTAMP", "TypeError"])
def test_what_says_nothing_about_others_is_not_kept(known: Known, code: str) -> None:
    known.learn(code)
    assert not known.refusals.known
    assert known.refuses(key=None) is None


def test_kafka_is_asked_again_after_a_while_however_many_come(known: Known) -> None:
    known.learn("INVALID_RECORD", key=None)
    known.clock.advance(SECONDS - 1)
    assert known.refuses(key=None) == "INVALID_RECORD"
    known.learn("INVALID_RECORD", key=None, known=True)
    known.clock.advance(1.0)
    assert known.refuses(key=None) is None
    assert not known.refusals.known


def test_it_says_that_kafka_was_not_asked(known: Known) -> None:
    known.learn("INVALID_RECORD", key=None)
    ((_, error),) = known.refusals.found("t", [b"v"], [None], [1])
    assert str(error).endswith("(INVALID_RECORD), as it refused another less than a minute ago")


class Outlet:
    def __init__(self) -> None:
        self.produced: Counter[str] = Counter()
        self.records: list[Any] = []

    def produce(self, topic: str, value: bytes | None, key: bytes | None, *_: Any) -> None:
        self.records.append((key, value))


@pytest.mark.parametrize("ordered", [False, True], ids=["direct", "ordered"])
def test_writers_tell_the_records_of_a_batch_and_go_on_without_them(known: Known, ordered: bool) -> None:
    known.learn("INVALID_RECORD", key=None)
    outlet: Any = Outlet()
    writer = OrderedWriter(outlet, known.refusals) if ordered else DirectWriter(outlet, known.refusals, holds=True)

    def rows() -> list[int]:
        return [one.row for one in writer.heed()]

    values: list[bytes | None] = [b"a", b"b", b"c"]
    origin: Any = Origin(None, topic="in")  # type: ignore[arg-type]
    batch = Batch(3, BYTES, BYTES, origin=origin, rows=[2, 7, 9], timestamps=[1, 1, 1])
    writer.column(3, batch, "t", values, [b"k", None, None])
    assert rows() == [7, 9]
    writer.one(1, 5, "t", b"v", None, 1, None, -1)
    assert rows() == [5, 7, 9]
    writer.one(1, 4, "t", b"v", b"k", 1, None, -1)
    writer.one(1, 7, "t", b"fine", b"k", 1, None, -1)
    writer.one(1, 3, "other", b"v", None, 1, None, -1)
    assert rows() == [5, 7, 9]
    assert [one.order for one in writer.heed()] == [1, 3, 3]
    writer.drop({5, 7, 9})
    assert rows() == []
    writer.release()
    assert sorted(outlet.records, key=str) == [(None, b"v"), (b"k", b"a"), (b"k", b"v")], "of record 7 nothing went out"
    assert outlet.produced == {"t": 2, "other": 1}
    writer.one(1, 5, "t", b"v", None, 1, None, -1)
    writer.reset()
    assert rows() == []
    writer.one(1, 5, "t", b"v", None, 1, None, -1)  # Kafka is asked all the same
    writer.release()
    assert rows() == [] and outlet.records[-1] == (None, b"v")


@pytest.mark.parametrize("size", [999_990, 1_200_000])
def test_what_is_too_large_for_the_client_takes_back_no_more_than_one_transaction(size: int) -> None:
    app = kstream.App("large", on_error=[kstream.Skip()])
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=bytes)
    seen = app.table("seen", key=str, value=int, default=0)

    @app.agent(source, to=out)
    async def agent(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[bytes]:
        async for n in stream:
            seen[ctx.key] += 1
            yield b"x" * (size if n % 10 == 3 else 3)

    with TestDriver(app, partitions=1) as driver:
        for n in range(40):
            driver.cluster.append("in", b"k", b"%d" % n)
            if n % 20 == 19:
                driver.commit()
        assert len(driver.cluster.records("out")) == 36 and driver.worker.measures.skipped.total() == 4
        assert driver.worker.aborts <= 1
