"""Ctrl-C while a command or a program is still starting. Python would answer with a traceback that leads into a module
of kstream or of a library, where nothing is wrong.

What is imported here is there already when Python runs its first line: what is interrupted most is imports.
"""

import os
import sys

# signal itself brings enum and functools along: a part of the time that this is about
from _signal import SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

STATUS = 130
"""What shells say of a process that SIGINT has ended."""


def end_quietly() -> None:
    """From here on Ctrl-C ends the `kstream` command at once: nothing is begun yet that would have to be undone. In
    other programs this does nothing: what a signal does to them is not for an import to say. Nor where SIGINT is
    ignored, as shells have it for what they start in the background."""
    if _is_command() and getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, _end)


def raise_again() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt, by which all that has been begun is undone."""
    if getsignal(SIGINT) is _end:
        signal(SIGINT, default_int_handler)


def _is_command() -> bool:
    started = sys.argv[0] if sys.argv else ""  # "-m" as long as the package of a module is imported that is to be run
    return os.path.basename(started) == "kstream" or (started == "-m" and "kstream.cli" in sys.orig_argv)


def _end(number: int, frame: object) -> None:
    os._exit(STATUS)
