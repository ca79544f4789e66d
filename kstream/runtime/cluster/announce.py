"""Instances that find each other through Kafka.

Each instance writes its status to the app's topic `<app>-instances`, under its name, every few seconds, and reads what
the others wrote. The topic is compacted and forgets what is older than an hour. Its timestamps are the broker's, so
that ages do not hang on the clocks of the instances; each announcement says when the next one is due.

None of this may disturb the service: when Kafka is away or refuses, a line is logged now and then, and it goes on
trying.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from kstream.errors import KafkaUnavailable, KStreamError, ProducerLost, RecordRefused
from kstream.observe.status import InstanceStatus
from kstream.runtime.cluster.announcement import encode, heard
from kstream.runtime.cluster.directory import SILENT_AFTER, Directory
from kstream.runtime.cluster.topics import WantedTopic, ensure_topics
from kstream.runtime.cluster.writing import write_record
from kstream.specs.names import own_topic
from kstream.types import BEGINNING, AdminClient, Clients, Fetch, ProducerClient, TopicPartition

if TYPE_CHECKING:
    from kstream.runtime.kafka import KafkaOptions

log = logging.getLogger(__name__)

LISTEN_SECONDS: Final = 1.0
"""How often what the others wrote is looked at."""
RETRY_SECONDS: Final = 60.0
"""Age at which clients that met an error are replaced; also, how often trouble is logged."""
ASK_SECONDS: Final = 30.0
TOPIC_SECONDS: Final = 15.0
GOODBYE_SECONDS: Final = 1.0
"""How long a stop waits for the last word to be delivered."""
LONGEST_NAME: Final = 100
"""Bytes of an instance's name."""


def topic_of(app: str) -> str:
    """The topic in which the instances of an app announce themselves."""
    return own_topic(app, "instances")


def wanted_topic(app: str) -> WantedTopic:
    return WantedTopic(
        name=topic_of(app),
        kind="instances",
        partitions=1,
        # Small segments, cleaned soon: whoever comes reads the topic from its beginning.
        config={
            "retention.ms": str(3600 * 1000),
            "segment.ms": str(600 * 1000),
            "segment.bytes": str(1 << 20),
            "min.cleanable.dirty.ratio": "0.2",
            "delete.retention.ms": str(3600 * 1000),
        },
        owner=app,
    )


def quiet(options: KafkaOptions) -> KafkaOptions:
    """The same options for clients that send and receive little: small buffers, few requests, no statistics, and no log
    lines of librdkafka's own, for the workers' clients have the same to tell."""
    raw = {**options.raw, "consumer.fetch.wait.max.ms": "5000", "log_level": "2"}
    few = 8 << 20
    return replace(
        options,
        fetch_memory=few,
        producer_memory=few,
        statistics_interval=0.0,
        passing_level=logging.DEBUG,
        raw=raw,
    )


class Listener:
    """Reads the announcements of an app, from the oldest there are, into a directory. The topic must exist.

    Attributes:
        at_end: whether all that was there at the beginning has been read. The consumer's own word for that comes only
            when nothing new has come for a while, and there is always somebody who talks.
    """

    def __init__(self, clients: Clients, admin: AdminClient, app: str, directory: Directory) -> None:
        self._directory, self._app = directory, app
        self._at = TopicPartition(topic_of(app), 0)
        start = admin.start_offsets([self._at]).result(ASK_SECONDS)[self._at]
        self._end = admin.end_offsets([self._at]).result(ASK_SECONDS)[self._at]
        self.at_end = start >= self._end
        self._reader = clients.reader()
        self._reader.assign({self._at: BEGINNING})

    def take(self, timeout: float) -> None:
        """Takes what there is, waiting `timeout` seconds for a first record. Raises KStreamError, as a reader does."""
        polled = self._reader.poll(10_000, timeout)
        for fetch in polled.fetches:
            self._hear(fetch)
            self.at_end = self.at_end or fetch.last_offset >= self._end - 1
        self.at_end = self.at_end or self._at in polled.ends

    def to_end(self, timeout: float) -> None:
        """Takes all there was at the beginning. Raises KafkaUnavailable when that takes longer (seconds)."""
        deadline = time.monotonic() + timeout
        while not self.at_end:
            left = deadline - time.monotonic()
            if left <= 0:
                raise KafkaUnavailable(f"topic {self._at.topic} could not be read within {timeout:g} s: try again")
            self.take(min(left, 1.0))

    def _hear(self, fetch: Fetch) -> None:
        rows = zip(fetch.keys(), fetch.values(), fetch.timestamps(), strict=True)
        latest = {key: (value, timestamp) for key, value, timestamp in rows if key is not None}
        now, wall = time.monotonic(), time.time()
        for key, (value, timestamp) in latest.items():
            # What comes while we listen is new. Only of what was there before do we have to compare clocks.
            age = 0.0 if self.at_end else max(wall - timestamp / 1000, 0.0)
            name = key[:LONGEST_NAME].decode(errors="replace")
            self._directory.hear(name, heard(self._app, name, value, now - age, timestamp / 1000))

    def close(self) -> None:
        self._reader.close()


def read_instances(clients: Clients, app: str, timeout: float) -> list[InstanceStatus]:
    """The instances of an app, as they announced themselves by now; none when none ever did.

    Raises:
        KafkaUnavailable: it took longer than `timeout` seconds.
    """
    return _read(clients, app, timeout).instances(time.monotonic(), time.time())


def read_clocks(clients: Clients, app: str, timeout: float) -> dict[str, tuple[str, float]]:
    """Of each instance of the last ten minutes: its host, and by how many seconds the broker's clock is ahead of its
    own; an announcement has both. The time that it was under way is in it. Raises as `read_instances`."""
    directory = _read(clients, app, timeout)
    lately = {one.instance for one in directory.instances(time.monotonic(), time.time())}
    return {name: clock for name, clock in directory.clocks().items() if name in lately}


def _read(clients: Clients, app: str, timeout: float) -> Directory:
    """Reads the topic to its end, once."""
    directory = Directory()
    admin = clients.admin()
    try:
        if topic_of(app) in admin.topics(timeout):
            listener = Listener(clients, admin, app, directory)
            try:
                listener.to_end(timeout)
            finally:
                listener.close()
    finally:
        admin.close()
    return directory


class Announcer:
    """Announces this instance and listens to the others, on a thread of its own.

    Args:
        clients: made with `quiet` options.
        interval: seconds between announcements, more than 0.
        make_status: called on the announcer's thread.
        replication: of the topic, when it is made; -1 is the cluster's default.
    """

    def __init__(
        self,
        clients: Clients,
        app: str,
        interval: float,
        make_status: Callable[[], InstanceStatus],
        *,
        replication: int = -1,
    ) -> None:
        if interval <= 0:
            raise ValueError(f"announcements every {interval:g} s: without any, make no Announcer")
        self._clients, self._app, self._interval = clients, app, interval
        self._make_status, self._replication = make_status, replication
        self._directory = Directory()
        self._name: str | None = None
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._stopping, self._woken = False, threading.Event()
        self._sent: float | None = None
        """When the announcement that is under way was sent, by the monotonic clock."""
        self._due = 0.0
        self._troubled, self._logged = False, float("-inf")

    def start(self) -> None:
        self._thread.start()

    def others(self) -> list[InstanceStatus]:
        """The other instances, by name, silent ones too. Any thread may ask."""
        known = self._directory.instances(time.monotonic(), time.time())
        return [status for status in known if status.instance != self._name]

    def announce(self) -> None:
        """The next announcement goes out now: something has changed. Any thread may call it."""
        self._due = 0.0
        self._woken.set()

    def stop(self, timeout: float = 2.0) -> None:
        """Says goodbye and ends. Takes `timeout` seconds at most: where Kafka is away, the thread is left to itself."""
        self._stopping = True
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    # ---- the thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                with self._connected() as (producer, listener):
                    self._converse(producer, listener)
            except Exception as error:  # a thread that only tells must never be what ends
                self._note(error)
                self._pause(self._interval)

    @contextmanager
    def _connected(self) -> Iterator[tuple[ProducerClient, Listener]]:
        with ExitStack() as stack:
            admin = self._clients.admin()
            stack.callback(admin.close)
            wanted = [wanted_topic(self._app)]
            ensure_topics(admin, wanted, auto_create=True, replication=self._replication, timeout=TOPIC_SECONDS)
            producer = self._clients.producer(None)
            stack.callback(producer.close)
            listener = Listener(self._clients, admin, self._app, self._directory)
            stack.callback(listener.close)
            admin.close()
            yield producer, listener

    def _converse(self, producer: ProducerClient, listener: Listener) -> None:
        """Until told to stop, or until an error comes of clients that are `RETRY_SECONDS` old. Before that librdkafka
        is left to get over it: new clients would only log the same again."""
        self._sent = None
        began = time.monotonic()
        while not self._stopping:
            try:
                producer.poll(0.0)
                if time.monotonic() >= self._due:
                    self._due = time.monotonic() + self._interval
                    self._announce(producer)
                listener.take(0.0)
            except KStreamError as error:
                if time.monotonic() - began > RETRY_SECONDS:
                    raise
                self._note(error)
            self._pause(min(max(self._due - time.monotonic(), 0.01), LISTEN_SECONDS))
        self._leave(producer)

    def _leave(self, producer: ProducerClient) -> None:
        if self._name is None:  # nothing was said
            return
        try:
            write_record(producer, topic_of(self._app), None, self._name.encode())
            producer.flush(GOODBYE_SECONDS)
        except KStreamError as error:
            log.info("the other instances could not be told that this one ends: %s", error)

    def _announce(self, producer: ProducerClient) -> None:
        """Sends an announcement, unless the last one is still under way.

        Raises:
            ProducerLost: that one has been so for as many intervals as make an instance silent, or was refused.
        """
        if self._sent is not None:
            late = time.monotonic() - self._sent
            if late > SILENT_AFTER * self._interval:
                self._complain(producer, late)
            return
        status = self._make_status()
        self._name = status.instance
        self._sent = time.monotonic()
        producer.produce_watched(
            topic_of(self._app), encode(status, self._interval), status.instance.encode(), 0, self._delivered
        )

    def _complain(self, producer: ProducerClient, late: float) -> None:
        try:
            producer.flush(0.1)
        except ProducerLost as error:
            raise ProducerLost(
                f"an announcement of this instance was not delivered for {late:.0f} s: {error}"
            ) from error

    def _delivered(self, _: int | None, refused: RecordRefused | None) -> None:
        if refused is not None:
            return  # it stays under way, until `_complain` says why
        self._sent = None
        if self._troubled:
            self._troubled = False
            log.info("this instance announces itself again")

    def _pause(self, seconds: float) -> None:
        if not self._stopping:
            self._woken.wait(max(seconds, 0.0))
            self._woken.clear()

    def _note(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged > RETRY_SECONDS:
            self._troubled, self._logged = True, now
            log.warning(
                "other instances may not see this one, and it may not see them; processing goes on: %s", error,
                exc_info=None if isinstance(error, KStreamError) else error,
            )  # fmt: skip
