"""The transaction coordinator in memory: transactional ids, epochs, fencing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kstream.errors import InstanceFenced, ProducerLost, TransactionError
from kstream.testing.log import Transaction, TransactionState


@dataclass(slots=True)
class _TransactionalId:
    epoch: int = -1
    transaction: Transaction | None = None
    fenced_with: type[TransactionError] = InstanceFenced


class TransactionCoordinator:
    """Knows for each transactional id which producer (epoch) may write and which transaction is open.

    `settle` is called with each transaction that has ended: it writes the markers and settles the offsets.
    """

    def __init__(self, settle: Callable[[Transaction], None]) -> None:
        self._settle = settle
        self._ids: dict[str, _TransactionalId] = {}

    def init(self, transactional_id: str) -> int:
        """A producer takes the id: what its predecessor left open is aborted, the predecessor is fenced."""
        return self._next_epoch(transactional_id, InstanceFenced)

    def time_out(self, transactional_id: str) -> None:
        """The broker gives up an open transaction (`transaction.timeout.ms`), which shows as fencing."""
        if self.open_transaction(transactional_id) is None:
            raise ValueError(f"{transactional_id} has no open transaction that could time out")
        self._next_epoch(transactional_id, ProducerLost)

    def check(self, transactional_id: str, epoch: int) -> None:
        """Raises what a fenced producer gets."""
        known = self._ids[transactional_id]
        if known.epoch != epoch:
            raise known.fenced_with(f"producer {transactional_id} of epoch {epoch} is fenced, now is {known.epoch}")

    def begin(self, transactional_id: str) -> Transaction:
        known = self._ids[transactional_id]
        if known.transaction is not None:
            raise RuntimeError(f"{transactional_id} has a transaction open already")
        known.transaction = Transaction(transactional_id)
        return known.transaction

    def open_transaction(self, transactional_id: str) -> Transaction | None:
        known = self._ids.get(transactional_id)
        return None if known is None else known.transaction

    def end(self, transactional_id: str, state: TransactionState) -> None:
        known = self._ids[transactional_id]
        if known.transaction is None:
            raise RuntimeError(f"{transactional_id} has no open transaction")
        transaction, known.transaction = known.transaction, None
        transaction.end(state)
        self._settle(transaction)

    def _next_epoch(self, transactional_id: str, fenced_with: type[TransactionError]) -> int:
        known = self._ids.setdefault(transactional_id, _TransactionalId())
        if known.transaction is not None:
            self.end(transactional_id, TransactionState.ABORTED)
        known.epoch += 1
        known.fenced_with = fenced_with
        return known.epoch
