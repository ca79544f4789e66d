"""`python -m benchmarks.queries`: what it costs a worker that its state is asked while it processes.


One worker counts a backlog as fast as it can. In turns nobody asks, 2,000 keys a second are asked for over HTTP, as
many as are answered, as many by the hundred, and as many through `app.async_query()`. Measured are the requests, and
what they take of the worker's processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from confluent_kafka import Producer
from rich.console import Console

from benchmarks import machine
from benchmarks.data import delete_topics
from benchmarks.queries_service import KEYS, PARTITIONS, make_app
from benchmarks.report import table
from kstream.config import Settings
from kstream.devbroker import DevBroker
from kstream.partitioning import partition_of
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "QUERIES.md"
TOKEN: Final = "benchmark"
COUNTED: Final = (
    "kstream_task_records_total", "kstream_state_query_entries_total", "kstream_state_query_busy_seconds_total"
)  # fmt: skip
CASES: Final = {
    "quiet": ("nobody asks", None),
    "asked": ("2,000 requests a second, one key each", (2000, 64, 1)),
    "greedy": ("as many as are answered, 64 at a time", (0, 64, 1)),
    "many": ("the same, 100 keys each", (0, 16, 100)),
    "client": ("`app.async_query()`, 64 `get` at a time", (0, 64, 0)),
}


class Window(NamedTuple):
    """Records a second by the clock; keys looked up a second, and the share of the worker's processor time that this
    took; what the client said."""

    records: float
    keys: float
    share: float
    client: dict[str, Any] | None


class Run:
    def __init__(self, bootstrap: str, records: int, seconds: float, turns: int, folder: Path) -> None:
        self.bootstrap, self.records, self.seconds, self.turns, self.folder = bootstrap, records, seconds, turns, folder
        self.name = f"bench-queries-{uuid.uuid4().hex[:6]}"
        self.url = ""

    def __call__(self) -> dict[str, list[Window]]:
        settings = Settings(bootstrap_servers=self.bootstrap, state_dir=str(self.folder))
        admin = KafkaClients(self.bootstrap, options_from(settings, "bench")).admin()
        try:
            prepare_topics(make_app(self.name).topology(), admin, settings)
            self._fill()
            return self._measured()
        finally:
            admin.close()
            delete_topics(self.bootstrap, self.name)

    def _fill(self) -> None:
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "linger.ms": 50, "compression.type": "lz4",
             "queue.buffering.max.messages": 1_000_000}
        )  # fmt: skip
        keys = [(b"%d" % number, partition_of(b"%d" % number, PARTITIONS)) for number in range(KEYS)]
        for number in range(self.records):
            key, home = keys[number * 7919 % KEYS]
            while True:
                try:
                    producer.produce(f"{self.name}-events", b"1", key, home)
                    break
                except BufferError:
                    producer.poll(0.1)
            if number % 10_000 == 0:
                producer.poll(0)
        producer.flush(120)

    def _measured(self) -> dict[str, list[Window]]:
        environment = {
            **os.environ,
            "KSTREAM_BENCH_QUERIES": self.name,
            "KSTREAM_BOOTSTRAP_SERVERS": self.bootstrap,
            "KSTREAM_STATE_DIR": str(self.folder),
            "KSTREAM_WORKERS": "1",
            "KSTREAM_WEB_TOKEN": TOKEN,
            "KSTREAM_WEB_PORT": "18710",
            "KSTREAM_STATE_QUERIES": "true",
        }
        self.url = "http://127.0.0.1:18710"
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "kstream.cli", "run", "benchmarks.queries_service:app"],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        found: dict[str, list[Window]] = {case: [] for case in CASES}
        try:
            deadline = time.monotonic() + 60
            while self._processed() < KEYS * 20:  # each is there
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the service failed: {(self.folder / 'log').read_text()[-2000:]}")
                time.sleep(0.1)
            for turn in range(self.turns):
                for case in list(CASES) if turn % 2 == 0 else list(CASES)[::-1]:
                    found[case].append(self._window(CASES[case][1]))
            if self._processed() >= self.records:
                raise RuntimeError("the backlog was over before the end: give it more --records")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(90)
        return found

    def _window(self, load: tuple[int, int, int] | None) -> Window:
        client = None
        if load is not None:
            arguments = [self.name, self.url, TOKEN, str(self.seconds), *map(str, load)]
            client = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.queries_client", *arguments], cwd=ROOT, stdout=subprocess.PIPE
            )
            time.sleep(0.5)  # it starts
        began, before, cpu = time.monotonic(), self._counted(), self._cpu()
        time.sleep(self.seconds - 1.0)
        lasted, after, worked = time.monotonic() - began, self._counted(), self._cpu() - cpu
        records, keys, busy = (after.get(name, 0.0) - before.get(name, 0.0) for name in COUNTED)
        said = None if client is None else json.loads(client.communicate()[0])
        return Window(records / lasted, keys / lasted, busy / worked, said)

    def _processed(self) -> int:
        return int(self._counted().get(COUNTED[0], 0))

    def _counted(self) -> dict[str, float]:
        """Counters, each over all its series."""
        try:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return {}
        found: dict[str, float] = {}
        for line in lines:
            name = line.partition("{")[0]
            if name in COUNTED:
                found[name] = found.get(name, 0.0) + float(line.split()[-1])
        return found

    def _cpu(self) -> float:
        """Seconds that the worker's process has worked."""
        request = urllib.request.Request(f"{self.url}/api/status", headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            pid = json.loads(answer.read())["workers"][0]["pid"]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


HEAD: Final = ("", "requests/s", "p50", "p99", "keys/s", "of the worker's time", "records/s")


def markdown(found: dict[str, list[Window]], facts: dict[str, str], seconds: float) -> str:
    rows = []
    for case, windows in found.items():
        said = [one.client for one in windows if one.client is not None]
        asked = ["-"] * 5
        if said:
            asked = [
                f"{median(one['requests'] for one in said):,.0f}",
                f"{median(one['p50'] for one in said) * 1000:.0f} ms",
                f"{median(one['p99'] for one in said) * 1000:.0f} ms",
                f"{median(one.keys for one in windows):,.0f}",
                f"{median(one.share for one in windows):.1%}",
            ]
        rows.append((CASES[case][0], *asked, f"{median(one.records for one in windows):,.0f}"))
    turns = len(found["quiet"])
    return "\n".join(
        [
            "# Queries of state",
            "",
            f"Made by `python -m benchmarks.queries`: medians of {turns} windows of {seconds:g} s each, in turns. One "
            "worker counts a backlog by key as fast as it can, while committed totals are asked for. Its processor "
            "time that queries take is measured in the worker. The broker, the instance's web server and whoever asks "
            "share the machine below with it, and take processors from it where there are few: see the last column.",
            "",
            *table(HEAD, rows, "lrrrrrr"),
            "",
            "## The machine",
            "",
            *table(("", ""), list(facts.items()), "ll"),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=40_000_000, help="enough for all windows")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a window")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    facts = machine.facts(machine.development_broker())
    with DevBroker() as broker, tempfile.TemporaryDirectory(prefix="kstream-bench-") as folder:
        found = Run(broker.bootstrap_servers, given.records, given.seconds, given.turns, Path(folder))()
    Console().print({case: windows for case, windows in found.items()})
    given.output.write_text(markdown(found, facts, given.seconds), encoding="utf-8")
    wrong = [one.client["why"] for windows in found.values() for one in windows if one.client and one.client["bad"]]
    if wrong:
        print("requests failed:", wrong[0], file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
