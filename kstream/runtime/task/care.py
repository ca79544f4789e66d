"""A task in which records fail, and are left out or tried again, takes care: what each batch does can be taken back by
itself, so that a record that fails costs no abort. (Where nothing was done with a record that fails but by functions of
its value, and its accumulator is known, there is nothing to take back, and no care is taken.)

While it takes care, outputs of a batch are held until it is through, and stores remember what they were before it. What
a batch has written elsewhere cannot be taken back: then the transaction is aborted, as without care.
"""

from __future__ import annotations

from typing import Final

from kstream.plan import TaskPlan

LONG: Final = 100_000
"""Records in a row that do not fail, after which no care is taken any more: it costs time with each of them."""
TRIAL: Final = 20_000
"""The same of a task in which none has failed yet: it takes care because one did in another."""


class Care:
    """Of one task. False while none is taken.

    Attributes:
        advised: it is to be taken from the next batch on, for a record failed in another task of the sub-topology.
    """

    def __init__(self, plan: TaskPlan) -> None:
        self._plan, self._holds = plan, plan.writer.holds
        self.advised = False
        self._taken = False
        self._good = 0  # records since one failed

    def __bool__(self) -> bool:
        return self._taken

    def take(self) -> None:
        """From the next batch on."""
        self._good = 0
        self._begin()

    def heed_advice(self) -> None:
        """Between batches."""
        if not self._taken:
            self._good = LONG - TRIAL
        self._begin()

    def _begin(self) -> None:
        self.advised = False
        if not self._taken:
            self._taken = self._plan.writer.holds = True
            for store in self._plan.stores.values():
                store.guard(True)

    def keep(self) -> None:
        """A batch begins: what was done until now stays."""
        for store in self._plan.stores.values():
            store.keep()
        for operator in self._plan.operators:
            operator.keep()
        for teller in self._plan.tellers:
            teller.keep()

    def passed(self, records: int) -> None:
        """A batch of so many records is through, and has gone out."""
        self._good += records
        if self._good >= LONG:
            self._taken, self._plan.writer.holds = False, self._holds
            for store in self._plan.stores.values():
                store.guard(False)

    def take_back(self) -> bool:
        """Takes back what was done since `keep`; False where it cannot be: abort."""
        self._good = 0
        done = [operator.take_back() for operator in self._plan.operators]  # first: agents may clear up
        self._plan.writer.reset()
        for teller in self._plan.tellers:
            teller.take_back()
        done += [store.take_back() for store in self._plan.stores.values()]
        return all(done)
