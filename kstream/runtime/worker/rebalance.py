"""The worker's part in its consumer group: what is done when partitions come, leave or are lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from kstream.errors import AbortRequired, InstanceFenced, KafkaUnavailable, ProducerLost, TransactionError
from kstream.runtime.task.failures import StateDamaged, TaskFailed
from kstream.runtime.task.measures import Measures
from kstream.runtime.task.states import TaskState, move
from kstream.runtime.worker.committer import Committer
from kstream.runtime.worker.lingering import Lingering
from kstream.runtime.worker.recovery import Recovery
from kstream.runtime.worker.states import MEMBERSHIP_MOVES, MembershipState, TransactionState
from kstream.runtime.worker.tasks import Tasks
from kstream.runtime.worker.transaction import Transaction
from kstream.types import Clock, ConsumerClient, TopicPartition

log = logging.getLogger(__name__)


class Membership:
    """The group as the checkpoint sees it: the metadata of the assignment under which the current work is done.

    Args:
        look: raises ConfigError where the app's state is being replaced, KafkaUnavailable where that cannot be seen.
    """

    def __init__(self, consumer: ConsumerClient, look: Callable[[], None]) -> None:
        self._consumer, self._look = consumer, look
        self._metadata: object = None
        self.state = MembershipState.OUT
        self.begins = True  # this worker was no member of the group before, or not any more

    def go(self, to: MembershipState) -> None:
        move("membership", self.state, to, MEMBERSHIP_MOVES)
        self.state = to

    def settle(self) -> bool:
        """After a poll: takes the metadata of a new assignment. True when there was one."""
        if self.state is not MembershipState.ASSIGNED:
            return False
        self._metadata = self._consumer.group_metadata()
        self.go(MembershipState.MEMBER)
        return True

    def may_begin(self) -> bool:
        """While this worker was no member, the group may have been deleted, and the app given another state. Who
        replaces it says so first, and Kafka deletes no group with members: so it is looked for once more, as a member.

        Raises:
            ConfigError: the app's state is being replaced.
        """
        if not self.begins or self.state is not MembershipState.MEMBER:
            return True
        try:
            self._look()
        except KafkaUnavailable as error:
            log.warning(
                "no task starts yet: it cannot be read whether the app's state is being replaced; asking again: %s",
                error,
            )
            return False
        self.begins = False
        return True

    def metadata(self) -> object:
        return self._metadata

    def commit(self, offsets: dict[TopicPartition, int], metadata: dict[TopicPartition, str]) -> None:
        """Without a transaction (at least once)."""
        self._consumer.commit(offsets, metadata)


class Rebalance:
    """Implements `kstream.types.RebalanceListener`; called from inside the consumer's poll."""

    def __init__(
        self,
        isolation: str,
        clock: Clock,
        membership: Membership,
        tasks: Tasks,
        transaction: Transaction,
        committer: Committer,
        recovery: Recovery,
        measures: Measures,
        lingering: Lingering,
    ) -> None:
        self._isolation, self._clock, self._measures = isolation, clock, measures
        self._membership, self._tasks, self._transaction = membership, tasks, transaction
        self._committer, self._recovery, self._lingering = committer, recovery, lingering
        self._produces = False

    def step(self) -> bool:
        """After each poll: whether tasks may go on.

        The first producer is made here, where the worker is a member. So nobody has one who is not in the group, but
        those whom it has let go: what these left open, the others end.

        Raises:
            ConfigError: the app's state is being replaced. InstanceFenced, KafkaUnavailable: as `Transaction.start`.
        """
        if not self._membership.may_begin():
            return False
        if not self._produces and self._membership.state is MembershipState.MEMBER:
            self._produces = True
            try:
                self._transaction.start()
            except ProducerLost as lost:  # whoever needs it tries again
                log.warning("there is no producer yet: %s", lost)
        self._lingering.step()
        return True

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        tasks = self._tasks
        wanted = tasks.assign(partitions)
        for name in list(tasks.all):
            if name not in wanted:
                self._recovery.close(tasks.all[name])
        doubtful = self._membership.state is MembershipState.DOUBTFUL
        for name, (part, partition) in wanted.items():
            task = tasks.all.get(name) or tasks.open(part, partition)
            self._recovery.restore(task, full=doubtful or task.state is TaskState.CREATED)
        self._membership.go(MembershipState.ASSIGNED)
        self._lingering.assigned()
        self._measures.rebalance_ended(self._clock.monotonic())
        log.info("assigned %d partitions, %d tasks", len(partitions), len(tasks.all))
        if not partitions:
            log.warning(
                "this worker got no partition: isolation group %s has more workers than its input topics have "
                "partitions, or they were deleted; run fewer workers, add partitions, or make the topics again",
                self._isolation,
            )
        return {at: self._start(at) for at in partitions}

    def _start(self, at: TopicPartition) -> int:
        """Where the client starts: it is paused there until the task's restore says better."""
        task = self._tasks.reading(at)
        return 0 if task is None else max(0, task.positions[at])

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Commits what was done: these partitions may go to others. Tasks stay open: most come back at once."""
        self._measures.rebalance_began(self._clock.monotonic())
        doubtful = self._membership.state is MembershipState.DOUBTFUL
        try:
            self._committer.commit(last=True)
        except InstanceFenced:
            raise
        except (TransactionError, TaskFailed, StateDamaged) as error:
            self._recovery.take_back(error)
            doubtful = True
        self._leave(doubtful)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Others may own these partitions by now: nothing of them may be committed."""
        log.warning(
            "lost %d partitions: the consumer group has removed this worker, which sent no heartbeat within "
            "session_timeout or did not poll within max_poll_interval",
            len(partitions),
        )
        self._membership.begins = True
        self._measures.rebalance_began(self._clock.monotonic())
        self._recovery.take_back(AbortRequired("the partitions were lost"))
        in_doubt = self._membership.state is MembershipState.DOUBTFUL
        self._leave(in_doubt or self._transaction.state is TransactionState.LOST)

    def _leave(self, doubtful: bool) -> None:
        self._membership.go(MembershipState.DOUBTFUL if doubtful else MembershipState.OUT)
        self._lingering.unassigned()
        for task in self._tasks.running:
            if task.busy:  # its agents wait still: what they were given is given to the next owner
                task.rewind()
        self._tasks.unassign()
        self._recovery.suspend()
