"""Programs as users write them: what their workers load, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from support.kafka import Reader, create, read, write
from support.running import SECONDS, alive, children_of, kill, until, write_module

HEAD = """
import os
import kstream
app = kstream.App(os.environ["APP"], web=False, announce_interval=0, default_partitions=1, commit_interval=0.1)
source = app.topic(os.environ["APP"] + "-in", key=str, value=str)
found = app.topic(os.environ["APP"] + "-out", key=str, value=str)
"""


class Program:
    """Programs in a directory of their own."""

    def __init__(self, servers: str, directory: Path) -> None:
        self.servers, self.directory, self.app = servers, directory, f"p-{uuid4().hex[:8]}"
        self.running: list[subprocess.Popen[str]] = []
        create(servers, f"{self.app}-in", 1)
        create(servers, f"{self.app}-out", 1)

    def start(self, *arguments: str, **modules: str) -> subprocess.Popen[str]:
        for name, text in modules.items():
            write_module(self.directory / f"{name}.py", text)
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={**os.environ, "APP": self.app, "KSTREAM_BOOTSTRAP_SERVERS": self.servers},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.running.append(process)
        return process

    def answer(self) -> bytes | None:
        """What comes out, of a record that is written now."""
        write(self.servers, f"{self.app}-in", [("k", b"a", int(time.time() * 1000))])
        topic = f"{self.app}-out"
        output = Reader(self.servers, [topic])
        until(lambda: output.rows[topic], "the agent's output", SECONDS, each=output.poll)
        output.close()
        return output.rows[topic][0].value

    def end(self) -> None:
        for process in self.running:
            pids = children_of(process.pid)
            process.kill()
            process.communicate()
            for pid in pids:
                kill(pid)


@pytest.fixture
def program(bootstrap_servers: str, tmp_path: Path) -> Iterator[Program]:
    one = Program(bootstrap_servers, tmp_path)
    yield one
    one.end()


HOWS = ["python", "kstream run"]
BARE = HEAD + "app.agent(source, to=found)(str.upper)\napp.run(workers=1)\n"


@pytest.mark.parametrize("how", [("svc.py",), ("-m", "kstream.cli", "run", "svc:app")], ids=HOWS)
@pytest.mark.parametrize("instance", [None, pytest.param("a", marks=pytest.mark.more)])
def test_a_bare_run_without_the_guard_is_one_line(
    program: Program, how: tuple[str, ...], instance: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker began a supervisor with workers, about every second, without end."""
    if instance is not None:
        monkeypatch.setenv("KSTREAM_INSTANCE", instance)
    process = program.start(*how, svc=BARE)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    (line,) = said.splitlines()
    assert (
        line == 'kstream: svc.py:8: app.run() is called when svc is imported: put it under `if __name__ == "__main__":`'
    )


def test_what_is_printed_in_the_programs_own_process_reaches_a_pipe_at_once(program: Program) -> None:
    """It was nothing for minutes, and lost at SIGKILL. In workers: unit/runtime/process/test_launching.py."""
    text = f"""{HEAD}
@app.agent(source)
def tell(text: str) -> None:
    print("seen", text)

if __name__ == "__main__":
    app.run(workers=0)
"""
    write(program.servers, f"{program.app}-in", [("k", b"a", int(time.time() * 1000))])
    process = program.start("svc.py", svc=text)
    assert process.stdout is not None
    assert process.stdout.readline() == "seen a\n" and process.poll() is None


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_workers_load_what_the_program_loaded(program: Program, end: signal.Signals) -> None:
    """The agents are in a module that only the program's own text imports: records were read and lost. Nothing that a
    worker started outlives a clean stop, nor the end of a supervisor that is killed."""
    process = program.start(
        "main.py",
        core=HEAD,
        agents="""
import subprocess
import core
app = core.app
@app.agent(core.source, to=core.found)
def shout(text: str) -> str:
    child = subprocess.Popen(["sleep", "1000"])
    return f"{text.upper()} {child.pid} {subprocess.run(['cat'], capture_output=True).stdout!r}"
""",
        main='import agents\nif __name__ == "__main__":\n    agents.app.run(workers=1)\n',
    )
    value = program.answer()
    assert value is not None
    text, pid, stdin = value.decode().split()
    assert (text, stdin) == ("A", "b''")
    assert alive(int(pid))
    process.send_signal(end)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == (0 if end == signal.SIGTERM else -end), said
    until(lambda: not alive(int(pid)), "the end of what the worker started")


def test_workers_that_get_another_topology_refuse_to_start(program: Program) -> None:
    process = program.start(
        "main.py",
        core=HEAD + 'app.agent(source, name="everywhere")(len)\n',
        main="""
import core
if __name__ == "__main__":
    core.app.agent(core.source, name="here")(len)
    core.app.run(workers=1)
""",
    )
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    (line,) = said.splitlines()
    assert "core:app" in line and "only the program has: " in line and "agent here" in line


def test_a_lifespan_that_fails_is_a_line_with_its_cause(program: Program) -> None:
    """It was a bare traceback among lines of JSON, and `ended with status 1` for all that the page knew: before its
    yield, when the worker is started again, and after it, when the instance is stopped."""
    process = program.start(
        *("-m", "kstream.cli", "run", "svc:app", "--workers", "1", "--set", "log_format=json"),
        svc=HEAD
        + """
from pathlib import Path
app.agent(source, to=found)(str.upper)
@app.lifespan
async def prepare(worker):
    if not Path("begun").exists():
        Path("begun").touch()
        raise ConnectionError("no database")
    yield
    raise ConnectionError("it does not close")
""",
    )
    assert process.stderr is not None
    said: list[dict[str, str]] = []

    def hear(text: str) -> None:
        while not any(text in one["message"] for one in said):
            line = process.stderr.readline()  # type: ignore[union-attr]  # a pipe
            assert line, said
            said.append(json.loads(line))  # every line is JSON

    hear("starting it again")
    why, again = [one for one in said if "no database" in one["message"]]
    assert again["message"].startswith("worker 0 ended with status 1 (the lifespan failed before its yield: ")
    assert why["message"] == "the lifespan failed before its yield: svc.py:14: ConnectionError: no database"
    assert why["level"] == "error" and "Traceback" in why["exception"]
    hear("assigned ")
    process.send_signal(signal.SIGTERM)
    hear("it does not close")
    why = said[-1]
    assert why["message"] == "the lifespan failed after its yield: svc.py:16: ConnectionError: it does not close"
    assert why["level"] == "error" and "Traceback" in why["exception"]
    rest = process.stderr.read().splitlines()
    assert all(json.loads(line) for line in rest), "every line is JSON"
    assert process.wait(SECONDS) == 0


AS_PROGRAM, AS_COMMAND = ("svc.py",), ("-m", "kstream.cli", "run", "svc:app", "--workers", "1")
SPENT = {
    "task": (
        "1 / len(text)",
        r"task .*-in/0 stopped at .*-in\[0\] offset 0: ZeroDivisionError: .*; the task is not tried",
    ),
    "worker": ("os._exit(7)", "worker 0 ended with status 7; it is not started"),
}
"""What a program's agent does, and what its last line says."""


@pytest.mark.parametrize(
    ("what", "how"),
    [
        pytest.param("task", AS_PROGRAM, id="task-python"),
        pytest.param("worker", AS_COMMAND, id="worker-kstream run"),
        pytest.param("worker", AS_PROGRAM, id="worker-python", marks=pytest.mark.more),
        pytest.param("task", AS_COMMAND, id="task-kstream run", marks=pytest.mark.more),
    ],
)
def test_where_the_restarts_are_used_up_the_instance_says_why_in_its_last_line(
    program: Program, what: str, how: tuple[str, ...]
) -> None:
    """Nothing of the record is committed, and the next start has it again."""
    does, why = SPENT[what]
    head = HEAD.replace("web=False", "restart=kstream.FixedDelay(2, 0.1), web=False, session_timeout=30")
    text = f"""{head}
@app.agent(source, to=found)
def bad(text: str) -> str:
    with open("calls", "a") as calls:
        calls.write(".")
    return str({does})

if __name__ == "__main__":
    app.run(workers=1)
"""
    write(program.servers, f"{program.app}-in", [("k", b"", int(time.time() * 1000))])
    process = program.start(*how, svc=text)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, said
    line = said.splitlines()[-1]
    words = r" again \(restart strategy fixed-delay: its 2 restarts are used up\)"
    assert re.fullmatch(f"kstream: {why}{words}", line), said
    assert said.count("kstream: ") == 1
    calls = (program.directory / "calls").read_text()
    assert len(calls) >= 3 if what == "task" else len(calls) == 3, "once, and twice again"
    assert read(program.servers, [f"{program.app}-out"])[f"{program.app}-out"] == []


def test_code_that_is_slower_than_max_poll_interval_loses_and_doubles_nothing(program: Program) -> None:
    """Without a supervisor that kills it: the group takes the partition back, and the worker joins again."""
    head = HEAD.replace("web=False", "web=False, session_timeout=2, max_poll_interval=2, transaction_timeout=30")
    text = f"""{head}
import time
counts = app.table("counts", key=str, value=int, default=int)

@app.agent(source, to=found)
def slow(text: str, ctx: kstream.Context[str]) -> str:
    counts[ctx.key] += 1
    if text == "slow" and not os.path.exists("slept"):
        open("slept", "x").close()
        time.sleep(5)
    return f"{{text}} {{counts[ctx.key]}}"

if __name__ == "__main__":
    app.run(workers=0)
"""
    now = int(time.time() * 1000)
    write(program.servers, f"{program.app}-in", [("k", text.encode(), now) for text in ("a", "slow", "b")])
    process = program.start("svc.py", svc=text)
    topic = f"{program.app}-out"
    output = Reader(program.servers, [topic])
    until(lambda: len(output.rows[topic]) >= 3, "the agent's output", 60, each=output.poll)
    output.close()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    assert "did not poll within max_poll_interval" in said
    assert [row.value for row in read(program.servers, [topic])[topic]] == [b"a 1", b"slow 2", b"b 3"]


def test_a_program_that_handles_sigterm_itself_stops_all_the_same(program: Program) -> None:
    """The usual lines of an asyncio service: in a worker they take the place of kstream's own handler."""
    text = f"""{HEAD}
import asyncio, signal

@app.lifespan
async def quietly(worker):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    yield

app.agent(source, to=found)(str.upper)

if __name__ == "__main__":
    app.run(workers=1)
"""
    process = program.start("svc.py", svc=text)
    program.answer()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0 and "killing them" not in said, said
    assert time.monotonic() - began < 50  # a worker that does not stop is killed after 60


def test_errors_of_a_worker_are_known_whatever_a_module_does_to_logging(program: Program) -> None:
    """It puts a handler of its own in the place of ours, and disables all loggers that there are."""
    text = f"""{HEAD}
import logging.config
own = {{"class": "logging.NullHandler"}}
logging.config.dictConfig({{"version": 1, "handlers": {{"own": own}}, "root": {{"handlers": ["own"]}}}})

@app.agent(source, to=found)
def bad(text: str) -> str:
    return str(1 / len(text))

if __name__ == "__main__":
    with app.supervisor(workers=1) as supervisor:
        supervisor.start()
        while True:
            supervisor.poll(0.05)
            for error in supervisor.workers[0].report.errors:
                print(error.text, flush=True)
"""
    write(program.servers, f"{program.app}-in", [("k", b"", int(time.time() * 1000))])
    process = program.start("svc.py", svc=text)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert f"{program.app}-in[0] offset 0: ZeroDivisionError" in line


@pytest.mark.parametrize("workers", [1, pytest.param(0, marks=pytest.mark.more)])
def test_it_runs_in_a_thread_for_as_long_as_the_main_thread_waits(program: Program, workers: int) -> None:
    """`signal only works in main thread` was all that came of it. SIGTERM does to the program what it does to any
    other, and nothing outlives it. Without the join: unit/runtime/instance/test_caller.py."""
    text = f"""{HEAD}
import threading
app.agent(source, to=found)(str.upper)

if __name__ == "__main__":
    thread = threading.Thread(target=app.run, kwargs=dict(workers={workers}))
    thread.start()
    thread.join()
"""
    process = program.start("svc.py", svc=text)
    program.answer()
    children = children_of(process.pid)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGTERM, said
    until(lambda: not any(map(alive, children)), "the end of the workers")
