"""An instance to look at that needs no Kafka: numbers that move with the clock, always consistent with each other.

Everything is computed from the time, so status, history and metrics of one moment agree; `freeze()` holds the clock.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from kstream.config import Settings, about
from kstream.errors import ConfigError, KafkaUnavailable, SavepointFailed, UsageError
from kstream.observe.letters import DeadLetters, LetterCount, LetterDetails, LetterStatus
from kstream.observe.status import (
    AppPoint,
    CheckpointStatus,
    ErrorStatus,
    Graph,
    GraphEdge,
    GraphNode,
    Health,
    InputStatus,
    InstanceStatus,
    PartStatus,
    Point,
    RestoreStatus,
    SavepointStatus,
    ScalingStatus,
    SettingStatus,
    SnapshotStatus,
    StoreStatus,
    TableEntry,
    TableStatus,
    TaskStatus,
    Totals,
    WorkerStatus,
)
from kstream.state.savepoint import check_name

APP = "flights"
LETTERS = "flights-dead-letters"
TRACE = """Traceback (most recent call last):
  File "services/flights/app.py", line 61, in delays
    minutes = int(flight.arrival_delay)
ValueError: invalid literal for int() with base 10: '<b>NA</b>'
"""
EVIL = '<img src=x onerror="window.hacked=1">&quot;\''
"""A key that would run as a script if the page did not escape it."""

# sub-topology -> its operators: (kind, label, stores)
PARTS: dict[str, list[tuple[str, str, list[str]]]] = {
    "flights": [
        ("filter", "not-cancelled", []),
        ("map", "delay", []),
        ("rekey", "by-route", []),
        ("agent", "notify-late", ["seen"]),
    ],
    "flights-by-route-repartition": [
        ("aggregate", "route-delays", ["route-delays"]),
        ("aggregate", "route-counts", ["route-counts"]),
    ],
    "weather": [("agent", "storms", ["storms", "stations"])],
}
TOPICS = ["flights", "weather", "flights-by-route-repartition", "route-delays", "route-counts", "late", "alerts"]
# source, target, share of the instance's rate
EDGES = [
    ("topic:flights", "flights/not-cancelled", 0.6),
    ("flights/not-cancelled", "flights/delay", 0.58),
    ("flights/delay", "flights/by-route", 0.58),
    ("flights/delay", "flights/notify-late", 0.58),
    ("flights/by-route", "topic:flights-by-route-repartition", 0.58),
    ("flights/notify-late", "topic:late", 0.04),
    ("topic:flights-by-route-repartition", "flights-by-route-repartition/route-delays", 0.38),
    ("topic:flights-by-route-repartition", "flights-by-route-repartition/route-counts", 0.38),
    ("flights-by-route-repartition/route-delays", "topic:route-delays", 0.38),
    ("flights-by-route-repartition/route-counts", "topic:route-counts", 0.2),
    ("topic:weather", "weather/storms", 0.02),
    ("weather/storms", "topic:alerts", 0.0),
]


@dataclass
class FakeObserved:
    """An `Observed`. The tasks of all sub-topologies are dealt out over instances and their workers in turn.

    Attributes:
        starting: its loop has not gone round; restoring: half of its tasks are.
        failing: a task stops again and again, a worker was killed.
        calls: what the actions were asked for.
    """

    partitions: int = 4
    instance_count: int = 1
    worker_count: int = 2
    starting: bool = False
    restoring: bool = False
    failing: bool = False
    killed: bool = False
    paused: bool = False
    log_level: str = "INFO"
    started_at: float = field(default_factory=lambda: time.time() - 3723)
    frozen: float | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    broken: bool = False
    held: bool = False
    letters: int = 2
    failures: dict[str, int] = field(default_factory=dict)
    unreachable: bool = False
    made: list[tuple[str, float]] = field(default_factory=list)
    tables: list[TableStatus] = field(default_factory=list)

    def now(self) -> float:
        return time.time() if self.frozen is None else self.frozen

    def freeze(self, at: float | None = None) -> None:
        self.frozen = time.time() if at is None else at

    # the protocol

    def status(self) -> InstanceStatus:
        if self.broken:
            raise RuntimeError("the observer is broken")
        status = self._light(0)
        now = self.now()
        status.checkpoints = self._checkpoints(now)
        status.snapshots = self._snapshots(now)
        status.savepoints = self._savepoints(now)
        status.stores = self._stores(now)
        status.errors = self._errors(now)
        status.edges = self._edges(status.totals.rate_in)
        status.failing = dict(self.failures)
        return status

    def instances(self) -> list[InstanceStatus]:
        return [self.status(), *(self._light(index) for index in range(1, self.instance_count))]

    def history(self) -> list[Point]:
        last = math.floor(self.now())
        first = max(math.ceil(self.started_at), last - 599)
        return [self._point(float(at)) for at in range(first, last + 1)]

    def graph(self) -> Graph:
        nodes = [GraphNode(f"topic:{name}", "topic", name, internal="repartition" in name) for name in TOPICS]
        for part, operators in PARTS.items():
            nodes += [
                GraphNode(f"{part}/{label}", kind, label, part, stores=stores) for kind, label, stores in operators
            ]
        return Graph(APP, list(PARTS), nodes, [GraphEdge(f"{a} -> {b}", a, b) for a, b, _ in EDGES])

    def look_up(self, table: str, key: str) -> Future[TableEntry]:
        """Of the table `seen`: "ann" is there, "slow" is never answered."""
        if table != "seen":
            raise UsageError(f"there is no table {table!r}; there are: seen")
        answer: Future[TableEntry] = Future()
        if key != "slow":
            answer.set_result(TableEntry(table, key, key == "ann", 7 if key == "ann" else None, [0, 2]))
        return answer

    def dead_letters(self) -> Future[DeadLetters]:
        """Two of each partition; `letters` is how many partitions there are, 0 is an app without a policy."""
        answer: Future[DeadLetters] = Future()
        if self.unreachable:
            answer.set_exception(KafkaUnavailable("no Kafka broker answers at localhost:1"))
            return answer
        rows = [self._letter(partition, offset) for partition in range(self.letters) for offset in (0, 1)]
        counts = [LetterCount(LETTERS, "ValueError", 2 * self.letters - 1), LetterCount(LETTERS, EVIL, 1)]
        found = DeadLetters([LETTERS], len(rows), True, counts, rows, self.now())
        answer.set_result(found if self.letters else DeadLetters([], 0, False, [], [], self.now()))
        return answer

    def dead_letter(self, topic: str, partition: int, offset: int) -> Future[LetterDetails]:
        """Only the first ones of each partition can be read."""
        if topic != LETTERS:
            raise UsageError(f"there are no dead letters in {topic}; there are in: {LETTERS}")
        answer: Future[LetterDetails] = Future()
        if offset:
            answer.set_exception(UsageError(f"there is no dead letter {topic}:{partition}:{offset}"))
        else:
            one = self._letter(partition, offset)
            answer.set_result(
                LetterDetails(
                    one, "flights/2", one.time, one.message, one.key, EVIL, [("trace", EVIL)], TRACE,
                    {"value": "JSON is malformed"},
                )
            )  # fmt: skip
        return answer

    def _letter(self, partition: int, offset: int) -> LetterStatus:
        time = round((self.now() - 60 * partition) * 1000)
        return LetterStatus(
            LETTERS, partition, offset, time, f"flights[{partition}] {offset}", "delay", "process", 3, "ValueError",
            f"invalid literal {EVIL}", EVIL, offset, "replayed" if offset else None,
        )  # fmt: skip

    def settings(self) -> list[SettingStatus]:
        values = Settings(workers=self.worker_count, kafka={"sasl.password": "secret", "sasl.mechanism": "PLAIN"})
        sources = {"workers": "command line", "kafka": "kstream.toml", "commit_interval": "KSTREAM_COMMIT_INTERVAL"}
        return [
            SettingStatus(name, str(value), sources.get(name, "default"), about()[name].doc)
            for name, value in values.redacted().items()
        ]

    def metrics(self) -> bytes:
        status = self.status()
        totals, app = status.totals, f'{{app="{APP}"'
        lines = [
            "# TYPE kstream_records_committed_total counter",
            f'kstream_records_committed_total{app},topic="flights"}} {totals.committed}',
            "# TYPE kstream_records_produced_total counter",
            f'kstream_records_produced_total{app},topic="late"}} {totals.produced}',
            "# TYPE kstream_checkpoints_total counter",
            f"kstream_checkpoints_total{app}}} {totals.checkpoints}",
            "# TYPE kstream_checkpoint_failures_total counter",
            f'kstream_checkpoint_failures_total{app},reason="AbortRequired"}} {totals.checkpoint_failures}',
            "# TYPE kstream_worker_restarts_total counter",
            f'kstream_worker_restarts_total{app},reason="killed"}} {totals.restarts}',
            "# TYPE kstream_consumer_lag_records gauge",
        ]
        for task in status.tasks:
            for one in task.inputs:
                lines.append(
                    f'kstream_consumer_lag_records{app},topic="{one.topic}",partition="{one.partition}"}} {one.lag}'
                )
        return ("\n".join(lines) + "\n").encode()

    def live(self) -> Health:
        return Health(True)

    def ready(self) -> Health:
        reasons = self._reasons()
        return Health(not reasons, reasons)

    def started(self) -> Health:
        return Health(not self.starting, ["the supervisor's loop has not gone round yet"] if self.starting else [])

    def pause(self) -> None:
        self.calls.append(("pause",))
        self.paused = True

    def resume(self) -> None:
        self.calls.append(("resume",))
        self.paused = False

    def make_savepoint(self, name: str | None, timeout: float) -> SavepointStatus:
        """It takes three seconds; there is none that is called "bad"."""
        check_name(name := name or "20270115-080000")
        if any(one.state == "making" for one in self._savepoints(self.now())):
            raise SavepointFailed(name, f"savepoint {self.made[-1][0]} is being made")
        self.calls.append(("savepoint", name, timeout))
        self.made.append((name, self.now()))
        return self._savepoints(self.now())[-1]

    def set_log_level(self, level: str, logger: str | None) -> None:
        if level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            raise ConfigError(f"log_level: {level!r} is none of DEBUG, INFO, WARNING, ERROR, CRITICAL")
        self.calls.append(("log_level", level, logger))
        if logger is None:
            self.log_level = level

    # what it is made of

    def _reasons(self) -> list[str]:
        reasons = []
        if self.restoring:
            reasons.append("tasks restore: 1,240,000 records are left, about 14 s")
        if self.failing:
            reasons.append("task flights/0 failed: ValueError: invalid literal for int()")
        if self.killed:
            reasons.append("worker 1 ended (signal 9) and is started again in 1.2 s")
        if self.paused:
            reasons.append("paused by request")
        return reasons

    def _light(self, index: int) -> InstanceStatus:
        """What an instance announces through Kafka."""
        now, reasons = self.now(), self._reasons() if index == 0 else []
        state: Any = "running"
        if index == 0 and reasons:
            state = "paused" if self.paused else "restoring" if self.restoring else "degraded"
        elif index and index == self.instance_count - 1 and self.failing:
            state, reasons = "silent", ["not heard of for 17 s"]
        tasks = self._tasks(index, now)
        return InstanceStatus(
            app=APP,
            instance=f"flights-{index}",
            state=state,
            at=now,
            started=self.started_at + 60 * index,
            version="0.1.0",
            host=f"node-{index}.example",
            pid=4000 + index,
            url=f"http://node-{index}.example:8010" if index != 1 else "javascript:alert(1)",
            ready=not reasons,
            reasons=reasons,
            paused=self.paused and index == 0,
            log_level=self.log_level if index == 0 else "INFO",
            totals=self._totals(index, now, tasks),
            restore=self._restore(tasks) if index == 0 else RestoreStatus(),
            tables=self.tables if index == 0 else [],
            workers=self._workers(index, now, tasks),
            scaling=[
                ScalingStatus(
                    "default",
                    self.worker_count,
                    1,
                    4,
                    0.46,
                    self.started_at + 900,
                    "97% busy or backpressured for 30 s, more than 80%",
                )
            ],
            tasks=tasks,
        )

    def _rate(self, at: float) -> float:
        """Records/s into the whole instance at a time."""
        if self.paused:
            return 0.0
        wave = 1 + 0.25 * math.sin(at / 40) + 0.08 * math.sin(at / 3.7) + 0.05 * math.sin(at * 1.9)
        dip = 0.15 if self.killed and at > self.now() - 6 else 1.0
        return 48_000 * wave * dip

    def _lag(self, at: float) -> int:
        behind = 900_000.0 if self.restoring else 0.0
        return int(behind + 2_400 * (1.2 + math.sin(at / 55)) + 400 * math.sin(at / 2.3) ** 2)

    def _committed(self, at: float) -> int:
        """The integral of the mean rate, so that totals only grow."""
        return int(48_000 * (at - self.started_at))

    def _latencies(self, at: float) -> tuple[float, float]:
        p50 = 0.16 + 0.03 * math.sin(at / 21) + 0.01 * math.sin(at * 2.1)
        return p50, p50 * 2.2 + 0.12 * max(0.0, math.sin(at / 33)) ** 6

    def _shares(self, at: float, number: int) -> tuple[float, float]:
        busy = min(0.97, 0.35 + 0.2 * math.sin(at / 37 + number) + 0.25 * (number % 7) / 7)
        return busy, min(1 - busy, max(0.0, 0.35 * math.sin(at / 90 + number * 1.7)))

    def _point(self, at: float) -> Point:
        p50, p99 = self._latencies(at)
        busy, backpressured = self._shares(at, 1)
        rate, seconds = self._rate(at), 0.018 + 0.012 * math.sin(at / 9) ** 2
        app = AppPoint(
            rate * self.instance_count, rate * 1.31 * self.instance_count, self._lag(at) * self.instance_count
        )
        return Point(
            at, rate, rate * 1.31, self._lag(at), p50, p99, busy, backpressured, seconds,
            app if self.instance_count > 1 else None, 48_300_000 + int(at - self.started_at) * 600,
            224_310 + int((at - self.started_at) * 3),
        )  # fmt: skip

    def _totals(self, index: int, now: float, tasks: list[TaskStatus]) -> Totals:
        p50, p99 = self._latencies(now)
        busy, backpressured = self._shares(now, 1)
        committed, rate = self._committed(now) // self.instance_count, sum(task.rate for task in tasks)
        return Totals(
            consumed=committed + 9_600,
            committed=committed,
            produced=int(committed * 1.31),
            rate_in=rate,
            rate_out=rate * 1.31,
            bytes_in=rate * 131,
            bytes_out=rate * 1.31 * 84,
            lag=sum(task.lag for task in tasks),
            latency_p50=p50 if rate else None,
            latency_p99=p99 if rate else None,
            busy=busy,
            idle=1 - busy - backpressured,
            backpressured=backpressured,
            checkpoints=int((now - self.started_at) / 0.2),
            checkpoint_failures=3 if self.failing else 0,
            aborts=5 if self.failing else 0,
            rebalances=2 + index,
            restarts=1 if self.killed or self.failing else 0,
            errors=12 if self.failing else 0,
            processing_p99=0.00012 if rate else None,
        )

    def _tasks(self, index: int, now: float) -> list[TaskStatus]:
        everything = [(part, partition) for partition in range(self.partitions) for part in PARTS]
        mine = [(number, *one) for number, one in enumerate(everything) if one[1] % self.instance_count == index]
        tasks = []
        for place, (number, part, partition) in enumerate(mine):
            tasks.append(self._task(index, now, place, number, part, partition, len(everything)))
        return tasks

    def _task(self, index: int, now: float, place: int, number: int, part: str, partition: int, of: int) -> TaskStatus:
        busy, backpressured = self._shares(now, number)
        lag = int(self._lag(now) / of * (0.5 + (number * 37 % 11) / 10))
        task = TaskStatus(
            f"{part}/{partition}",
            str(place % self.worker_count),
            "running",
            records=self._committed(now) // of,
            rate=self._rate(now) / of,
            lag=lag,
            buffered=lag // 2,
            busy=busy / 3,
            backpressured=backpressured / 3,
            inputs=[
                InputStatus(
                    part,
                    partition,
                    self._committed(now) // of,
                    lag,
                    now - 0.2 - lag / 5000,
                    now - 5 - partition,
                    idle=partition > self.partitions // 2,
                    behind=lag / 5000 if lag else None,
                )
            ],
        )
        if index == 0 and self.paused:
            task.why = "paused"
        if index == 0 and self.restoring and place % 2 == 0:
            task.state, task.rate, task.busy, task.backpressured = "restoring", 0.0, 0.0, 0.0
            task.why = "restores route-delays, 177,142 records left"
        elif self.failing and task.name == "flights/0":
            task.state, task.rate, task.lag, task.busy = "failed", 0.0, 48_211, 0.0
            task.inputs[0].lag, task.inputs[0].behind = task.lag, 190.0
            task.why = "tried again in 8 s"
            task.error = "ValueError: invalid literal for int() with base 10: '<b>NA</b>'"
        elif index == 0 and self.killed and task.worker == "1":
            task.state, task.rate, task.busy, task.backpressured = "suspended", 0.0, 0.0, 0.0
            task.why = "its worker is not running"
        return task

    def _workers(self, index: int, now: float, tasks: list[TaskStatus]) -> list[WorkerStatus]:
        workers = []
        for number in range(self.worker_count):
            mine = [task for task in tasks if task.worker == str(number)]
            busy, backpressured = self._shares(now, number + 3 * index)
            worker = WorkerStatus(
                str(number), "running", "default", 5000 + 10 * index + number, self.started_at + 2, 0, None, None,
                busy, 1 - busy - backpressured, backpressured, sum(task.rate for task in mine), len(mine), len(mine),
                0.9 * busy, (131 + 7 * number) * 2**20,
            )  # fmt: skip
            if index == 0 and number == 1 and self.killed:
                worker.state, worker.pid, worker.restart_in, worker.restarts = "restarting", None, 1.2, 1
                worker.last_error, worker.busy, worker.idle, worker.backpressured = "killed by signal 9", 0.0, 0.0, 0.0
                worker.cpu = worker.memory = None
            if index == 0 and number == 0 and self.held:
                worker.why = "slow user code: delays (app.py, line 61) has not returned for 4 s, in task flights/0"
            workers.append(worker)
        return workers

    def _restore(self, tasks: list[TaskStatus]) -> RestoreStatus:
        waiting = [task for task in tasks if task.state == "restoring"]
        if not waiting:
            return RestoreStatus()
        stages = {task.name: "replays the changelog" if n else "waits for offsets" for n, task in enumerate(waiting)}
        return RestoreStatus(
            len(waiting), 1_240_000, 2_860_000, 14.2, bytes_left=310_000_000, warm=3, warm_behind=1_200, stages=stages
        )

    def _checkpoints(self, now: float) -> list[CheckpointStatus]:
        found = []
        for n in range(100):
            at = math.floor(now / 0.4) * 0.4 - 0.4 * (99 - n)
            seconds = 0.018 + 0.012 * math.sin(at / 9) ** 2 + 0.03 * max(0.0, math.sin(at / 5)) ** 30
            one = CheckpointStatus(at, str(n % self.worker_count), seconds, 6, int(self._rate(at) * 0.2))
            if self.failing and n in (40, 41, 77):
                one.error, one.records = "AbortRequired: the group rebalances (ILLEGAL_GENERATION)", 0
            found.append(one)
        return found

    def _savepoints(self, now: float) -> list[SavepointStatus]:
        found = []
        for name, at in self.made:
            one = SavepointStatus(name, "s3://flights/savepoints", at, steps=["the inputs are held"], seconds=now - at)
            if now - at >= 3:
                one.seconds = 3.0
                if name == "bad":
                    one.state, one.error = "failed", f"worker 1 refuses: {EVIL}"
                else:
                    one.state, one.tasks, one.size = "made", 12, 12_345_678
            found.append(one)
        return found

    def _snapshots(self, now: float) -> list[SnapshotStatus]:
        failed = "s3://flights/snapshots: flights/snapshots/... cannot be written: 503 Slow Down"
        return [
            SnapshotStatus(
                f"{n:012x}",
                math.floor(now) - 60.0 * n,
                str(n % self.worker_count),
                f"{EVIL if n == 3 else 'flights'}/{n % 4}",
                2.4 + n,
                None if n == 5 else 120 - n,
                48_300_000,
                1_200_000,
                failed if n == 5 else None,
            )
            for n in range(8)
        ]

    def _stores(self, now: float) -> list[StoreStatus]:
        grown = int((now - self.started_at) * 3)
        return [
            StoreStatus(
                "route-delays", "flights-by-route-repartition", 224_310 + grown, 48_300_000 + grown * 200, 9_811_204,
                120_331, [("JFK-LAX", 18_204), ("LGA-ATL", 17_110), (EVIL, 9_120), ("EWR-SFO", 8_800)], True,
                [("JFK-LAX", 0.31), (EVIL, 0.12)], 600.0,
                [PartStatus(0, 100_000, 20_000_000), PartStatus(1, 124_310 + grown, 28_300_000 + grown * 200)],
            ),
            StoreStatus("route-counts", "flights-by-route-repartition", 224_310 + grown, 9_100_000, 8_000_000, 2_100),
            StoreStatus("seen", "flights", 1_204_551 + grown * 9, 310_200_000, 4_000_000, 3_900_000, [("N14228", 96)]),
            StoreStatus("storms", "weather", 3, 1_204, 0, 0),
            StoreStatus("stations", "weather", 26_115, 2_900_000, 80_110, 26_115, [("EWR", 512)]),
        ]  # fmt: skip

    def _errors(self, now: float) -> list[ErrorStatus]:
        errors = []
        if self.killed:
            errors.append(ErrorStatus(now - 3, "worker 1 was killed by signal 9, started again in 1.2 s", "1"))
        if self.failing:
            text = "task flights/0 stopped at flights[0] offset 48211: ValueError: invalid literal for int()"
            errors += [
                ErrorStatus(
                    math.floor(now / 8) * 8 - 8 * n, text, "0", "flights/0", "kstream.runtime.worker.loop", TRACE
                )
                for n in range(4)
            ]
            errors.append(ErrorStatus(now - 340, f"a message with markup {EVIL}", None, None, "user.code"))
        return errors

    def _edges(self, rate: float) -> dict[str, float]:
        return {f"{a} -> {b}": rate * share for a, b, share in EDGES}
