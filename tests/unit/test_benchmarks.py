"""What the benchmarks rest on still fits the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

import kstream
from benchmarks.catchup import compare, windows_of, written
from benchmarks.given import is_of_closing
from benchmarks.micro import BATCH, Engine, messages
from benchmarks.resident import Sample, early_and_late
from benchmarks.soak_queries import LEFT, SOAKED, kinds_of, records_of
from benchmarks.unchecked import Unchecked
from kstream.testing import TestDriver
from services.nexmark.app import make_app
from services.nexmark.generator import Events
from services.nexmark.inputs import Nexmark
from services.nexmark.model import PARTITIONS, Event, key_of, topic_of
from services.nexmark.oracle import ASKED, Oracle


def test_the_engine_runs_without_a_broker_and_without_checks(tmp_path: Path) -> None:
    """`python -m benchmarks --micro` had stopped working: topics were asked about that its clients did not know."""
    batches = messages()[:4]
    for path in (engine := Engine("commit", tmp_path / "a"), Unchecked(other := Engine("commit", tmp_path / "b"))):
        path.begin()
        for batch in batches:
            path.batch(batch)
        path.commit()
    assert engine.records == other.records == 4 * BATCH
    engine.close()
    other.close()


def test_what_windows_lack_is_found() -> None:
    """benchmarks.catchup says what of the records is in no window, and what is too much."""
    records = written((10_000, 20_000), 0, 120_000)
    expected = windows_of(records)
    assert expected[b"0", 0] == 2 and expected.total() == len(records) == 18
    assert set(compare(expected, Counter(expected), 0).items()) >= {
        ("small", 0),
        ("missing", 0),
        ("lost", 0),
        ("wrong", 0),
    }
    found = Counter(expected)
    found[b"0", 0] -= 1
    found[b"1", 0] += 1
    del found[b"2", 0]
    assert compare(expected, found, 3) == {
        "windows": len(expected), "small": 1, "missing": 1, "records": 18, "lost": 1 + expected[b"2", 0], "wrong": 4,
    }  # fmt: skip


def fed(app: kstream.App, driver: TestDriver, events: Iterable[Event]) -> None:
    """Writes what the app reads of these, and processes it."""
    encode, inputs = msgspec.json.Encoder().encode, driver.cluster.topics()
    for at, event in enumerate(events, 1_700_000_000_000):
        if (topic := topic_of(type(event), app.name.partition("-")[0])) in inputs:
            driver.cluster.append(topic, b"%d" % key_of(event), encode(event), timestamp=at)
    driver.process()
    driver.commit()


def results(app: kstream.App, driver: TestDriver) -> list[kstream.Record[Any, Any]]:
    topic = next(topic for topic in app.topology().declared if topic.name == f"{app.name}-results")
    return driver.records(topic)


EVENTS = Events(1_000, rate=100)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(EVENTS, EVENTS.ends, count(1_700_000_000_000))


@pytest.mark.parametrize("query", ["q5", "q8", "q11", "q12"])
def test_results_of_the_records_that_close_windows_are_told_from_others(query: str, oracle: Oracle) -> None:
    """benchmarks.answers leaves them out, since a program of Kafka Streams needs some of them and kstream needs few."""
    app = make_app(query)
    with TestDriver(app) as driver:
        fed(app, driver, [*EVENTS, *EVENTS.closing()])
        asked, written = ASKED[query], results(app, driver)
    rows = {(0 if asked.last else at, one.key): list(asked.rows(one.key, one.value)) for at, one in enumerate(written)}
    assert Counter(row for some in rows.values() for row in some if not is_of_closing(row)) == oracle.answer(query)


@pytest.mark.parametrize("query", SOAKED)
def test_the_soaked_queries_leave_nothing_but_what_closed_them(query: str) -> None:
    events = Events(1_500, rate=100)
    n = Nexmark(query, "soak")
    SOAKED[query](n)
    records = [*events, *events.closing()]
    kinds = kinds_of(query)
    assert records_of(query, events.count) == sum(type(event) in kinds for event in records)
    with TestDriver(n.app) as driver:
        fed(n.app, driver, records)
        assert results(n.app, driver)
        left = sum(
            sum(1 for _ in store.backend.scan(family))
            for task in driver.worker.tasks.values() for store in task.stores.values() for family in store.families
        )  # fmt: skip
    assert 0 < left <= LEFT


def test_so_many_records_are_read_as_are_made() -> None:
    for size in (1, 49, 50, 53, 54, 1_234):
        events = Events(size, rate=100)
        kinds = Counter(type(event) for event in events)
        for query in SOAKED:
            assert records_of(query, size) == sum(kinds[kind] + PARTITIONS for kind in kinds_of(query))


def saw_tooth(seconds: float, *, start: float = 0.0, growth: float = 0.0) -> list[Sample]:
    """100 MiB and 30 more within 30 s, again and again; `growth`: MiB a second. 1,000 records a second."""
    times = [number / 4 for number in range(round(seconds * 4) + 1)]
    sizes = [100 + (at + start) % 30 + growth * at for at in times]
    return [Sample(at, round(at * 1000), round(size * 2**20)) for at, size in zip(times, sizes, strict=True)]


def test_memory_that_only_goes_up_and_down_is_level_wherever_the_run_begins_and_ends() -> None:
    for start in range(0, 30, 7):
        for seconds in (70, 77.5, 101):
            early, late = early_and_late(saw_tooth(seconds, start=start), 5_000, 30)
            assert early == pytest.approx(late, rel=0.01)


def test_memory_that_grows_is_seen_to() -> None:
    early, late = early_and_late(saw_tooth(125, growth=0.5), 5_000, 30)
    assert late - early == pytest.approx(45 << 20, rel=0.1)


def test_a_run_of_less_than_two_cycles_says_nothing_of_memory() -> None:
    with pytest.raises(ValueError, match="within 30 s, and after 5,000 records the run took 55 s only"):
        early_and_late(saw_tooth(60), 5_000, 30)
