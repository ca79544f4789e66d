"""DevBroker: one Kafka node, from an empty directory to answering metadata, and back."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from kstream.devbroker import guard, jars, java, server, wire
from kstream.devbroker.classes import Classes
from kstream.errors import BrokerError

HEAP = ("-Xmx512m", "-XX:+UseSerialGC")
NEEDED_DISK = 256 * 1024 * 1024
MARKER = "kstream-broker"
PORT_TRIES = 3
"""Seconds pass between the look at a port and the JVM that listens there: somebody else may have taken it."""


class _PortInUse(BrokerError):
    """A port that was free when it was chosen is not, or one that was given."""


def default_data_dir() -> Path:
    """Where `kstream broker` keeps its data: `$XDG_DATA_HOME/kstream/broker`, `~/.local/share` by default."""
    root = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(root) / "kstream" / "broker"


class DevBroker:
    """A Kafka broker as a child process, on 127.0.0.1 only.

    `port`: free ones are found when None. `data_dir`: a temporary one, removed by `stop`, when None. `fresh`: what an
    earlier broker left in `data_dir` is removed first. `config` adds to or replaces lines of server.properties.
    `on_progress` hears of the download of the jars, as (bytes done, bytes in all).

    The broker ends when this process does, whatever ends it. Raises BrokerError, one line that says what to do.
    """

    def __init__(
        self,
        port: int | None = None,
        data_dir: str | Path | None = None,
        fresh: bool = False,
        *,
        config: Mapping[str, str] | None = None,
        cache_dir: Path | None = None,
        on_progress: jars.Progress | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self._wanted_port = port
        self._wanted_dir = Path(data_dir).absolute() if data_dir is not None else None
        self._fresh = fresh
        self._config = dict(config or {})
        self._cache_dir = cache_dir
        self._on_progress = on_progress
        self._start_timeout = start_timeout
        self._ports: tuple[int, int] | None = None
        self._data_dir: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._classes: Classes | None = None

    # ---- what it is

    @property
    def bootstrap_servers(self) -> str:
        """`127.0.0.1:<port>`; stays the same over `restart` and `kill` with `start`."""
        if self._ports is None:
            raise BrokerError("the broker was not started: call start() first")
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def data_dir(self) -> Path:
        """The directory with the marker, the settings, the log file and, in `logs`, Kafka's data."""
        if self._data_dir is None:
            raise BrokerError("the broker was not started: call start() first")
        return self._data_dir

    @property
    def log_file(self) -> Path:
        """What the broker prints; that of the run before lies beside it as `broker.log.old`."""
        return self.data_dir / "broker.log"

    @property
    def pid(self) -> int | None:
        """The JVM's process id; None when it does not run."""
        return self._pid if self.running else None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._guard is not None and self._guard.poll() is None

    # ---- what it does

    def start(self) -> DevBroker:
        """Installs what is missing, starts the broker and returns when it answers metadata with itself in it."""
        if self.running:
            return self
        ours_to_choose = self._ports is None and self._wanted_port is None
        for left in reversed(range(PORT_TRIES)):
            try:
                self._start()
                break
            except _PortInUse:
                assert self._ports is not None
                mended = server.is_free(self._ports[0])  # it was the controller's port, or somebody passed by
                if not left or not (ours_to_choose or mended):
                    raise
                if not mended:
                    self._ports = None
        self._fresh = False
        return self

    def _start(self) -> None:
        self._end(b"K")  # one that ended by itself
        class_path = os.pathsep.join(map(str, jars.install(self._cache_dir, self._on_progress)))
        java_binary = java.find_java()
        self._choose_ports()
        lock = self._open_directory()
        try:
            self._classes = Classes(self._cache_dir or jars.cache_dir(), java_binary, self.data_dir)
            cluster_id = self._prepare(java_binary, class_path)
            self._launch(java_binary, class_path, lock)
            self._await_ready(cluster_id)
        except OSError as error:
            self._end(b"K")
            raise self._os_error(error) from error
        except BaseException:
            self._end(b"K")
            raise
        finally:
            os.close(lock)  # the guard has its own, and with it the lock

    def stop(self) -> None:
        """Ends the broker in good order; a temporary data directory is removed."""
        self._end(b"T")
        if self._wanted_dir is None and self._data_dir is not None:
            shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None

    def kill(self) -> None:
        """Ends the broker with SIGKILL and keeps its data: `start` goes on from them, on the same port."""
        self._end(b"K")

    def restart(self, *, kill: bool = False) -> None:
        """Ends the broker, politely or with SIGKILL, and starts it on the same port with the same data."""
        self._end(b"K" if kill else b"T")
        self.start()

    def wait(self) -> int:
        """Blocks until the broker has ended by itself and returns its status."""
        if self._guard is None:
            raise BrokerError("the broker was not started: call start() first")
        return self._guard.wait()

    def __enter__(self) -> DevBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # ---- the steps of start

    def _choose_ports(self) -> None:
        if self._ports is None:
            port = self._wanted_port or server.free_port()
            self._ports = (port, server.free_port(other_than=port))
        if not server.is_free(self._ports[0]):
            raise self._port_in_use()
        if not server.is_free(self._ports[1]):
            self._ports = (self._ports[0], server.free_port(other_than=self._ports[0]))

    def _open_directory(self) -> int:
        """Makes or recognises the data directory and locks it; returns the lock's file descriptor."""
        if self._data_dir is None:
            self._data_dir = self._wanted_dir or Path(tempfile.mkdtemp(prefix="kstream-broker-"))
        directory = self._data_dir
        marker = directory / MARKER
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()) and not marker.exists():
                raise BrokerError(
                    f"{directory} is not empty and was not made by kstream's broker: choose another --data-dir"
                )
            if (free := shutil.disk_usage(directory).free) < NEEDED_DISK:
                raise BrokerError(
                    f"no disk space for the broker: {NEEDED_DISK / 1e6:.0f} MB are needed in {directory}, "
                    f"{free / 1e6:.0f} MB are free; make room or choose another --data-dir"
                )
            if not marker.exists():
                marker.write_text("The data of a development broker, made by kstream.\n")
            lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self._os_error(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise BrokerError(
                f"{directory} is in use by another broker: stop that one or choose another --data-dir"
            ) from None
        return lock

    def _prepare(self, java_binary: Path, class_path: str) -> str:
        """Settings and a formatted log directory; what is there stays, unless `fresh`. Returns the cluster id."""
        logs = self.data_dir / "logs"
        if self._guard is None and self.log_file.exists():
            os.replace(self.log_file, self.log_file.with_suffix(".log.old"))
        assert self._ports is not None
        config = self.data_dir / "server.properties"
        killed = (logs / "meta.properties").exists() and not (logs / ".kafka_cleanshutdown").exists()
        config.write_text(server.properties(server.settings(*self._ports, logs, self._config, killed=killed)))
        if self._fresh or not (logs / "meta.properties").exists():
            shutil.rmtree(logs, ignore_errors=True)
            self._format(java_binary, class_path, config)
        match = re.search(r"^cluster\.id=(\S+)$", (logs / "meta.properties").read_text(), re.MULTILINE)
        if match is None:
            raise BrokerError(f"{logs} is damaged: start with --fresh to begin with an empty broker")
        return match[1]

    @property
    def _common(self) -> list[str]:
        """Options of every JVM; one that crashes says of what beside the log, and not in the user's directory."""
        return [*HEAP, f"-XX:ErrorFile={self.data_dir / 'crash.log'}"]

    def _format(self, java_binary: Path, class_path: str, config: Path) -> None:
        """Gives the log directory a new cluster id and the default features of this Kafka, with Kafka's own tool."""
        assert self._classes is not None
        options = [*self._common, *self._classes.read, "-XX:TieredStopAtLevel=1"]
        command = [str(java_binary), *options, "-cp", class_path, "kafka.tools.StorageTool"]
        with self.log_file.open("ab") as log:
            status = subprocess.run(
                [*command, "format", "--cluster-id", server.new_id(), "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            ).returncode
        if status != 0:
            raise self._died("cannot format its data directory", status)

    def _launch(self, java_binary: Path, class_path: str, lock: int) -> None:
        log4j = Path(__file__).parent / "log4j2.properties"
        assert self._classes is not None
        options = [*self._common, *self._classes.read_or_write, f"-Dlog4j2.configurationFile={log4j}"]
        command = [str(java_binary), *options, "-cp", class_path, "kafka.Kafka"]
        remove = "" if self._wanted_dir is not None else str(self.data_dir)
        arguments = [str(os.getpid()), remove, *command, str(self.data_dir / "server.properties")]
        with self.log_file.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C is ours to handle: the broker ends last
            )
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline()
        if not line:
            raise self._died("cannot be started", self._guard.wait())
        self._pid = int(line)

    def _await_ready(self, cluster_id: str) -> None:
        assert self._guard is not None and self._ports is not None
        deadline = time.monotonic() + self._start_timeout
        while (found := wire.cluster_of(self._ports[0])) is None:
            if self._guard.poll() is not None:
                raise self._died("ended at start", self._guard.returncode)
            if time.monotonic() > deadline:
                raise self._died(f"is not ready after {self._start_timeout:.0f} s")
            time.sleep(0.03)
        if found != cluster_id:
            raise self._port_in_use()

    def _end(self, command: bytes, grace: float = 15.0) -> None:
        if self._guard is None or self._guard.stdin is None or self._guard.stdout is None:
            return
        for order, patience in ((command, grace), (b"K", None)):
            with contextlib.suppress(BrokenPipeError, ValueError):  # it may have ended by itself
                self._guard.stdin.write(order)
            try:
                self._guard.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        if order == b"T" and self._classes is not None:
            self._classes.keep()
        self._guard.stdin.close()
        self._guard.stdout.close()

    # ---- what can go wrong

    def _port_in_use(self) -> _PortInUse:
        assert self._ports is not None
        return _PortInUse(
            f"port {self._ports[0]} of 127.0.0.1 is in use: stop what listens there, choose another --port, or, "
            f"where it is a Kafka, have the app use it with --bootstrap-servers 127.0.0.1:{self._ports[0]}"
        )

    def _os_error(self, error: OSError) -> BrokerError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return BrokerError(f"no disk space left in {self._data_dir}: make room or choose another --data-dir")
        return BrokerError(f"cannot use {self._data_dir} for the broker's data: {error.strerror or error}")

    def _died(self, what: str, status: int | None = None) -> BrokerError:
        """The broker's own last words say why."""
        words = last_words(self.log_file)
        if self._classes is not None and status is not None and (status < 0 or status > 128):  # by a signal
            self._classes.drop()
        if "Address already in use" in words:
            return self._port_in_use()
        if "No space left on device" in words:
            return self._os_error(OSError(errno.ENOSPC, "No space left on device"))
        ended = "" if status is None else f" (status {status})"
        where = f"; see {self.log_file}" if self._wanted_dir is not None else ""
        return BrokerError(f"the broker {what}{ended}: {words}{where}")


def last_words(log: Path) -> str:
    """The line of the log's end that tells most: the last exception or error, else the last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 65_536))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "it left no log"
    for sign in ("Exception", " ERROR ", "rror"):
        for line in reversed(lines):
            if sign in line and not line.startswith("at "):
                return line
    return lines[-1] if lines else "it said nothing"
