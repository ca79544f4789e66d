"""Names of groups, members, transactions and topics: stable, so that a restart fences its predecessor."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from kstream.topology import DEFAULT_GROUP


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is. `isolation` is its isolation group; groups never fence each other.

    The member id, the transactional id and the state directory share one name.
    """

    app: str
    instance: str
    index: int
    isolation: str = DEFAULT_GROUP

    @property
    def group(self) -> str:
        """The consumer group."""
        return consumer_group(self.app, self.isolation)

    @property
    def member(self) -> str:
        return f"{self.app}-{self.isolation}-{self.instance}-{self.index}"

    @property
    def worker(self) -> str:
        """What the worker is called within its instance: in log lines, metrics and on the status page."""
        return str(self.index) if self.isolation == DEFAULT_GROUP else f"{self.isolation}-{self.index}"


def consumer_group(app: str, isolation: str) -> str:
    """The consumer group of an isolation group."""
    return app if isolation == DEFAULT_GROUP else f"{app}-{isolation}"


def snapshots_folder(app: str) -> str:
    """Where the snapshots of an app lie in its storage; each task has a place of its own below."""
    return f"{directory_name(app)}/snapshots"


def snapshot_place(app: str, part: str, partition: int) -> str:
    """Where the snapshots of a task lie in its app's storage."""
    return f"{snapshots_folder(app)}/{directory_name(part)}/{partition}"


def directory_name(name: str) -> str:
    """A name made fit for a file system. One that is too long is cut, with a digest of the whole behind it."""
    from hashlib import sha256  # only names that are too long need it

    fit = quote(name, safe="+")
    if len(fit) <= _LONGEST:
        return fit
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{fit[: _LONGEST - _DIGEST - 1]}~{digest}"


def keep_whole_name(directory: Path, name: str) -> None:
    """Leaves the whole name in a directory that is called by a short one: people want to know whose state it is."""
    if len(quote(name, safe="+")) > _LONGEST and directory.exists():
        (directory / _NAME).write_text(name)


def whole_name(directory: Path) -> str:
    """The name that a directory was made for."""
    with suppress(OSError):
        return (directory / _NAME).read_text()
    return unquote(directory.name)


_LONGEST: Final = 255
"""Bytes of a file's name, on every file system in use."""
_DIGEST: Final = 16
_NAME: Final = "name"
