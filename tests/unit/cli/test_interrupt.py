"""Ctrl-C while the command, or a program, is still starting: no traceback, and status 130.

The signal comes when a module is imported, not after so many milliseconds: what is interrupted is the same each time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = """
import os, signal, sys

AT = os.environ.pop("INTERRUPTED_AT", None)  # processes that this one starts are not interrupted

def interrupt(event, arguments):
    if event == "import" and arguments[0] == AT:
        os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, getattr(signal, os.environ["SIGINT_IS"]))  # tests may run where it is ignored
sys.addaudithook(interrupt)
"""

APP = """
import colorsys
import kstream

app = kstream.App("shop")
app.stream(app.topic("clicks", key=str, value=str)).to(app.topic("seen", key=str, value=str))

if __name__ == "__main__":
    app.run(workers=1)
"""

SCRIPT = """
import sys
from kstream.cli import command

if __name__ == "__main__":
    sys.exit(command())
"""

WAYS = {
    "script": ["kstream", "run", "shop:app"],
    "module": ["-m", "kstream.cli", "run", "shop:app"],
    "program": ["shop.py"],
    "version": ["kstream", "--version"],
}


def ended(directory: Path, way: str, at: str, sigint: str = "default_int_handler") -> subprocess.CompletedProcess[str]:
    """A process that gets SIGINT when it imports the module `at`."""
    for name, text in (("sitecustomize.py", HOOK), ("shop.py", APP), ("kstream", SCRIPT)):
        (directory / name).write_text(text)
    paths = [str(directory), *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "INTERRUPTED_AT": at,
        "SIGINT_IS": sigint,
        "KSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:9",  # where nobody listens
    }
    return subprocess.run(
        [sys.executable, *WAYS[way]], cwd=directory, env=surroundings, capture_output=True, text=True, check=False
    )


more = pytest.mark.more


@pytest.mark.parametrize(
    "way,at",
    [
        ("script", "kstream.app"),  # by kstream itself, before the command's own code
        ("script", "kstream.ending"),
        ("script", "colorsys"),  # by the app's module; a process for a worker waits then
        ("module", "kstream.app"),
        ("program", "kstream.starting"),  # within app.run()
        pytest.param("script", "typer", marks=more),
        pytest.param("script", "kstream.starting", marks=more),
        pytest.param("module", "confluent_kafka", marks=more),
        pytest.param("program", "confluent_kafka", marks=more),
    ],
)
def test_ctrl_c_at_the_start_is_no_traceback(tmp_path: Path, way: str, at: str) -> None:
    found = ended(tmp_path, way, at)
    assert (found.returncode, found.stdout.strip(), found.stderr.strip()) == (130, "", "")


def test_a_program_that_imports_kstream_is_left_as_it_is(tmp_path: Path) -> None:
    found = ended(tmp_path, "program", "kstream.app")
    assert "KeyboardInterrupt" in found.stderr


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """As for what a shell has started in the background."""
    found = ended(tmp_path, "version", "kstream.app", "SIG_IGN")
    assert (found.returncode, found.stderr) == (0, "") and found.stdout.startswith("kstream ")
