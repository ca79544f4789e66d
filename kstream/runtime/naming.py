"""Names of groups, members, transactions and topics: stable, so that a restart fences its predecessor."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

DEFAULT_GROUP = "default"


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
        return self.app if self.isolation == DEFAULT_GROUP else f"{self.app}-{self.isolation}"

    @property
    def member(self) -> str:
        return f"{self.app}-{self.isolation}-{self.instance}-{self.index}"


def directory_name(name: str) -> str:
    """A name made fit for a file system."""
    return quote(name, safe="+")
