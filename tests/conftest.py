"""Fixtures that broker and fault tests share."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from kstream.devbroker import server
from support import cases

cases.load()


# Brokers live for seconds or minutes here. What the JVM's second compiler makes of them does not pay in that time: it
# takes two fifths of the processor time of their start.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# What dies here is a process at most, never the machine: nobody has to wait for the disk, which all tests share.
os.fsync = lambda fd: None

# Processes of tests that run side by side find no port that another one has found and not opened yet, or whose broker
# is being restarted: each has its part of the ports for itself.
if number := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"):
    processes = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    server.FREE_PORTS = server.FREE_PORTS[int(number) % processes :: processes]

SLOW_FOLDERS = ("broker", "conformance", "faults", "security")
"""Their tests start processes and brokers, kill them and wait for others, one after the other: where everything takes
ten times as long, the usual limit (pyproject.toml) ends tests that go well."""

SLOW_SECONDS = 300

SAID_LINES = 300
"""Of each command, in the report of a test that failed."""


MORE_FOLDERS = ("faults", "security")
"""Of a test with several cases there, `make test` runs the first, and `make test-more` the others. Elsewhere such cases
are marked one by one. CI runs both."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected, half a million objects, stays to the end: the collector of garbage need not look at it while
    it is made, nor ever again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _mark_more(items)
    for item in items:
        if _folder(item.path) in SLOW_FOLDERS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@functools.cache
def _folder(file: Path) -> str:
    """The folder of tests/ that the file is in. Asked for each of ten thousand tests, in each process."""
    return next((folder.name for folder in file.parents if folder.parent == Path(__file__).parent), "")


def _mark_more(items: list[pytest.Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if _folder(item.path) not in MORE_FOLDERS or item.get_closest_marker("slow") is not None:
            continue
        test = item.nodeid.partition("[")[0]
        if test in seen:
            item.add_marker(pytest.mark.more)
        seen.add(test)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what the commands it ran said: a failure under load may not come again."""
    report = yield
    directory = getattr(item, "funcargs", {}).get("tmp_path")
    if report.when == "call" and report.failed and directory is not None:
        for said in sorted(Path(directory).rglob("err")):
            lines = said.read_text(errors="replace").splitlines()
            report.sections.append((f"the end of {said.relative_to(directory)}", "\n".join(lines[-SAID_LINES:])))
    return report


AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
"""Everybody may do everything, but for the topics to which a test says otherwise."""

KEPT = {"log.retention.check.interval.ms": "86400000", "log.initial.task.delay.ms": "86400000"}
"""Nothing is deleted for its age: Kafka looks 30 s after its start and then every five minutes, and tests write records
with times of long ago."""


@pytest.fixture(scope="session")
def bootstrap_servers() -> Iterator[str]:
    """A Kafka for the whole session: the one of KSTREAM_TEST_BOOTSTRAP_SERVERS, else a container where Docker answers,
    else the development broker. Tests name their topics and groups so that they do not meet."""
    if given := os.environ.get("KSTREAM_TEST_BOOTSTRAP_SERVERS"):
        yield given
    elif docker_answers():
        from testcontainers.community.kafka import KafkaContainer

        container = KafkaContainer("confluentinc/cp-kafka:8.1.0").with_kraft()
        for name, value in {
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_AUTHORIZER_CLASS_NAME": AUTHORIZER["authorizer.class.name"],
            "KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND": AUTHORIZER["allow.everyone.if.no.acl.found"],
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
            "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
            "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            **{f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in KEPT.items()},
        }.items():
            container = container.with_env(name, value)
        with container:
            yield container.get_bootstrap_server()
    else:
        from kstream.devbroker import DevBroker

        with DevBroker(config=AUTHORIZER | KEPT, start_timeout=180) as broker:  # 3 s, where the machine has time
            yield broker.bootstrap_servers
            broker.kill()  # with all topics of a session, a stop in good order takes half a minute


def docker_answers() -> bool:
    """Whether there is a Docker daemon to ask for a container."""
    try:
        import docker

        client = docker.from_env(timeout=5)
    except Exception:  # no package, no socket, no permission: all the same here
        return False
    client.close()
    return True
