"""What every operator is, and the two things it is given: a cursor for contexts and an outlet for outputs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from itertools import repeat
from operator import length_hint
from typing import Any, ClassVar, Protocol

from kstream.errors import CodecError, KStreamError
from kstream.operators.batch import Batch
from kstream.operators.origin import Origin
from kstream.specs.record import EPOCH_IS_NOW
from kstream.types import Headers, Produce

Push = Callable[[Batch], None]


class Cursor(Protocol):
    """Where a user's context stands. Operators move it; the context reads the record from there. `stores` are the
    tables that can be used there, by name; `faults` is what was raised in the task that is no record's fault: its state
    cannot be read, or it has no such table."""

    batch: Batch | None
    index: int
    stores: dict[str, Any]
    faults: list[KStreamError]


class Outlet(Protocol):
    """Where records leave the task: the transaction of the worker.

    `produce` changes when the producer is replaced: read it once per batch, never keep it. `produced` counts the
    records by topic (missing topics count as 0).
    """

    @property
    def produce(self) -> Produce: ...
    @property
    def produced(self) -> dict[str, int]: ...

    def wait_for_room(self) -> None:
        """Called after a BufferError: serves the producer until some of its queue is gone."""
        ...

    def meaning(
        self, error: Exception, topic: str, value: bytes | None, key: bytes | None, partition: int
    ) -> Exception:
        """The error of kstream.errors for what `produce` raised (see `types.ProducerClient.meaning`)."""
        ...


def with_tables(shared: Cursor, tables: dict[str, Any], push: Push) -> Push:
    """This push, with no other tables than these."""

    def pushed(batch: Batch) -> None:
        before, shared.stores = shared.stores, tables
        try:
            push(batch)
        finally:
            shared.stores = before

    return pushed


class Waiting(Protocol):
    """An operator that has something to do when a batch is through all ways before it: it goes by time, or records of
    one source come to it by several ways, and it holds them until then."""

    def through(self, origin: Origin | None) -> None:
        """None: no batch is, but time went on."""
        ...


class Operator:
    """A node at run time. `push` takes a batch; results go to `emit`.

    Attributes:
        traceless: of a record that is left out nothing remains with it, where what came of it does not go out.
    """

    traceless: ClassVar[bool] = False

    def __init__(self) -> None:
        self.children: list[Push] = []
        self.emitted = 0  # records
        self.dropped: Counter[str] = Counter()  # records left out on purpose, by reason, with commits that succeeded
        self._kept = 0  # of `emitted`, by `keep`
        self.leaves_out = False  # whether it may leave out a record that fails (see neighbours.py)
        self.isolates = False  # children after the first get values of their own: state may keep those of another

    def push(self, batch: Batch) -> None:
        raise NotImplementedError

    def input(self, place: int) -> Push:
        """What takes the output of the node's parent at this place."""
        return self.push

    def emit(self, batch: Batch) -> None:
        if not batch.size:
            return
        self.emitted += batch.size
        if self.isolates:
            first, *others = self.children
            own = [batch.with_own_values() for _ in others]  # made before anybody can change anything
            first(batch)
            for child, copied in zip(others, own, strict=True):
                child(copied)
            return
        for child in self.children:
            child(batch)

    def flush(self) -> None:
        """Before a commit: emit what was held back."""

    def keep(self) -> None:
        """What was done until now is not taken back by `take_back`."""
        self._kept = self.emitted

    def take_back(self) -> bool:
        """Forgets what was done since `keep`. False where that cannot be, since some of it has left the task."""
        self.emitted = self._kept
        return True

    def committed(self) -> None:
        """What was done is committed."""

    def reset(self) -> None:
        """After an abort: forget everything since the last commit."""

    def close(self) -> None:
        """The task leaves."""


def send_all(
    outlet: Outlet,
    topic: str,
    values: list[bytes | None],
    keys: list[bytes | None],
    timestamps: list[int],
) -> None:
    """Produces a column of records; waits while the queue is full; no record is produced twice.

    Raises:
        RecordRefused: Kafka does not take one of them.
        CodecError: one is of 1970-01-01T00:00:00Z.
        TransactionError: the producer cannot go on.
    """
    if 0 in timestamps:
        raise CodecError(f"{topic}: {EPOCH_IS_NOW}")
    left = iter(values)
    calls = map(outlet.produce, repeat(topic), left, keys, repeat(-1), repeat(None), repeat(None), timestamps)
    while True:
        try:
            deque(calls, maxlen=0)
        except BufferError:
            at = len(values) - length_hint(left) - 1
            send_one(outlet, topic, values[at], keys[at], timestamps[at])
            continue
        except KStreamError:
            raise
        except Exception as error:
            at = len(values) - length_hint(left) - 1
            raise outlet.meaning(error, topic, values[at], keys[at], -1) from error
        break
    outlet.produced[topic] += len(values)


def send_one(
    outlet: Outlet,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    timestamp: int,
    headers: Headers | None = None,
    partition: int = -1,
) -> None:
    """Produces one record. Raises as `send_all`."""
    if timestamp == 0:
        raise CodecError(f"{topic}: {EPOCH_IS_NOW}")
    while True:
        try:
            if headers is None:
                outlet.produce(topic, value, key, partition, None, None, timestamp)
            else:
                outlet.produce(topic, value, key, partition, None, None, timestamp, headers)
            return
        except BufferError:
            outlet.wait_for_room()
        except KStreamError:
            raise
        except Exception as error:
            raise outlet.meaning(error, topic, value, key, partition) from error
