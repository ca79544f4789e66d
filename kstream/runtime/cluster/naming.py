"""Names of groups, members, transactions and topics: stable, so that a restart fences its predecessor."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

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


def directory_name(name: str) -> str:
    """A name made fit for a file system."""
    return quote(name, safe="+")
