"""The rights that docs/security.md lists are enough on a broker that gives no others; without one of them a line says
which."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer

from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.config.sources import resolve_settings
from kstream.errors import KStreamError
from kstream.observe.status import InstanceStatus
from kstream.runtime.cluster.announce import Announcer, quiet
from kstream.runtime.cluster.control import Answer
from kstream.runtime.cluster.records import looking
from kstream.runtime.cluster.rights import rights_of
from kstream.runtime.cluster.stored_types import check_types, wanted_topics
from kstream.runtime.cluster.topics import ensure_topics
from kstream.runtime.instance.savepoints import Participant
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.specs.rights import Who
from kstream.types import TopicPartition
from security.guarded_service import make_app
from security.lettered_service import make_app as lettered_app
from support.kafka import SECONDS, Reader, create, write
from support.running import Command, prepare, until
from support.secured import LIMITED, Secured, settings_for

Right = tuple[str, str, str]
PAGE = Path(__file__).parents[2] / "docs/security.md"


def listed(who: Who) -> list[Right]:
    """As `kstream acls` says it, of an app of whatever name."""
    rights = rights_of(make_app("NAME").topology(), Settings(), who)
    return [(kind, name.replace("NAME", "{app}"), operation) for one in rights for kind, name, operation in one.each()]


RUN, RESET, AUTOSCALER, MAKE = listed("app"), listed("reset"), listed("autoscaler"), listed("topics")
"""What the service of these tests needs, what `kstream reset` needs besides, what somebody needs who looks at its lag,
and what a job needs that makes its topics."""


def test_the_page_lists_them() -> None:
    """Each kind of topic with its operations; what it says of commands."""
    row = re.compile(r"^\| (topic|group|transactional id) \| (.+?) \| ([A-Z_, ]+) \|", re.MULTILINE)
    rows = row.findall(PAGE.read_text())
    written = {
        (kind, where.strip("`* "), operation)
        for kind, where, operations in rows
        for operation in operations.split(", ")
    }
    kinds = {
        ".words": "that it reads",
        ".counts": "that it writes",
        "-by-word-repartition": "<app>-<name>-repartition",
        "-seen-changelog": "<app>-<table>-changelog",
        "-store-types": "<app>-store-types",
        "-instances": "<app>-instances",
        "-control": "<app>-control",
    }

    def as_listed(right: Right) -> Right:
        kind, name, operation = right
        where = kinds.get(name.removeprefix("{app}"), name.replace("{app}", "<app>").rstrip("*"))
        return kind.replace("_", " "), where, operation

    assert {as_listed(right) for right in RUN} <= written
    assert {as_listed(right) for right in RESET} <= written


class Guarded:
    """An app of its own, its rights, its user's settings."""

    def __init__(self, secured: Secured, directory: Path) -> None:
        self.secured, self.directory = secured, directory
        self.name = f"guarded-{uuid.uuid4().hex[:8]}"
        self.app = make_app(self.name)
        self.servers = secured.servers["PLAINTEXT"]
        create(self.servers, f"{self.name}.words", 1)
        create(self.servers, f"{self.name}.counts", 1)

    def rights(self, *rights: Right) -> list[Right]:
        return [(kind, name.replace("{app}", self.name), operation) for kind, name, operation in rights]

    def allow(self, *rights: Right) -> None:
        self.secured.allow(*self.rights(*rights))

    def settings(self, **more: object) -> Settings:
        given = settings_for(self.secured, "PLAIN", LIMITED)
        mine = {"commit_interval": "50ms", "state_dir": str(self.directory / "state"), "instance": "a", **more}
        return resolve_settings({}, {**given, **mine}, None)[0]

    def write(self, *words: str) -> None:
        now = int(time.time() * 1000)
        write(self.servers, f"{self.name}.words", [("k", word.encode(), now) for word in words])

    def run(self, **more: object) -> None:
        """In this process, until the first failure."""
        self.app.run(settings=self.settings(workers="0", **more))

    def environment(self) -> dict[str, str]:
        given = {**settings_for(self.secured, "PLAIN", LIMITED), "state_dir": str(self.directory / "state")}
        given |= {"commit_interval": "50ms", "workers": "1", "web": "false", "log_format": "json", "on_stop": "leave"}
        found = {
            f"KSTREAM_{name.replace('kafka.', 'kafka__', 1).replace('.', '_').upper()}": given[name] for name in given
        }
        return {**found, "KSTREAM_TEST_APP": self.name, "KSTREAM_ANNOUNCE_INTERVAL": "200ms"}


@pytest.fixture
def guarded(secured: Secured, tmp_path: Path) -> Guarded:
    return Guarded(secured, tmp_path)


@pytest.fixture
def command(guarded: Guarded) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        folder = guarded.directory / f"{arguments[0]}{len(started)}"
        started.append(Command(folder, *arguments, **guarded.environment()))
        return started[-1]

    yield start
    for one in started:
        one.end()


TARGET = "security.guarded_service:app"


def test_with_these_rights_it_runs_restores_is_watched_and_is_reset(
    guarded: Guarded, command: Callable[..., Command]
) -> None:
    guarded.allow(*RUN)
    guarded.write("a", "b")
    reader: Reader | None = None
    values: list[int] = []
    for words in (["a"], ["b"]):  # the second run restores from the changelog
        run = command("run", TARGET)
        until(
            lambda: f"{guarded.name}-instances" in guarded.secured.admin.list_topics(timeout=SECONDS).topics, "a start"
        )
        guarded.write(*words)
        reader = reader or Reader(guarded.servers, [f"{guarded.name}.counts", f"{guarded.name}-instances"])
        expected = len(values) + (3 if not values else 1)
        rows = reader.rows
        until(lambda: len(rows[f"{guarded.name}.counts"]) == expected, "the counts", each=reader.poll)  # noqa: B023
        values = [int(row.value or b"") for row in rows[f"{guarded.name}.counts"]]
        for looks in ("status", "lag", "topics") if words == ["a"] else ():
            options = ["--once"] if looks == "status" else []
            seen = command(looks, TARGET, *options)
            assert seen.wait() == 0, seen.err.read_text() + seen.out.read_text()
        announced = len(rows[f"{guarded.name}-instances"])
        until(lambda: len(rows[f"{guarded.name}-instances"]) > announced, "an announcement", each=reader.poll)  # noqa: B023
        run.process.terminate()
        assert run.wait() == 0
        said = run.err.read_text()
        assert "authorization failed" not in said.lower(), said
        assert "may not" not in said.replace("other instances may not", ""), said
        for directory in (guarded.directory / "state").glob("*/"):
            if directory.name.startswith(guarded.name):
                directory.rename(guarded.directory / f"gone-{len(values)}")
    assert values == [1, 1, 2, 2]
    assert reader is not None
    reader.close()

    refused = command("reset", TARGET, "--yes")
    assert refused.wait() == 2
    assert f"this user may not DELETE group {guarded.name}" in refused.err.read_text()
    guarded.allow(*RESET)
    reset = command("reset", TARGET, "--yes", "--to", "earliest")
    assert reset.wait() == 0, reset.err.read_text()


CHANGELOG_READ = ("topic", "{app}-seen-changelog", "READ")
WITHOUT = [
    right
    for right in RUN
    if not right[1].endswith(("-instances", "-control", "-store-types"))
    and right[2] != "DELETE"
    and right != CHANGELOG_READ
]


@pytest.mark.parametrize("right", WITHOUT, ids=lambda right: " ".join(right).replace("{app}", "app"))
def test_without_one_of_them_a_line_says_which(guarded: Guarded, right: Right) -> None:
    guarded.allow(*(one for one in RUN if one != right))
    guarded.write("a", "b")
    with pytest.raises(KStreamError) as failed:
        guarded.run()
    line = str(failed.value)
    kind, name, operation = guarded.rights(right)[0]
    wanted = f"{operation} {kind.replace('_', ' ')} {name.rstrip('*')}"
    described = f"DESCRIBE {kind} {name}" if kind == "group" else f"CREATE topic {name} "
    assert f"may not {wanted}" in line or f"may not {described}" in line, line
    assert "\n" not in line


def test_without_the_right_to_read_a_changelog_that_has_records(guarded: Guarded) -> None:
    guarded.allow(*(right for right in RUN if right != CHANGELOG_READ))
    prepare(guarded.app, Settings(bootstrap_servers=guarded.servers))
    write(guarded.servers, f"{guarded.name}-seen-changelog", [("a", b"1", int(time.time() * 1000))])
    with pytest.raises(KStreamError, match=f"may not READ topic {guarded.name}-seen-changelog"):
        guarded.run(lost_offsets="continue")


def test_without_the_right_to_purge_a_repartition_topic(guarded: Guarded) -> None:
    guarded.allow(*(right for right in RUN if right[2] != "DELETE"))
    create(guarded.servers, f"{guarded.name}-by-word-repartition", 1)
    admin = KafkaClients(guarded.settings().bootstrap_servers, options_from(guarded.settings(), "x")).admin()
    purged = admin.delete_records({TopicPartition(f"{guarded.name}-by-word-repartition", 0): 0})
    with pytest.raises(KStreamError, match=f"may not DELETE topic {guarded.name}-by-word-repartition"):
        purged.result(SECONDS)
    admin.close()


@pytest.mark.parametrize("operation", ["CREATE", "DESCRIBE_CONFIGS", "READ", "WRITE"])
def test_without_a_right_to_the_types_of_stores_a_line_says_so_and_the_app_starts(
    guarded: Guarded, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    topology, topic = guarded.app.topology(), f"{guarded.name}-store-types"

    def check(settings: Settings) -> None:
        clients = looking(settings, "x")
        admin = clients.admin()
        try:
            check_types(topology, clients, admin, SystemClock(), replication=1, go_on=False)
        finally:
            admin.close()

    free = Settings(bootstrap_servers=guarded.servers)
    prepare(guarded.app, free)
    if operation in ("DESCRIBE_CONFIGS", "READ"):
        check(free)  # something is kept there
    elif operation == "WRITE":
        admin = KafkaClients(guarded.servers).admin()
        ensure_topics(admin, wanted_topics(topology), auto_create=True, replication=1)
        admin.close()
    guarded.allow(*(right for right in RUN if right[1:] != ("{app}-store-types", operation)))
    caplog.set_level(logging.WARNING, "kstream")
    check(guarded.settings())
    assert "the types that stores were written with cannot be compared, or not be kept" in caplog.text
    assert topic in caplog.text


def status(app: str) -> InstanceStatus:
    return InstanceStatus(
        app=app, instance="a", state="running", at=time.time(), started=1.0, ready=True, host="h", tasks=[]
    )


@pytest.mark.parametrize("operation", ["CREATE", "DESCRIBE_CONFIGS", "READ", "WRITE"])
def test_without_a_right_to_the_announcements_a_line_says_which_and_nothing_else_fails(
    guarded: Guarded, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "kstream")
    guarded.allow(*(right for right in RUN if right[1:] != ("{app}-instances", operation)))
    settings = guarded.settings()
    clients = KafkaClients(settings.bootstrap_servers, quiet(options_from(settings, "x")))
    announcer = Announcer(clients, guarded.name, 0.2, lambda: status(guarded.name))
    announcer.start()
    wanted = f"may not {operation} topic {guarded.name}-instances"
    until(lambda: wanted in caplog.text, "the line")
    announcer.stop()
    assert caplog.text.count("other instances may not see this one") == 1


@pytest.mark.parametrize("operation", ["CREATE", "DESCRIBE_CONFIGS", "READ", "WRITE"])
def test_without_a_right_to_the_control_topic_a_line_says_which_and_nothing_else_fails(
    guarded: Guarded, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "kstream")
    guarded.allow(*(right for right in RUN if right[1:] != ("{app}-control", operation)))
    settings = guarded.settings()
    clients = KafkaClients(settings.bootstrap_servers, quiet(options_from(settings, "x")))
    participant = Participant(SimpleNamespace(tell=lambda command: None), clients, guarded.name, "a", -1)
    participant.start()
    if operation == "WRITE":  # there is nothing to say before somebody asks
        worker = SimpleNamespace(report=SimpleNamespace(savepoint=[Answer("1", "w", "refused")]))
        participant.heard(worker)
    wanted = f"may not {operation} topic {guarded.name}-control"
    until(lambda: wanted in caplog.text, "the line")
    participant.stop()
    assert caplog.text.count("this instance cannot take part in savepoints") == 1


LAG = [None, *AUTOSCALER]


@pytest.mark.parametrize(
    "without", LAG, ids=lambda one: "all" if one is None else " ".join(one).replace("{app}", "app")
)
def test_what_an_autoscaler_asks_takes_its_rights_and_no_others(guarded: Guarded, without: Right | None) -> None:
    """The ends of the inputs, and how far the group is, as KEDA asks."""
    prepare(guarded.app, Settings(bootstrap_servers=guarded.servers))
    guarded.allow(*(right for right in AUTOSCALER if right != without))
    settings = guarded.settings()
    admin = KafkaClients(settings.bootstrap_servers, options_from(settings, "autoscaler")).admin()
    topics = {name for kind, name, _ in guarded.rights(*AUTOSCALER) if kind == "topic"}
    at = [TopicPartition(name, 0) for name in topics]

    def ask() -> None:
        admin.end_offsets(at).result(SECONDS)
        admin.committed(guarded.name, at, stable=False).result(SECONDS)

    try:
        if without is None:
            ask()
        else:
            with pytest.raises(KStreamError):
                ask()
    finally:
        admin.close()


@pytest.mark.more
def test_a_job_with_a_user_of_its_own_makes_the_topics(guarded: Guarded, command: Callable[..., Command]) -> None:
    """The app then creates none."""
    users = [f"{guarded.name}.words", f"{guarded.name}.counts"]
    admin = KafkaClients(guarded.servers).admin()
    admin.delete_topics(users, SECONDS)
    until(lambda: not set(users) & admin.topics(SECONDS).keys(), "the topics to go")
    admin.close()
    guarded.allow(*MAKE)
    job = command("topics", TARGET, "--create")
    assert job.wait() == 0, job.err.read_text() + job.out.read_text()
    guarded.secured.withdraw(*guarded.rights(*MAKE))
    guarded.allow(*(right for right in RUN if right[2] != "CREATE"))
    run = command("run", TARGET)
    guarded.write("a", "b")
    reader = Reader(guarded.servers, users[1:])
    until(lambda: len(reader.rows[users[1]]) == 2, "the counts", each=reader.poll)
    reader.close()
    run.process.terminate()
    assert run.wait() == 0
    assert "may not" not in run.err.read_text().replace("other instances may not", "")


@pytest.mark.more
def test_dead_letters_are_listed_replayed_and_purged_with_their_rights(
    guarded: Guarded, command: Callable[..., Command]
) -> None:
    """Besides those of the app. Without the right to write its marks a line says so."""
    topology, target = lettered_app(guarded.name).topology(), "security.lettered_service:app"
    prepare(lettered_app(guarded.name), Settings(bootstrap_servers=guarded.servers))
    mine = [one for who in ("app", "dlq") for right in rights_of(topology, Settings(), who) for one in right.each()]
    marks = ("topic", f"{guarded.name}-dead-letters-handled", "WRITE")
    assert marks in mine
    guarded.secured.allow(*(one for one in mine if one != marks))
    source = {"topic": f"{guarded.name}.words", "partition": "0", "offset": "0", "exception": "builtins.ValueError"}
    producer = Producer({"bootstrap.servers": guarded.servers})
    for _ in range(2):
        producer.produce(
            f"{guarded.name}.letters", b"w", b"k", 0,
            headers=[(f"__streams.errors.{name}", text.encode()) for name, text in source.items()],
        )  # fmt: skip
    producer.flush(SECONDS)
    listed_ = command("dlq", "list", target)
    assert listed_.wait() == 0 and "ValueError" in listed_.out.read_text(), listed_.err.read_text()
    refused = command("dlq", "replay", target, "0:0")
    assert refused.wait() != 0
    assert f"this user needs WRITE of topic {guarded.name}-dead-letters-handled" in refused.err.read_text(), (
        refused.err.read_text()
    )
    guarded.secured.allow(marks)
    replayed = command("dlq", "replay", target, "0:0")
    assert replayed.wait() == 0 and "replayed 1 dead letter" in replayed.out.read_text(), replayed.err.read_text()
    purged = command("dlq", "purge", target, "--yes")
    assert purged.wait() == 0 and "gave up 1 dead letter" in purged.out.read_text(), purged.err.read_text()
