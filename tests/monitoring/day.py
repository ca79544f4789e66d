"""A service of two instances, what is done to it, and what comes of it: for test_day.py."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from monitoring.day_service import PARTITIONS
from monitoring.diary import Diary
from monitoring.shortened import MONITORING
from monitoring.stack import Alert, Stack, held_port
from support.kafka import create, write, writer
from support.running import Command, alive, children_of, kill, until

SPEED = 12.0
MINUTE = 60 / SPEED
"""Seconds that a minute of the rules takes here."""

TARGET = "monitoring.day_service:app"
TOKEN = "day"
RUNBOOK = MONITORING.parent / "docs/runbook.md"
PERIOD, EACH = 0.25, 25
"""So many orders every so many seconds."""

KEYS, NOTE = 2000, "n" * 400


class Told(NamedTuple):
    """What a notification is to be."""

    status: str
    name: str
    receiver: str


class Step(NamedTuple):
    """What somebody does who was told of an alert: a sentence of its section of the runbook."""

    alert: str
    sentence: str

    def said(self) -> bool:
        return self.sentence in section(self.alert).partition("**Do.**")[2]


def section(alert: str) -> str:
    """The words of a section of the runbook, with single spaces."""
    (found,) = re.findall(rf"(?ms)^## {alert}\n(.*?)(?=^## |\Z)", RUNBOOK.read_text())
    return " ".join(str(found).split())


class Instance:
    """One name with its address and state, in one process after the other."""

    def __init__(self, name: str, day: Day) -> None:
        self.name, self._day = name, day
        self._port = held_port()
        self.address = f"127.0.0.1:{self._port.getsockname()[1]}"
        self.state = day.directory / f"state-{name}"
        self.started: list[Command] = []

    def start(self, release: str, **settings: object) -> None:
        given = {
            "web_port": self.address.rpartition(":")[2], "web_token": TOKEN,
            "restart_initial": 0.1, "restart_max": MINUTE, "flush_interval": MINUTE / 2, **settings,
        }  # fmt: skip
        self.started.append(
            Command(
                self._day.directory / f"{self.name}{len(self.started)}", "run", TARGET, "--instance", self.name,
                "--workers", 2, "--state-dir", self.state, "--bootstrap-servers", self._day.servers,
                *(word for name, value in given.items() for word in ("--set", f"{name}={value}")),
                **{**self._day.environment, "KSTREAM_TEST_RELEASE": release},
            )
        )  # fmt: skip

    @property
    def runs(self) -> Command:
        return self.started[-1]

    @property
    def pids(self) -> list[int]:
        """Of its supervisor and all that it started."""
        found = [self.runs.process.pid]
        for pid in found:
            found += children_of(pid)
        return found

    def stop(self) -> None:
        self.runs.process.terminate()
        assert self.runs.wait() == 0, self.runs.err.read_text()[-3000:]

    def kill(self) -> None:
        """Its workers too, which may be frozen."""
        pids = self.pids
        for pid in pids:
            kill(pid)
        self.runs.wait()
        until(lambda: not any(map(alive, pids)), f"the processes of {self.name} to be gone")

    def ask(self, path: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://{self.address}{path}", headers={"Authorization": f"Bearer {TOKEN}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""
        except OSError:
            return 0, b""

    def answers(self) -> bool:
        assert self.runs.process.poll() is None, self.runs.err.read_text()[-3000:]
        return self.ask("/live")[0] == 200

    def ready(self) -> bool:
        assert self.runs.process.poll() is None, self.runs.err.read_text()[-3000:]
        return self.ask("/ready")[0] == 200

    def status(self) -> dict[str, Any]:
        code, body = self.ask("/api/status")
        assert code == 200, code
        found: dict[str, Any] = json.loads(body)
        return found

    def task_states(self) -> set[str]:
        return {task["state"] for task in self.status()["tasks"]}

    def end(self) -> None:
        if self.started and self.runs.process.poll() is None:
            for pid in self.pids:
                kill(pid)
        for one in self.started:
            one.end()
        self._port.close()


class Orders:
    """Comes in on and on. `sent` is how many good ones."""

    def __init__(self, servers: str, topic: str) -> None:
        self._servers, self._topic, self._producer = servers, topic, writer(servers)
        self._ending, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def send(self, count: int, *, good: bool = True) -> None:
        now = round(time.time() * 1000)
        with self._lock:
            numbers = range(self.sent, self.sent + count)
            order = {"note": NOTE, **({"amount": 1} if good else {})}
            value = json.dumps(order).encode()
            write(self._servers, self._topic, [(f"k{n % KEYS}", value, now) for n in numbers], self._producer)
            if good:
                self.sent += count

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.wait(PERIOD):
            self.send(EACH)

    def stop(self) -> None:
        if not self._ending.is_set():
            self._ending.set()
            if self._thread.ident is not None:
                self._thread.join()
            del self._producer  # the broker ends before the process: it would look for it until then


class Day:
    """What is done, and what came of it. Whatever comes and is not waited for ends it."""

    def __init__(self, servers: str, directory: Path, name: str) -> None:
        self.servers, self.directory, self.name = servers, directory, name
        self.environment = {"KSTREAM_TEST_APP": name}
        for topic in ("orders", "totals"):
            create(servers, f"{name}.{topic}", PARTITIONS)
        self.orders = Orders(servers, f"{name}.orders")
        self.a, self.b = Instance("a", self), Instance("b", self)
        self.diary = Diary(SPEED)
        self.told: list[Alert] = []
        self._commands: list[Command] = []
        self.stack: Stack

    @property
    def instances(self) -> tuple[Instance, Instance]:
        return self.a, self.b

    # ---- what comes

    def news(self) -> list[Alert]:
        """What came and was not waited for."""
        return self.stack.alerts[len(self.told) :]

    def hears(self, *expected: Told, seconds: float, mends: str = "") -> None:
        """Waits until just these have come, in any order."""
        left = list(expected)

        def come() -> bool:
            for alert in self.news():
                told = Told(alert.status, alert.name, alert.receiver)
                assert told in left, f"{alert} came; expected were {left}"
                left.remove(told)
                self.told.append(alert)
                assert alert.labels["app"] == self.name
                self._leads_to_its_section(alert)
                text = f"{alert.receiver}: {alert.name}" if alert.status == "firing" else f"{alert.name} is over"
                self.diary.write(told=text, alert=alert.name if alert.status == "firing" else "")
            return not left

        until(come, f"{left}; {self.stack.active()}", seconds, each=lambda: time.sleep(0.1))
        if mends:
            self.diary.write(mends=mends)

    def _leads_to_its_section(self, alert: Alert) -> None:
        page, _, anchor = alert.annotations["runbook_url"].partition("#")
        assert page.endswith("/docs/runbook.md") and anchor == alert.name.lower()
        section(alert.name)

    def mends(self, step: Step) -> None:
        """What is done next is what the section of this alert says. Links in it lead from another folder."""
        assert step.said(), step
        plain = re.sub(r"\[(.+?)\]\(.+?\)", r"\1", step.sentence)
        self.diary.write(alert=step.alert, mends=plain.rstrip(",.;"))

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
        """Nothing may come meanwhile."""

        def quiet() -> None:
            assert not self.news(), f"while waiting for {what}: {self.news()}"
            time.sleep(0.05)

        until(condition, what, seconds, each=quiet)
        quiet()

    def passes(self, minutes: float) -> None:
        """So many minutes of a day pass, and nothing comes."""
        end = time.monotonic() + minutes * MINUTE
        self.wait(lambda: time.monotonic() > end, "time to pass", minutes * MINUTE + 60)

    # ---- what is done

    def ready(self, *instances: Instance) -> None:
        self.wait(lambda: all(one.ready() for one in instances), "instances to be ready")

    def rolled(self, release: str) -> None:
        """One instance after the other; the next when all are ready and a while has passed, as a rollout does it."""
        for one in self.instances:
            one.stop()
            one.start(release)
            self.ready(*self.instances)
            self.passes(2.5)

    def command(self, *arguments: object) -> str:
        one = Command(
            self.directory / f"command{len(self._commands)}", *arguments, "--bootstrap-servers", self.servers,
            **{**self.environment, "KSTREAM_TEST_RELEASE": "1+policy"},
        )  # fmt: skip
        self._commands.append(one)
        assert one.wait() == 0, one.err.read_text()
        return one.out.read_text()

    def end(self) -> None:
        self.orders.stop()
        for instance in self.instances:
            instance.end()
        for command in self._commands:
            command.end()
