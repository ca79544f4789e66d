"""The `kstream` command: `main` runs it and turns errors into one line; app.py lists the commands, a file for each.

What a command needs is imported when it is run: the least of them should not wait for what others need.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

from kstream.ending import ending_with
from kstream.interrupt import STATUS as INTERRUPTED
from kstream.interrupt import raise_again


def command() -> int:
    """What the installed script calls: `main`, and the process ends with it."""
    return ending_with(main)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    What the user can mend is one line on standard error and status 2; other errors of kstream one line and status 1.
    With `--debug`, anywhere, they keep their traceback. What nobody expected always does.
    """
    try:
        raise_again()
        return _told(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return INTERRUPTED


def _told(given: list[str]) -> int:
    """Runs it; errors of kstream become a line, and so does what the machine refuses: a full disk, a path."""
    from kstream.errors import KStreamError

    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        return _run(given)
    except KStreamError as error:
        if debug:
            import traceback

            traceback.print_exception(error)
        return _say(str(error), error.exit_status)
    except OSError as error:
        if debug or error.errno is None:
            raise
        return _say(_refused(error), 1)


def _refused(error: OSError) -> str:
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    import tempfile

    full = f" (work is done in {tempfile.gettempdir()}; TMPDIR names another place)"
    return f"{error.strerror}{full if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else ''}"


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] != ["run"] or "--help" in arguments:
        return _typed(arguments)
    from kstream.runtime.process.early import beginning

    with beginning():
        return _typed(arguments)


def _typed(arguments: Sequence[str]) -> int:
    import typer

    from kstream.cli.app import commands
    from kstream.cli.named import named

    command = typer.main.get_command(named(commands, arguments))
    try:
        result = command.main(list(arguments), prog_name="kstream", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        # what typer itself finds wrong: a missing argument, an option it does not know
        message, status = getattr(error, "format_message", None), getattr(error, "exit_code", None)
        if message is None or not isinstance(status, int):
            raise
        return _say(message(), status)
    return result if isinstance(result, int) else 0


def _say(message: str, status: int) -> int:
    if message:  # without any arguments typer shows the help and has nothing to say
        from kstream.escape import escaped

        print("kstream:", escaped(" ".join(message.split())), file=sys.stderr)
    return status
