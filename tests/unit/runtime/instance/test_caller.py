"""The program that calls app.run(): its signals and its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from kstream.runtime.instance.caller import signals_to


def test_signals_are_heeded_meanwhile_and_as_before_afterwards() -> None:
    asked: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    with signals_to(lambda: asked.append(1)):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert asked == [1, 1] and signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_there_are_no_signals_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """`Thread(target=app.run).start()` ended with `signal only works in main thread`."""
    caplog.set_level("INFO", "kstream")
    before, done = signal.getsignal(signal.SIGTERM), []

    def run() -> None:
        with signals_to(lambda: None):
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [before] and "app.supervisor()" in caplog.text


THREADS = "import threading\nmain = threading.main_thread()\n"


def test_the_end_of_the_main_thread_stops_what_runs_in_another() -> None:
    """Python begins no work in threads then: the app would run on until it needs some."""
    found = ended(
        THREADS
        + """
import logging
logging.basicConfig()
def run():
    asked = threading.Event()
    with signals_to(asked.set):
        assert asked.wait(60)
    print("stopped")
threading.Thread(target=run).start()
"""
    )
    assert (found.returncode, found.stdout) == (0, "stopped\n")
    assert "WARNING" in found.stderr and "thread.join()" in found.stderr


def test_what_begins_after_the_end_of_the_main_thread_is_one_line() -> None:
    """`Thread(target=app.run).start()` as a program's last line was "can't register atexit after shutdown"."""
    found = ended(
        THREADS
        + """
def run():
    main.join()
    end_in_one_line()
    with main_thread_needed():
        from concurrent.futures import ThreadPoolExecutor
        ThreadPoolExecutor().submit(print)
threading.Thread(target=run).start()
"""
    )
    (line,) = found.stderr.splitlines()
    assert line.startswith("kstream: app.run() is in a thread and the main thread has ended"), found
    other = ended("def run():\n    with main_thread_needed():\n        raise RuntimeError('mine')\n"
                  "import threading\nthreading.Thread(target=run).start()\nthreading.main_thread()")  # fmt: skip
    assert "RuntimeError: mine" in other.stderr


def ended(text: str) -> subprocess.CompletedProcess[str]:
    program = "import sys\nfrom kstream.errors import ConfigError\nfrom kstream.runtime.instance.caller import *\n"
    return subprocess.run([sys.executable, "-c", program + text], capture_output=True, text=True, check=False)


def test_what_nobody_catches_ends_in_one_line() -> None:
    found = ended("end_in_one_line()\nraise ConfigError('instance: bad\\nname')")
    assert (found.returncode, found.stderr) == (2, "kstream: instance: bad name\n")


def test_what_is_caught_and_what_is_a_defect_is_as_ever() -> None:
    caught = ended("end_in_one_line()\ntry:\n    raise ConfigError('a')\nexcept ConfigError:\n    sys.exit(7)")
    assert (caught.returncode, caught.stderr) == (7, "")
    defect = ended("end_in_one_line()\nraise ValueError('a')")
    assert defect.returncode == 1 and defect.stderr.startswith("Traceback")
    interrupted = ended("end_in_one_line()\nraise KeyboardInterrupt('in other code, later')")
    assert "in other code, later" in interrupted.stderr
    own = ended("sys.excepthook = lambda *_: print('mine')\nend_in_one_line()\nraise ConfigError('a')")
    assert (own.returncode, own.stdout) == (1, "mine\n")


def test_at_pythons_prompt_no_error_is_an_end() -> None:
    """Ctrl-C while app.run() looked for its brokers ended the session with all that had been typed, and so did each
    Ctrl-C after it."""
    begun = "from kstream.runtime.instance.caller import Interrupted, end_in_one_line\nend_in_one_line()\n"
    found = subprocess.run(
        [sys.executable, "-i"], input=f"{begun}raise Interrupted\nprint('goes on')\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (0, "goes on\n")
