"""The admin client that is asked, and questions to the coordinators of groups, which librdkafka takes badly:

- Where a coordinator has moved, or has not loaded the group yet, it refuses; that ends the question for members with an
  error, and the question for offsets with a segmentation fault (librdkafka #5040, open). So it is asked for the group's
  members first.
- A question that times out within librdkafka while its coordinator is away leaves a request behind, and once the
  coordinator is back, that is answered with memory that was freed: the process aborts on `eonce->refcnt > 0` (#4605,
  open; seen when brokers were killed a second time). So its own time-out is far away. We wait for less, and a client
  that has not answered by then is dropped at once: what it was asked ends with it.
- A client that knew a coordinator before the broker went away may never ask it again (#5511, open). So one that has
  heard of trouble is dropped too, before it is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from kstream.errors import KafkaUnavailable
from kstream.runtime.kafka.entry import is_refusal
from kstream.runtime.kafka.problems import make, of

Asked = Mapping[Any, Future[Any]]

COORDINATOR_SECONDS: Final = 5.0
"""For how long a coordinator is asked, by as many clients as it takes."""

PATIENCE_SECONDS: Final = 0.25
"""How long the first client may take for its answer; each that follows three times as long, at most the rest of the
time. One that asked a broker which was not ready yet waits by itself, for half a second and more, before it asks again:
a restore after a broker's restart would wait with it."""

FAR_SECONDS: Final = 90.0
"""librdkafka's own time-out of such a question: longer than anything keeps a client that was dropped."""

AGAIN_SECONDS: Final = 0.05
"""How long after a refusal a coordinator is asked again."""

POLL_SECONDS: Final = 0.05
"""How often a client is asked what it has heard, while its answer is waited for."""

FOUND_SECONDS: Final = 0.1
"""For how long a coordinator that has just answered counts as there."""

REFUSED_SECONDS: Final = 0.5
"""How long after a refusal the other brokers may answer."""

WEARS: Final = frozenset({KafkaError._TIMED_OUT, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE})
"""Answers after which the client is not asked again."""

_PASSING: Final = WEARS | {KafkaError._TRANSPORT, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}


class NoAnswer(Exception):
    """None in time. Internal: never reaches a user."""


class Heard:
    """What a client says outside its answers. It does not refer to the client: a cycle would keep that alive.

    Attributes:
        refusal: when a broker first said that it does not let the client in, and how (see entry.py).
        last: what it said last that tells more than that no broker is there.
    """

    def __init__(self) -> None:
        self.of_trouble = False
        self.refusal: tuple[float, KafkaError] | None = None
        self.last: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        self.of_trouble = True
        if self.last is None or error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error
        if self.refusal is None and is_refusal(error):
            self.refusal = time.monotonic(), error


class NoTopics(Exception):
    """No list of topics came. Internal: never reaches a user.

    Attributes:
        error: why.
        heard: what the client heard besides.
    """

    def __init__(self, error: KafkaError, heard: Heard) -> None:
        self.error, self.heard = error, heard
        super().__init__(error.str())


@dataclass(slots=True)
class OpenClient:
    """A client, and what it knows.

    Attributes:
        found: by group, when its coordinator answered.
        described: by topic, when its leaders were heard of.
    """

    client: AdminClient
    heard: Heard
    found: dict[str, float] = field(default_factory=dict)
    described: dict[str, float] = field(default_factory=dict)


class AskedClient:
    """One client at a time. `lock` is for whoever asks in several steps."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.lock = threading.Lock()
        self._config = config
        self._making = threading.Lock()
        self._closed = False
        self._open: OpenClient | None = None
        self.now()  # says at once that librdkafka does not take the configuration

    @property
    def client(self) -> AdminClient:
        return self.now().client

    def now(self) -> OpenClient:
        """Raises KafkaUnavailable once it is closed."""
        with self._making:
            if self._closed:
                raise KafkaUnavailable("the admin client is closed")
            if self._open is None:
                heard = Heard()
                self._open = OpenClient(make(AdminClient, {**self._config, "error_cb": heard}), heard)
            return self._open

    def drop(self, one: OpenClient | None = None) -> None:
        """The next question goes out through a new client. One that is dropped lives while somebody waits for it.

        Args:
            one: only if it is this one.
        """
        with self._making:
            if one is None or self._open is one:
                self._open = None

    def failed(self, code: int) -> None:
        """A question came back with this error: leaders and coordinators may be elsewhere by now."""
        if code in WEARS:
            self.drop()
        elif (one := self._open) is not None:
            one.found.clear()
            one.described.clear()

    def close(self) -> None:
        """Waits for nobody. Idempotent."""
        with self._making:
            self._closed, self._open = True, None

    def of_coordinator(self, group: str, ask: Callable[[AdminClient], Asked]) -> list[Any]:
        """What a group's coordinator answers. `ask` gives FAR_SECONDS as the time-out.

        Raises:
            NoAnswer: none in COORDINATOR_SECONDS. KafkaException: the answer is an error. KafkaUnavailable: closed.
        """
        with self.lock:
            one = self._reach(group)
            asked = ask(one.client)
        return self._answers(one, asked, COORDINATOR_SECONDS)

    def _reach(self, group: str) -> OpenClient:
        """A client to which the group's coordinator has just answered."""
        deadline, patience = time.monotonic() + COORDINATOR_SECONDS, PATIENCE_SECONDS
        while True:
            one = self._untroubled()
            if time.monotonic() - one.found.get(group, float("-inf")) <= FOUND_SECONDS:
                return one
            try:
                self._answers(one, describe_group(one.client, group), patience)
            except (NoAnswer, KafkaException) as error:
                code = None if isinstance(error, NoAnswer) else of(error).code()
                if (code is not None and code not in _PASSING) or time.monotonic() + AGAIN_SECONDS >= deadline:
                    raise
                if code in WEARS:
                    self.drop(one)
                time.sleep(AGAIN_SECONDS)
                patience = min(3 * patience, deadline - time.monotonic())
            else:
                one.found[group] = time.monotonic()
                return one

    def _untroubled(self) -> OpenClient:
        one = self.now()
        one.client.poll(0)  # what it has heard of since
        if one.heard.of_trouble:
            self.drop(one)
        return self.now()

    def listed(self, timeout: float) -> dict[str, Any]:
        """All topics.

        Raises:
            NoTopics: the answer is an error, or there is none within `timeout` seconds; or, soon, a broker refuses this
                client and no other answers: librdkafka would go on trying.
        """
        one = self.now()
        asked: Future[Any] = Future()

        def ask() -> None:
            try:
                asked.set_result(one.client.list_topics(timeout=timeout))
            except KafkaException as error:  # made anew, as in `answers`
                asked.set_exception(KafkaException(of(error)))
            except BaseException as error:  # whoever waits gets it
                asked.set_exception(error.with_traceback(None))

        threading.Thread(target=ask, name="list of topics", daemon=True).start()
        while not wait([asked], POLL_SECONDS).done:
            one.client.poll(0)
            refusal = one.heard.refusal
            if refusal is not None and time.monotonic() - refusal[0] > REFUSED_SECONDS:
                self.drop(one)
                raise NoTopics(refusal[1], one.heard)
        error = asked.exception()
        if isinstance(error, KafkaException):
            one.client.poll(0)
            raise NoTopics(of(error), one.heard)
        return dict(asked.result().topics)

    def _answers(self, one: OpenClient, asked: Asked, seconds: float) -> list[Any]:
        if wait(asked.values(), seconds).not_done:
            self.drop(one)
            raise NoAnswer
        return answers(asked)


def describe_group(client: AdminClient, group: str) -> Asked:
    asked: Asked = client.describe_consumer_groups([group], request_timeout=FAR_SECONDS)
    return asked


def answers(asked: Asked) -> list[Any]:
    """Waits for all of them. Raises the first error, made anew: raised out of its future it would refer to the frames
    that refer to it, and with them keep the client until the garbage collector comes."""
    for each in asked.values():
        error = each.exception()
        if isinstance(error, KafkaException):
            raise KafkaException(of(error))
    return [each.result() for each in asked.values()]
