"""Real processes of workers, as far as they come without Kafka: an app's module runs while it is imported."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from kstream.config import Settings
from kstream.runtime.process import early
from kstream.runtime.process.launching import LocalProcess, LocalProcesses
from kstream.runtime.process.program import Program
from kstream.runtime.process.report import Command, Handover, Report
from support.running import alive, kill, until


class Started:
    """A worker process that loads a module with this text."""

    def __init__(self, directory: Path, text: str) -> None:
        (directory / "loaded.py").write_text(text)
        self.processes = LocalProcesses()
        self.process: LocalProcess = self.processes.start(
            Handover(
                program=Program("loaded:app"), path=[str(directory)], app="app", instance="a", group="default", index=0,
                settings=msgspec.Raw(Settings(log_format="json").to_json()), partitions={},
            )
        )  # fmt: skip
        self.said: list[Report] = []

    def look(self) -> None:
        for process in self.processes.wait(0.05):
            self.said += process.read()

    def end(self) -> int:
        """Waits for its end; its exit status."""
        until(lambda: self.process.ended() is not None, "the process's end", each=self.look)
        self.said += self.process.read()
        status = self.process.ended()
        assert status is not None
        return status


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Started]]:
    monkeypatch.chdir(tmp_path)
    found: list[Started] = []
    yield found
    for one in found:
        one.process.signal(signal.SIGKILL)
        one.end()
        one.process.close()


def start(started: list[Started], directory: Path, text: str) -> Started:
    one = Started(directory, text)
    started.append(one)
    return one


def file(path: Path) -> str:
    until(path.exists, f"{path.name} to be written")
    return path.read_text()


def test_children_have_an_empty_standard_input_and_neither_commands_nor_reports(
    started: list[Started], tmp_path: Path
) -> None:
    """`cat` once printed the supervisor's command, and a forked child once kept the pipe open."""
    one = start(started, tmp_path, """
import json, os, subprocess, sys
def pipes():
    found = [os.readlink(f"/proc/self/fd/{n}") for n in sys.argv[1:3] if os.path.exists(f"/proc/self/fd/{n}")]
    return [each for each in found if each.startswith("pipe")]
def run(*command, **how):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, **how).stdout
show = "ls -l /proc/self/fd"
found = {"own": pipes(), "cat": run("cat"), "shell": run("sh", "-c", show)}
found["loose"] = run("sh", "-c", show, close_fds=False)
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, json.dumps(pipes()).encode())
    os._exit(0)
found["forked"] = json.loads(os.read(reading, 1000))
with open("found.tmp", "w") as out:
    json.dump(found, out)
os.rename("found.tmp", "found")
""")  # fmt: skip
    one.process.tell(Command(paused=True))
    found = json.loads(file(tmp_path / "found"))
    assert len(found["own"]) == 2
    assert found["cat"] == "", "it had nothing to read"
    for pipe in found["own"]:
        assert pipe not in found["shell"] + found["loose"] and pipe not in found["forked"]
    assert one.end() == 2 and "loaded has no 'app'" in str(one.said[-1].stopped_by)


CHILDREN = """
import multiprocessing, os, subprocess, sys, time
sleepers = [subprocess.Popen(["sleep", "1000"]), subprocess.Popen(["sh", "-c", "sleep 1000; true"])]
pool = multiprocessing.get_context("fork").Pool(2)
pids = [one.pid for one in sleepers] + [one.pid for one in pool._pool]
with open("pids.tmp", "w") as found:
    found.write(" ".join(map(str, pids)))
os.rename("pids.tmp", "pids")
"""


def ended(pids: Sequence[int]) -> None:
    try:
        until(lambda: not any(map(alive, pids)), "the children's end")
    finally:
        for pid in pids:
            kill(pid)


@pytest.mark.parametrize("how", ["killed", "well"])
def test_with_a_worker_ends_what_it_started(started: list[Started], tmp_path: Path, how: str) -> None:
    """However it ends: a pool of a killed one had lived on under init, even after the instance's clean stop."""
    one = start(started, tmp_path, CHILDREN + ("time.sleep(1000)" if how == "killed" else "os._exit(0)"))
    pids = [int(each) for each in file(tmp_path / "pids").split()]
    assert len(pids) == 4
    if how == "killed":
        assert all(map(alive, pids)) and one.process.ended() is None
        one.process.signal(signal.SIGKILL)
    assert one.end() == (-signal.SIGKILL if how == "killed" else 0)
    ended(pids)


def test_a_child_with_a_session_of_its_own_is_left_to_itself(started: list[Started], tmp_path: Path) -> None:
    """It has left the worker's process group, as a daemon does: docs/streams.md says so."""
    one = start(started, tmp_path, """
import os, subprocess, time
kept = subprocess.Popen(["sleep", "1000"], start_new_session=True)
ended = subprocess.Popen(["sleep", "1000"])
with open("pids.tmp", "w") as found:
    found.write(f"{kept.pid} {ended.pid}")
os.rename("pids.tmp", "pids")
time.sleep(1000)
""")  # fmt: skip
    kept, gone = (int(each) for each in file(tmp_path / "pids").split())
    try:
        one.process.signal(signal.SIGKILL)
        assert one.end() == -signal.SIGKILL
        ended([gone])
        assert alive(kept)
    finally:
        kill(kept)


def test_one_that_is_stopped_while_it_loads_ends_well(started: list[Started], tmp_path: Path) -> None:
    """It has nothing to leave yet. Seen: a worker that was started again just before the stop, told as killed."""
    one = start(started, tmp_path, "import threading; open('loading', 'w').close(); threading.Event().wait()")
    file(tmp_path / "loading")
    one.process.signal(signal.SIGTERM)
    assert one.end() == 0


def test_a_pool_of_forked_processes_can_be_ended(started: list[Started], tmp_path: Path) -> None:
    """What the worker does about SIGTERM is not for its children, who would not end."""
    one = start(started, tmp_path, """
import multiprocessing, os, signal
signal.signal(signal.SIGTERM, lambda *_: None)
pool = multiprocessing.get_context("fork").Pool(2)
pool.terminate()
pool.join()
os._exit(7)
""")  # fmt: skip
    assert one.end() == 7


def test_what_is_printed_reaches_a_pipe_at_once(
    started: list[Started], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = start(started, tmp_path, """
import os, signal
print("printed and flushed by nobody")
os.kill(os.getpid(), signal.SIGKILL)
""")  # fmt: skip
    assert one.end() == -signal.SIGKILL
    assert "printed and flushed by nobody" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "import sys\nsys.exit(3)",
            "loaded cannot be imported: loaded.py:2: SystemExit: 3 (--debug shows the traceback)",
        ),
        (
            "import kstream\napp = kstream.App('a')\n\napp.run(workers=1)",
            "loaded.py:4: app.run() is called when loaded is imported: put it under `if __name__ == \"__main__\":`",
        ),
        (
            "import kstream\napp = kstream.App('a')\nwith app.supervisor(): pass",
            "loaded.py:3: app.supervisor() is called when loaded is imported: put it under "
            "`if __name__ == \"__main__\":`",
        ),
    ],
)  # fmt: skip
def test_an_import_that_goes_wrong_is_one_line(
    started: list[Started], tmp_path: Path, text: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    one = start(started, tmp_path, text)
    assert one.end() == 2
    assert one.said[-1].usage and one.said[-1].stopped_by == why
    assert "Traceback" not in capfd.readouterr().err


def test_an_app_that_is_none_is_a_line_too(
    started: list[Started], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A defect, here or in user code: one line of JSON with its trace, and what the supervisor is told."""
    one = start(started, tmp_path, "app = 5")
    assert one.end() == 1
    assert one.said[-1].stopped_by == "AttributeError: 'int' object has no attribute 'topology'"
    (line,) = [each for each in capfd.readouterr().err.splitlines() if "AttributeError" in each]
    assert json.loads(line)["message"].startswith("the worker process ends: AttributeError")


def test_one_whose_supervisor_ends_before_the_handover_ends(tmp_path: Path) -> None:
    told, commands = os.pipe()
    reports, said = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "kstream.runtime.process.child", "8", "9", "10"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, told, 8), (os.POSIX_SPAWN_DUP2, said, 9), (os.POSIX_SPAWN_DUP2, said, 10),
            (os.POSIX_SPAWN_CLOSE, commands),
        ],
    )  # fmt: skip
    for descriptor in (told, said, commands):
        os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1 and os.read(reports, 1) == b""
    os.close(reports)


def test_one_that_was_begun_early_is_taken_and_those_that_nobody_takes_go(
    started: list[Started], tmp_path: Path
) -> None:
    with early.beginning(2):
        waiting = [one.process.pid for one in early._waiting]
        assert len(waiting) == 2 and all(map(alive, waiting))
        with early.beginning():  # enough are there
            one = start(started, tmp_path, "import os; os._exit(7)")
            assert one.process.pid == waiting[0]
        assert not alive(waiting[1])
    assert one.end() == 7


def test_one_from_before_the_environment_changed_is_not_taken(
    started: list[Started], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app's module may read a .env file; what it finds holds in its workers, too."""
    with early.beginning():
        (waiting,) = [one.process.pid for one in early._waiting]
        monkeypatch.setenv("KSTREAM_TEST_WORD", "tea")
        text = "import os; open('word', 'w').write(os.environ['KSTREAM_TEST_WORD']); os._exit(7)"
        one = start(started, tmp_path, text)
        assert one.process.pid != waiting and not alive(waiting)
        assert one.end() == 7 and (tmp_path / "word").read_text() == "tea"
