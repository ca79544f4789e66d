"""What a worker keeps from the processes that it forks."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORKS = """
import os, signal, sys
from kstream.runtime.process.isolation import keep_from_children

reading, writing = os.pipe()
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
if sys.argv[1] == "at once":  # runs in the child before anything of kstream's
    os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
keep_from_children(writing)
child = os.fork()
if child == 0:
    if sys.argv[1] == "later":
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM, status
os.kill(os.getpid(), signal.SIGTERM)  # its own way is as before
assert heard == [1] and signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
"""


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_forked_child_can_be_ended(when: str) -> None:
    """Seen on a busy machine: a pool was ended before one of its processes had left the fork, and waited for it."""
    subprocess.run([sys.executable, "-c", FORKS, when], check=True, timeout=60)
