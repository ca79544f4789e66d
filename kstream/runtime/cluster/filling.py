"""A store of an app as Parquet, and a stopped app's store filled from such files: state that begins with what a
warehouse has, where Flink has its State Processor API.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import NamedTuple

from kstream.config import Settings
from kstream.errors import TopicError, UsageError
from kstream.partitioning import partition_of
from kstream.runtime.cluster.control import Control, RestoreNote, check_own, ensure_topic, unfinished_restore
from kstream.runtime.cluster.covered import lost_inputs, newest, without_changelog
from kstream.runtime.cluster.fitting import misfit
from kstream.runtime.cluster.metadata import SET_OR_RESET, decode, encode, state_without_offsets
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.prepare import check_user_topics, prepare_topics
from kstream.runtime.cluster.records import TIMEOUT, Reading, Row, bounds, to_end
from kstream.runtime.cluster.regroup import answer, committed
from kstream.runtime.cluster.replacing import EntryWriter, check_stopped
from kstream.runtime.cluster.reset import Place
from kstream.runtime.cluster.sizes import limit_of, refuse_large
from kstream.specs.store import StoreSpec
from kstream.state.forms import NEVER, PLAIN, clock_of, form_of, newest_in, plain_in, plain_value, timed_in
from kstream.state.parquet import partition_in, partitions_in, read_table, write_table
from kstream.state.rocksdb import RocksBackend, RocksMemory
from kstream.topology import SubTopology, Topology
from kstream.types import AdminClient, Clients, Headers, TopicPartition

BATCH = 10_000


def export(
    topology: Topology, spec: StoreSpec, clients: Clients, admin: AdminClient, directory: Path, now: float
) -> Iterator[tuple[Path, int]]:
    """Writes what a store's changelog has now, whether the app runs or not: a file for each partition, and how many
    entries it has. What runs on meanwhile may be in one file and not in another: a savepoint is of one moment.

    The directory is of one export: it gets its name when all files are there, and takes the place of an earlier one as
    a whole. Killed before, the earlier one is as it was; between the two renames there is none of this name, and the
    earlier one is called `.<name>.old`.

    Args:
        now: seconds since the epoch. What has expired is left out; in event time, what had at the last commit.

    Raises:
        UsageError: the store has no changelog yet, or the directory has files that no export wrote. KafkaUnavailable:
            it cannot be read.
    """
    changelog = topology.changelog(spec)
    there = admin.topics(TIMEOUT)
    if changelog not in there:
        raise UsageError(f"topic {changelog} does not exist: the app has not been started yet")
    counts: dict[Path, int] = {}
    with _replacing(directory) as made:
        for partition in range(count := there[changelog].partitions):
            with TemporaryDirectory(prefix="kstream-") as scratch:
                entries = RocksBackend(Path(scratch) / "entries", [spec.name], RocksMemory(32 << 20, 16 << 20))
                try:
                    gather(entries, spec, clients, admin, TopicPartition(changelog, partition))
                    by = _time_of(topology, spec, admin, partition, now)
                    stored = Stored(partition, spec.form, partial(entries.scan, spec.name))
                    file = _write(made, topology.app, spec, stored, by, {"kstream.partitions": str(count)})
                finally:
                    entries.close()
            counts[directory / file[0]] = file[1]
    yield from counts.items()


class Stored(NamedTuple):
    """A partition of a store. `form` is that of its entries (state/forms.py); `scan` gives them, anew each time."""

    partition: int
    form: str
    scan: Callable[[], Iterator[tuple[bytes, bytes]]]


def export_stored(app: str, spec: StoreSpec, parts: Iterable[Stored], directory: Path, now: float) -> dict[Path, int]:
    """The same of entries that are at hand. By event time nothing is left out: what time it is, Kafka knows."""
    by = int(now * 1000) if spec.ttl is not None and spec.ttl.time == "wall" else 0
    with _replacing(directory) as made:
        written = [_write(made, app, spec, one, by) for one in parts]
    return {directory / file: entries for file, entries in written}


def _write(
    made: Path, app: str, spec: StoreSpec, stored: Stored, by: int, more: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, int]:
    """Returns the file's name, and how many entries it has."""
    file = f"{stored.partition}.parquet"
    about = {"kstream.app": app, "kstream.store": spec.name, "kstream.partition": str(stored.partition), **more}
    return file, write_table(made / file, spec, partial(_alive, stored, spec, by), about, stored.form)


@contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """The directory that takes the place of this one when all is in it."""
    _check_ours(directory)
    made, old = directory.with_name(f".{directory.name}.part"), directory.with_name(f".{directory.name}.old")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    yield made
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
        directory.rename(old)
    made.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def _check_ours(directory: Path) -> None:
    """Raises UsageError where the directory is not an export's: it is replaced."""
    for one in sorted(directory.iterdir()) if directory.exists() else ():
        if re.fullmatch(r"\d+\.parquet|\.\d+\.parquet\.part", one.name) is None:
            raise UsageError(f"{one} is no file of an export, and an export replaces its directory: --to another")


def gather(
    entries: RocksBackend,
    spec: StoreSpec,
    clients: Clients,
    admin: AdminClient,
    at: TopicPartition,
    *,
    waits: bool = False,
    on_entries: Callable[[int], None] = lambda records: None,
) -> int:
    """Brings what a partition of a store's changelog has into a backend. Returns the end to which it was read.

    Args:
        waits: a transaction that is open ends first.
        on_entries: told of each batch how many records it had.

    Raises:
        KafkaUnavailable: it cannot be read.
    """
    starts, ends = bounds(admin, [at])
    with closing(Reading(clients, admin, starts, ends, waits=waits)) as reading:
        batch: list[tuple[bytes, bytes | None]] = []
        for row in to_end(reading):
            if row.key is not None:
                batch.append((row.key, _in_form(spec, row)))
            if len(batch) >= BATCH:
                entries.write({spec.name: batch}, {})
                on_entries(len(batch))
                batch = []
        entries.write({spec.name: batch}, {})
        on_entries(len(batch))
    return ends[at]


def _in_form(spec: StoreSpec, row: Row) -> bytes | None:
    """The value as the store has it: as a restore would write it (state/replayed.py)."""
    if row.value is None or spec.ttl is None:
        return None if row.value is None else plain_value(row.value, row.headers)
    if form_of(row.headers) == spec.form:
        return row.value
    form = form_of(row.headers)
    if clock_of(form) == clock_of(spec.form):
        stamp = newest_in(form, row.value)
    else:
        stamp = max(0, row.timestamp) if spec.ttl.existing == "retroactive" else NEVER
    return timed_in(spec.form, stamp, plain_in(form, row.value))


def _time_of(topology: Topology, spec: StoreSpec, admin: AdminClient, partition: int, now: float) -> int:
    """The time of a store's TTL in a partition, ms since the epoch. Event time lies beside the committed offsets."""
    if spec.ttl is None or spec.ttl.time == "wall":
        return int(now * 1000)
    part = next(part for part in topology.parts if spec in part.stores)
    group = consumer_group(topology.app, part.group)
    at = [TopicPartition(topic, partition) for topic in part.topics]
    known = committed(admin, group, at)
    return max((decode(metadata, each).event_time for each, (_, metadata) in known.items()), default=0)


def _alive(stored: Stored, spec: StoreSpec, now: int) -> Iterator[tuple[bytes, bytes]]:
    ttl = spec.ttl
    for key, raw in stored.scan():
        if ttl is None or stored.form == PLAIN or not ttl.expired(newest_in(stored.form, raw), now):
            yield key, raw


class Filling:
    """Fills a store of a stopped app.

    Args:
        files: Parquet, each with the columns `key` and `value`.
        replace: the entries that the store has are given up; otherwise it must have none.
        inputs: where inputs without committed offsets are read from: there may be no state without offsets.

    Raises:
        UsageError: the app runs, or the store has entries.
    """

    def __init__(
        self, topology: Topology, spec: StoreSpec, clients: Clients, admin: AdminClient, settings: Settings,
        files: Sequence[Path], *, replace: bool, inputs: Place,
    ) -> None:  # fmt: skip
        self._topology, self._spec, self._clients, self._admin = topology, spec, clients, admin
        self._settings, self._files, self._inputs = settings, files, inputs
        self._part = next(part for part in topology.parts if spec in part.stores)
        self._changelog = topology.changelog(spec)
        groups = [consumer_group(topology.app, isolation) for isolation in topology.groups]
        check_stopped(topology, admin, groups)
        note = unfinished_restore(clients, admin, topology.app)
        if note is not None and note.stores != [spec.name]:
            raise UsageError(
                f"app {topology.app} is being given the state of {note.what}: run that {note.by} again first"
            )
        if self._has_entries() and not replace and note is None:
            raise UsageError(f"store {spec.name} has entries: --replace gives them up")

    def _has_entries(self) -> bool:
        there = self._admin.topics(TIMEOUT)
        if self._changelog not in there:
            return False
        at = [TopicPartition(self._changelog, number) for number in range(there[self._changelog].partitions)]
        starts, ends = bounds(self._admin, at)
        return any(starts[each] < ends[each] for each in at)

    def fill(
        self,
        on_progress: Callable[[int], None] = lambda entries: None,
        on_begun: Callable[[], None] = lambda: None,
    ) -> int:
        """Deletes the changelog and makes it anew, and writes the entries. Returns how many. Killed in between, the app
        does not start until it is run again.

        Raises:
            UsageError: a file cannot be read, or an entry is not of the store's types.
            TopicError, KafkaUnavailable: Kafka refuses or does not answer. Run it again.
        """
        app, spec = self._topology.app, self._spec.name
        self._check_partitions()
        self._check_topics()
        self._check_offsets()
        limit = limit_of(self._spec, self._settings)
        for _, key, value, _ in self._entries(1):  # every entry is looked at before anything is changed
            refuse_large(self._spec, key, value, limit)
        ensure_topic(self._admin, app, self._settings.replication_factor)
        with closing(Control(self._clients, self._admin, app)) as control:
            files = ", ".join(path.name for path in self._files)
            note = RestoreNote("kstream state import", f"{spec} in {files}", time.time(), [spec])
            control.write(note)
            on_begun()
            if self._changelog in self._admin.topics(TIMEOUT):
                self._admin.delete_topics([self._changelog], TIMEOUT)
            counts = prepare_topics(self._topology, self._admin, self._settings)
            with closing(self._clients.producer(None)) as producer:
                writer = EntryWriter(producer, on_progress)
                for partition, key, value, headers in self._entries(counts[self._changelog]):
                    writer.write(self._changelog, partition, key, value, headers)
                writer.finish()
            check_own(self._clients, self._admin, app, note)
            self._commit_missing(self._part, counts)
            check_own(self._clients, self._admin, app, note)
            control.forget_restore()
        return writer.written

    def _check_partitions(self) -> None:
        """Raises UsageError where a file is of a partition that the store does not have."""
        if self._spec.scope != "partition":
            return
        there = self._admin.topics(TIMEOUT)
        counts = [there[topic].partitions for topic in (*self._part.topics, self._changelog) if topic in there]
        for path in self._files:
            own = partition_in(path)
            if own is not None and counts and own >= min(counts):
                raise UsageError(
                    f"{path.name} is of partition {own}, and store {self._spec.name} has {min(counts)} partitions"
                )

    def _check_topics(self) -> None:
        """Raises UsageError where the topics could not be made when the store's changelog is gone."""
        there = {name: info.partitions for name, info in self._admin.topics(TIMEOUT).items() if name != self._changelog}
        if (line := misfit(self._topology, self._part, there)) is not None:
            raise UsageError(f"{line}; nothing was changed")
        check_user_topics(self._topology, self._admin, self._settings)

    def _entries(self, partitions: int) -> Iterable[tuple[int, bytes, bytes, Headers | None]]:
        for path in self._files:
            own = partition_in(path) if self._spec.scope == "partition" else None
            if self._spec.scope == "partition" and own is None:
                raise UsageError(
                    f"{path.name}: the keys of store {self._spec.name} belong to partitions (scope='partition'), and "
                    "the file does not say to which: export writes it in the metadata kstream.partition"
                )
            lay, before = (None, None) if own is not None else (partition_in(path), partitions_in(path))
            for key, value, headers in read_table(path, self._spec):
                by = self._spec.home_key(key)
                if lay is not None and before and (usual := partition_of(by, before)) != lay:
                    raise UsageError(
                        f"{path.name}: a key lay in partition {lay}, and Kafka's default partitioner puts it into "
                        f"{usual} of {before}: what writes the input of store {self._spec.name} has another one, so "
                        "nobody knows where its keys belong (if the file is of several partitions, take "
                        "kstream.partition out of its metadata)"
                    )
                yield partition_of(by, partitions) if own is None else own, key, value, headers

    def _check_offsets(self) -> None:
        """Raises TopicError where other stores have counted an input that has lost its offsets: it must not get some by
        the way, or they count it twice."""
        if self._settings.lost_offsets != "stop" or self._settings.processing_guarantee != "exactly_once":
            return
        there = {name: info.partitions for name, info in self._admin.topics(TIMEOUT).items()}
        part, group = self._part, consumer_group(self._topology.app, self._part.group)
        at = [TopicPartition(topic, number) for topic in part.topics for number in range(there.get(topic, 0))]
        known = committed(self._admin, group, at)
        others = {self._topology.changelog(store): store.name for store in part.stores if store is not self._spec}
        for number in sorted({each.partition for each in at}):
            found = {each: known.get(each) for each in at if each.partition == number}
            if not (lost := lost_inputs(found, newest(found))):
                continue
            starts, ends = bounds(
                self._admin, [TopicPartition(log, number) for log in others if number < there.get(log, 0)]
            )
            if kept := [others[each.topic] for each in starts if starts[each] < ends[each]]:
                problem = state_without_offsets(f"{part.name}/{number}", kept, group, lost)
                raise TopicError(f"{problem}: {SET_OR_RESET}")

    def _commit_missing(self, part: SubTopology, counts: dict[str, int]) -> None:
        group = consumer_group(self._topology.app, part.group)
        at = [TopicPartition(topic, number) for topic in part.topics for number in range(counts[topic])]
        known = committed(self._admin, group, at)
        missing = [each for each in at if each not in known]
        offsets = {}
        for each, (offset, text) in known.items():
            said = decode(text, each)
            if (other := without_changelog(said, self._changelog)) != said:
                offsets[each] = offset, encode(other)
        if missing:
            starts, ends = bounds(self._admin, missing)
            offsets |= {each: ((starts if self._inputs == "earliest" else ends)[each], "") for each in missing}
        if offsets:
            answer(lambda: self._admin.set_committed(group, offsets), f"the offsets of group {group}")
