"""`python -m benchmarks.recovery`: what restores, restarts, crashes and takeovers of a large task take; writes
RECOVERY.md.

One run on one changelog partition of 5,000,000 keys (about 1 GB), real instances (`kstream run --workers 1`), one
development broker. Exit status 1 when something went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer

from benchmarks import machine
from benchmarks.data import delete_topics
from benchmarks.recovery_instance import ROOT, SESSION, Instance, Outputs, until
from benchmarks.recovery_service import PARTITIONS, make_app
from benchmarks.report import table
from kstream.config import Settings
from kstream.devbroker import DevBroker
from kstream.partitioning import partition_of
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.types import TopicPartition as Place

RESULTS = Path(__file__).parent / "RECOVERY.md"
RATE = 200
"""Records a second of the partition whose latency is watched."""


class Run:
    """All that is measured, on one changelog."""

    def __init__(self, bootstrap: str, folder: Path, records: int, rounds: int) -> None:
        self.bootstrap, self.folder, self.records, self.rounds = bootstrap, folder, records, rounds
        self.replay = 0.0  # seconds of a restore from the changelog
        self.app = f"bench-recovery-{uuid.uuid4().hex[:6]}"
        self.changelog = f"{self.app}-state-changelog"
        self.keys = {partition_of(key.encode(), PARTITIONS): key for key in ("a", "b", "c", "d", "e")}
        self.producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "lz4", "linger.ms": 5})
        self.rows: list[tuple[str, ...]] = []
        self.bytes = 0
        self.instances: list[Instance] = []
        self.watching: list[Outputs] = []

    def tell(self, what: str, measured: str, beside: str, bar: str) -> None:
        self.rows.append((what, measured, beside, bar))
        load = os.getloadavg()[0]
        self.rows[-1] = (*self.rows[-1], f"{load:.0f}")
        print(" | ".join(self.rows[-1]), flush=True)

    def start(self, name: str = "a", **settings: object) -> Instance:
        self.instances.append(Instance(self.folder, self.app, name, self.bootstrap, **settings))
        return self.instances[-1]

    def watch(self, *, committed: bool) -> Outputs:
        self.watching.append(Outputs(self.bootstrap, f"{self.app}-out", committed=committed))
        return self.watching[-1]

    def tick(self, partition: int) -> None:
        self.producer.produce(f"{self.app}-in", repr(time.time()), self.keys[partition], partition)
        self.producer.poll(0)

    @contextmanager
    def ticking(self, *partitions: int, rate: float = RATE) -> Iterator[None]:
        ending = threading.Event()

        def run() -> None:
            while not ending.wait(1 / rate):
                for partition in partitions:
                    self.tick(partition)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def prepare(self) -> None:
        """The topics, the changelog, and the offsets that it goes with."""
        settings = Settings(bootstrap_servers=self.bootstrap)
        admin = KafkaClients(self.bootstrap, options_from(settings, "bench")).admin()
        prepare_topics(make_app(self.app).topology(), admin, settings)
        inputs = [Place(f"{self.app}-in", partition) for partition in range(PARTITIONS)]
        admin.set_committed(self.app, {at: (0, "") for at in inputs}).result(60)
        admin.close()
        pool = os.urandom(4 << 20)
        began = time.monotonic()
        filling = Producer(
            {"bootstrap.servers": self.bootstrap, "compression.type": "lz4", "linger.ms": 20, "batch.size": 1_000_000,
             "queue.buffering.max.messages": 500_000}
        )  # fmt: skip
        for number in range(self.records):
            at = (number * 7919) % (len(pool) - 190)
            while True:
                try:
                    filling.produce(self.changelog, pool[at : at + 190], key_of(number), 0)
                    break
                except BufferError:
                    filling.poll(0.1)
        filling.flush()
        self.bytes = self.records * (190 + 15)
        print(f"{self.records:,} records ({self.bytes / 1e9:.2f} GB) in {time.monotonic() - began:.0f} s", flush=True)

    # ---- the measurements

    def by_hand(self) -> dict[str, float]:
        command = ["restore", "--bootstrap", self.bootstrap, "--records", str(self.records), self.changelog]
        told = subprocess.run(
            [sys.executable, "-m", "benchmarks.yardstick", *command],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
        return found

    def anew(self, **settings: object) -> Instance:
        """An instance on a new machine."""
        shutil.rmtree(self.folder / "state-a", ignore_errors=True)
        return self.start(**settings)

    def restore(self) -> Instance:
        """By hand and by an instance in turn, so that both have the same load; medians."""
        theirs, their_cpu, mine, my_cpu = [], [], [], []
        instance = None
        for _ in range(self.rounds):
            by_hand = self.by_hand()
            theirs.append(by_hand["seconds"])
            their_cpu.append(by_hand["cpu"])
            if instance is not None:
                instance.stop()
            instance = self.anew()
            mine.append(instance.restored())
            my_cpu.append(instance.cpu())
            print(f"by hand {theirs[-1]:.2f} s ({their_cpu[-1]:.2f} s of processor), "
                  f"restored {mine[-1]:.2f} s ({my_cpu[-1]:.2f} s)", flush=True)  # fmt: skip
        assert instance is not None
        self.replay, hand = statistics.median(mine), statistics.median(theirs)
        self.tell(
            "from the changelog, records/s", f"{self.records / self.replay:,.0f}",
            f"{self.records / hand:,.0f} by hand, x {hand / self.replay:.2f}", "x 1.2",
        )  # fmt: skip
        cpu, hand_cpu = (statistics.median(each) / self.records * 1e6 for each in (my_cpu, their_cpu))
        self.tell(
            "the same, processor time a record", f"{cpu:.1f} us", f"{hand_cpu:.1f} us by hand, x {hand_cpu / cpu:.2f}",
            "",
        )  # fmt: skip
        return instance

    def snapshot(self, instance: Instance) -> Instance:
        """From a snapshot in a directory on the same disk."""
        instance.stop()
        place = self.folder / "snapshots"
        instance = self.start(snapshots=place, snapshot_interval=2.0, snapshot_min_pause=0.0)
        instance.restored()
        until(lambda: instance.metric("snapshots_total") >= 1, "a snapshot")
        found = []
        for _ in range(self.rounds):
            instance.stop()
            instance = self.anew(snapshots=place)
            found.append(instance.restored())
            if not instance.lines("its state comes from snapshot"):
                raise RuntimeError("no snapshot was used")
        seconds = statistics.median(found)
        self.tell(
            "from a snapshot in a directory", f"{seconds:.2f} s",
            f"{self.replay:.2f} s from the changelog, x {self.replay / seconds:.1f}", "x 10",
        )  # fmt: skip
        return instance

    def restart(self, instance: Instance, outputs: Outputs, written: Outputs) -> Instance:
        self.tick(0)
        outputs.first(0, 0.0)
        instance.stop()
        self.tick(0)
        self.producer.flush()
        again = self.start()
        seconds, committed = (each.first(0, again.began) - again.began for each in (written, outputs))
        replayed = again.metric("restored_records_total")
        self.tell(
            "restart with local state: first record written", f"{seconds:.2f} s after the command",
            f"committed after {committed:.2f} s; {again.restored():.2f} s from being assigned to being fed; "
            f"{replayed:.0f} records replayed", "2 s",
        )  # fmt: skip
        return again

    def crash(self, instance: Instance, outputs: Outputs) -> None:
        began = time.monotonic()
        with self.ticking(0, rate=50):
            outputs.first(0, began)
            time.sleep(3)
            os.kill(instance.workers[0], signal.SIGKILL)
            killed = time.monotonic()
            instance.restored(times=2)
            seconds = outputs.first(0, time.monotonic()) - killed
        replayed = until(lambda: instance.metric("restored_records_total"), "the metric")
        self.tell(
            "SIGKILL of the worker: records replayed", f"{replayed:,.0f}", f"{seconds:.2f} s to the next", "the tail"
        )

    def latency(self, instance: Instance, outputs: Outputs) -> Instance:
        """Of a task that runs while another is restored, then alone."""
        instance.stop()
        (directory,) = instance.disk.glob("*/*-in/0")
        shutil.rmtree(directory)
        again = self.start()
        self.tick(1)
        self.producer.flush()
        outputs.first(1, again.began)  # it runs: what waited meanwhile would be measured
        with self.ticking(1):
            began = time.monotonic() + 1
            again.restored()
            over = time.monotonic()
            beside = outputs.latencies(1, began, over - 1)
            time.sleep(10)
            alone = outputs.latencies(1, over + 3, time.monotonic())
        if not beside:
            raise RuntimeError("the restore was over before anything was measured: more records")
        for name, of in (("median", statistics.median), ("99th percentile", _p99)):
            during, after = of(beside), of(alone)
            self.tell(
                f"latency of a task beside a restore, {name}", f"{during * 1000:.0f} ms",
                f"{after * 1000:.0f} ms alone, x {during / after:.2f}", "x 1.3",
            )  # fmt: skip
        return again

    def takeover(self, instance: Instance, outputs: Outputs, written: Outputs, warm: int) -> None:
        """The dead instance leaves an open transaction: the first record is written when the task is fed, and seen by
        readers of committed ones when that transaction was ended too."""
        instance.kill()
        one = self.start("a", warm=warm)
        one.restored()
        other = self.start("b", warm=warm)
        other.restored()
        if warm:
            until(lambda: other.metric("warm_copies") == 1, "a warm copy")
            time.sleep(1)
            until(lambda: other.metric("warm_behind_records") == 0, "the copy to have followed")
        with self.ticking(0, 1, rate=20):
            outputs.first(0, time.monotonic())
            written.first(0, time.monotonic())  # after a commit, so a transaction is open
            restores, replayed = len(other.lines("restored ")), other.metric("restored_records_total")
            killed = time.monotonic()
            one.kill()
            shutil.rmtree(one.disk)
            seconds = other.restored(times=restores + 1)
            first, out = (each.first(0, killed + 1) - killed - SESSION for each in (written, outputs))
            time.sleep(2)
        replayed = other.metric("restored_records_total") - replayed
        self.tell(
            f"takeover, {'warm' if warm else 'not warm'}, from being assigned to being fed", f"{seconds:.2f} s",
            f"{replayed:,.0f} records replayed; after the session's end: first record written {first:.1f} s, committed "
            f"{out:.1f} s",
            "2 s" if warm else "",
        )  # fmt: skip
        other.kill()
        shutil.rmtree(other.disk)


def key_of(number: int) -> bytes:
    return b"key-%011d" % (number * 2654435761 % 10**11)


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


HOW = """\
One run, `kstream run --workers 1`, exactly-once, default settings but `session_timeout` 6 s, one development broker.
The changelog is written once, by a plain producer, into one partition; the app has two, so that a task runs beside the
one that is restored. The hand-written loop (`benchmarks/yardstick.py restore`) consumes the same changelog into write
batches of 10,000. A restore's time is what the worker logs, from being assigned to being fed, with all requests before
and after. A restart is timed from the command to the first output, as it is written and as it is committed: two Python
processes start in it, with modules that are compiled, as those of an installed package are.
Latency: 200 records a second go through the other task, from the producer's clock to the reader of what is committed.
A takeover: SIGKILL of an instance, its disk deleted, another has both partitions when the session ends, and ends the
transaction that the dead one left open.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="of restores; medians count")
    parser.add_argument("--only", default="", help="names of measurements")
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--keep", action="store_true", help="keep logs and state")
    given = parser.parse_args()

    def wanted(name: str) -> bool:
        return not given.only or name in given.only.split(",")

    folder = Path(tempfile.mkdtemp(prefix="kstream-recovery-"))
    with DevBroker() as broker:
        facts = machine.facts(machine.development_broker())
        run = Run(broker.bootstrap_servers, folder, given.records, given.rounds)
        try:
            run.prepare()
            outputs, written = run.watch(committed=True), run.watch(committed=False)
            instance = run.restore()
            if wanted("snapshot"):
                instance = run.snapshot(instance)
            if wanted("restart"):
                instance = run.restart(instance, outputs, written)
            if wanted("crash"):
                run.crash(instance, outputs)
            if wanted("latency"):
                instance = run.latency(instance, outputs)
            if wanted("takeover"):
                run.takeover(instance, outputs, written, 1)
                run.takeover(instance, outputs, written, 0)
        finally:
            for each in run.watching:
                each.close()
            for one in run.instances:
                one.kill()
            delete_topics(run.bootstrap, run.app)
            if given.keep:
                print(f"logs: {folder}", file=sys.stderr)
            else:
                shutil.rmtree(folder, ignore_errors=True)
    facts["load after"] = " ".join(f"{one:.1f}" for one in os.getloadavg())
    head = (
        f"Made by `python -m benchmarks.recovery`: {run.records:,} keys, {run.bytes / 1e9:.2f} GB of keys and values."
    )
    lines = [
        "# What recovery takes", "", head, "", *table(("", "measured", "beside", "bar", "load"), run.rows, "lrllr"), "",
        HOW, "## The machine", "", *table(("", ""), facts.items(), "ll"), "",
    ]  # fmt: skip
    output = given.output or RESULTS
    output.write_text("\n".join(lines), encoding="utf-8")
    print(f"written to {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
