"""The queries of Nexmark on a real Kafka, exactly once, with two workers of which one is killed: the results are
those of SQL over the same records."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kstream.codecs import decode_keys, decode_value
from kstream.config import Settings
from services.nexmark.app import make_app
from services.nexmark.feed import feed, make_topics
from services.nexmark.generator import Events
from services.nexmark.model import topic_of
from services.nexmark.oracle import Oracle
from services.nexmark.queries import QUERIES
from support.kafka import read
from support.running import Instance, prepare, until

SETTINGS: dict[str, Any] = {"session_timeout": 3.0, "restart_initial": 0.1, "restart_max": 1.0, "idle_timeout": 1.0}
WORKERS = 2
QUIET = 3.0
"""Seconds in which nothing is processed any more after which all is."""


@dataclass
class Fed:
    """Records that lie in Kafka, how many in each topic, and what they must come to."""

    servers: str
    prefix: str
    counts: Counter[str]
    oracle: Oracle


def fed(servers: str, events: Events) -> Fed:
    prefix, stamps = f"nexmark-{uuid.uuid4().hex[:8]}", list[int]()
    make_topics(servers, prefix)
    records = [*events, *events.closing()]
    feed(records, {"bootstrap.servers": servers}, prefix=prefix, stamps=stamps)
    counts = Counter(topic_of(type(event), prefix) for event in records)
    return Fed(servers, prefix, counts, Oracle(records, events.ends, stamps))


def run(query: str, given: Fed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The query over all that was fed, with a kill half-way."""
    monkeypatch.setenv("NEXMARK_PREFIX", given.prefix)
    settings = Settings(
        bootstrap_servers=given.servers, state_dir=str(tmp_path / "state"), instance="a", log_level="INFO", **SETTINGS
    )
    app = make_app(query, given.prefix)
    partitions = prepare(app, settings)
    instance = Instance(f"services.nexmark.app:{query}", app.name, "a", settings, partitions, WORKERS)
    wanted = sum(count for topic, count in given.counts.items() if topic in partitions)
    killed, last, moved, at_end = False, 0, time.monotonic(), set[int]()

    def through() -> bool:
        nonlocal killed, last, moved
        records = sum(report.records for report in instance.lives.values())
        if records != last or any(report.restoring for report in instance.reports):
            last, moved = records, time.monotonic()
            at_end.clear()
        # marks of time, which idle tasks go on writing, are lag for a moment: so it is enough to have been at the end
        at_end.update(one.index for one in instance.supervisor.workers if one.report.tasks and not one.report.lag)
        if not killed and records >= wanted // 4:
            victim = max((one for one in instance.supervisor.workers if one.pid), key=lambda one: one.report.records)
            os.kill(victim.pid or 0, signal.SIGKILL)
            killed = True
        return killed and len(at_end) == WORKERS and time.monotonic() - moved > QUIET

    try:
        until(through, f"the end of {query}", seconds, each=instance.poll)
        assert instance.restarts == 1
        instance.stop()
    finally:
        instance.kill()
    topic = next(topic for topic in app.topology().declared if topic.name == f"{app.name}-results")
    rows = read(given.servers, [topic.name])[topic.name]
    keys = decode_keys(topic.key.codec, [row.key for row in rows])
    results = zip(keys, (decode_value(topic.value.codec, row.value) for row in rows), strict=True)
    missing, too_many = given.oracle.differences(query, results)
    assert not missing and not too_many, (missing.most_common(5), too_many.most_common(5))


@pytest.fixture(scope="module")
def some(bootstrap_servers: str) -> Fed:
    return fed(bootstrap_servers, Events(50_000, rate=1_000))


@pytest.fixture(scope="module")
def million(bootstrap_servers: str) -> Iterator[Fed]:
    yield fed(bootstrap_servers, Events(1_000_000))


@pytest.mark.parametrize("query", ["q5", "q4", "q11", "q18"])
def test_a_worker_is_killed(query: str, some: Fed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(query, some, tmp_path, monkeypatch, 120)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("query", QUERIES)
def test_over_a_million(query: str, million: Fed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(query, million, tmp_path, monkeypatch, 600)
