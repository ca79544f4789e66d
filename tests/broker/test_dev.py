"""A project of `kstream init` under `kstream dev`: with a broker of its own, started anew when its files change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.devbroker.server import free_port
from support.running import Command, alive, children_of, until


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    made: list[Command] = []
    yield made
    for command in made:
        command.end()


def kstream(project: Path, servers: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kstream.cli", *arguments], cwd=project, capture_output=True, text=True, timeout=100,
        check=False, env={**os.environ, "KSTREAM_BOOTSTRAP_SERVERS": servers},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def below(pid: int) -> list[int]:
    """All processes that a process started, and theirs."""
    return [each for child in children_of(pid) for each in (child, *below(child))]


def test_a_new_project_runs_and_follows_its_files(tmp_path: Path, commands: list[Command]) -> None:
    made = Command(tmp_path / "said", "init", "web-shop", cwd=tmp_path)
    assert made.wait() == 0
    project, port = tmp_path / "web-shop", free_port()
    servers = f"127.0.0.1:{port}"
    dev = Command(
        tmp_path / "dev", "dev", "web_shop.app:app", "--port", port, "--data-dir", tmp_path / "data", "--set",
        "web_port=0", cwd=project,
    )  # fmt: skip
    commands.append(dev)
    until(lambda: "status page" in dev.err.read_text(), "the app to run")
    app, pages = "web_shop.app:app", "web-shop.clicks-per-page"
    assert f"for other terminals: export KSTREAM_BOOTSTRAP_SERVERS={servers}" in dev.err.read_text()
    click = '{"page": "home", "seconds": 1.5}'
    kstream(project, servers, "send", app, "web-shop.clicks", click, "--key", "ann")
    assert "home  1" in kstream(project, servers, "tail", app, pages, "--from", "beginning", "--count", "1")

    source = project / "web_shop" / "app.py"
    text = source.read_text()
    source.write_text(text + "\ndef broken(:\n")
    until(lambda: "the app ended (status 2)" in dev.err.read_text(), "the error")
    said = dev.err.read_text()
    assert "web_shop/app.py changed: starting the app again" in said
    assert said.count("web_shop.app cannot be imported: web_shop/app.py:") == 1 and "SyntaxError" in said
    source.write_text(text.replace("lambda click: click.page", "lambda click: click.page.upper()"))
    until(lambda: dev.err.read_text().count("status page") == 2, "the app to run again")
    kstream(project, servers, "send", app, "web-shop.clicks", click, "--key", "ann")
    assert "HOME  1" in kstream(project, servers, "tail", app, pages, "--from", "beginning", "--count", "2")

    pids = below(dev.process.pid)
    assert len(pids) >= 4, "the app, its worker, the broker and its guard"
    dev.process.send_signal(signal.SIGTERM)  # as Ctrl-C, which is ignored where tests run in the background
    assert dev.wait() == 0
    assert not any(alive(pid) for pid in pids)
    assert dev.err.read_text().rstrip().endswith("stopped") and "Traceback" not in dev.err.read_text()


def test_nothing_is_left_when_it_is_killed(bootstrap_servers: str, tmp_path: Path, commands: list[Command]) -> None:
    (tmp_path / "service.py").write_text(
        "import kstream\napp = kstream.App('killed-dev')\n"
        "app.stream(app.topic('killed-dev.in', value=str)).map(str.upper).to(app.topic('killed-dev.out', value=str))\n"
    )
    dev = Command(
        tmp_path / "dev", "dev", "service:app", "--bootstrap-servers", bootstrap_servers, "--set", "web_port=0",
        cwd=tmp_path,
    )  # fmt: skip
    commands.append(dev)
    until(lambda: "status page" in dev.err.read_text(), "the app to run")
    assert "is ready on" not in dev.err.read_text(), "a cluster that is named is used"
    pids = below(dev.process.pid)
    dev.process.kill()
    until(lambda: not any(alive(pid) for pid in pids), "the end of what it started")
