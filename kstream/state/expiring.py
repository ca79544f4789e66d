"""What the stores have in common whose entries expire: the task's time, the expiry index, and the clean-ups before each
commit. When an entry expires, and what is removed then, each of them knows for itself."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, TypeVar, Unpack

from kstream.specs.store import StoreSpec
from kstream.specs.ttl import TTL
from kstream.state.backend import Changes, Reads
from kstream.state.expiry import LOOKED_AT, ExpiryIndex, families_of
from kstream.state.store import Store, StoreOptions
from kstream.state.time import TaskTime

V = TypeVar("V")


class ExpiringStore(Store[V]):
    """See the module's text.

    Args:
        time: of the task.

    Attributes:
        CACHE: the share of the cache that values have; their times take the rest.
        index: None where the TTL has no sweep.
    """

    CACHE: ClassVar[float]

    def __init__(self, spec: StoreSpec, backend: Reads, time: TaskTime, **options: Unpack[StoreOptions]) -> None:
        options["cache_bytes"] = int(options["cache_bytes"] * self.CACHE)
        super().__init__(spec, backend, **options)
        assert spec.ttl is not None
        self.ttl: TTL = spec.ttl
        self._time, self._by_event = time, spec.ttl.time == "event"
        self._round = b""  # where the incremental clean-up goes on
        self.index = ExpiryIndex(spec.name, spec.ttl.milliseconds) if spec.ttl.sweep else None
        self.families = families_of(spec)

    @property
    def now(self) -> int:
        """In ms since the epoch."""
        return self._time.event if self._by_event else self._time.wall

    def undo(self, key: bytes, as_of: bytes | None = None) -> bool:
        """Its time goes back with it, which takes a guard."""
        return as_of is None and self.take_back([key])

    # ---- cleaning up

    def is_due(self) -> bool:
        """Whether something may have expired that only the sweep would find."""
        return self.index is not None and self.index.is_due(self.now)

    def clean_up(self, records: int) -> None:
        """Before a commit, when all that belongs to it is written.

        Args:
            records: that the task has processed since the last commit.
        """
        if self.index is not None and self.ttl.sweep is not None and self.is_due():
            self._sweep(self.index, self.ttl.sweep.looks_at(len(self._dirty)))
        accesses = self._accesses()
        if (how := self.ttl.incremental) is not None:
            self._go_round(min(LOOKED_AT, how.n * (accesses + (records if how.every_record else 0))))

    @abstractmethod
    def _accesses(self) -> int:
        """How many there were since it was asked last."""

    @abstractmethod
    def _sweep(self, index: ExpiryIndex, most: int) -> None:
        """Removes what has expired, in the order of the index."""

    @abstractmethod
    def _go_round(self, count: int) -> None:
        """Looks at so many entries, behind those of the last time, and removes what has expired."""

    # ---- the end of a transaction

    def local_changes(self) -> dict[str, Changes]:
        changes: dict[str, Changes] = super().local_changes()
        if self.index is not None and (moves := self._moves(self.index)):
            changes[self.index.name] = moves.items()
        return changes

    @abstractmethod
    def _moves(self, index: ExpiryIndex) -> dict[bytes, bytes | None]:
        """What becomes of the index."""

    def committed(self) -> None:
        super().committed()
        if self.index is not None:
            self.index.committed()

    def aborted(self) -> None:
        super().aborted()
        if self.index is not None:
            self.index.aborted()
