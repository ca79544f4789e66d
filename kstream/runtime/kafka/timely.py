"""A call of librdkafka that may hang, whatever time-out it is given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from kstream.errors import ProducerLost


def in_time(call: Callable[[], object], seconds: float) -> None:
    """Makes a call of librdkafka that may hang whatever time-out it is given: `send_offsets_to_transaction`, when the
    group's coordinator is gone (librdkafka #5456, open; seen when a broker was killed). It is made on a thread of its
    own (60 microseconds), which is left to itself when it takes too long, and the producer with it.

    Raises:
        ProducerLost: it took too long. Whatever the call raises.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            call()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="send-offsets", daemon=True).start()
    try:
        done.result(seconds)
    except TimeoutError:
        raise ProducerLost(f"send_offsets did not return within {seconds:.0f} s") from None
