"""`kstream status`, `lag` and `doctor` beside a real app on a real Kafka: what they say, and of bad input one line."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType
from confluent_kafka.admin import ResourceType as Resource

from kstream.devbroker import DevBroker
from support.kafka import create, read, write
from support.running import Command, until

SERVICE = """
import kstream

app = kstream.App({name!r})
lines = app.topic("{name}.lines", key=str, value=str, partitions=2)
counts = app.topic("{name}.counts", key=str, value=int, partitions=2)
app.stream(lines).group_by(lambda line: line, key=str, name="by-line").count(name="seen").to(counts)
"""
UNREACHABLE = "127.0.0.1:1"
QUICK = ("--set", "session_timeout=3s", "--set", "commit_interval=100ms", "--set", "announce_interval=500ms",
         "--workers", "1", "--set", "web_port=0", "--set", "web_token=secret", "--log-level", "INFO")  # fmt: skip


class Done:
    """What a command that ended has said."""

    def __init__(self, command: Command) -> None:
        self.status = command.wait(100)
        self.out, self.err = command.out.read_text(), command.err.read_text()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """Of bad input: one line and status 2."""
        assert self.status == 2 and self.out == "", self.err
        (line,) = self.err.splitlines()
        assert line.startswith("kstream: "), line
        return line


class Place:
    """A directory with `service.py` in it, whose app is this test's own."""

    def __init__(self, path: Path, servers: str) -> None:
        self.path, self.servers = path, servers
        self.app = f"ops-{uuid.uuid4().hex[:8]}"
        (path / "service.py").write_text(SERVICE.format(name=self.app))
        self.commands: list[Command] = []

    def start(self, instance: str) -> Command:
        command = self.command(
            "run", "service:app", "--bootstrap-servers", self.servers, "--instance", instance,
            "--state-dir", f"state-{instance}", *QUICK,
        )  # fmt: skip
        until(lambda: command.err.read_text().count("all of them run") >= 1, f"tasks of {instance} to run", 60)
        return command

    def kstream(self, *arguments: object, servers: str | None = None, **environment: str) -> Done:
        return Done(self.command(*arguments, "--bootstrap-servers", servers or self.servers, **environment))

    def command(self, *arguments: object, **environment: str) -> Command:
        command = Command(self.path / f"said-{len(self.commands)}", *arguments, cwd=self.path, **environment)
        self.commands.append(command)
        return command

    def feed(self, count: int, at: float | None = None, prefix: str = "") -> None:
        stamp = int((at or time.time()) * 1000)
        records = [(f"k{n}", json.dumps(f"line {n % 50}").encode(), stamp) for n in range(count)]
        write(self.servers, f"{prefix}{self.app}.lines", records)

    def check(self, name: str, *arguments: object, **more: Any) -> dict[str, str]:
        """One finding of the doctor."""
        return self.findings(*arguments, **more)[name]

    def findings(self, *arguments: object, **more: Any) -> dict[str, dict[str, str]]:
        """All of them, by name."""
        done = self.kstream("doctor", "service:app", "--json", *arguments, **more)
        assert (done.status == 1) == any(check["state"] == "error" for check in done.json)
        return {check["name"]: check for check in done.json}

    def unknown(self) -> set[str]:
        """What the doctor could not look at."""
        return {check["name"] for check in self.kstream("doctor", "--json").json if check["state"] == "unknown"}


@pytest.fixture
def place(bootstrap_servers: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, bootstrap_servers)
    yield made
    for command in made.commands:
        command.end()


@pytest.fixture(scope="module", autouse=True)
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Command]]:
    """Commands that find no broker. They take 15 s to give up: they are started before the other tests and looked at by
    the last."""
    place = Place(tmp_path_factory.mktemp("unreachable"), UNREACHABLE)
    for command in (["status", "service:app", "--once"], ["lag", "service:app"], ["topics", "service:app"]):
        place.command(*command, "--bootstrap-servers", UNREACHABLE)
    yield place.commands
    for started in place.commands:
        started.end()


def shown(place: Place, *arguments: object) -> tuple[int, dict[str, Any]]:
    done = place.kstream("status", *(arguments or ("service:app",)), "--json")
    return done.status, {one["instance"]: one for one in done.json}


def test_status_of_two_instances_and_of_one_that_was_killed(place: Place) -> None:
    first, second = place.start("one"), place.start("two")

    def all_ready() -> dict[str, Any] | None:
        status, found = shown(place)
        return (
            found if status == 0 and len(found) == 2 and all(len(one["tasks"]) == 2 for one in found.values()) else None
        )

    found = until(all_ready, "both to be ready with their halves", 60)
    tasks = [task["name"] for one in found.values() for task in one["tasks"]]
    assert sorted(tasks) == sorted(
        f"{topic}/{n}" for topic in (f"{place.app}.lines", f"{place.app}-by-line-repartition") for n in (0, 1)
    )
    assert {one["pid"] for one in found.values()} == {first.process.pid, second.process.pid}

    # one whose last words are 1.5 s old is shown as silent for the time being
    table = until(
        lambda: (done := place.kstream("status", "--app", place.app, "--once", COLUMNS="80")).status == 0 and done,
        "all to be ready in a table", 60,
    )  # fmt: skip
    assert max(map(len, table.out.splitlines())) <= 80
    assert "2 instances, 2 ready" in table.out and table.out.count("running") == 6 and "two/0" in table.out

    url = found["one"]["url"]
    of_page = until(
        lambda: (done := place.kstream("status", "--url", url, "--token", "secret", "--json")).status == 0 and done,
        "all to be ready for the page", 60,
    )  # fmt: skip
    assert {one["instance"] for one in of_page.json} == {"one", "two"}
    assert "wants another token" in place.kstream("status", "--url", url, "--token", "wrong", "--once").line
    assert "is it an instance's page?" in place.kstream("status", "--url", f"{url}/no", "--token", "secret").line

    second.end()  # SIGKILL: it cannot say goodbye
    found = until(lambda: (now := shown(place)[1])["two"]["state"] == "silent" and now, "the second to fall silent", 60)
    assert found["two"]["ready"] is False and "not heard of for" in found["two"]["reasons"][0]
    assert shown(place)[0] == 1
    until(lambda: len(shown(place)[1]["one"]["tasks"]) == 4, "the first to have all tasks", 60)

    first.process.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    assert set(shown(place)[1]) == {"two"}, "one that stops says so"


def test_status_live_in_a_terminal(place: Place) -> None:
    place.start("one")
    master, slave = pty.openpty()
    live = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "kstream.cli", "status", "service:app",
         "--bootstrap-servers", place.servers],  # what a shell starts in the background ignores Ctrl-C, with all below
        stdin=slave, stdout=slave, stderr=slave, cwd=place.path, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(slave)
    os.set_blocking(master, False)
    screen = bytearray()

    def drawn() -> str:
        with contextlib.suppress(OSError):  # nothing new, or the other side is closed
            screen.extend(os.read(master, 1 << 16))
        return screen.decode(errors="replace")

    try:
        until(lambda: drawn().count(f"{place.app}.lines/1") >= 3, "three pictures")
        live.send_signal(signal.SIGINT)
        until(lambda: (drawn(), live.poll() is not None)[1], "the end")  # its last words want a reader
        assert live.returncode == 0
    finally:
        live.kill()
        live.wait()
        os.close(master)
    assert "Traceback" not in screen.decode(errors="replace") and "one/0" in screen.decode(errors="replace")


def test_lag_of_an_app_that_runs_and_of_one_that_does_not(place: Place) -> None:
    running = place.start("one")
    place.feed(500)
    counts = f"{place.app}.counts"
    until(lambda: sum(len(rows) for rows in read(place.servers, [counts]).values()) >= 50, "the counts")

    def settled() -> Any:
        found = place.kstream("lag", "service:app", "--json", "--max", "0")
        # nobody has what one had whose last words are 1.5 s old
        return found.status == 0 and all(row["owner"] for row in found.json["partitions"]) and found.json

    found = until(settled, "all to be committed", 60)
    assert (found["total"], found["seconds"], found["groups"]) == (0, 0.0, [place.app])
    rows = {(row["topic"], row["partition"]): row for row in found["partitions"]}
    lines, repartition = f"{place.app}.lines", f"{place.app}-by-line-repartition"
    assert set(rows) == {(topic, n) for topic in (lines, repartition) for n in (0, 1)}
    assert {row["owner"] for row in rows.values()} == {"one/0"}
    assert sum(rows[lines, n]["committed"] for n in (0, 1)) == 500
    assert [rows[repartition, n]["internal"] for n in (0, 1)] == [True, True]
    # the ends of transactions lie behind the last record: they are no lag
    assert sum(rows[repartition, n]["end"] for n in (0, 1)) > 500

    running.process.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    fed = time.time() - 100
    place.feed(300, at=fed)
    found = place.kstream("lag", "service:app", "--json", "--max", "300")
    assert found.status == 0 and found.json["total"] == 300 and 100 <= found.json["seconds"] <= time.time() - fed
    assert {row["owner"] for row in found.json["partitions"]} == {None}
    table = place.kstream("lag", "service:app", "--max", "299", COLUMNS="80")
    assert (
        table.status == 1 and "300 records wait, the oldest for 2 min" in table.out and f"{repartition}*" in table.out
    )
    assert max(map(len, table.out.splitlines())) <= 80


def test_lag_before_the_first_commit(place: Place) -> None:
    create(place.servers, f"{place.app}.lines", 2)
    create(place.servers, f"{place.app}-by-line-repartition", 2)
    place.feed(40)
    found = place.kstream("lag", "service:app", "--json").json
    assert found["total"] == 40 and {row["committed"] for row in found["partitions"]} == {None}
    latest = place.kstream("lag", "service:app", "--json", "--set", "auto_offset_reset=latest").json
    assert latest["total"] == 0


@pytest.mark.more
def test_one_code_deployed_three_times_on_a_cluster(place: Place) -> None:
    """Staging by a prefix, and a second run beside production by a name: none sees, disturbs or deletes what is
    another's, though all have one instance name."""
    staging, second = {"KSTREAM_TOPIC_PREFIX": "staging."}, {"KSTREAM_APP_NAME": f"{place.app}-b"}

    def counted(prefix: str = "") -> list[int]:
        topic = f"{prefix}{place.app}.counts"
        return sorted(json.loads(row.value or b"") for row in read(place.servers, [topic])[topic])

    def is_through(**environment: str) -> Any:
        found = place.kstream("lag", "service:app", "--json", "--max", "0", **environment)
        return found.status == 0 and found.json

    def start(**environment: str) -> Command:
        command = place.command(
            "run", "service:app", "--bootstrap-servers", place.servers, "--instance", "one",
            "--state-dir", "-".join(("state", *environment)), *QUICK, **environment,
        )  # fmt: skip
        until(lambda: "all of them run" in command.err.read_text(), "the tasks to run", 60)
        return command

    production, staged = start(), start(**staging)
    place.feed(40)
    place.feed(25, prefix="staging.")
    until(lambda: len(counted()) == 40 and len(counted("staging.")) == 25, "each to count its own", 60)
    assert until(is_through, "production to have committed", 60)["groups"] == [place.app]
    assert until(lambda: is_through(**staging), "staging to have committed", 60)["groups"] == [f"staging.{place.app}"]

    beside = start(**second)  # it reads what production reads, whole, and writes to the same output
    until(lambda: counted() == [1] * 80, "the second run to count all again", 60)
    assert until(lambda: is_through(**second), "it to have committed", 60)["groups"] == [f"{place.app}-b"]

    staged.process.send_signal(signal.SIGTERM)
    assert staged.wait(60) == 0
    place.feed(10, prefix="staging.")
    assert place.kstream("lag", "service:app", "--json", **staging).json["total"] == 10
    until(is_through, "production to go on", 60)
    reset = place.kstream("reset", "service:app", "--yes", "--state-dir", "-".join(("state", *staging)), **staging)
    assert reset.status == 0, reset.err
    again = start(**staging)
    until(lambda: len(counted("staging.")) == 60, "staging to begin anew: 25 once more, and 10 more", 60)
    place.feed(40)
    until(lambda: counted() == [1] * 80 + [2] * 80, "the others to go on with their state", 60)
    for command in (production, beside, again):
        assert command.process.poll() is None and "started again" not in command.err.read_text()


def test_bad_input(place: Place) -> None:
    line = place.kstream("status", "service:app", "--once").line
    assert f"no instance of '{place.app}' ever announced itself at {place.servers}" in line
    assert "which app?" in place.kstream("status", "--once").line
    assert "is not the URL of an instance" in place.kstream("status", "--url", "localhost:8010", "--once").line
    assert "cannot be reached" in place.kstream("status", "--url", f"http://{UNREACHABLE}", "--once").line
    line = place.kstream("lag", "service:app").line
    assert f"{place.app}.lines, {place.app}-by-line-repartition" in line and "auto_create_topics" in line
    assert "is not an App" in place.kstream("lag", "service:counts").line


class TestDoctor:
    def test_before_the_first_start_all_is_green_and_nothing_is_left(self, place: Place) -> None:
        admin = AdminClient({"bootstrap.servers": place.servers})

        def topics() -> set[str]:
            """Without Kafka's own, which are made when they are needed first."""
            return {name for name in admin.list_topics(timeout=60).topics if not name.startswith("__")}

        before = topics()
        done = place.kstream("doctor", "service:app", "--json")
        assert done.status == 0 and done.err == ""
        found = {check["name"]: check for check in done.json}
        assert {name for name, check in found.items() if check["state"] == "error"} == set()
        assert found["brokers"]["text"] == f"{place.servers} answers"
        assert found["topics"]["text"] == "5 topics, 0 there, fit for 4 tasks"
        assert f"{place.app}-seen-changelog" in found["missing topics"]["text"]
        assert "KRaft" in found["broker version"]["text"] and "Kafka 4." in found["broker version"]["text"]
        assert found["clocks"]["state"] == "unknown"
        assert topics() == before
        assert not (place.path / ".kstream").exists()

    def test_beside_an_instance(self, place: Place) -> None:
        place.start("one")
        until(lambda: shown(place)[1], "its announcement")
        # an announcement that was under way for a second looks like a clock that is wrong
        found = until(lambda: (all_ := place.findings())["clocks"]["state"] == "ok" and all_, "its clock", 60)
        assert "one or more on this machine" in found["clocks"]["text"]
        assert found["topics"]["text"] == "5 topics, 5 there, fit for 4 tasks"
        assert found["replication"]["state"] == found["rights to topics"]["state"] == "ok"
        assert found["internal record size"]["state"] == "ok"
        small = place.check("internal record size", "--set", "kafka.message.max.bytes=5000000")
        assert small["state"] == "warning" and f"topic {place.app}-seen-changelog takes no batches" in small["text"]
        table = place.kstream("doctor", "service:app", COLUMNS="80")
        assert table.status == 0 and " 0 red" in table.out and max(map(len, table.out.splitlines())) <= 80

    def test_topics_that_do_not_fit(self, place: Place) -> None:
        create(place.servers, f"{place.app}.lines", 3)
        found = place.check("topics")
        assert found["state"] == "error" and "has 3 partitions, but 2 are declared" in found["text"]

    def test_an_output_topic_that_would_lose_records_at_once(self, place: Place) -> None:
        create(place.servers, f"{place.app}.lines", 2, retention_ms="-1")
        create(place.servers, f"{place.app}.counts", 2, retention_ms="86400000")
        found = place.check("retention")
        assert found["state"] == "warning" and f"topic {place.app}.counts keeps records for 24 hours" in found["text"]
        assert f"--entity-name {place.app}.counts --add-config retention.ms=-1" in found["advice"]
        running = place.start("one")
        assert f"topic {place.app}.counts keeps records for 24 hours" in running.err.read_text()

    def test_topics_that_cannot_be_made(self, place: Place) -> None:
        found = place.check("missing topics", "--set", "replication_factor=5")
        assert found["state"] == "error" and "INVALID_REPLICATION_FACTOR" in found["text"]

    def test_writes_that_would_be_refused(self, place: Place) -> None:
        create(place.servers, f"{place.app}.counts", 2, min_insync_replicas="2")
        found = place.check("replication")
        assert found["state"] == "error" and "min.insync.replicas 2: partition 0, 1 refuse writes" in found["text"]

    def test_settings_that_brokers_refuse(self, place: Place) -> None:
        given = (
            "transaction_timeout=1h",
            "session_timeout=1h",
            "max_poll_interval=1h",
            "kafka.message.max.bytes=5000000",
        )
        done = place.kstream("doctor", "--json", *(word for one in given for word in ("--set", one)))
        found = {check["name"]: check for check in done.json}
        assert done.status == 1
        assert found["transactions"]["text"] == "transaction_timeout 1h, the brokers allow 15m"
        assert found["sessions"]["text"].startswith("session_timeout 1h, the brokers allow ")
        assert "we send up to 4.8 MiB" in found["record size"]["text"]
        states = [found[name]["state"] for name in ("transactions", "sessions", "record size")]
        assert states == ["error", "error", "warning"]

    def test_brokers_that_do_not_answer(self, place: Place) -> None:
        found = place.check("brokers", servers=UNREACHABLE)
        assert found["state"] == "error" and "Connection refused" in found["text"] and found["advice"]
        some = place.check("brokers", servers=f"{UNREACHABLE},{place.servers}")
        assert some["state"] == "warning" and f"{UNREACHABLE} cannot be reached" in some["text"]

    def test_something_that_is_no_kafka(self, place: Place) -> None:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as other:
            found = place.check("brokers", servers=f"127.0.0.1:{other.getsockname()[1]}")
        assert found["state"] == "error" and "gives no metadata" in found["text"]


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A broker with an authorizer that allows what nobody forbade."""
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with DevBroker(config=config, start_timeout=180) as broker:
        yield broker.bootstrap_servers
        broker.kill()


@pytest.fixture
def forbidden(guarded: str) -> Callable[[Resource, str, AclOperation], None]:
    admin = AdminClient({"bootstrap.servers": guarded})

    def forbid(kind: Resource, name: str, operation: AclOperation) -> None:
        for each, allow in ((AclOperation.ALL, AclPermissionType.ALLOW), (operation, AclPermissionType.DENY)):
            rule = AclBinding(kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", each, allow)
            for future in admin.create_acls([rule]).values():
                future.result(60)

    return forbid


def test_rights_that_are_missing(
    guarded: str, tmp_path: Path, forbidden: Callable[[Resource, str, AclOperation], None]
) -> None:
    place = Place(tmp_path, guarded)
    try:
        _lack_rights(place, forbidden)
    finally:
        for command in place.commands:
            command.end()


def _lack_rights(place: Place, forbid: Callable[[Resource, str, AclOperation], None]) -> None:
    create(place.servers, f"{place.app}.lines", 2)
    found = place.findings()
    states = [found[f"rights to {what}"]["state"] for what in ("the group", "transactions", "topics")]
    assert states == ["ok", "unknown", "ok"]
    forbid(Resource.GROUP, place.app, AclOperation.READ)
    forbid(Resource.TOPIC, f"{place.app}.lines", AclOperation.READ)
    group = until(lambda: (one := place.check("rights to the group"))["state"] == "error" and one, "the rule", 60)
    assert (
        f"this user may not READ group {place.app}" in group["text"]
        and f"--group {place.app} --operation Read" in group["advice"]
    )
    topics = until(lambda: (one := place.check("rights to topics"))["state"] == "error" and one, "the rule", 60)
    assert f"this user may not READ {place.app}.lines" in topics["text"]
    assert f"--topic {place.app}.lines --operation Read" in topics["advice"]
    forbid(Resource.BROKER, "kafka-cluster", AclOperation.CREATE)
    forbid(Resource.TOPIC, f"{place.app}.counts", AclOperation.CREATE)
    missing = until(lambda: (one := place.check("missing topics"))["state"] == "error" and one, "the rule", 60)
    assert "cannot be made (TOPIC_AUTHORIZATION_FAILED" in missing["text"]
    forbid(Resource.BROKER, "kafka-cluster", AclOperation.DESCRIBE_CONFIGS)
    assert until(lambda: "broker settings" in place.unknown(), "the rule", 60)


def test_a_cluster_that_does_not_answer(unreachable: list[Command]) -> None:
    for command in unreachable:
        line = Done(command).line
        assert f"no Kafka broker answers at {UNREACHABLE}" in line and "bootstrap_servers" in line
