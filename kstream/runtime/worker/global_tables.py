"""The global tables of a worker: each is a copy of a whole topic, read by one consumer outside any group.

A worker joins its group once it has read each topic to its end as of then, so that others keep its partitions
meanwhile. A topic that cannot be read keeps it from that no longer: then the tasks that use the table wait for it, and
no others. From then on what comes is applied between the turns of the loop: a batch sees one state of each table.

It is not the tables' time that counts: a record finds what is there when it is processed. Offsets are kept with the
rows, and committed nowhere else.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from kstream.errors import KStreamError, PartitionUnreadable, StateDirectoryError, StateError, StateTooLarge, TopicError
from kstream.observe.catalogue import Series
from kstream.observe.status import TableStatus
from kstream.observe.throttle import Throttle
from kstream.runtime.cluster.naming import whole_name
from kstream.runtime.task.task import Task
from kstream.runtime.worker.assembly import WorkerParts
from kstream.runtime.worker.global_copy import GLOBAL, CopyState, GlobalCopy
from kstream.runtime.worker.opening import last_change
from kstream.state.store import Store
from kstream.types import AdminClient, ConsumerClient, DescribedTopic, TopicPartition

log = logging.getLogger(__name__)
log.addFilter(Throttle())

CHECK_SECONDS: Final = 10.0
"""How often it is asked whether the topics are still the same, and how long one rests that cannot be read."""

RETRY_SECONDS: Final = 1.0
"""The same where brokers do not answer."""

WAIT_SECONDS: Final = 0.1
"""How long a turn waits for records before the group is joined; and tasks rest that wait for a table."""

CONFIG_SECONDS: Final = 5.0
"""How long it may take to ask for the settings of a topic, once for each that there is an older copy of."""

TOMBSTONES: Final = 86_400.0
"""Kafka's own `delete.retention.ms`, in seconds: where a topic's cannot be asked for."""

MARGIN: Final = 0.9
"""Of that time a copy may not have been read, and still be gone on with."""


class GlobalTables:
    """See the module's text. Never waits for long.

    Attributes:
        stores: what tasks read, by name.
        copies: by topic.
    """

    def __init__(self, parts: WorkerParts, directory: Path, admin: AdminClient) -> None:
        specs = parts.topology.tables
        share = parts.settings.state_memory // 8 // max(1, len(specs))
        self.copies = {
            spec.topic.name: GlobalCopy(spec, directory, parts.backends, parts.clock, share) for spec in specs
        }
        self.stores: dict[str, Store[Any]] = {copy.name: copy.store for copy in self.copies.values()}
        self._directory, self._cleanup_delay = directory, parts.settings.state_cleanup_delay
        self._make_reader, self._admin, self._clock = parts.clients.reader, admin, parts.clock
        self._batch = max(1, parts.settings.poll_batch)
        self._reader: ConsumerClient | None = None
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._topics: Future[dict[str, DescribedTopic]] | None = None
        self._bounds: tuple[Future[dict[TopicPartition, int]], Future[dict[TopicPartition, int]]] | None = None
        self._described: Mapping[str, DescribedTopic] = {}  # those whose bounds are asked for
        self._asked_at = self._not_before = float("-inf")
        self._then: Callable[[], None] | None = None
        self._held: set[Task] = set()  # they rest until their tables are there, or `_until` (monotonic)
        self._until = 0.0

    def __len__(self) -> int:
        return len(self.copies)

    def then(self, join: Callable[[], None]) -> None:
        """Makes this call once all tables are there, which is now where there are none."""
        if self.copies:
            self._then = join
        else:
            join()

    @property
    def waits(self) -> bool:
        """Whether the group is not joined yet."""
        return self._then is not None

    def step(self, running: Iterable[Task]) -> bool:
        """Goes on with each as far as it goes without waiting. False: the group is not joined yet.

        Raises:
            StateDirectoryError: the copies cannot be kept, on account of the machine.
            StateTooLarge: there is no memory for them.
        """
        self._tend()
        try:
            self._ask()
            self._read()
        except (StateDirectoryError, StateTooLarge):
            raise
        except KStreamError as error:
            self._not_before = self._clock.monotonic() + RETRY_SECONDS
            log.warning("global tables cannot be read: %s; trying again", error)
        missing = {copy.name for copy in self.copies.values() if not copy.serves}
        if self._then is not None and not any(copy.why is None and not copy.serves for copy in self.copies.values()):
            join, self._then = self._then, None
            self._tidy()
            join()
        if self._then is not None:
            self._wait()
        if missing or self._held:
            self._hold([task for task in running if any(table.name in missing for table in task.part.tables)])
        return self._then is None

    def _tend(self) -> None:
        """What tasks have left behind: they read on where topics cannot be read, too."""
        for copy in self.copies.values():
            copy.store.trim()
            if copy.store.trouble is not None:
                copy.damaged(copy.store.trouble)

    def _wait(self) -> None:
        """Until there may be something to do: before the group is joined nothing else waits for anything."""
        if asked := [one for one in (self._topics, *(self._bounds or ())) if one is not None]:
            wait(asked, WAIT_SECONDS)
        elif self._clock.monotonic() < self._not_before:
            time.sleep(WAIT_SECONDS / 10)

    def _tidy(self) -> None:
        """Deletes copies that nothing uses any more, and that were not used for long."""
        mine = {copy.directory for copy in self.copies.values()}
        for directory in (self._directory / GLOBAL).glob("*/"):
            with suppress(OSError):  # it may not be read
                if directory not in mine and self._clock.time() - last_change(directory) >= self._cleanup_delay:
                    log.info("deleting the copy of global table %s: nothing uses it any more", whole_name(directory))
                    shutil.rmtree(directory)

    def _hold(self, tasks: Sequence[Task]) -> None:
        """These rest for now, and no others on account of tables."""
        for task in self._held - set(tasks):
            if task.rests_until == self._until:  # and not for a record that is tried again later
                task.handling.rests_until = 0.0
        before, self._until = self._until, self._clock.monotonic() + WAIT_SECONDS
        for task in tasks:
            if task.rests_until <= max(before, self._until):
                task.handling.rests_until = self._until
        self._held = set(tasks)

    @property
    def open(self) -> list[GlobalCopy]:
        """Those whose files are open."""
        return [copy for copy in self.copies.values() if copy.is_open]

    def why(self, task: Task) -> str | None:
        """What a task waits for here; None: nothing."""
        for table in task.part.tables:
            copy = self.copies[table.topic.name]
            if not copy.serves:
                return f"global table {copy.name} is not read yet: {copy.why or copy.state.value + ' is awaited'}"
        return None

    def at_rest(self, end_of: Callable[[TopicPartition], int]) -> bool:
        """Whether there is nothing to do now, where the topics end so (TestDriver)."""
        now = self._clock.monotonic()
        if now < self._not_before:
            return True
        return self._topics is None and self._bounds is None and all(
            now < copy.not_before if copy.state is CopyState.RESTING
            else copy.state is CopyState.FOLLOWING and all(offset >= end_of(at) for at, offset in copy.reads.items())
            for copy in self.copies.values()
        )  # fmt: skip

    def lag(self, copy: GlobalCopy) -> int:
        """Records of its topic that are not applied yet, as far as the ends were heard of."""
        if self._reader is None or not copy.is_read:
            return copy.remaining()
        heard = {at: self._reader.high_watermark(at) or 0 for at in copy.reads}
        return sum(max(0, end - copy.positions[at.partition]) for at, end in heard.items())

    # ---- what is said of them

    @property
    def left_out(self) -> int:
        """Records without a key."""
        return sum(copy.left_out for copy in self.copies.values())

    def told(self, worker: str) -> list[TableStatus]:
        """`worker` is what this one is called."""
        return [
            TableStatus(copy.name, copy.topic, worker, copy.rows, self.lag(copy), copy.serves, copy.why)
            for copy in self.copies.values()
        ]

    def series(self) -> Iterator[Series]:
        """As the catalogue has them."""
        for copy in self.copies.values():
            yield Series("global_table_rows", (copy.name,), copy.rows)
            yield Series("global_table_lag_records", (copy.name,), self.lag(copy))
            yield Series("global_table_records_total", (copy.name,), copy.applied)

    def close(self) -> None:
        """Frees everything. Never raises on account of Kafka."""
        for copy in self.copies.values():
            copy.close()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # ---- what the topics are

    def _ask(self) -> None:
        now = self._clock.monotonic()
        for copy in self.copies.values():
            if copy.state is CopyState.RESTING and now >= copy.not_before:
                copy.ask()
        asking = any(copy.state is CopyState.ASKING for copy in self.copies.values())
        if self._bounds is not None:
            self._take_bounds()
        elif self._topics is not None:
            self._take_topics()
        elif now >= self._not_before and (asking or now - self._asked_at >= CHECK_SECONDS):
            self._asked_at = now
            self._topics = self._admin.describe(list(self.copies))

    def _take_topics(self) -> None:
        if self._topics is None or not self._topics.done():
            return
        answer, self._topics = self._topics, None
        topics = answer.result()
        for copy in self.copies.values():
            if (topic := topics.get(copy.topic)) is None:
                if copy.state is CopyState.ASKING:
                    self._rest(copy, _gone(copy.topic))
            elif copy.is_read:
                copy.seen(topic)
        asking = [copy for copy in self.copies.values() if copy.state is CopyState.ASKING]
        if not all([copy.open() for copy in asking]):
            self._not_before = self._clock.monotonic() + WAIT_SECONDS
            asking = [copy for copy in asking if copy.is_open]
        self._described = {copy.topic: topics[copy.topic] for copy in asking if copy.topic in topics}
        partitions = [
            TopicPartition(name, number)
            for name, topic in self._described.items()
            for number in range(topic.partitions)
        ]
        if partitions:
            self._bounds = self._admin.start_offsets(partitions), self._admin.end_offsets(partitions)

    def _take_bounds(self) -> None:
        if self._bounds is None or not all(one.done() for one in self._bounds):
            return
        (asked, ending), self._bounds = self._bounds, None
        described, self._described = self._described, {}
        try:
            starts, ends = asked.result(), ending.result()
        except TopicError as error:
            for name in described:
                if not error.topics or name in error.topics:
                    self._rest(self.copies[name], str(error))
            return
        for name, topic in described.items():
            copy = self.copies[name]
            if copy.state is CopyState.ASKING:
                self._assign_anew()  # the reader may still be where the copy was before
                with damage_to(copy):
                    copy.begin(topic, _of(starts, name), _of(ends, name), partial(self._keeps, copy))

    def _keeps(self, copy: GlobalCopy) -> float:
        """Seconds for which a copy may not have been read: tombstones are in its topic for so long."""
        try:
            config = self._admin.topic_configs([copy.topic], CONFIG_SECONDS)[copy.topic]
            return int(config["delete.retention.ms"]) / 1000 * MARGIN
        except (KStreamError, KeyError, ValueError) as error:  # this user may lack the right to
            log.debug("delete.retention.ms of topic %s cannot be read: %r", copy.topic, error)
            return TOMBSTONES * MARGIN

    # ---- what is in them

    def _read(self) -> None:
        if self._clock.monotonic() < self._not_before:
            return
        reading = {at: offset for copy in self.copies.values() for at, offset in copy.reads.items()}
        if not reading and self._reader is None:
            return
        if self._reader is None:
            self._reader = self._make_reader()
        if reading.keys() != self._assigned:
            self._assigned = frozenset()
            self._reader.assign(reading)
            self._assigned = frozenset(reading)
        if not reading:
            return
        try:
            polled = self._reader.poll(self._batch, WAIT_SECONDS if self.waits else 0.0)
        except StateError:  # what is next of one of them is not in its topic any more
            self._assign_anew()
            for copy in self.copies.values():
                if copy.is_read:
                    copy.ask()
            return
        except PartitionUnreadable as error:
            self._rest(self.copies[error.topic], str(error))
            return
        except TopicError as error:
            found = [self.copies[name] for name in error.topics if name in self.copies]
            for copy in found or self.copies.values():
                self._rest(copy, str(error))
            return
        for fetch in polled.fetches:
            copy = self.copies[fetch.at.topic]
            if copy.is_read and fetch.last_offset >= copy.positions.get(fetch.at.partition, 0):
                with damage_to(copy):
                    copy.apply(fetch)
        for at, offset in polled.ends.items():
            copy = self.copies[at.topic]
            if copy.is_read and at.partition in copy.positions:
                with damage_to(copy):
                    copy.reached_end(at.partition, offset)
        for copy in self.copies.values():
            if copy.state is CopyState.FOLLOWING:
                with damage_to(copy):
                    copy.refresh()

    def _assign_anew(self) -> None:
        self._assigned = frozenset()

    def _rest(self, copy: GlobalCopy, why: str) -> None:
        copy.rest(why, CHECK_SECONDS)
        self._assign_anew()


@contextmanager
def damage_to(copy: GlobalCopy) -> Iterator[None]:
    """A copy that turns out to be damaged inside is read anew."""
    try:
        yield
    except StateError as error:
        copy.damaged(error)


def _of(offsets: Mapping[TopicPartition, int], topic: str) -> dict[int, int]:
    return {at.partition: offset for at, offset in offsets.items() if at.topic == topic}


def _gone(topic: str) -> str:
    return f"topic {topic} does not exist, or this user may not see it: create it, or give the right to read it"
