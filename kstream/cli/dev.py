"""`kstream dev`: an app on a development broker, started anew when its files change.

The app is a process of its own, `kstream run` as anybody would call it, so that nothing of an older version of the code
stays behind. When this process ends, whatever ends it, the app stops (`main` here is what runs it) and the broker too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final

from kstream.cli import human
from kstream.cli.broker import download_progress
from kstream.cli.operate import Subject
from kstream.cli.reloading import SourceFiles
from kstream.cli.run import load_app
from kstream.config import Settings
from kstream.devbroker import KAFKA_VERSION, DevBroker, default_data_dir
from kstream.ending import ending_with

LOOK_SECONDS: Final = 0.3
STOP_SECONDS: Final = 30.0
_DEFAULT_PORT: Final = Settings().bootstrap_servers.rpartition(":")[2]


def run(on: Subject, target: str, arguments: Sequence[str], *, port: int, data_dir: Path | None, fresh: bool) -> int:
    """The command: until Ctrl-C or SIGTERM. A cluster that the settings name is used instead of a broker of its own.

    Args:
        arguments: of `kstream run`, besides the target and the brokers.

    Raises:
        AppLoadError: there is no such module. BrokerError: the broker cannot be started.
    """
    check(target)
    console = human.lines(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with ExitStack() as stack:
            servers = on.servers
            if on.sources["bootstrap_servers"] == "default":
                with download_progress(console) as on_progress:
                    broker = DevBroker(port, data_dir or default_data_dir(), fresh, on_progress=on_progress)
                    stack.callback(broker.stop)
                    broker.start()
                servers = broker.bootstrap_servers
                console.print(f"Kafka {KAFKA_VERSION} is ready on {servers}, data in {broker.data_dir}")
                if servers.rpartition(":")[2] != _DEFAULT_PORT:
                    console.print(f"for other terminals: export KSTREAM_BOOTSTRAP_SERVERS={servers}")
            command = ["run", target, "--bootstrap-servers", servers, *arguments]
            app = AppProcess(command)
            stack.callback(app.stop)
            watch(app, SourceFiles(Path.cwd()), console.print)
    except KeyboardInterrupt:
        console.print("stopped")
    return 0


def check(target: str) -> None:
    """Refuses what no change of a file would mend. A module of the project is not imported: it may have errors yet.

    Raises:
        AppLoadError: `target` has not the form, or there is no such module.
    """
    module, colon, _ = target.partition(":")
    path = Path(*module.split("."))
    if not colon or not (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()):
        load_app(target)


class AppProcess:
    """`kstream run`, as often as it is started."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kstream.cli.dev", *self._arguments],
            stdin=subprocess.PIPE,  # closed when we end
            process_group=0,  # Ctrl-C is ours: we stop it, then the broker
        )

    def ended(self) -> int | None:
        """Its status, once, when it has ended by itself."""
        if self._process is None or self._process.poll() is None:
            return None
        status = self._process.returncode
        self.stop()
        return status

    def stop(self) -> None:
        """In good order, or after a while at once."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        for patience in (STOP_SECONDS, STOP_SECONDS, None):  # asked once; a second signal means at once
            if process.poll() is None:
                process.send_signal(signal.SIGTERM if patience else signal.SIGKILL)
            try:
                process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                continue


def watch(app: AppProcess, files: SourceFiles, say: Callable[[str], None]) -> None:
    """Starts the app, and again after each change of a file; what ends by itself (an error in the code, which it has
    said) waits for the next change."""
    app.start()
    while True:
        time.sleep(LOOK_SECONDS)
        status = app.ended()
        if status is not None:
            say(f"the app ended (status {status}): it starts again when a file changes")
        changed = files.changed()
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            say(f"{changed[0]}{more} changed: starting the app again")
            app.stop()
            files.forget_compiled(changed)
            app.start()


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


# ---- in the app's process


def main(arguments: Sequence[str]) -> int:
    """`kstream` with these arguments, told to stop when standard input ends."""
    from kstream.cli import main as command

    threading.Thread(target=_stop_at_the_end, args=(os.dup(0),), name="dev", daemon=True).start()
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return command(arguments)


def _stop_at_the_end(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(ending_with(lambda: main(sys.argv[1:])))
