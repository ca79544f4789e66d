"""The end of a process: nothing of C's exit handlers, the status that was meant, everything printed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

ABORTS = """
import atexit, ctypes, logging, logging.handlers, os, sys
from kstream.ending import ending_with

abort = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p)
assert ctypes.CDLL(None).__cxa_atexit(abort, None, None) == 0  # as OpenSSL's own handler, at a bad moment
"""


def ends(body: str, *, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    code = [sys.executable, "-c", ABORTS + body]
    return subprocess.run(code, check=False, stdout=stdout, stderr=subprocess.PIPE, text=True, env=buffered)


def test_without_it_the_handler_would_be_reached() -> None:
    assert ends("sys.exit(0)").returncode == -signal.SIGABRT


def test_the_status_is_mains_and_what_was_printed_is_there() -> None:
    done = ends("print('said')\nsys.exit(ending_with(lambda: 7))")
    assert (done.returncode, done.stdout, done.stderr) == (7, "said\n", "")


def test_exit_handlers_of_python_run_before() -> None:
    done = ends("""
def main():
    atexit.register(print, "cleared up")
    handler = logging.handlers.MemoryHandler(10, target=logging.StreamHandler(sys.stdout))
    logging.getLogger().addHandler(handler)
    logging.warning("kept until the end")
    return 0
sys.exit(ending_with(main))""")
    assert (done.returncode, done.stdout) == (0, "cleared up\nkept until the end\n")


def test_an_exception_keeps_its_traceback_and_is_status_1() -> None:
    done = ends("sys.exit(ending_with(lambda: 1 // 0))")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ZeroDivisionError")


def test_what_could_not_be_written_is_told_by_pythons_own_status() -> None:
    with open("/dev/full", "w") as full:
        assert ends("print('lost')\nsys.exit(ending_with(lambda: 0))", stdout=full.fileno()).returncode == 120


def test_a_forked_child_ends_by_itself() -> None:
    done = ends("""
def main():
    child = os.fork()
    if not child:
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)  # by the handler in C: this child is not ours
    return 5
sys.exit(ending_with(main))""")
    assert done.returncode == 5


def test_the_command_ends_with_it() -> None:
    done = ends("sys.argv[1:] = ['--version']\nfrom kstream.cli import command\nsys.exit(command())")
    assert done.returncode == 0
    assert done.stdout.startswith("kstream ")
