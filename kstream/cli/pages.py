"""`kstream page`: the addresses of the status pages of this machine's instances, each with its token."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from urllib.parse import quote

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.errors import UsageError
from kstream.web.local import running
from kstream.web.token import token_for


def run(on: Subject, *, open_them: bool) -> int:
    """The command.

    Raises:
        UsageError: no instance with a page runs on this state directory.
        StateDirectoryError: its token cannot be read.
    """
    directory = Path(on.settings.state_dir)
    try:
        found = running(directory)
    except OSError as error:
        raise UsageError(f"state directory {directory} cannot be read: {error.strerror or error}") from None
    if not found:
        raise UsageError(
            f"no instance with a status page runs on the state directory {directory}: start one with kstream run, or "
            "give the directory of one that runs (--set state_dir=PATH)"
        )
    token = quote(token_for(on.settings.web_token, directory), safe="")
    for url in found:
        address = f"{url}/#token={token}"
        human.lines().print(address)
        if open_them and not webbrowser.open(address):
            raise UsageError("no browser of this machine could be started: open the address by hand")
    return 0
