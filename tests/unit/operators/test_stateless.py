"""map, filter, flat_map, peek, rekey: as comprehensions over the records, with and without a context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import ProcessingError
from kstream.partitioning import partition_of
from kstream.testing import TestDriver

NUMBERS = st.lists(st.integers(-9, 9), max_size=12)


def run(declare: Any, numbers: list[int], *, key: Any = str) -> list[tuple[Any, int]]:
    app = kstream.App("stateless")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=key, value=int)
    declare(app.stream(source)).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.batch_sizes = iter([5, 1, 0, 3])
        for n, value in enumerate(numbers):
            driver.cluster.append(source.name, b"k%d" % n, b"%d" % value)
        return [(record.key, record.value) for record in driver.records(out)]


@given(NUMBERS)
def test_each_step(numbers: list[int]) -> None:
    rows = [(f"k{n}", value) for n, value in enumerate(numbers)]
    peeked: list[int] = []
    assert run(lambda s: s.map(lambda n: n * 2, value=int), numbers) == [(k, n * 2) for k, n in rows]
    assert run(lambda s: s.filter(lambda n: n % 2), numbers) == [(k, n) for k, n in rows if n % 2]
    assert run(lambda s: s.flat_map(range), numbers) == [(k, i) for k, n in rows for i in range(n)]
    assert run(lambda s: s.peek(peeked.append), numbers) == rows
    assert peeked == numbers
    assert run(lambda s: s.rekey(lambda n: n, key=int), numbers, key=int) == [(n, n) for _, n in rows]


@given(NUMBERS)
def test_each_step_with_a_context(numbers: list[int]) -> None:
    rows = [(f"k{n}", value, n) for n, value in enumerate(numbers)]
    assert run(lambda s: s.map(lambda n, ctx: n + ctx.offset, value=int), numbers) == [(k, n + o) for k, n, o in rows]
    assert run(lambda s: s.filter(lambda n, ctx: ctx.offset % 2), numbers) == [(k, n) for k, n, o in rows if o % 2]
    assert run(lambda s: s.filter(lambda n: n > 0).flat_map(lambda n, ctx: [ctx.offset] * 2), numbers) == [
        (k, o) for k, n, o in rows if n > 0 for _ in range(2)
    ]
    assert run(lambda s: s.rekey(lambda n, ctx: ctx.key + "!", key=str), numbers) == [(k + "!", n) for k, n, _ in rows]


def chars(n: int, ctx: kstream.Context[str]) -> Iterator[str]:
    for _ in range(n):
        yield f"{ctx.key}@{ctx.offset}"


@pytest.mark.parametrize(
    "function",
    [
        chars,
        lambda n, ctx: (f"{ctx.key}@{ctx.offset}" for _ in range(n)),
        lambda n, ctx: map(lambda _: f"{ctx.key}@{ctx.offset}", range(n)),
    ],
    ids=["generator function", "generator", "map"],
)
def test_what_flat_map_goes_through_has_the_context_of_its_record(function: Any) -> None:
    app = kstream.App("lazy")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=str)
    app.stream(source).flat_map(function, value=str).to(out)
    with TestDriver(app, partitions=1) as driver:
        for n in (2, 0, 1):
            driver.cluster.append(source.name, b"k%d" % n, b"%d" % n)
        assert driver.values(out) == ["k2@0", "k2@0", "k1@2"]


def test_a_filter_keeps_what_is_true_not_only_what_is_True() -> None:
    assert run(lambda s: s.filter(lambda n: [n] * n), [0, 2, 1]) == [("k1", 2), ("k2", 1)]


def known(n: int) -> int:
    return next(one for one in (1, 2, 4) if one == n)


@pytest.mark.parametrize("step", ["map", "filter", "peek", "rekey", "flat_map"])
def test_a_step_that_raises_stop_iteration_fails_at_its_record(step: str) -> None:
    """`map` takes it for the end of the column: that record, and all behind it, would be lost without a word."""
    app = kstream.App("stops")
    source, out = app.topic("in", key=str, value=int), app.topic("out", key=str, value=int)
    seen = app.topic("seen", key=str, value=int)
    stream = getattr(app.stream(source), step)((lambda n: [known(n)]) if step == "flat_map" else known)
    stream.map(lambda n: 0, value=int).rekey(lambda n: "k", key=str).to(out)
    app.stream(source).to(seen)
    with TestDriver(app, partitions=1) as driver:
        for n in (1, 2, 3, 4):
            driver.cluster.append(source.name, b"k", b"%d" % n)
        with pytest.raises(ProcessingError, match="StopIteration") as caught:
            driver.process()
        assert caught.value.offset == 2
        causes = caught.value.__cause__, caught.value.__cause__ and caught.value.__cause__.__cause__
        assert any(isinstance(cause, StopIteration) for cause in causes), "policies look for it"
        assert len(driver.cluster.records("out")) == len(driver.cluster.records("seen")) == 2


@pytest.mark.parametrize("count", [1, 3, 4])
def test_records_go_to_their_keys_home(count: int) -> None:
    """murmur2 of the encoded key, through a repartition and out of a sink, and stores live where their keys do."""
    app = kstream.App("homes")
    source = app.topic("in", key=bytes, value=int)
    out = app.topic("out", key=int, value=int, partitions=count)
    app.stream(source).group_by(lambda n: n, name="by", key=int, parallelism=count).count(name="n").to(out)
    with TestDriver(app, partitions=2) as driver:
        for n in range(20):
            driver.send(source, n, key=b"%d" % (n % 7))
        driver.commit()
        for name in ("out", "homes-n-changelog"):
            for record in driver.cluster.records(name):
                assert record.key is not None
                assert record.partition == partition_of(record.key, count)
        for task in driver.worker.tasks.values():
            if "n" in task.stores:
                for key, _ in task.backend.scan("n"):
                    assert partition_of(key, count) == task.partition
