"""The process between us and the broker's JVM; run as a script, it imports nothing of kstream.

It starts the command it is given, writes the child's pid to standard output, and then listens to standard input:
`T` ends the child with SIGTERM, `K` with SIGKILL. The end of standard input means that our process is gone, whatever
killed it (also SIGKILL): the child is then ended too, politely first. A pipe and not PR_SET_PDEATHSIG in the JVM
itself, because that fires when the *thread* that forked ends, and does not exist outside Linux; between guard and JVM,
where there is one thread only, it is set as well, in case someone kills the guard.

The guard ends when the child has, with the child's status.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

GRACE_S = 10.0


def die_with_parent() -> None:
    """Runs in the child before exec: on Linux the kernel kills it when the guard dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def watch(child: "subprocess.Popen[bytes]", parent: int) -> bool:
    """Carries out commands until the child has ended; True when the parent ended before."""
    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    listening = [0, wake]
    orphaned = False
    kill_at = float("inf")
    while child.poll() is None:
        readable, _, _ = select.select(listening, [], [], 1.0)
        if wake in readable:
            os.read(wake, 512)
        command = os.read(0, 1) if 0 in readable else None
        if command == b"K" or time.monotonic() > kill_at:
            child.kill()
        elif command == b"T":
            child.terminate()
        # A process forked from our parent may hold the pipe open, so its pid is looked at too.
        if not orphaned and (command == b"" or os.getppid() != parent):
            orphaned = True
            listening = [wake]
            kill_at = time.monotonic() + GRACE_S
            child.terminate()
    return orphaned


def main(parent: int, remove: str, command: list[str]) -> int:
    """`remove` names a directory that nobody needs once the parent is gone, or is empty."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    child = subprocess.Popen(  # the one thread here makes preexec_fn safe
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=die_with_parent,  # noqa: PLW1509
    )
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    with contextlib.suppress(BrokenPipeError):  # when the parent is gone already, watch() sees it
        os.write(1, b"%d\n" % child.pid)
    if watch(child, parent) and remove:
        shutil.rmtree(remove, ignore_errors=True)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
