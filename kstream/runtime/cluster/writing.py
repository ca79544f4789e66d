"""Records written outside the data path: announcements, answers, stored types, entries of a restore, `kstream send`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kstream.errors import KStreamError
from kstream.types import Headers, ProducerClient

ROOM_SECONDS: Final = 0.1


def write_record(
    producer: ProducerClient,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    partition: int = -1,
    timestamp: int = 0,
    headers: Headers | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Queues one record; waits while the queue is full. `flush` or `commit` says whether it was delivered.

    Args:
        partition: -1 is the one that the key chooses.
        timestamp: ms since the epoch; 0 is now.
        meanwhile: called again and again while the queue is full.

    Raises:
        RecordRefused: the client does not take it.
        TransactionError: the producer cannot go on.
    """
    while True:
        try:
            return producer.produce(topic, value, key, partition, None, None, timestamp, headers)
        except BufferError:
            producer.poll(ROOM_SECONDS)
            meanwhile()
        except KStreamError:
            raise
        except Exception as error:
            raise producer.meaning(error, topic, value, key, partition) from error
