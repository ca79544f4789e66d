"""Writing a store's changes to its changelog topic, and knowing how far they went.

Changelog records carry wall-clock timestamps (0: the producer's now), whatever the event time: records stamped in
the past would fall to retention at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kstream.errors import KStreamError, RecordRefused
from kstream.state.about import About
from kstream.types import Delivered, Produce


class ChangelogProducer(Protocol):
    @property
    def produce(self) -> Produce: ...
    @property
    def produced(self) -> dict[str, int]: ...
    def produce_watched(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, delivered: Delivered
    ) -> None: ...
    def wait_for_room(self) -> None: ...
    def meaning(
        self, error: Exception, topic: str, value: bytes | None, key: bytes | None, partition: int
    ) -> Exception:
        """The error of kstream.errors for what `produce` raised."""
        ...


class Changelog:
    """One partition of one changelog topic.

    `next_offset` is the offset after the last record known to be delivered. A delivery report may come without an
    offset (DUPLICATE_SEQUENCE, after a retry): then the older one stays, and a restore replays a little more.
    `about` is what the store's entries are now, and `packed` the same for the store's marks.
    `moves` counts what makes an end that was asked for before of no use: writes, and restores. `renewed_to` is such an
    end, nothing was written since it was asked for: the next commit makes it the store's mark (see `renewal`).
    """

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.next_offset: int | None = None
        self.moves = 0
        self.renewed_to: int | None = None
        self.is_now(About())

    def moved(self) -> None:
        self.moves += 1
        self.renewed_to = None

    def is_now(self, about: About) -> None:
        self.about, self.packed = about, about.packed()

    def write(self, changes: Mapping[bytes, bytes | None], to: ChangelogProducer) -> None:
        """Produces the changes; only the last one is watched.

        Raises:
            RecordRefused: Kafka does not take one of them.
            TransactionError: the producer cannot go on.
        """
        self.moved()
        topic, partition, produce = self.topic, self.partition, to.produce
        *others, (last_key, last_value) = changes.items()
        rows = iter(others)
        while True:
            try:
                for key, value in rows:
                    produce(topic, value, key, partition)
                break
            except BufferError:
                self._again(key, value, to)
            except KStreamError:
                raise
            except Exception as error:
                raise to.meaning(error, topic, value, key, partition) from error
        to.produced[topic] += len(changes)
        to.produce_watched(topic, last_value, last_key, partition, self._delivered)

    def _again(self, key: bytes, value: bytes | None, to: ChangelogProducer) -> None:
        """One change, after the queue was full."""
        while True:
            to.wait_for_room()
            try:
                return to.produce(self.topic, value, key, self.partition)
            except BufferError:
                continue
            except KStreamError:
                raise
            except Exception as error:
                raise to.meaning(error, self.topic, value, key, self.partition) from error

    def _delivered(self, offset: int | None, refused: RecordRefused | None) -> None:
        if offset is not None:
            self.next_offset = offset + 1
