"""Dead letters for the status page: read from Kafka when somebody looks, on one thread, a bounded number of them."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from kstream.codecs.text import Decoded, decoded
from kstream.errors import KafkaUnavailable, TopicError, UsageError
from kstream.observe.letters import DeadLetters, LetterCount, LetterDetails, LetterStatus
from kstream.runtime.cluster.dead_letters import (
    Filter,
    Letter,
    Place,
    Span,
    letter_topics,
    scan,
    source_topics,
    span_of,
)
from kstream.runtime.cluster.handled import Handled, read_handled
from kstream.specs.schema import schema
from kstream.topology import Topology
from kstream.types import AdminClient, Clients

T = TypeVar("T")

LOOKED: Final = 1000
"""Offsets of a topic that are looked at, over its partitions: the last ones."""
LISTED: Final = 100
"""Letters that are told."""
MARKS: Final = 100_000
"""Offsets that are looked at of the marks of handled letters: the last ones."""
SECONDS: Final = 10.0
"""That a reading may take. Letters may be large."""
KEPT: Final = 5.0
"""Seconds for which what was read is told again."""
WAITING: Final = 16
"""Letters that may be asked for at a time; they are read one after the other."""
SHORT: Final = 200
LONG: Final = 64 << 10
"""Characters of a text in the list, and in the details."""

_BYTES: Final = schema(bytes, "a dead letter").codec


class LetterView:
    """See the module's text. Any thread may ask.

    Args:
        make_clients: called with the first question.
    """

    def __init__(self, topology: Topology, make_clients: Callable[[], Clients]) -> None:
        self._app, self._topics = topology.app, letter_topics(topology)
        self._sources = source_topics(topology)
        self._make_clients = make_clients
        self._lock = threading.Lock()
        self._asked: SimpleQueue[Callable[[], None] | None] | None = None
        self._latest: Future[DeadLetters] | None = None
        self._waiting = 0

    def latest(self) -> Future[DeadLetters]:
        """Those that were read a moment ago, or are being read, else they are read anew."""
        with self._lock:
            known = self._latest
            if known is not None and (not known.done() or self._fresh(known)):
                return known
            if not self._topics:
                nothing: Future[DeadLetters] = Future()
                nothing.set_result(DeadLetters([], 0, False, [], [], time.time()))
                return nothing
            self._latest = self._ask(self._read)
            return self._latest

    @staticmethod
    def _fresh(known: Future[DeadLetters]) -> bool:
        if known.cancelled() or known.exception() is not None:
            return False
        return 0 <= time.time() - known.result().at < KEPT

    def one(self, topic: str, partition: int, offset: int) -> Future[LetterDetails]:
        """One letter, whole.

        Raises:
            UsageError: the app has no dead letters in this topic. KafkaUnavailable: too many are asked for.
        """
        if topic not in self._topics:
            raise UsageError(f"there are no dead letters in {topic}; there are in: {', '.join(self._topics) or 'none'}")
        with self._lock:
            if self._waiting >= WAITING:
                raise KafkaUnavailable(f"{WAITING} dead letters are being read already: try again")
            self._waiting += 1
            found = self._ask(lambda: self._read_one(Place(topic, partition, offset)))
        found.add_done_callback(self._read_through)
        return found

    def _read_through(self, _: Future[LetterDetails]) -> None:
        with self._lock:
            self._waiting -= 1

    def close(self) -> None:
        """Reads nothing more. What is being read is left to itself: the thread does not keep the process."""
        with self._lock:
            if self._asked is not None:
                self._asked.put(None)

    def _ask(self, read: Callable[[], T]) -> Future[T]:
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(read())
            except Exception as error:
                answer.set_exception(error)

        if self._asked is None:
            self._asked = SimpleQueue()
            threading.Thread(target=_serve, args=(self._asked,), name="dead-letters", daemon=True).start()
        self._asked.put(run)
        return answer

    # ---- on the thread

    def _read(self) -> DeadLetters:
        deadline, clients, ours = time.monotonic() + SECONDS, self._make_clients(), Filter(self._app)
        counts: Counter[tuple[str, str]] = Counter()
        latest: list[tuple[int, int, LetterStatus]] = []
        looked, more = 0, False
        with closing(clients.admin()) as admin:
            handled = read_handled(clients, admin, self._app, newest=MARKS)
            for topic in self._topics:
                if (span := _span(admin, topic)) is None:
                    continue
                each = max(LOOKED // len(span.starts), 1)
                starts = {at: max(start, span.ends[at] - each) for at, start in span.starts.items()}
                more = more or starts != span.starts
                with closing(scan(clients, admin, replace(span, starts=starts))) as letters:
                    for letter in letters:
                        if time.monotonic() > deadline:
                            raise KafkaUnavailable(
                                f"the dead letters were not read within {SECONDS:g} s: kstream dlq list"
                            )
                        if not ours.is_ours(letter):
                            continue
                        looked += 1
                        one = self._status(letter, span, handled)
                        if one.handled is None:
                            counts[topic, letter.reason[:SHORT]] += 1
                        heapq.heappush(latest, (letter.time, looked, one))
                        if len(latest) > LISTED:
                            heapq.heappop(latest)
        told = [LetterCount(topic, reason, count) for (topic, reason), count in counts.most_common(LISTED)]
        return DeadLetters(self._topics, looked, more, told, [one for _, _, one in sorted(latest)[::-1]], time.time())

    def _read_one(self, place: Place) -> LetterDetails:
        clients = self._make_clients()
        with closing(clients.admin()) as admin:
            span = _span(admin, place.topic)
            found = [] if span is None else list(scan(clients, admin, span, frozenset([place])))
            letter = next((one for one in found if one.place == place), None)
            if letter is None or span is None:
                raise UsageError(f"there is no dead letter {place}")
            handled = read_handled(clients, admin, self._app, newest=MARKS)
        key, value = self._sides(letter)
        sides = {"key": key, "value": value}
        return LetterDetails(
            self._status(letter, span, handled),
            letter.task,
            letter.row.timestamp,
            _cut(letter.message, LONG),
            key.text[:LONG],
            value.text[:LONG],
            [(name[:LONG], _text(content)) for name, content in letter.headers],
            _cut(letter.stacktrace, LONG),
            {name: side.error for name, side in sides.items() if side.error is not None},
        )

    def _status(self, letter: Letter, span: Span, handled: Handled) -> LetterStatus:
        source, mark = letter.source, handled.of(letter, span)
        where = None if source is None else source.topic if source.offset < 0 else f"{source.at} {source.offset}"
        if letter.result is not None:
            where = f"a result of {letter.of_step or '?'}"[:SHORT]
        return LetterStatus(
            *letter.place,
            letter.time,
            where,
            _cut(letter.agent, SHORT),
            _cut(letter.phase, SHORT),
            letter.attempts,
            None if letter.exception is None else letter.reason[:SHORT],
            _cut(letter.message, SHORT),
            (letter.of_key or self._sides(letter)[0].text)[:SHORT],
            letter.replays,
            None if mark is None else mark.what,
        )

    def _sides(self, letter: Letter) -> tuple[Decoded, Decoded]:
        topic = None if letter.source is None else self._sources.get(letter.source.topic)
        codecs: tuple[Any, Any] = (_BYTES, _BYTES) if topic is None else (topic.key.codec, topic.value.codec)
        if topic is None and letter.row.value is None:
            return decoded(codecs[0], letter.row.key, key=True), Decoded(None, "null")
        return decoded(codecs[0], letter.row.key, key=True), decoded(codecs[1], letter.row.value)


def _serve(asked: SimpleQueue[Callable[[], None] | None]) -> None:
    while (run := asked.get()) is not None:
        run()


def _span(admin: AdminClient, topic: str) -> Span | None:
    """None where the topic is not there (yet)."""
    try:
        return span_of(admin, topic)
    except TopicError:
        return None


def _cut(text: str | None, most: int) -> str | None:
    return None if text is None else text if len(text) <= most else f"{text[: most - 1]}…"


def _text(content: bytes | None) -> str:
    return "" if content is None else content[:LONG].decode("utf-8", "backslashreplace")
