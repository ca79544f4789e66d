"""The broker's jars: pinned in jars.txt, fetched from a Maven repository into the user's cache, verified.

Every jar is written under a temporary name and renamed when its sha256 is right, so a jar that has its own name is
whole, and any number of processes may install at once.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from kstream.errors import BrokerError

KAFKA_VERSION = "4.3.1"
REPOSITORY_VARIABLE = "KSTREAM_MAVEN_REPOSITORY"
ATTEMPTS = 4
PARALLEL = 6
BACKOFF_S = 0.5
TIMEOUT_S = 30.0
SPARE_DISK = 64 * 1024 * 1024

Progress = Callable[[int, int], None]
"""Called with the bytes fetched so far and the bytes to fetch in all, from several threads, one at a time."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned artifact of a Maven repository."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name, in the repository and in the cache."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Where the repository has it."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"


def pinned() -> list[Jar]:
    """Kafka and its run-time dependencies, and the binding that lets it log."""
    lines = (Path(__file__).parent / "jars.txt").read_text().splitlines()
    fields = (line.replace(":", " ").split() for line in lines)
    return [Jar(group, artifact, version, int(size), sha256) for group, artifact, version, size, sha256 in fields]


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/kstream/kafka-<version>`, `~/.cache` by default."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "kstream" / f"kafka-{KAFKA_VERSION}"


def download_size(directory: Path | None = None) -> int:
    """How many bytes `install` has to fetch; 0 when everything is there."""
    return sum(jar.size for jar in _missing(pinned(), directory or cache_dir()))


def install(directory: Path | None = None, on_progress: Progress | None = None) -> list[Path]:
    """Fetches what is missing and returns the class path. Raises BrokerError, in one line, when it cannot."""
    directory = directory or cache_dir()
    jars = pinned()
    if missing := _missing(jars, directory):
        fetch(missing, directory, repository(), on_progress)
    return [directory / jar.name for jar in jars]


def repository() -> str:
    """The Maven repository: the variable's, else the central one, whose address jgo knows."""
    if chosen := os.environ.get(REPOSITORY_VARIABLE):
        return chosen.rstrip("/")
    try:
        from jgo.constants import MAVEN_CENTRAL_URL
    except ImportError:
        raise BrokerError(
            "Kafka's jars are not in the cache and jgo, which knows where to fetch them, is not installed: "
            f"pip install 'kstream[broker]', or set {REPOSITORY_VARIABLE} to a Maven repository's address"
        ) from None
    return str(MAVEN_CENTRAL_URL).rstrip("/")


def fetch(jars: Iterable[Jar], directory: Path, repository: str, on_progress: Progress | None = None) -> None:
    """Downloads these jars in parallel; the first that cannot be had ends it."""
    jars = list(jars)
    total = sum(jar.size for jar in jars)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise BrokerError(f"cannot write Kafka's jars to {directory}: {error.strerror}") from error
    if free < total + SPARE_DISK:
        raise BrokerError(
            f"no disk space for Kafka's jars: {total / 1e6:.0f} MB are needed in {directory}, {free / 1e6:.0f} MB are "
            "free; make room or point XDG_CACHE_HOME elsewhere"
        )
    _remove_leftovers(directory)
    download = _Download(directory, repository, total, on_progress)
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="kstream-jars") as pool:
        try:
            for _ in pool.map(download, jars):
                pass
        except BaseException:
            download.cancelled.set()
            raise


class _Broken(Exception):
    """A download that is worth another attempt."""


class _Download:
    """Fetches one jar a call, called from several threads."""

    def __init__(self, directory: Path, repository: str, total: int, on_progress: Progress | None) -> None:
        self.cancelled = threading.Event()
        self._directory = directory
        self._repository = repository
        self._total = total
        self._done = 0
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._ssl = _ssl_context()

    def __call__(self, jar: Jar) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            if self.cancelled.is_set():
                return
            try:
                return self._fetch(jar)
            except _Broken as broken:
                if attempt == ATTEMPTS:
                    raise BrokerError(
                        f"cannot fetch {jar.name} from {self._repository} ({broken}): check the network, or set "
                        f"{REPOSITORY_VARIABLE} to a mirror"
                    ) from broken
            self.cancelled.wait(BACKOFF_S * 2 ** (attempt - 1))

    def _fetch(self, jar: Jar) -> None:
        """One attempt. What arrives in full with a wrong checksum is an error, what breaks off is `_Broken`."""
        digest = hashlib.sha256()
        size = 0
        with NamedTemporaryFile(dir=self._directory, prefix=f".{jar.name}.", suffix=".part", delete=False) as part:
            try:
                for chunk in self._chunks(f"{self._repository}/{jar.path}"):
                    part.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    self._advance(len(chunk))
                part.flush()
                if size < jar.size:
                    raise _Broken(f"{size} of {jar.size} bytes arrived")
                if digest.hexdigest() != jar.sha256:
                    raise BrokerError(
                        f"{jar.name} from {self._repository} has a wrong checksum (sha256 {digest.hexdigest()}, "
                        f"expected {jar.sha256}): do not use this repository; set {REPOSITORY_VARIABLE} to another"
                    )
                os.replace(part.name, self._directory / jar.name)
            except BaseException as error:
                self._advance(-size)
                Path(part.name).unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise _disk_error(error, self._directory) from error
                raise

    def _chunks(self, url: str) -> Iterable[bytes]:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=self._ssl) as response:
                while chunk := response.read(1 << 16):
                    yield chunk
                    if self.cancelled.is_set():
                        raise _Broken("cancelled")
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise BrokerError(
                    f"{url} answers {error.code} {error.reason}: is {REPOSITORY_VARIABLE} set to a Maven repository?"
                ) from error
            raise _Broken(f"status {error.code}") from error
        except urllib.error.URLError as error:
            raise _Broken(str(error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(str(error) or type(error).__name__) from error
        except ValueError as error:
            raise BrokerError(f"{REPOSITORY_VARIABLE} is not an address of a Maven repository: {error}") from error

    def _advance(self, size: int) -> None:
        if self._on_progress is not None:
            with self._lock:
                self._done += size
                self._on_progress(self._done, self._total)


def _missing(jars: Iterable[Jar], directory: Path) -> list[Jar]:
    """Those that are not there, or not as they should be. Hashing all of them takes about 30 ms."""

    def missing(jar: Jar) -> bool:
        try:
            content = (directory / jar.name).read_bytes()
        except OSError:
            return True
        return len(content) != jar.size or hashlib.sha256(content).hexdigest() != jar.sha256

    jars = list(jars)
    with ThreadPoolExecutor(PARALLEL) as pool:
        return [jar for jar, gone in zip(jars, pool.map(missing, jars), strict=True) if gone]


def _remove_leftovers(directory: Path) -> None:
    """Temporary files of downloads that were killed more than an hour ago."""
    for part in directory.glob(".*.part"):
        try:
            if part.stat().st_mtime < time.time() - 3600:
                part.unlink()
        except OSError:
            continue


def _disk_error(error: OSError, directory: Path) -> BrokerError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BrokerError(f"no disk space left in {directory}: make room or point XDG_CACHE_HOME elsewhere")
    return BrokerError(f"cannot write Kafka's jars to {directory}: {error.strerror or error}")


def _ssl_context() -> ssl.SSLContext:
    """The system's certificates; where Python has none (python.org's macOS builds), those of certifi."""
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or paths.capath):
        try:
            import certifi
        except ImportError:
            pass
        else:
            return ssl.create_default_context(cafile=certifi.where())
    return ssl.create_default_context()
