"""Makes the clients of one worker."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from confluent_kafka import libversion

from kstream.runtime.kafka.admin import KafkaAdmin
from kstream.runtime.kafka.consumer import KafkaConsumer
from kstream.runtime.kafka.options import KafkaOptions
from kstream.runtime.kafka.producer import KafkaProducer
from kstream.runtime.kafka.statistics import Statistics


class KafkaClients:
    """Implements `kstream.types.Clients` with confluent-kafka. No I/O until a client is used.

    Args:
        bootstrap_servers: `host:port`, several with commas.
        options: see `KafkaOptions`.

    Attributes:
        statistics: librdkafka's, of all clients made here.

    Every method raises ConfigError when librdkafka refuses a raw setting.
    """

    def __init__(self, bootstrap_servers: str, options: KafkaOptions | None = None) -> None:
        self._servers = bootstrap_servers
        self._options = options or KafkaOptions()
        self.statistics = Statistics(self._options.statistics_interval)

    def consumer(self, group: str, member: str) -> KafkaConsumer:
        """A group consumer: read committed, no auto-commit, static member id `member`."""
        return KafkaConsumer(self._servers, self._options, group, member, self.statistics.callback("consumer"))

    def reader(self) -> KafkaConsumer:
        """A consumer outside any group, read committed. It raises StateError when its position is not in the log."""
        return KafkaConsumer(self._servers, self._options, statistics=self.statistics.callback("reader"))

    def producer(self, transactional_id: str | None) -> KafkaProducer:
        """None: an idempotent producer without transactions (at least once)."""
        return KafkaProducer(self._servers, self._options, transactional_id, self.statistics.callback("producer"))

    def fence(self, transactional_id: str, timeout: float) -> Future[None]:
        """On a thread, with a producer that lives as long as that takes: librdkafka's admin client cannot do it."""
        answer: Future[None] = Future()
        answer.set_running_or_notify_cancel()

        def end() -> None:
            try:
                producer = KafkaProducer(self._servers, self._options, transactional_id)
                try:
                    producer.init_transactions(timeout)
                finally:
                    producer.close()
            except BaseException as error:  # whoever waits gets it
                answer.set_exception(error.with_traceback(None))
            else:
                answer.set_result(None)

        threading.Thread(target=end, name="fencing", daemon=True).start()
        return answer

    def admin(self) -> KafkaAdmin:
        return KafkaAdmin(self._servers, self._options)


def librdkafka_version() -> str:
    return str(libversion()[0])
