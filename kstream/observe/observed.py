"""What the web layer is given: an instance that can be looked at and told a few things.

`kstream.runtime.view.observer.Observer` implements it; the methods are called from the web server's thread.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from kstream.observe.letters import DeadLetters, LetterDetails
from kstream.observe.status import (
    Graph,
    Health,
    InstanceStatus,
    Point,
    SavepointStatus,
    SettingStatus,
    TableEntry,
)


class Observed(Protocol):
    def status(self) -> InstanceStatus:
        """This instance, as of the last report of each worker (half a second old at most)."""
        ...

    def instances(self) -> list[InstanceStatus]:
        """All instances of the app, this one first, the others as they announced themselves through Kafka."""
        ...

    def history(self) -> list[Point]:
        """The last ten minutes, a point a second, oldest first."""
        ...

    def graph(self) -> Graph: ...
    def settings(self) -> list[SettingStatus]: ...
    def look_up(self, table: str, key: str) -> Future[TableEntry]:
        """The committed entry of a key, which is written as on the command line.

        Raises UsageError when there is no such table or the key is not of its type.
        """
        ...

    def dead_letters(self) -> Future[DeadLetters]:
        """The latest ones, read from Kafka unless they just were. It is not to be cancelled: others may wait for it.
        Fails with KafkaUnavailable."""
        ...

    def dead_letter(self, topic: str, partition: int, offset: int) -> Future[LetterDetails]:
        """One of them. Fails with KafkaUnavailable; UsageError when it is not there.

        Raises UsageError when it is no topic of the app's dead letters, KafkaUnavailable when too many are asked for.
        """
        ...

    def metrics(self) -> bytes:
        """Prometheus' text format."""
        ...

    def live(self) -> Health: ...
    def ready(self) -> Health: ...
    def started(self) -> Health: ...
    def pause(self) -> None:
        """Stops processing in this instance; what was done is committed, partitions are kept."""
        ...

    def resume(self) -> None: ...
    def make_savepoint(self, name: str | None, timeout: float) -> SavepointStatus:
        """Begins to make a savepoint of the whole app; `status().savepoints` says what comes of it.

        Args:
            name: None: one that says when.
            timeout: seconds for which inputs are held at most.

        Raises:
            UsageError: there cannot be one of this name. SavepointFailed: another one is being made here.
        """
        ...

    def set_log_level(self, level: str, logger: str | None) -> None:
        """In the supervisor and its workers. Raises ConfigError when there is no such level."""
        ...
