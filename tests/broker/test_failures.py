"""What fails in one task on a real Kafka stops that task, named, and no other: what the broker refuses, what leaves the
program, and agents that wait (broker/failing_service.py)."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are exported, in a way mypy does not see
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from broker.failing_service import BAD, make_app
from kstream.config import Settings
from kstream.observe.status import TaskStatus
from support.kafka import SECONDS, Reader, Row, read
from support.running import prepare, until
from support.serving import Served

SETTINGS = {
    "commit_interval": 0.1,
    "session_timeout": 30.0,
    "restart_initial": 3.0,
    "restart_max": 6.0,
    "announce_interval": 0.0,
    "web_port": 0,
}
COUNT = 30
"""Records of each input partition."""

CASES = {
    "keyless": ("{app}.keyless", ("keyless-out", "INVALID_RECORD", "without a key")),
    "time": ("{app}.time", ("time-out", "INVALID_TIMESTAMP")),
    "grouped": ("{app}-by-all-repartition", ("grouped-out", "INVALID_TIMESTAMP")),
    "sink": ("{app}.sink", ("sink-out", "50,0", "MSG_SIZE_TOO_LARGE", "takes 10,000 bytes")),
    "exit": ("{app}.exit", ("SystemExit: 1",)),
    "denied": ("{app}.denied", ("denied-out", "TOPIC_AUTHORIZATION_FAILED")),
    "table": ("{app}.table", ("large-changelog", "2,000,0", "'bad'", "the producer takes 1,000,000 bytes")),
    "changelog": ("{app}.changelog", ("notes-changelog", "50,0", "'bad'", "takes 10,000 bytes")),
    "leaves": ("{app}.leaves", ("SystemExit",)),
}
"""The input of the record at fault, and what the error says beside it."""

GUARANTEES = ["exactly_once", pytest.param("at_least_once", marks=pytest.mark.slow)]
"""On a Kafka in memory both are run each time (unit/runtime/worker/test_refused.py, test_waiting.py), and
conformance/test_refusals.py holds it to the real one, with transactions and without."""


Lines = dict[int, list[bytes]]
"""Values by partition."""


def lines_of(rows: Iterable[Row]) -> Lines:
    found: Lines = {0: [], 1: []}
    for row in rows:
        found[row.partition].append(row.value or b"")
    return found


class Failing:
    """One test's app, its topics and its instance."""

    def __init__(self, servers: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.servers, self.directory, self.name = servers, directory, f"failing-{uuid.uuid4().hex[:8]}"
        self.calls = directory / "calls"
        monkeypatch.setenv("KSTREAM_TEST_APP", self.name)
        monkeypatch.setenv("KSTREAM_TEST_CALLS", str(self.calls))
        self.app = make_app(self.name)
        prepare(self.app, self.settings())
        self.admin = AdminClient({"bootstrap.servers": servers})
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
        self.served: Served | None = None

    def settings(self, **more: object) -> Settings:
        given = {**SETTINGS, **more}
        return Settings(bootstrap_servers=self.servers, state_dir=str(self.directory), instance="a", **given)

    def start(self, **more: object) -> Served:
        self.served = Served(self.app, "broker.failing_service:app", self.settings(**more))
        return self.served

    def stop(self) -> None:
        if self.served is not None:
            self.served.stop()

    # ---- topics

    def limit(self, topic: str) -> None:
        entry = ConfigEntry("max.message.bytes", "10000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result(SECONDS)

    def deny(self, topic: str) -> None:
        """Nobody may write to it."""
        for operation in (AclOperation.READ, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS):
            rule = AclBinding(
                ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:*", "*", operation,
                AclPermissionType.ALLOW,
            )  # fmt: skip
            for future in self.admin.create_acls([rule]).values():
                future.result(SECONDS)

    def allow(self, topic: str) -> None:
        every = AclBindingFilter(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        for future in self.admin.delete_acls([every]).values():
            future.result(SECONDS)

    def feed(self, case: str, key: str | None, partition: int, numbers: range) -> None:
        now = round(time.time() * 1000)
        for n in numbers:
            value: object = n
            if case in ("time", "grouped"):
                value = {"number": n, "at": now * 1000 if (n, partition) == (BAD, 0) else now}
            keyless = case == "keyless" and (n, partition) == (BAD, 0)
            given = None if keyless or key is None else key.encode()
            self._producer.produce(f"{self.name}.{case}", json.dumps(value).encode(), given, partition=partition)
        assert self._producer.flush(SECONDS) == 0

    def put_out(self, case: str, isolation: str = "read_committed") -> Lines:
        topic = f"{self.name}.{case}-out"
        return lines_of(read(self.servers, [topic], isolation)[topic])

    def comes(self, case: str, enough: Callable[[Lines], object], what: str, seconds: float = SECONDS) -> None:
        """Waits until enough is put out, reading it as it comes."""
        topic = f"{self.name}.{case}-out"
        reader = Reader(self.servers, [topic])
        until(lambda: enough(lines_of(reader.rows[topic])), what, seconds, each=reader.poll)
        reader.close()

    # ---- the instance

    def tasks(self) -> dict[str, TaskStatus]:
        assert self.served is not None
        return {task.name: task for worker in self.served.supervisor.workers for task in worker.report.tasks}

    def task(self, case: str, partition: int) -> TaskStatus | None:
        return self.tasks().get(f"{self.name}.{case}/{partition}")

    def metric(self, name: str) -> float:
        assert self.served is not None
        return self.served.metrics()(name)


@pytest.fixture
def failing_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSTREAM_TEST_DEAD_LETTERS", "1")


@pytest.fixture
def failing(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    made = Failing(bootstrap_servers, tmp_path, monkeypatch)
    yield made
    made.stop()


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_each_failure_stops_its_task_and_no_other(failing: Failing, guarantee: str) -> None:
    """All of them at once, in one worker, beside a count that goes on."""
    failing.limit(f"{failing.name}-notes-changelog")
    for case in CASES:
        failing.feed(case, "bad", 0, range(COUNT))
        failing.feed(case, "good", 1, range(100, 100 + COUNT))
    failing.feed("beside", "x", 0, range(COUNT))
    failing.deny(f"{failing.name}.denied-out")
    served = failing.start(processing_guarantee=guarantee)

    errors: dict[str, str] = {}
    inputs = {case: topic.format(app=failing.name) for case, (topic, _) in CASES.items()}

    def found() -> bool:
        for task in failing.tasks().values():
            if task.error is not None:
                errors[task.name.rpartition("/")[0]] = task.error
        return all(topic in errors for topic in inputs.values())

    until(lambda: found() or served.supervisor.workers[0].restarts, "each failure to be found")
    assert errors.keys() == set(inputs.values())
    for case, (_, words) in CASES.items():
        error, offset = errors[inputs[case]], {"denied": r"/.", "grouped": r"\[.\] offset \d+"}  # no record's fault
        assert re.search(re.escape(inputs[case]) + offset.get(case, rf"\[0\] offset {BAD}") + ":", error), error
        for word in words:
            assert word in error, error
    ok, reasons = served.probe("ready")
    assert not ok
    assert re.search(rf"tasks? (failed|restoring).*{failing.name}\.", " ".join(reasons)), reasons

    # others go on, while all of them are tried again and again
    for n in range(10):
        failing.feed("beside", "x", 0, range(10))
        wanted = COUNT + 10 * (n + 1)
        # with at_least_once some are put out twice: what is counted is what was processed
        failing.comes("beside", lambda lines: int((lines[0] or [b"0"])[-1]) >= wanted, f"{wanted} records beside", 10)  # noqa: B023
    counts = [int(value) for value in failing.put_out("beside")[0]]
    assert counts[-1] >= COUNT + 100
    if guarantee == "exactly_once":
        assert counts == list(range(1, COUNT + 101))
    for case in CASES:
        if case == "denied":
            assert failing.put_out(case) == {0: [], 1: []}
            continue
        if case != "grouped":
            failing.comes(case, lambda lines: len(lines[1]) >= COUNT, f"the good ones of {case}")
        if guarantee == "exactly_once" and case == "grouped":  # one key: the bad one is behind thirteen others at least
            (counts,) = [[int(value) for value in each] for each in failing.put_out(case).values() if each]
            assert len(counts) >= BAD and counts == list(range(1, len(counts) + 1)), "the good ones before it, once"
        elif guarantee == "exactly_once":
            lines = failing.put_out(case)
            assert (len(lines[0]), len(lines[1])) == (BAD, COUNT), f"{case}: the good ones before it, once"

    # what was only forbidden is done when it is allowed
    failing.allow(f"{failing.name}.denied-out")
    failing.comes("denied", lambda lines: all(len(each) >= COUNT for each in lines.values()), "what was forbidden")
    lines = {partition: [int(value) for value in lines] for partition, lines in failing.put_out("denied").items()}
    assert lines == {0: list(range(COUNT)), 1: list(range(100, 100 + COUNT))}
    assert served.supervisor.workers[0].restarts == 0


def test_with_a_policy_each_becomes_a_dead_letter_and_all_others_go_on(
    failing_policies: None, failing: Failing
) -> None:
    """What the broker refuses, what fails at the commit and what leaves the program, all at once in one worker."""
    failing.limit(f"{failing.name}-notes-changelog")
    cases = [case for case in CASES if case not in ("denied", "grouped")]
    for case in cases:
        failing.feed(case, "bad", 0, range(COUNT))
        failing.feed(case, "good", 1, range(100, 100 + COUNT))
    served = failing.start()
    wanted = {0: COUNT - 1, 1: COUNT}

    def counts(lines: Lines) -> dict[int, int]:
        return {partition: len(each) for partition, each in lines.items()}

    for case in cases:
        failing.comes(
            case, lambda lines: counts(lines) == wanted or served.supervisor.workers[0].restarts, f"the rest of {case}"
        )
    assert {case: counts(failing.put_out(case)) for case in cases} == dict.fromkeys(cases, wanted)
    topic = f"{failing.name}-dead-letters"
    letters = read(failing.servers, [topic])[topic]
    numbers = [json.loads(row.value or b"") for row in letters]
    assert [one["number"] if isinstance(one, dict) else one for one in numbers] == [BAD] * len(cases)
    phases = {}
    for row in letters:
        headers = dict(row.headers)
        phases[(headers["__streams.errors.topic"] or b"").decode().rpartition(".")[2]] = headers["kstream.phase"]
    assert phases == {case: b"process" if case in ("exit", "leaves") else b"produce" for case in cases}
    assert served.supervisor.workers[0].restarts == 0


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_an_agent_that_waits_holds_up_nobody(failing: Failing, guarantee: str) -> None:
    """Nor do others, or those that fail beside it, take back what it does: each call is made once."""
    failing.deny(f"{failing.name}.denied-out")
    # commits wait for a third of it, less than an agent takes; a busy machine's commits are to be through in all of it
    served = failing.start(processing_guarantee=guarantee, transaction_timeout=3.0)
    until(lambda: failing.task("beside", 0), "the tasks")
    for partition in (0, 1):
        failing.feed("slow", "s", partition, range(3 * partition, 3 * partition + 3))
    failing.feed("denied", "bad", 0, range(2))
    until(failing.calls.exists, "the first call")
    took = []
    for n in range(1, 16):
        began = time.monotonic()
        failing.feed("beside", "x", 0, range(1))
        failing.comes("beside", lambda lines: len(lines[0]) >= n, f"{n} records beside")  # noqa: B023
        took.append(time.monotonic() - began)
    assert sorted(took)[len(took) // 2] < 1.0, took
    failing.comes("slow", lambda lines: sum(map(len, lines.values())) >= 6, "the slow ones")
    assert sorted(failing.calls.read_text().split()) == sorted("012345")
    answers = [value for lines in failing.put_out("slow").values() for value in lines]
    assert sorted(answers) == [b"%d" % n for n in range(6)]
    failing.allow(f"{failing.name}.denied-out")
    failing.comes("denied", lambda lines: len(lines[0]) >= 2, "what was forbidden")
    assert served.supervisor.workers[0].restarts == 0


def test_an_output_that_is_deleted_is_no_records_failure(failing_policies: None, failing: Failing) -> None:
    """With dead letters for all that fails: none is written, the task says which topic it is, and what came meanwhile
    is put out when it is there again."""
    topic = f"{failing.name}.exit-out"
    failing.feed("exit", "good", 1, range(100, 100 + COUNT))
    served = failing.start(kafka={"topic.metadata.refresh.interval.ms": "500"})
    failing.comes("exit", lambda lines: len(lines[1]) >= COUNT, "the first ones")
    failing.admin.delete_topics([topic])[topic].result(SECONDS)
    failing.feed("exit", "good", 1, range(200, 200 + COUNT))

    def told() -> bool:
        ok, reasons = served.probe("ready")
        return not ok and f"topic {topic}" in " ".join(reasons) and "does not exist" in " ".join(reasons)

    until(told, "/ready to name the topic")
    made = lambda: failing.admin.create_topics([NewTopic(topic, 2, 1)])[topic].exception(SECONDS) is None  # noqa: E731
    until(made, "the topic to be made")
    failing.comes("exit", lambda lines: len(lines[1]) >= COUNT, "what came meanwhile")
    assert [int(value) for value in failing.put_out("exit")[1]] == list(range(200, 200 + COUNT))
    letters = f"{failing.name}-dead-letters"
    assert read(failing.servers, [letters])[letters] == []
    until(lambda: served.probe("ready")[0], "/ready to be green")
    assert served.supervisor.workers[0].restarts == 0
