"""`kstream demo --nexmark q5`: a query over the records of Nexmark, live, with a worker killed half-way, then checked.

As the demo of the flights, but for the judge: DuckDB answers the same question over the same records.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from rich.console import Console

import kstream
from kstream.codecs import decode_keys, decode_value
from kstream.config import Settings
from kstream.errors import UsageError
from kstream.runtime.cluster.naming import consumer_group
from services.nexmark import app as apps
from services.nexmark.board import View, board, screen
from services.nexmark.feed import feed
from services.nexmark.generator import Events
from services.nexmark.model import TOPICS, Event, topic_of
from services.nexmark.oracle import Oracle, Row
from services.nexmark.queries import QUERIES
from services.nexmark.watch import Watch
from services.stage.cluster import client_of, console_of, errors_into, played
from services.stage.performance import Display, Feeding, Performance

EVENTS, RATE = 300_000, 10_000
SHOWN = 5  # rows that differ
PATIENCE = 120.0  # seconds in which the results must be read


class Feed(Feeding):
    """Makes the records that the query reads, and writes them."""

    def __init__(self, events: Events, inputs: set[str], client: Mapping[str, str], rate: float | None) -> None:
        super().__init__()
        self._events, self._inputs, self._client, self._rate = events, inputs, client, rate
        self.records: list[Event] = []
        self.stamps: list[int] = []

    def prepare(self) -> int:
        self.records = [*self._events, *self._events.closing()]
        self.records = [one for one in self.records if topic_of(type(one)) in self._inputs]
        return len(self.records)

    def write(self, sent: Callable[[int], None], stop: threading.Event) -> None:
        feed(self.records, self._client, rate=self._rate, sent=sent, stop=stop, stamps=self.stamps)


def run(
    query: str, *, kill: bool, workers: int, rate: float | None, bootstrap: str | None, events: int | None = None,
    console: Console | None = None,
) -> int:  # fmt: skip
    """Runs it. Returns 0 when the results are those of SQL, 1 when not or when it failed, 130 when interrupted.

    Args:
        kill, workers, bootstrap: as of the demo of the flights.
        rate: records a second; None is as fast as it goes, with event times of 10,000 a second.
        events: how many records; default: 300,000.

    Raises:
        UsageError: something to mend, in one line.
    """
    if query not in QUERIES:
        raise UsageError(f"--nexmark {query}: there is no such query; there are {', '.join(QUERIES)}")
    given = Events(EVENTS if events is None else events, RATE if rate is None else rate)
    console = console_of(console)
    os.environ.pop("NEXMARK_PREFIX", None)  # the names below are without one
    app: kstream.App = getattr(apps, query)

    def play(settings: Settings, log: Path) -> bool:
        client, target = client_of(settings), f"services.nexmark.app:{query}"
        with errors_into(log), app.supervisor(settings=settings, workers=workers, target=target) as supervisor:
            topology, partitions = app.topology(), supervisor.partitions
            inputs = {topic_of(kind) for kind in TOPICS} & {name for part in topology.parts for name in part.topics}
            watch = Watch(
                settings, client, consumer_group(app.name, "default"), results_of(app), sorted(inputs), partitions
            )
            feeding = Feed(given, inputs, client, rate)
            view = View(query=query, asks=(QUERIES[query].__doc__ or "").partition(":")[0].rstrip("."))
            display = Display(view, console, lambda width: screen(view, width), lambda: board(view))

            def show() -> None:
                view.results, view.latest = watch.results, list(watch.latest)

            Performance(
                supervisor,
                sum(partitions[part.topics[0]] for part in topology.parts),
                feeding,
                watch,
                kill,
                view,
                display,
                show=show,
                half_way=lambda: view.through >= view.total // 2,
                done=lambda: watch.quiet and not any(worker.report.lag for worker in supervisor.workers),
            ).play()
        with console.status("Asking DuckDB the same question"):
            began = time.monotonic()
            oracle = Oracle(feeding.records, given.ends, feeding.stamps)
            missing, too_many = oracle.differences(query, committed(client, results_of(app)))
        return _report(console, view, missing, too_many, time.monotonic() - began)

    return played(app, bootstrap, console, play)


def results_of(app: kstream.App) -> kstream.Topic[Any, Any]:
    """The topic of the query's results."""
    return next(topic for topic in app.topology().declared if topic.name == f"{app.name}-results")


def committed(client: Mapping[str, str], topic: kstream.Topic[Any, Any]) -> list[tuple[Any, Any]]:
    """All committed records of a topic, to its end: keys and values.

    Raises:
        KafkaException: it cannot be read. TimeoutError: its end does not come.
    """
    given = {"group.id": "nexmark-check", "isolation.level": "read_committed", "enable.partition.eof": True}
    consumer = Consumer({**client, **given, "enable.auto.commit": False, "auto.offset.reset": "error"})
    found: list[tuple[Any, Any]] = []
    try:
        numbers = consumer.list_topics(topic.name, timeout=10).topics[topic.name].partitions
        consumer.assign([TopicPartition(topic.name, number, 0) for number in numbers])
        open_ends, deadline = len(numbers), time.monotonic() + PATIENCE
        while open_ends:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic.name} was not read to its end within {PATIENCE:.0f} s")
            for message in consumer.consume(10_000, 0.2):
                error, raw = message.error(), message.key()
                if error is None:
                    key = decode_keys(topic.key.codec, [raw if raw is None else bytes(raw)])[0]
                    found.append((key, decode_value(topic.value.codec, message.value())))
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_ends -= 1
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()
    return found


def _report(console: Console, view: View, missing: Counter[Row], too_many: Counter[Row], seconds: float) -> bool:
    """The verdict: one line to remember, and the first differences. Returns whether there are none."""
    good = not missing and not too_many
    speed = view.total / view.seconds if view.seconds else 0.0
    console.print(
        f"{view.total:,} records in {view.seconds:.1f} s ({speed:,.0f}/s): "
        f"{missing.total():,} rows missing, {too_many.total():,} too many",
        style="bold green" if good else "bold red",
    )
    console.print(f"{view.results:,} results compared with DuckDB's answer to the same question in {seconds:.1f} s")
    for what, rows in (("missing", missing), ("too many", too_many)):
        for row, times in rows.most_common(SHOWN):
            console.print(f"  {what}, {times} times: {row}", style="red", markup=False)
    return good
