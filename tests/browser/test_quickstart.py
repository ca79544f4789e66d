"""docs/quickstart.md, walked as a newcomer would: its files, its commands in their order, its page in a browser."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from kstream.devbroker.server import free_port
from support.page import Page
from support.running import until

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
STAYS = ("kstream broker", "kstream run", "python feed.py")
"""What goes on until Ctrl-C."""

pytestmark = pytest.mark.timeout(600)


class Walk:
    """The terminals of somebody who follows the page. The broker's port and the app's name are this test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        for name, text in re.findall(r"(?s)```python\n# (\w+\.py)\n(.*?)```", PAGE):
            (directory / name).write_text(text)
        self.commands = re.findall(r"(?m)^\$ (.+)$", PAGE)
        self.running: list[subprocess.Popen[bytes]] = []
        self.url = ""
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KSTREAM_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "KSTREAM_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.port}",  # 9092 may be in use here
            "XDG_DATA_HOME": str(directory / "data"),
            "KSTREAM_SESSION_TIMEOUT": "5s",  # for so long the partitions of who was killed are kept
            "PYTHONUNBUFFERED": "1",
        }

    def next(self, expected: str, pattern: str = "") -> None:
        """Does the next command of the page, in a terminal of its own when it stays.

        With a pattern, again and again until it succeeds and prints that: who looks too early looks again.
        """
        command = self.commands.pop(0)
        assert command.startswith(expected), f"the page says {command!r}"
        command = command.replace("9092", str(self.port))
        if not command.startswith(STAYS):
            words = shlex.split(command)
            if words[0] == "pkill":
                words[1:1] = ["-P", str(os.getpid())]  # ours only: somebody else may walk the page on this machine
            self._until_done(words, pattern)
            return
        number = len(self.running)
        with (self.directory / f"terminal-{number}").open("wb") as out:
            self.running.append(
                subprocess.Popen(
                    # what a shell starts in the background ignores Ctrl-C, with all below
                    ["env", "--default-signal=INT", *shlex.split(command)],
                    cwd=self.directory,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _until_done(self, words: list[str], pattern: str) -> None:
        said = ""

        def done() -> bool:
            nonlocal said
            last = self._done(words)
            said = f"{last.returncode} {last.stdout.decode()} {last.stderr.decode()}"
            return last.returncode == 0 and re.search(pattern, last.stdout.decode(), re.MULTILINE) is not None

        if not pattern:
            assert done(), (words, said)
            return
        try:
            until(done, f"{words} to show {pattern!r}", 90)
        except AssertionError as late:
            raise AssertionError(f"{late}; it said last: {said}") from None

    def says(self, terminal: int, pattern: str) -> str:
        """Waits until a terminal shows it."""
        shown = self.directory / f"terminal-{terminal}"

        def found() -> re.Match[str] | None:
            text = shown.read_text()
            assert self.running[terminal].poll() is None, text
            return re.search(pattern, text)

        return str(until(found, f"{pattern!r} in terminal {terminal}", 90)[1])

    def _done(self, words: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            words, check=False, cwd=self.directory, env=self.environment, capture_output=True, timeout=110
        )  # fmt: skip

    def status(self) -> list[dict[str, Any]]:
        """What `kstream status --json` says, asked of the first instance: the command would take a second each time."""
        headers = {"Authorization": f"Bearer {(self.directory / '.kstream' / 'web-token').read_text().strip()}"}
        request = urllib.request.Request(f"{self.url}/api/instances", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return list(json.loads(answer.read()))

    def share(self, *tasks: int) -> list[str]:
        """Waits until the instances that are heard of run so many tasks each; returns their names."""
        spread: dict[str, int] = {}

        def shared() -> bool:
            nonlocal spread
            spread = {
                one["instance"]: sum(task["state"] == "running" for task in one["tasks"])
                for one in self.status()
                if one["state"] not in ("silent", "stopping")
            }
            return sorted(spread.values()) == list(tasks)

        until(shared, f"{tasks} tasks in {len(tasks)} instances", 120)
        return sorted(spread)

    def end(self) -> None:
        """With Ctrl-C, which each of them heeds; the broker goes last, for the others still talk to it."""
        late = []
        for some in (self.running[1:], self.running[:1]):
            running = [process for process in some if process.poll() is None]
            for process in running:
                process.send_signal(signal.SIGINT)
            for process in running:
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    late.append(process.args)
                    os.killpg(process.pid, signal.SIGKILL)
        assert not late, "Ctrl-C does not end them"


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=60) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return False


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    made = Walk(tmp_path)
    yield made
    made.end()


def test_the_walk(walk: Walk, page: Page) -> None:
    # The environment and the directory are this test's own
    assert [walk.commands.pop(0) for _ in range(3)] == [". .venv/bin/activate", "mkdir -p ~/clicks", "cd ~/clicks"]
    walk.next("kstream broker")
    walk.says(0, r"(127\.0\.0\.1:\d+)")
    walk.next("kstream run")
    url = walk.url = walk.says(1, r"status page: (http://127\.0\.0\.1:\d+)[^\d]")
    walk.next("kstream send", r"1 record sent to clicks")
    walk.next("kstream tail", r"  about  1$")
    walk.next("python feed.py")
    walk.share(8)
    walk.next("kstream status", "clicks/3")

    # Open the page
    page.open(url, (walk.directory / ".kstream" / "web-token").read_text().strip())
    # asked for again and again from here: the page's own policy lets no string be evaluated in it
    until(lambda: page.page.evaluate("Number(document.querySelector('#rate-in').value) > 5"), "the rate to be shown")
    expect(page.section("ready")).to_have_text("ready")
    until(lambda: is_ready(url), f"{url}/ready to be green")

    # Scale to two
    walk.next("kstream run")
    other = walk.says(3, r"status page: (http://127\.0\.0\.1:\d+)[^\d]")
    assert other != url
    names = walk.share(4, 4)
    walk.next("kstream status", r"(?ms)^\S+ +running.*^\S+ +running")
    expect(page.section("instances")).to_contain_text(names[0])
    expect(page.section("instances")).to_contain_text(names[1])

    # Kill one
    walk.next("pkill")
    assert walk.running[3].wait(60) == -signal.SIGKILL
    walk.share(8)
    expect(page.section("instances")).to_contain_text("silent")
    walk.next("kstream lag", "clicks")

    # What an operator would have seen
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    section = runbook.partition("## InstanceDown")[2].partition("\n## ")[0]
    assert "runbook.md#instancedown" in PAGE and "Start it again under the same name" in section
    walk.next("kstream run")
    assert walk.share(4, 4) == names

    # Your result
    walk.next("kstream send", r"1 record sent to clicks")
    walk.next("kstream table clicks:app per-page about", r"^2$")
    walk.next("kstream table", r"about +2")
    assert walk.commands == [] and page.errors == []
