"""Questions that go to the leaders of partitions: they are asked once librdkafka knows the leaders.

Its `list_offsets` and `delete_records` look them up on the thread that calls. Where one is not known they wait for
news, while that thread is still at work on the question; librdkafka's own thread may have the news, answer and free the
question meanwhile, and the process ends with a segmentation fault (`rd_kafka_topic_partition_list_query_leaders_async`
in 2.8 to 2.16 at least; not reported yet. Seen when a worker restored its first tasks on a busy machine). Descriptions
of topics make them known, and are librdkafka's own thread's from beginning to end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")

FRESH_SECONDS: Final = 10.0
"""How long leaders count as known. librdkafka forgets them after three times `topic.metadata.refresh.interval.ms`, a
minute unless that is set, when it hears nothing of them."""


class Leaders:
    """Thread-safe.

    Args:
        describe: begins to ask for topics; a future of each.
    """

    def __init__(
        self, describe: Callable[[list[str]], Mapping[str, Future[Any]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._describe, self._clock = describe, clock
        self._heard: dict[str, float] = {}
        self._asked: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    def ask(self, topics: Iterable[str], question: Callable[[], Future[T]]) -> Future[T]:
        """The answer to a question to the leaders of these topics, which is asked here and now when they are known, or
        by librdkafka's thread for callbacks. Fails as a description does, or as the question."""
        names = list(dict.fromkeys(topics))
        waited_for = self._descriptions(names)
        result: Future[T] = Future()
        result.set_running_or_notify_cancel()
        left, lock = [len(waited_for)], threading.Lock()

        def answered(answer: Future[T]) -> None:
            error = answer.exception()
            if error is None:
                result.set_result(answer.result())
            else:  # the leaders may be others by now: librdkafka forgets them then
                self._forget(names)
                result.set_exception(error)

        def described(_: Future[Any] | None = None) -> None:
            with lock:
                left[0] -= 1
                if left[0] > 0:
                    return
            try:
                for one in waited_for:
                    one.result()
                question().add_done_callback(answered)
            except Exception as error:
                result.set_exception(error)

        for one in waited_for:
            one.add_done_callback(described)
        if not waited_for:
            described()
        return result

    def _descriptions(self, names: list[str]) -> list[Future[Any]]:
        """Of those whose leaders are not known. What others wait for already is not asked for twice."""
        with self._lock:
            since = self._clock() - FRESH_SECONDS
            unknown = [name for name in names if self._heard.get(name, since) <= since and name not in self._asked]
            asked = dict(self._describe(unknown)) if unknown else {}
            self._asked |= asked
            waited_for = [self._asked[name] for name in names if name in self._asked]
        for name, one in asked.items():
            one.add_done_callback(partial(self._described, name))
        return waited_for

    def _described(self, name: str, answer: Future[Any]) -> None:
        with self._lock:
            self._asked.pop(name, None)
            if answer.exception() is None:
                self._heard[name] = self._clock()

    def _forget(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self._heard.pop(name, None)
