"""Writing a store's changes to its changelog topic, and knowing how far they went.

Changelog records carry wall-clock timestamps (0: the producer's now), whatever the event time: records stamped in
the past would fall to retention at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kstream.errors import KStreamError, RecordRefused
from kstream.specs.store import StoreSpec
from kstream.state.about import About
from kstream.state.forms import headers_of
from kstream.types import Delivered, Headers, Produce


class ChangelogProducer(Protocol):
    @property
    def produce(self) -> Produce: ...
    @property
    def produced(self) -> dict[str, int]: ...
    def produce_watched(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        delivered: Delivered,
        headers: Headers | None = None,
    ) -> None: ...
    def wait_for_room(self) -> None: ...
    def meaning(
        self, error: Exception, topic: str, value: bytes | None, key: bytes | None, partition: int
    ) -> Exception:
        """The error of kstream.errors for what `produce` raised."""
        ...


class Changelog:
    """One partition of the changelog topic of the store `spec`.

    `next_offset` is the offset after the last record known to be delivered. A delivery report may come without an
    offset (DUPLICATE_SEQUENCE, after a retry): then the older one stays, and a restore replays a little more.
    `about` is what the store's entries are now, and `packed` the same for the store's marks.
    `moves` counts what makes an end that was asked for before of no use: writes, and restores. `renewed_to` is such an
    end, nothing was written since it was asked for: the next commit makes it the store's mark (see `renewal`).
    """

    def __init__(self, topic: str, partition: int, spec: StoreSpec) -> None:
        self.topic, self.partition, self.spec = topic, partition, spec
        self.next_offset: int | None = None
        self.moves = 0
        self.renewed_to: int | None = None
        self.is_of(None)

    def moved(self) -> None:
        self.moves += 1
        self.renewed_to = None

    def is_of(self, topic_id: str | None) -> None:
        """From now on it is the topic with this id, and the entries are as the store is declared."""
        existing = "" if self.spec.ttl is None else self.spec.ttl.existing
        self.is_now(About(changelog=topic_id, form=self.spec.form, existing=existing))

    def is_now(self, about: About) -> None:
        self.about, self.packed = about, about.packed()
        self._headers = headers_of(about.form)
        # behind the partition: no callbacks, the producer's time
        self._more: tuple[Any, ...] = () if self._headers is None else (None, None, 0, self._headers)

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
                if self._more:
                    more = self._more
                    for key, value in rows:
                        produce(topic, value, key, partition, *more)
                else:
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
        to.produce_watched(topic, last_value, last_key, partition, self._delivered, self._headers)

    def _again(self, key: bytes, value: bytes | None, to: ChangelogProducer) -> None:
        """One change, after the queue was full."""
        while True:
            to.wait_for_room()
            try:
                return to.produce(self.topic, value, key, self.partition, *self._more)
            except BufferError:
                continue
            except KStreamError:
                raise
            except Exception as error:
                raise to.meaning(error, self.topic, value, key, self.partition) from error

    def _delivered(self, offset: int | None, refused: RecordRefused | None) -> None:
        if offset is not None:
            self.next_offset = offset + 1
