"""A call of librdkafka that does not come back."""

from __future__ import annotations

import threading

import pytest

from kstream.errors import ProducerLost
from kstream.runtime.kafka.timely import in_time


def test_a_call_that_hangs_is_given_up_and_the_producer_with_it() -> None:
    for_ever = threading.Event()
    with pytest.raises(ProducerLost, match="did not return"):
        in_time(for_ever.wait, 0.01)
    for_ever.set()


def test_what_a_call_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0, 5)
    in_time(lambda: None, 5)
