"""`kstream run` and `kstream topology` as processes: what goes wrong is one line that says what to do, and status 2."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.kafka import create, read, write
from support.running import Command, alive, until

SERVICE = """
import json, sys
from pathlib import Path
import kstream

app = kstream.App({name!r})
lines = app.topic("{name}.lines", key=str, value=str, partitions=2)
counts = app.topic("{name}.counts", key=str, value=int)
app.stream(lines).group_by(lambda line: line, key=str, name="by-line").count(name="seen").to(counts)
number = 7


@app.lifespan
async def tell(worker):
    yield
    Path("modules").write_text(json.dumps(sorted(sys.modules)))
"""
UNREACHABLE = "127.0.0.1:1"

Run = Callable[..., Command]


class Folder:
    """A directory with `service.py` in it, from which `kstream` is called."""

    def __init__(self, path: Path, servers: str) -> None:
        self.path, self.servers = path, servers
        self.app = f"line-{uuid.uuid4().hex[:8]}"
        (path / "service.py").write_text(SERVICE.format(name=self.app))
        self.commands: list[Command] = []

    def run(self, *arguments: object, target: str = "service:app", servers: str | None = None) -> Command:
        return self.kstream(
            "run", target, "--bootstrap-servers", servers or self.servers,
            "--set", "session_timeout=3s", "--set", "commit_interval=100ms", *arguments,
        )  # fmt: skip

    def kstream(self, *arguments: object) -> Command:
        command = Command(self.path / f"said-{len(self.commands)}", *arguments, cwd=self.path)
        self.commands.append(command)
        return command

    def works(self, command: Command, line: str = "a") -> None:
        """Waits until the command's service has counted a line."""
        topic = f"{self.app}.counts"
        until(lambda: "all of them run" in command.err.read_text(), "the tasks to run")
        before = len(read(self.servers, [topic])[topic])
        write(self.servers, f"{self.app}.lines", [(line, json.dumps(line).encode(), 0)])
        until(lambda: len(read(self.servers, [topic])[topic]) > before, "the line to be counted")


@pytest.fixture
def folder(bootstrap_servers: str, tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path, bootstrap_servers)
    yield made
    for command in made.commands:
        command.end()


@pytest.fixture(scope="module", autouse=True)
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, list[int]]]:
    """A command that finds no broker, and its workers' processes. It takes 15 s to give up: it is started before the
    other tests and looked at by the last."""
    folder = Folder(tmp_path_factory.mktemp("unreachable"), UNREACHABLE)
    command = folder.run()
    until(lambda: command.children or command.process.poll() is not None, "a worker's process")
    yield command, command.children
    command.end()


def line_of(command: Command) -> str:
    """What a command says that ends because of what the user can mend: one line, status 2, no traceback."""
    status = command.wait()
    said = command.err.read_text()
    assert status == 2, said
    assert command.out.read_text() == ""
    *before, line = said.splitlines()
    assert all(json.loads(each)["level"] == "info" for each in before), said  # what starts, and on which brokers
    assert line.startswith("kstream: ")
    return line


def test_a_module_that_is_not_there(folder: Folder) -> None:
    assert "did you mean 'service'?" in line_of(folder.run(target="servce:app"))


def test_a_module_that_fails(folder: Folder) -> None:
    (folder.path / "broken.py").write_text("import kstream\n1 / 0\n")
    line = line_of(folder.run(target="broken:app"))
    assert "broken.py:2" in line and "ZeroDivisionError" in line


def test_an_attribute_that_is_not_there(folder: Folder) -> None:
    assert "did you mean 'app'?" in line_of(folder.run(target="service:ap"))


def test_something_else_than_an_app(folder: Folder) -> None:
    assert "not an App but an int" in line_of(folder.run(target="service:number"))


def test_a_topic_that_is_missing_and_may_not_be_created(folder: Folder) -> None:
    line = line_of(folder.run("--set", "auto_create_topics=false"))
    assert f"{folder.app}.lines" in line and "create" in line


def test_a_topic_with_another_partition_count(folder: Folder) -> None:
    create(folder.servers, f"{folder.app}.lines", 3)
    line = line_of(folder.run())
    assert "has 3 partitions" in line and f"{folder.app}.lines" in line


def test_an_internal_topic_that_would_lose_data(folder: Folder) -> None:
    create(folder.servers, f"{folder.app}-seen-changelog", 2, retention_ms="1000")
    line = line_of(folder.run())
    assert "cleanup.policy=delete" in line and "--add-config" in line


def test_a_state_directory_of_another_app(folder: Folder) -> None:
    (folder.path / "state").mkdir()
    (folder.path / "state" / "app").write_text("somebody-else")
    line = line_of(folder.run("--state-dir", "state"))
    assert "belongs to app 'somebody-else'" in line and "--state-dir" in line


def test_a_state_directory_that_is_none(folder: Folder) -> None:
    (folder.path / "state").write_text("a file")
    assert "--state-dir" in line_of(folder.run("--state-dir", "state"))


def test_an_identity_in_use_and_a_clean_end(folder: Folder) -> None:
    first = folder.run("--instance", "one", "--workers", 1)
    folder.works(first)
    line = line_of(folder.run("--instance", "one", "--workers", 1))
    assert "'one' runs already" in line and "--instance" in line
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == 0
    assert "Traceback" not in first.err.read_text()
    assert first.out.read_text() == ""


def test_workers_import_nothing_of_command_line_and_web(folder: Folder) -> None:
    command = folder.run("--workers", 1)
    folder.works(command)
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    imported = {name.partition(".")[0] for name in json.loads((folder.path / "modules").read_text())}
    assert "kstream" in imported and "service" in imported
    assert not imported & {"pydantic", "pydantic_settings", "typer", "click", "rich", "starlette", "uvicorn"}


@pytest.mark.parametrize("workers", [0, 1])
def test_two_instances_with_one_identity(folder: Folder, workers: int) -> None:
    """On different machines, where no lock can tell. Kafka can: one of them ends, with one line, the other goes on."""
    options = ("--instance", "twin", "--workers", workers, "--set", "restart_initial=100ms")
    first = folder.run(*options, "--state-dir", "here")
    folder.works(first)
    second = folder.run(*options, "--state-dir", "there")
    # each worker that is fenced tries once to take over: the first loses, unless it is slower than the second's restart
    (ended,) = until(lambda: [one for one in (first, second) if one.process.poll() is not None], "one of them to end")
    assert ended.wait() == 2, ended.err.read_text()[-1500:]
    said = ended.err.read_text().splitlines()
    assert said[-1].startswith("kstream: another instance runs as 'twin'") and "--instance" in said[-1]
    assert not any("Traceback" in line for line in said)
    other = second if ended is first else first
    folder.works(other, "b")
    other.process.send_signal(signal.SIGTERM)
    assert other.wait() == 0


def test_ctrl_c(folder: Folder) -> None:
    """A terminal sends it to the whole process group; the workers stop in good order all the same."""
    command = folder.run("--workers", 2)
    folder.works(command)
    workers = command.children
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.wait() == 0
    assert not any(map(alive, workers))
    assert "Traceback" not in command.err.read_text()


def test_topology(folder: Folder) -> None:
    command = folder.kstream("topology", "service:app")
    assert command.wait() == 0
    assert command.err.read_text() == ""
    shown = command.out.read_text()
    for name in (f"{folder.app}.lines", f"{folder.app}-by-line-repartition", f"{folder.app}-seen-changelog"):
        assert name in shown


def test_brokers_that_do_not_answer(unreachable: tuple[Command, list[int]]) -> None:
    """A worker begins before they have: it imports beside the look at the topics."""
    command, begun = unreachable
    line = line_of(command)
    assert UNREACHABLE in line and "bootstrap_servers" in line
    assert begun and not any(map(alive, begun))
