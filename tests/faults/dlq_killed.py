"""The `kstream` command, killed with SIGKILL by its own hand around a step of a replay or purge.

    python -m faults.dlq_killed STEP:before|after:N BATCH ARGUMENTS...

It dies around the N-th call of the step; the letters of a transaction are BATCH. What was sent is at the brokers then,
so an open transaction is open there too. Steps: ensure, init, read, begin, send (a record, then its mark, and so on),
commit, delete.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from kstream.cli import main
from kstream.runtime.cluster import replaying
from kstream.runtime.cluster.replaying import Handling
from kstream.runtime.kafka.admin import KafkaAdmin
from kstream.runtime.kafka.producer import KafkaProducer

PLACES: dict[str, tuple[Any, str]] = {
    "ensure": (replaying, "ensure_topic"),
    "init": (KafkaProducer, "init_transactions"),
    "read": (replaying, "read_handled"),
    "begin": (KafkaProducer, "begin"),
    "send": (Handling, "_send"),
    "commit": (KafkaProducer, "commit"),
    "delete": (KafkaAdmin, "_delete_records"),
}


def install(order: str) -> None:
    step, when, count = order.split(":")
    owner, name = PLACES[step]
    function: Callable[..., Any] = getattr(owner, name)
    left = int(count)
    producers: list[KafkaProducer] = []
    made = KafkaProducer.__init__

    @functools.wraps(made)
    def remember(self: KafkaProducer, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        producers.append(self)

    def strike() -> None:
        if step == "send" or (step, when) == ("commit", "before"):
            producers[-1].flush(60)
        os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and when == "before":
            strike()
        result = function(*arguments, **named)
        if left == 0:
            strike()
        return result

    KafkaProducer.__init__ = remember  # type: ignore[method-assign]
    setattr(owner, name, wrapped)


if __name__ == "__main__":
    replaying.BATCH = int(sys.argv[2])  # type: ignore[misc]
    if sys.argv[1] != "never":
        install(sys.argv[1])
    sys.exit(main(sys.argv[3:]))
