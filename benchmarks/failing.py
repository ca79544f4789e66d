"""`python -m benchmarks.failing`: what records that fail cost; writes a report beside itself.

A fold over bids, one worker in this process, on a real broker: without failures, and with one record in a hundred that
the fold refuses, skipped or written as a dead letter; and an agent whose results go out, without failures and with one
in a hundred that Kafka refuses (no key for a compacted topic). Each case comes once in every repetition; the median
of the repetitions' own ratios counts. Exit status 1 when an output is wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from rich.console import Console

import kstream
from benchmarks import machine
from benchmarks.data import Data, fill
from benchmarks.records import Bid, Total
from benchmarks.report import table
from benchmarks.services import add, new_total
from kstream.config import Settings
from kstream.devbroker import DevBroker
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.making import make_worker

RESULTS = Path(__file__).parent / "FAILING.md"
KEYS: Final = 20_000
CASES: Final = {
    "none": None,
    "skip": kstream.Skip(),
    "dead letter": kstream.DeadLetter(),
    "none, an agent": None,
    "refused by Kafka": kstream.DeadLetter(),
}
BASE: Final = {"none, an agent": "none, an agent", "refused by Kafka": "none, an agent"}
"""What a case is compared with, where that is not `none`."""


COMPACTED: Final = {"cleanup.policy": "compact"}


class Figures(NamedTuple):
    """Records a second; processor time of the worker's thread (microseconds a record); what failed; aborts."""

    rate: float
    processor: float
    failed: int
    aborts: int


def app_of(name: str, data: Data, case: str) -> kstream.App:
    policy = CASES[case]
    app = kstream.App(name, on_error=[policy] if policy else [])
    bids = app.topic(data.topic, key=int, value=Bid)
    if case in BASE:
        prices = app.topic(f"{name}-out", key=int, value=int, partitions=data.partitions, config=COMPACTED)

        @app.agent(bids, to=prices)
        def price(bid: Bid, ctx: kstream.Context[int]) -> kstream.Record[int, int]:
            refused = policy is not None and bid.price % 100 == 0
            return kstream.Record(None if refused else ctx.key, bid.price)  # type: ignore[arg-type]

        return app
    totals = app.topic(f"{name}-out", key=int, value=Total, partitions=data.partitions)
    grouped = app.stream(bids).group_by_key()
    grouped.aggregate(new_total, add if policy is None else add_strictly, name="totals", value=Total).to(totals)
    return app


def add_strictly(total: Total, bid: Bid) -> Total:
    add(total, bid)
    if bid.price % 100 == 0:
        raise ValueError("a price that is refused")
    return total


def run(servers: str, data: Data, case: str, folder: str) -> Figures:
    """One case from its first record in hand to the commit of the last."""
    name = f"failing-{uuid.uuid4().hex[:8]}"
    app = app_of(name, data, case)
    settings = Settings(bootstrap_servers=servers, state_dir=f"{folder}/{name}", commit_interval=1.0)
    admin = KafkaClients(servers, options_from(settings, name)).admin()
    partitions = prepare_topics(app.topology(), admin, settings)
    admin.close()
    worker = make_worker(app, Identity(name, "bench", 0, "default"), settings, partitions)
    worker.start()

    def go(done: Callable[[], int], until: int) -> None:
        while done() < until:
            worker.step()

    def committed() -> int:
        return sum(offset for task in worker.tasks.values() for offset in task.committed.values())

    go(lambda: worker.records, 1)
    first, began, worked = worker.records, time.perf_counter(), time.thread_time()
    go(lambda: sum(offset for task in worker.tasks.values() for offset in task.positions.values()), data.records)
    worker.commit_now()
    go(committed, data.records)
    seconds, processor, records = time.perf_counter() - began, time.thread_time() - worked, data.records - first
    measures = worker.measures
    failed = sum(measures.skipped.values()) + sum(measures.dead_letters.values())
    aborts = worker.aborts
    worker.close()
    return Figures(records / seconds, processor / records * 1e6, failed, aborts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failing", description="what records that fail cost")
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    console, data = Console(), Data(given.records, KEYS)
    logging.disable(logging.ERROR)
    wanted = sum(1 for _, _, price in data.bids() if price % 100 == 0)
    found: dict[str, list[Figures]] = {case: [] for case in CASES}
    with console.status("the development broker starts") as status, tempfile.TemporaryDirectory() as folder:
        broker = DevBroker().start()
        try:
            fill(broker.bootstrap_servers, data, lambda done: status.update(f"filling a topic: {done:,}"))
            facts = machine.facts(machine.development_broker())
            for n in range(given.repeat):
                for case in CASES:
                    status.update(f"{n + 1}/{given.repeat} {case}")
                    figures = run(broker.bootstrap_servers, data, case, folder)
                    found[case].append(figures)
                    console.print(f"{case}: {figures}")
                    if CASES[case] is not None and figures.failed < wanted:
                        console.print(f"{case}: {figures.failed} of {wanted} records that fail were left out")
                        return 1
        finally:
            broker.stop()
    given.output.write_text(_page(data, wanted, found, facts))
    console.print(f"written to {given.output}")
    return 0


def _page(data: Data, wanted: int, found: dict[str, list[Figures]], facts: dict[str, str]) -> str:
    def ratios(case: str, of: Callable[[Figures], float]) -> str:
        bases = found[BASE.get(case, "none")]
        pairs = [(of(one), of(base)) for one, base in zip(found[case], bases, strict=True)]
        each = [one / base for one, base in pairs]
        return f"{median(each):.2f} ({', '.join(f'{ratio:.2f}' for ratio in each)})"

    rows = [
        (
            case, f"{median(one.rate for one in figures):,.0f}", ratios(case, lambda one: one.rate),
            f"{median(one.processor for one in figures):.1f}", ratios(case, lambda one: 1 / one.processor),
            str(max(one.aborts for one in figures)),
        )
        for case, figures in found.items()
    ]  # fmt: skip
    columns = ("records that fail", "records/s", "of that without", "µs of processor", "of that without", "aborts")
    told = (
        f"Made by `python -m benchmarks.failing`. {data.records:,} bids over {data.keys:,} keys, {data.partitions} "
        f"partitions, one worker, a commit a second; {wanted:,} of them fail in a fold, or Kafka refuses what an agent "
        f"makes of them (compared with the agent without). Medians of {len(found['none'])} repetitions, each "
        "repetition in brackets."
    )
    lines = ["# Records that fail", "", told, "", *table(columns, rows, "lrrrrr"), "", "## The machine", ""]
    return "\n".join([*lines, *table(("", ""), list(facts.items()), "ll"), ""])


if __name__ == "__main__":
    sys.exit(main())
