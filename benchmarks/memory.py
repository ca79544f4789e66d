"""`python -m benchmarks.memory`: resident memory of a worker whose state is many times its budget; writes a report
beside itself.

A worker folds records of 2 KB that do not compress, each of a key of its own, then updates keys at random, so that it
reads what lies on disk. It runs in a process of its own, with the default settings but `memory`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer

import kstream
from benchmarks import machine, resident
from benchmarks.report import table
from kstream.config import Settings
from kstream.config.units import show_size, size
from kstream.devbroker import DevBroker
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process import allocator
from kstream.runtime.process.making import make_worker
from kstream.runtime.worker.loop import StreamWorker

RESULTS = Path(__file__).parent / "MEMORY.md"
VALUE: Final = 2000
PARTITIONS: Final = 4
UPDATES: Final = 0.2
"""Updates in the second phase, as a share of the keys."""
SAMPLE_SECONDS: Final = 0.25


def app_of(name: str) -> kstream.App:
    app = kstream.App(name)
    records = app.topic(f"{name}.in", key=bytes, value=bytes, partitions=PARTITIONS)
    app.stream(records).group_by_key().reduce(lambda _, new: new, name="last", emit="commit")
    return app


def fill(servers: str, topic: str, keys: int) -> int:
    """Returns how many records were written."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.kbytes": 200_000})
    noise, chance = os.urandom(1 << 24), random.Random(7)
    updates = int(keys * UPDATES)
    order = [*range(keys), *(chance.randrange(keys) for _ in range(updates))]
    for number in order:
        at = chance.randrange(len(noise) - VALUE)
        while True:
            try:
                producer.produce(topic, noise[at : at + VALUE], b"%016x" % (number * 0x9E3779B97F4A7C15 % 2**64))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    return len(order)


def work(servers: str, name: str, state: str, memory: str, records: int) -> None:
    """The worker's process: a line of JSON for each sample."""
    give_back = allocator.GiveBack() if allocator.bound() else None
    app = app_of(name)
    settings = Settings(bootstrap_servers=servers, state_dir=state, memory=memory, commit_interval=1.0)  # type: ignore[arg-type]
    admin = KafkaClients(servers, options_from(settings, name)).admin()
    partitions = prepare_topics(app.topology(), admin, settings)
    admin.close()
    worker = make_worker(app, Identity(name, "bench", 0, "default"), settings, partitions, give_back=give_back)
    began, next_sample = time.monotonic(), 0.0

    def every(worker: StreamWorker) -> None:
        nonlocal next_sample
        now = time.monotonic()
        if now < next_sample:
            return
        next_sample = now + SAMPLE_SECONDS
        done = sum(sum(task.positions.values()) for task in worker.tasks.values())
        use = dict(worker.parts.memory_use())
        sample = {"at": now - began, "records": done, "resident": resident.now(), "use": use}
        print(json.dumps(sample), flush=True)
        if done >= records and not worker.uncommitted:
            worker.stop()

    worker.run(every)


def run(gigabytes: float, memory: str, say: Any = print) -> dict[str, Any]:
    name, keys = f"memory-{uuid.uuid4().hex[:8]}", int(gigabytes * 1e9 / VALUE)
    broker = DevBroker().start()
    with tempfile.TemporaryDirectory(prefix="kstream-memory-") as folder:
        process = None
        try:
            servers = broker.bootstrap_servers
            total = keys + int(keys * UPDATES)
            command = [sys.executable, "-m", "benchmarks.memory", "--worker", servers, name, folder, memory, str(total)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            samples = [json.loads(process.stdout.readline())]  # its topics are there
            fill(servers, f"{name}.in", keys)
            samples += [json.loads(line) for line in process.stdout]
            if process.wait() != 0:
                raise RuntimeError(f"the worker ended with status {process.returncode}")
            disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        finally:
            if process is not None and process.poll() is None:
                process.kill()
            broker.stop()
    peak = max(samples, key=lambda one: one["resident"])
    say(f"{disk / 1e9:.2f} GB on disk, peak {peak}")
    return {"disk": disk, "samples": samples, "peak": peak, "keys": keys, "total": total}


def report(found: dict[str, Any], memory: str) -> str:
    samples, keys, budget = found["samples"], found["keys"], size(memory)
    rows = []
    for what, low, high in (("keys that are new", 0, keys), ("updates at random", keys, found["total"])):
        chosen = [one for one in samples if low < one["records"] <= high] or samples[-1:]
        worst = max(chosen, key=lambda one: one["resident"])
        use = {name: max(one["use"].get(name, 0) for one in chosen) for name in worst["use"]}
        rows.append(
            [what, f"{len(chosen):,}", f"{worst['resident'] / 2**20:,.0f} MiB", f"{worst['resident'] / budget:.2f}"]
            + [f"{size / 2**20:,.0f} MiB" for size in use.values()]
        )
    first = samples[0]["resident"]
    head = ["phase", "samples", "resident at most", "of the budget", *(f"{name} at most" for name in samples[0]["use"])]
    return (
        "# Memory of a worker with much state\n\nMade by `python -m benchmarks.memory`. "
        f"{keys:,} keys with values of {VALUE:,} bytes, {found['disk'] / 1e9:.1f} GB of state on disk, {PARTITIONS} "
        f"tasks in one worker, `memory` = {show_size(budget)}. It takes {first / 2**20:.0f} MiB when it begins."
        "\n\n"
        + "\n".join(table(head, rows, "l" + "r" * (len(head) - 1)))
        + "\n\n## The machine\n\n"
        + "\n".join(table(["", ""], machine.facts(machine.development_broker()).items(), "ll"))
        + "\n"
    )


def main() -> int:
    if sys.argv[1:2] == ["--worker"]:
        servers, name, state, memory, records = sys.argv[2:]
        work(servers, name, state, memory, int(records))
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--gigabytes", type=float, default=5.0, help="of state")
    parser.add_argument("--memory", default="512MiB", help="the budget of the worker")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.output.write_text(report(run(given.gigabytes, given.memory), given.memory), encoding="utf-8")
    print(f"written to {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
