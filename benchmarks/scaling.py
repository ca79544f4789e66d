"""`python -m benchmarks.scaling`: what joining, leaving and dying instances cost the others; writes SCALING.md.

Real instances (`kstream run --workers 1`), a feed of 50 records a second for each of 8 partitions, and a reader of what
is committed. A partition's stall is its longest gap without a committed output from the event on, less the usual gap
(the commit interval). Everything that came is checked: each number once, in order.

Exit status 1 when something went wrong, 2 for a wrong call.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks import machine
from benchmarks.data import delete_topics
from benchmarks.report import table
from benchmarks.scaling_service import KINDS, PARTITIONS
from benchmarks.scaling_watch import Stall, Watch
from kstream.config import Settings
from kstream.devbroker import DevBroker
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.kafka import KafkaClients, options_from

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "SCALING.md"
EVENTS = {
    "joins": "a third instance joins two, its disk empty",
    "leaves": "one of three stops, `on_stop=leave`",
    "stops": "one of three stops for good, `on_stop=stay`",
    "dies": "SIGKILL of an instance, for good",
    "worker": "SIGKILL of a worker, which its instance starts again",
    "rolling": "rolling restart of three, `on_stop=stay`",
}
KEYS = {"stateless": 1_000, "stateful": 320_000}


class Instance:
    """`kstream run` of the service, in a process of its own."""

    def __init__(self, folder: Path, target: str, name: str, bootstrap: str, **settings: str) -> None:
        self.name = name
        environment = {
            **os.environ,
            "KSTREAM_BENCH_SCALING": target,
            "KSTREAM_INSTANCE": name,
            "KSTREAM_BOOTSTRAP_SERVERS": bootstrap,
            "KSTREAM_STATE_DIR": str(folder / f"state-{name}"),
            "KSTREAM_WORKERS": "1",
            "KSTREAM_WEB_PORT": "0",
            **{f"KSTREAM_{setting.upper()}": value for setting, value in settings.items()},
        }
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kstream.cli", "run", "benchmarks.scaling_service:app"],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def stop(self) -> None:
        """In good order; returns when it is gone."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            raise RuntimeError(
                f"{self.name} ended with status {self.process.returncode}: {self.log.read_text()[-2000:]}"
            )

    def kill(self) -> None:
        """All of it at once: supervisor and workers."""
        if self.process.poll() is None:
            for pid in (self.process.pid, *self.workers):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Round:
    """One service from its start to its end, and what was measured of it meanwhile."""

    bootstrap: str
    kind: str
    folder: Path
    settings: dict[str, str]
    instances: dict[str, Instance] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"bench-scaling-{uuid.uuid4().hex[:6]}")
    watch: Watch = field(init=False)
    measured: dict[str, list[list[Stall]]] = field(default_factory=dict)
    _starts: int = 0

    def start(self, name: str, folder: Path | None = None, **settings: str) -> None:
        """With an empty disk, unless it is told the folder of an earlier run."""
        self._starts += 1
        folder = folder or self.folder / str(self._starts)
        folder.mkdir(exist_ok=True)
        given = {**self.settings, **settings}
        self.instances[name] = Instance(folder, f"{self.kind}/{self.name}", name, self.bootstrap, **given)

    def restart(self, name: str) -> None:
        """At once, with its disk."""
        stopped = self.instances[name]
        stopped.stop()
        self.start(name, stopped.log.parent)

    def end(self) -> None:
        for instance in self.instances.values():
            instance.kill()

    def measure(self, event: str, happen: Callable[[], None], owners: int, concerned: str = "") -> None:
        """Lets it happen to some instances, waits until all is steady again, and writes the stalls down."""
        before, began = self.watch.owners(), time.monotonic()
        happen()
        self.watch.until_steady(owners)
        self.measured.setdefault(event, []).append(self.watch.stalls(began, before, list(concerned)))

    # ---- the events, in an order in which each finds what it needs

    def run(self, chosen: Sequence[str]) -> None:
        self.watch.fill()
        self.start("a")
        self.start("b")
        self.watch.until_steady(2)
        for event, on_stop, go in (
            ("leaves", "leave", Instance.stop),
            ("stops", "stay", Instance.stop),
            ("dies", "stay", Instance.kill),
        ):
            if event in chosen or (event == "leaves" and "joins" in chosen):
                self.measure("joins", partial(self.start, "c", on_stop=on_stop), 3)
                self.measure(event, partial(go, self.instances.pop("c")), 2, "c")
        if "worker" in chosen or "rolling" in chosen:
            self.start("c")
            self.watch.until_steady(3)
        if "worker" in chosen:
            self.measure("worker", lambda: os.kill(self.instances["b"].workers[0], signal.SIGKILL), 3, "b")
        if "rolling" in chosen:
            self.measure("rolling", self._roll, 3, "abc")
        self.watch.each_once()

    def _roll(self) -> None:
        for name in ("a", "b", "c"):
            self.restart(name)
            self.watch.until_steady(3)


@contextmanager
def one_round(bootstrap: str, kind: str, settings: dict[str, str], keep: bool) -> Iterator[Round]:
    """A service that does not run yet, its topics, its feed; at the end nothing is left but, with `keep`, its logs."""
    folder = Path(tempfile.mkdtemp(prefix="kstream-scaling-"))
    made = Round(bootstrap, kind, folder, settings)
    try:
        make_topics(bootstrap, kind, made.name)
        with Watch(bootstrap, made.name, KEYS[kind]) as made.watch:
            try:
                yield made
            finally:
                made.end()
    finally:
        delete_topics(bootstrap, made.name)
        if keep:
            print(f"logs: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)


def make_topics(bootstrap: str, kind: str, name: str) -> None:
    settings = Settings(bootstrap_servers=bootstrap)
    admin = KafkaClients(bootstrap, options_from(settings, "bench")).admin()
    try:
        prepare_topics(KINDS[kind](name).topology(), admin, settings)
    finally:
        admin.close()


# ---- the table

HEAD = ("event", "service", "concerned: median", "max", "others: median", "max")

HOW = f"""\
Two or three instances with a worker each, {PARTITIONS} partitions, exactly-once, default settings
(session_timeout 10 s, commit_interval 200 ms), one development broker. Each partition gets a record every 20
ms. A partition's stall is the longest time in which the reader (read committed) gets nothing of it, from the
event until all partitions have moved for two seconds, less the usual time between two arrivals. "Concerned" are
partitions that changed their owner and those of the instance that it happened to; "others" stayed where they
were. Each cell is the median over the repetitions, of the median and of the maximum over the partitions;
seconds. The stateful service has {KEYS["stateful"]:,} keys of about 100 bytes. Each number must arrive once and
in order, else the run fails.
"""

Measured = dict[tuple[str, str], list[list[Stall]]]
"""By event and service: the stalls of each repetition."""


def rows(measured: Measured) -> list[tuple[str, ...]]:
    return [
        (EVENTS[event], kind, *_cells(found, True), *_cells(found, False))
        for event in EVENTS
        for kind in KINDS
        if (found := measured.get((event, kind)))
    ]


def _cells(found: list[list[Stall]], concerned: bool) -> tuple[str, str]:
    each = [[stall.seconds for stall in stalls if stall.concerned is concerned] for stalls in found]
    each = [seconds for seconds in each if seconds]
    if not each:
        return "", ""
    return f"{median(map(median, each)):.2f}", f"{median(map(max, each)):.2f}"


def markdown(measured: Measured, facts: dict[str, str], repetitions: int) -> str:
    each = [
        (EVENTS[event], kind, *("; ".join(_each(found, concerned)) for concerned in (True, False)))
        for (event, kind), found in measured.items()
    ]
    lines = [
        "# What joining, leaving and dying cost",
        "",
        f"Made by `python -m benchmarks.scaling`; {repetitions} repetitions.",
        "",
        *table(HEAD, rows(measured), "llrrrr"),
        "",
        HOW,
        "## The machine",
        "",
        *table(("", ""), facts.items(), "ll"),
        "",
        "## Each repetition",
        "",
        "Median and maximum over the partitions.",
        "",
        *table(("event", "service", "concerned", "others"), each, "llll"),
    ]
    return "\n".join(lines) + "\n"


def _each(found: list[list[Stall]], concerned: bool) -> Iterator[str]:
    for stalls in found:
        seconds = [stall.seconds for stall in stalls if stall.concerned is concerned]
        if seconds:
            yield f"{median(seconds):.2f} {max(seconds):.2f}"


# ---- the command


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--event", action="append", choices=EVENTS, help="only this one (joins come with others)")
    parser.add_argument("--service", action="append", choices=KINDS, help="only this one")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the median counts")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the instances")
    parser.add_argument("--keep", action="store_true", help="keep the instances' logs and state")
    parser.add_argument("--output", type=Path, help="where the results go (SCALING.md, of a full run)")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    chosen, kinds = given.event or list(EVENTS), given.service or list(KINDS)
    settings = dict(pair.split("=", 1) for pair in given.set)
    measured: Measured = {}
    console = Console()
    with DevBroker() as broker:
        facts = machine.facts(machine.development_broker())
        for repetition in range(given.repeat):
            for kind in kinds:
                with (
                    console.status(f"{repetition + 1}/{given.repeat} {kind}"),
                    one_round(broker.bootstrap_servers, kind, settings, given.keep) as made,
                ):
                    made.run(chosen)
                for event, found in made.measured.items():
                    measured.setdefault((event, kind), []).extend(found)
                    for stalls in found:
                        cells = " | ".join((*_cells([stalls], True), *_cells([stalls], False)))
                        console.print(f"{kind} {event}: {cells}")
    output = given.output or (None if given.event or given.service or settings else RESULTS)
    if output is not None:
        output.write_text(markdown(measured, facts, given.repeat), encoding="utf-8")
        console.print(f"written to {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
