"""One round of the verifier: the app as real processes, what is done to these by seed, and what plain clients find."""

from __future__ import annotations

import random
import shutil
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from faults.verified_input import KEYS, LONG, Feeder
from faults.verified_service import make_app
from kstream.config import Settings
from kstream.devbroker import DevBroker
from support.kafka import SECONDS, Reader, Row, ends, read, stable
from support.running import Command, alive, kill, prepare, until
from support.verification import (
    INPUTS,
    OUTPUTS,
    STORES,
    WINDOW_MS,
    audit,
    demanded,
    value_of,
    wrong_input,
    wrong_offsets,
)

SETTINGS: dict[str, Any] = {
    "commit_interval": 0.5,  # so that a kill finds a transaction with something in it
    "flush_interval": 2.0,
    "session_timeout": 6.0,
    "restart_initial": 0.1,
    "restart_max": 1.0,
    # A producer that waits for brokers is not idle. Where inputs are, time goes on without them, and a task that is
    # killed just then may bring late records (docs/windows.md, "Time").
    "idle_timeout": 120.0,
    "web_port": 0,
}


class Fleet:
    """Instances "a" and "b" of two workers each, by `kstream run`, and what is done to them. `done` counts it."""

    NAMES, WORKERS = ("a", "b"), 2

    def __init__(self, servers: str, directory: Path, app: str, seed: int, brokers: Sequence[DevBroker]) -> None:
        self.servers, self.directory, self.app, self.brokers = servers, directory, app, brokers
        self.done: Counter[str] = Counter()
        self._draw = random.Random(f"{seed} kills")
        self._all: list[Command] = []
        self._running = {name: self._start(name) for name in self.NAMES}

    def _state(self, name: str) -> Path:
        return self.directory / f"state-{name}"

    def _start(self, name: str) -> Command:
        pairs = [word for pair in SETTINGS.items() for word in ("--set", "=".join(map(str, pair)))]
        command = Command(
            self.directory / f"command-{len(self._all)}-{name}",
            "run", "faults.verified_service:app", "--workers", self.WORKERS, "--instance", name,
            "--state-dir", self._state(name), "--bootstrap-servers", self.servers, *pairs,
            KSTREAM_TEST_APP=self.app,
        )  # fmt: skip
        self._all.append(command)
        return command

    def check(self) -> None:
        """No instance ends by itself."""
        for name, command in self._running.items():
            assert command.process.poll() is None, f"instance {name} ended with status {command.process.poll()}"

    def workers(self, name: str) -> list[int]:
        command = self._running[name]

        def there() -> list[int]:
            self.check()
            return command.children if len(command.children) == self.WORKERS else []

        found: list[int] = until(there, f"the workers of instance {name}", LONG)
        return found

    def strike(self, kind: str) -> None:
        getattr(self, f"_{kind}")(self._draw.choice(self.NAMES))
        self.done[kind] += 1

    # ---- what is done

    def _worker(self, name: str) -> None:
        """SIGKILL."""
        kill(self._draw.choice(self.workers(name)))

    def _both(self, name: str) -> None:
        """SIGKILL of all workers of an instance."""
        for pid in self.workers(name):
            kill(pid)

    def _instance(self, name: str, *, disk: bool = True) -> None:
        """SIGKILL of all its processes; it is started again, with its disk or without."""
        command = self._running[name]
        pids = [command.process.pid, *self.workers(name)]
        for pid in pids:
            kill(pid, signal.SIGSTOP)  # none sees the others' end
        for pid in pids:
            kill(pid)
        command.process.wait()
        until(lambda: not any(map(alive, pids)), "their end", LONG)
        if not disk:
            shutil.rmtree(self._state(name))
        time.sleep(self._draw.choice([0.0, 0.0, 8.0]))  # the last is longer than the session
        self._running[name] = self._start(name)

    def _disk(self, name: str) -> None:
        self._instance(name, disk=False)

    def _supervisor(self, name: str) -> None:
        """SIGKILL of it alone: its workers leave by themselves."""
        self.workers(name)
        command = self._running[name]
        command.process.kill()
        command.process.wait()
        self._running[name] = self._start(name)

    def _frozen(self, name: str) -> None:
        """SIGSTOP of a worker for longer than its session, and than its transaction."""
        pid = self._draw.choice(self.workers(name))
        kill(pid, signal.SIGSTOP)
        time.sleep(15)
        kill(pid, signal.SIGCONT)

    def _rolling(self, name: str) -> None:
        """SIGTERM of one instance after the other; each is back before the next one goes."""
        for one in (name, *(other for other in self.NAMES if other != name)):
            until(self._began, "the instances to have begun", LONG, self.check)  # before that they heed no signal
            self.stop(one)
            self._running[one] = self._start(one)
            self.workers(one)

    def _broker(self, _: str) -> None:
        """SIGKILL of one of three, when all have caught up with each other. The first is the controller, and stays. An
        instance that begins just then may end with status 2: Kafka's client asks a broker that is gone."""
        until(self._began, "the instances to have begun", LONG, self.check)
        until(self._replicated, "the brokers to have caught up with each other", LONG)
        broker = self._draw.choice(self.brokers[1:])
        broker.kill()
        time.sleep(self._draw.choice([0.0, 5.0]))
        broker.start()

    def _began(self) -> bool:
        return all("assigned " in command.err.read_text() for command in self._running.values())

    def _replicated(self) -> bool:
        topics = AdminClient({"bootstrap.servers": self.servers}).list_topics(timeout=SECONDS).topics.values()
        return all(len(one.isrs) == len(one.replicas) for topic in topics for one in topic.partitions.values())

    # ---- the end

    def stop(self, name: str) -> None:
        """SIGTERM: it drains, commits and leaves."""
        command = self._running[name]
        command.process.send_signal(signal.SIGTERM)
        status = command.wait(LONG)
        assert status == 0, f"instance {name} stopped with status {status}"

    def end(self) -> None:
        """For clean-up."""
        for command in self._all:
            command.end()


class Round:
    """`run` does all of it and returns what is wrong; `told` says in a line what it was made of."""

    def __init__(
        self, servers: str, directory: Path, seed: int, rate: int, abandons: int, brokers: Sequence[DevBroker] = ()
    ) -> None:
        self.servers, self.seed, self._directory = servers, seed, directory
        self.app = f"verified-{seed}-{uuid.uuid4().hex[:6]}"
        settings = Settings(bootstrap_servers=servers, state_dir=str(directory / "any"), instance="any", **SETTINGS)
        self.topics = list(prepare(make_app(self.app), settings))
        self.counted = 0
        self._began = time.monotonic()
        self._draw = random.Random(f"{seed} moments")
        self._seen = Reader(servers, [self._topic(name) for name in ("echo", "overview", "groups", "windows")])
        self._feeder = Feeder(servers, self.app, seed, rate, abandons)
        self._fleet = Fleet(servers, directory, self.app, seed, brokers)

    def _topic(self, name: str) -> str:
        return f"{self.app}-{name}-changelog" if name in STORES else f"{self.app}.{name}"

    def _rows(self, name: str) -> list[Row]:
        return self._seen.rows[self._topic(name)]

    def _until(self, condition: Callable[[], Any], what: str) -> None:
        def each() -> None:
            self._seen.poll(0.0)
            self._fleet.check()
            assert self._feeder.error is None, self._feeder.error

        until(condition, what, LONG, each)

    def run(self, kinds: Sequence[str], least: int) -> list[str]:
        """Strikes by these kinds, in an order by the seed, and until so many readings were written."""
        self._feeder.start()
        self._go_on()
        for kind in self._draw.sample(kinds, len(kinds)):
            print(f"{time.monotonic() - self._began:.0f} s, {len(self._rows('echo'))} committed: {kind}")
            self._fleet.strike(kind)
            if self._draw.random() < 0.6:
                self._go_on()
            else:
                time.sleep(self._draw.uniform(0.0, 3.0))
        self._until(lambda: self._feeder.fed >= least, f"{least} readings to be written")
        self._feeder.finish()
        closed = self._last()
        for name in self._fleet.NAMES:
            self._fleet.stop(name)
        return self._wrong(closed)

    def _go_on(self) -> None:
        """Waits until more is committed."""
        before = len(self._rows("echo"))
        self._until(lambda: len(self._rows("echo")) > before + 200, "more readings to be committed")

    def _last(self) -> int:
        """What comes behind all the rest: limits, and when these are there, readings, an hour later by event time.
        Returns by when windows have closed."""
        until(lambda: stable(self.servers, self._topic("readings")), "the input's transactions to end", LONG)
        count = len(read(self.servers, [self._topic("readings")])[self._topic("readings")])
        self._until(lambda: len(self._rows("echo")) >= count, f"all {count} readings to be committed")
        at = self._feeder.now + 3_600_000
        before = self._feeder.last("limits", at)
        self._until(
            lambda: sum(limit > before for _, limit in self._latest("overview")) == len(KEYS), "the last limits"
        )
        self._feeder.last("readings", at + 1)
        self.counted = count + len(KEYS)
        closed = at - 60_000
        due = self._due(closed)

        def done() -> bool:
            counts = [value["count"] for value in self._latest("groups")]
            return len(self._rows("windows")) >= due and sum(counts) >= self.counted

        self._until(lambda: len(self._rows("echo")) >= self.counted, "the last readings")
        self._until(done, f"{due} windows, and {self.counted} readings behind the repartition")
        return closed

    def _latest(self, name: str) -> list[Any]:
        """What came last of each key so far."""
        return [value_of(row) for row in {row.key: row for row in self._rows(name)}.values()]

    def _due(self, closed: int) -> int:
        topics = {name: self._topic(name) for name in INPUTS}
        found = read(self.servers, list(topics.values()))
        demand = demanded({name: found[topic] for name, topic in topics.items()})
        return sum(start + WINDOW_MS <= closed for _, start in demand.windows)

    # ---- what plain clients find

    def _wrong(self, closed: int) -> list[str]:
        wrong = [f"{topic}: a transaction is open" for topic in self.topics if not stable(self.servers, topic)]
        repartition = f"{self.app}-by-group-repartition"
        topics = {name: self._topic(name) for name in (*INPUTS, *OUTPUTS, *STORES)}
        found = read(self.servers, [*topics.values(), repartition])
        rows = {name: found[topic] for name, topic in topics.items()}
        # behind a repartition, what has no key only says what time it is
        left = {**{topics[name]: rows[name] for name in INPUTS}, repartition: [r for r in found[repartition] if r.key]}
        lengths = {topic: [end for _, end in ends(self.servers, topic)] for topic in left}
        return [
            *wrong,
            *wrong_input(self._feeder.chunks, rows["readings"]),
            *audit(rows, closed),
            *wrong_offsets(self._offsets(), left, lengths),
        ]

    def _offsets(self) -> dict[tuple[str, int], int]:
        admin = AdminClient({"bootstrap.servers": self.servers})
        answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self.app)])[self.app].result(SECONDS)
        return {(one.topic, one.partition): one.offset for one in answer.topic_partitions}

    def told(self) -> str:
        fates = Counter(chunk.fate for chunk in self._feeder.chunks for _ in chunk.numbers)
        struck = ", ".join(f"{count} {kind}" for kind, count in sorted(self._fleet.done.items()))
        written = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items()))
        seconds = time.monotonic() - self._began
        raw = sum(said.read_text(errors="replace").count("Traceback") for said in self._directory.glob("command-*/err"))
        return (
            f"seed {self.seed}: {self.counted} readings counted ({written}) in {seconds:.0f} s; {struck}; "
            f"{raw} tracebacks in the logs"
        )

    def close(self) -> None:
        self._feeder.give_up()
        self._fleet.end()
        self._seen.close()
