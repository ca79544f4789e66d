"""Every phase, under every policy, in every form of user code, with the input cut in several ways. Timers, which are no
records, are in unit/operators/test_process_policies.py; cuts at random are in unit/runtime/task/test_taking_back.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import chain, repeat
from typing import Any

import pytest

import kstream
from kstream.errors import ProcessingError, TopologyError
from kstream.testing import TestDriver
from kstream.types import TopicPartition

DAY = 86_400_000
BAD, ALL, DAMAGED = (2, 3), range(6), b"{"
GOOD = [n for n in ALL if n not in BAD]


Step = Callable[[int, Any], Any]
"""What a form does with a record and what it has stored of its key, which it has changed by then."""
CUTS: dict[str, tuple[int, ...]] = {"together": (), "one by one": (1,), "between those that fail": (2, 1)}
"""Sizes of batches behind the first record; the last of them is repeated."""


def by_map(app: kstream.App, source: Any, out: Any, step: Step) -> None:
    seen = app.table("seen", key=str, value=int, default=0)

    def mapped(n: int, ctx: kstream.Context[str]) -> int:
        seen[ctx.key] += 1
        return step(n, seen[ctx.key])  # type: ignore[no-any-return]

    app.stream(source).map(mapped, value=int).to(out)


def by_function(app: kstream.App, source: Any, out: Any, step: Step) -> None:
    seen = app.table("seen", key=str, value=int, default=0)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> Any:
        seen[ctx.key] += 1
        return step(n, seen[ctx.key])


def by_generator(app: kstream.App, source: Any, out: Any, step: Step) -> None:
    seen = app.table("seen", key=str, value=int, default=0)

    @app.agent(source, to=out)
    def agent(n: int, ctx: kstream.Context[str]) -> Iterator[Any]:
        seen[ctx.key] += 1
        yield step(n, seen[ctx.key])


def by_async(app: kstream.App, source: Any, out: Any, step: Step) -> None:
    seen = app.table("seen", key=str, value=int, default=0)

    @app.agent(source, to=out)
    async def agent(stream: kstream.AgentStream[str, int], ctx: kstream.Context[str]) -> AsyncIterator[Any]:
        async for n in stream:
            seen[ctx.key] += 1
            yield step(n, seen[ctx.key])


def by_fold(app: kstream.App, source: Any, out: Any, step: Step) -> None:
    app.stream(source).group_by_key().aggregate(int, lambda last, n: step(n, last), name="seen").to(out)


def by_processor(app: kstream.App, source: Any, out: Any, step: Step) -> None:
    class Made(kstream.Processor[str, int, int]):
        seen = kstream.ValueState(int, default=0)

        def process(self, value: int, ctx: Any) -> None:
            self.seen.value += 1
            ctx.emit(step(value, self.seen.value))

    app.stream(source).process(Made, name="made").to(out)


FORMS = [by_map, by_function, by_generator, by_async, by_fold, by_processor]
PHASES: tuple[Any, ...] = ("decode", "process", "encode", "produce", "restore")
POLICIES: dict[str, Callable[[Any], list[Any]]] = {
    "none": lambda phase: [],
    "fail": lambda phase: [kstream.Fail(phase=phase), kstream.Skip()],
    "skip": lambda phase: [kstream.Skip(phase=phase)],
    "dead letter": lambda phase: [kstream.DeadLetter(phase=phase)],
    "retry": lambda phase: [kstream.Retry(1, base=5.0, jitter=0.0, phase=phase), kstream.DeadLetter(phase=phase)],
    "retry later": lambda phase: [kstream.RetryLater([5], phase=phase), kstream.DeadLetter(phase=phase)],
}
REFUSED = {("restore", "retry later")}
"""Where they are declared: an entry that cannot be read stays so."""


def stepping(phase: str) -> Step:
    def step(n: int, _: Any) -> Any:
        if n in BAD and phase == "process":
            raise ValueError(n)
        return "no number" if n in BAD and phase == "encode" else n

    return step


def fed(phase: str, n: int, now: int) -> tuple[bytes, bytes, int]:
    """Key, value and timestamp of a record."""
    bad = n in BAD
    at = now - 9 * DAY if bad and phase == "produce" else now
    return b"k%d" % n, b"x%d" % n if bad and phase == "decode" else b"%d" % n, at


def stored(driver: TestDriver) -> set[int]:
    """The numbers of the keys that have sound entries."""
    (task,) = driver.worker.tasks.values()
    keys = [key for name in task.stores for key, raw in task.backend.scan(name) if raw != DAMAGED]
    return {n for n in ALL if any(b"k%d" % n in key for key in keys)}


@pytest.mark.parametrize(
    "cut", [pytest.param(cut, marks=pytest.mark.more if sizes else ()) for cut, sizes in CUTS.items()]
)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("form", FORMS)
def test_it(form: Callable[..., None], phase: str, policy: str, cut: str) -> None:
    others = tuple(one for one in PHASES if one != phase)
    if (phase, policy) in REFUSED:
        with pytest.raises(TopologyError, match="stays so"):
            POLICIES[policy](phase)
        return
    app = kstream.App("failing", on_error=[kstream.Skip(phase=others), *POLICIES[policy](phase)])
    source = app.topic("in", key=str, value=int, partitions=1)
    out = app.topic("out", key=str, value=int, config={"message.timestamp.before.max.ms": str(DAY)})
    form(app, source, out, stepping(phase))
    driver = TestDriver(app, partitions=1)
    cluster = driver.cluster
    try:
        records = [fed(phase, n, int(driver.clock.time() * 1000)) for n in ALL]
        cluster.append("in", *records[0])
        driver.commit()
        if CUTS[cut]:
            cluster.batch_sizes = chain(CUTS[cut], repeat(CUTS[cut][-1]))
        if phase == "restore":
            (task,) = driver.worker.tasks.values()
            task.backend.write({name: [(b"k%d" % n, DAMAGED) for n in BAD] for name in task.stores}, {})
        for record in records[1:]:
            cluster.append("in", *record)
        if policy in ("none", "fail"):
            with pytest.raises(ProcessingError) as caught:
                driver.process()
                driver.commit()
            assert (caught.value.topic, caught.value.offset) == ("in", BAD[0])
            assert [int(record.value or b"") for record in cluster.records("out")] == [0, 1]
            assert cluster.group("failing").offsets[TopicPartition("in", 0)][0] == BAD[0]
            assert stored(driver) == {0, 1}
            driver.close(commit=False)
            return
        driver.commit()
        at_first = [int(record.value or b"") for record in cluster.records("out")]
        assert at_first == ([0, 1] if policy == "retry" else GOOD)
        attempts = 1
        if policy in ("retry", "retry later"):
            attempts = 2
            for _ in range(3):
                driver.advance(5.0)
                driver.commit()
        assert [int(record.value or b"") for record in cluster.records("out")] == GOOD
        assert cluster.group("failing").offsets[TopicPartition("in", 0)][0] == len(ALL)
        assert stored(driver) == set(GOOD), "nothing of an attempt that failed"
        if policy == "skip":
            assert driver.worker.measures.skipped.total() == len(BAD)
            return
        letters = cluster.records("failing-dead-letters")
        assert [(one.key, one.value, one.timestamp) for one in letters] == [records[n] for n in BAD]
        for n, letter in zip(BAD, letters, strict=True):
            headers = dict(letter.headers or ())
            assert headers["kstream.phase"] == phase.encode()
            assert headers["kstream.attempts"] == b"%d" % attempts
            assert headers["__streams.errors.offset"] == b"%d" % n
    finally:
        driver.close(commit=False)
