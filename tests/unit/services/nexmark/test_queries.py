"""Each query over the same records as DuckDB, in memory, with crashes between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest

from kstream.testing import TestDriver
from services.nexmark.app import make_app
from services.nexmark.generator import Events
from services.nexmark.model import Event, key_of, topic_of
from services.nexmark.oracle import Oracle
from services.nexmark.queries import QUERIES

EVENTS = Events(8_000, rate=100)  # eighty seconds, in which a day ends
ARRIVAL = 1_700_000_000_000
"""In ms, of the first; the others follow each ten ms."""
IDLE = 6.0
"""Seconds after which tasks before a repartition have said again what time it is: those behind it may have been started
anew since they heard it first."""


def arrivals() -> Iterator[int]:
    return iter(range(ARRIVAL, ARRIVAL + 10_000_000, 10))


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return [*EVENTS, *EVENTS.closing()]


@pytest.fixture(scope="module")
def oracle(events: list[Event]) -> Oracle:
    return Oracle(events, EVENTS.ends, arrivals())


def results(query: str, events: Iterable[Event], *, crashes: int = 2, seed: int = 1) -> list[tuple[Any, Any]]:
    """What the query puts out. Records are read in batches of any size, and the worker dies now and then."""
    choose = random.Random(seed)
    app = make_app(query)
    with TestDriver(app) as driver:
        driver.cluster.batch_sizes = iter(lambda: choose.randrange(1, 500), 0)
        encode = msgspec.json.Encoder().encode
        wanted = driver.cluster.topics()
        sent = [
            (topic_of(type(event)), b"%d" % key_of(event), encode(event), at)
            for event, at in zip(events, arrivals(), strict=False)
            if topic_of(type(event)) in wanted
        ]
        cuts = sorted(choose.sample(range(1, len(sent)), 2 * crashes))
        for first, last in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            for topic, key, value, at in sent[first:last]:
                driver.cluster.append(topic, key, value, timestamp=at)
            driver.process()
            if choose.random() < 0.5:
                driver.commit()
            driver.crash()
        driver.advance(IDLE)
        [topic] = [topic for topic in app.topology().declared if topic.name == f"{app.name}-results"]
        return [(record.key, record.value) for record in driver.records(topic)]


@pytest.mark.parametrize("query", QUERIES)
def test_the_results_are_those_of_sql(query: str, events: list[Event], oracle: Oracle) -> None:
    missing, too_many = oracle.differences(query, results(query, events))
    assert not missing and not too_many, (missing.most_common(5), too_many.most_common(5))
    assert oracle.answer(query).total() > 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
@pytest.mark.parametrize("query", QUERIES)
def test_so_they_are_with_other_records_and_crashes(query: str, seed: int) -> None:
    given = Events(3_000, rate=100, seed=seed, shuffled=400)
    events = [*given, *given.closing()]
    found = Oracle(events, given.ends, arrivals()).differences(query, results(query, events, crashes=6, seed=seed))
    assert found == (Counter(), Counter())


def test_a_result_that_is_lost_or_doubled_is_found(events: list[Event], oracle: Oracle) -> None:
    good = results("q7", events)
    assert oracle.differences("q7", good) == (Counter(), Counter())
    missing, too_many = oracle.differences("q7", good[1:])
    assert missing.total() == 1 and not too_many
    missing, too_many = oracle.differences("q7", [*good, good[0]])
    assert too_many.total() == 1 and not missing
