"""Settings of topics, asked for through a new client where one gets no answer: librdkafka keeps to the broker that it
first heard of as the controller, also when that one has just died."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import wait
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are exported, in a way mypy does not see
    ConfigResource,
    ResourceType,
)

from kstream.runtime.kafka.asking import FAR_SECONDS, AskedClient
from kstream.runtime.kafka.problems import may_not, meaning, of

FIRST_SECONDS: Final = 2.0
"""How long the first client may take for its answer; each that follows three times as long, at most the rest of the
time."""

LEAST_SECONDS: Final = 1.0
"""What an answer may take at least: the last one is not to be cut short."""

AGAIN_SECONDS: Final = 0.02
"""How long after an answer that is none they are asked for again."""


def configs_of(asked: AskedClient, servers: str, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
    """All settings of these topics, defaults too, within `timeout` seconds. Raises TopicError, KafkaUnavailable.

    The topics are there: a broker that does not know one has not heard of it yet, and is asked again.
    """
    deadline, patience = time.monotonic() + timeout, FIRST_SECONDS
    while True:
        left = deadline - time.monotonic()
        try:
            return _configs_of(asked, servers, names, max(min(patience, left), LEAST_SECONDS))
        except KafkaException as error:
            inner = of(error)
            again = inner.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._TIMED_OUT)
            if not again or time.monotonic() >= deadline:
                raise meaning(inner, f"settings of topics {', '.join(names)}", servers) from error
        if inner.code() == KafkaError._TIMED_OUT:
            patience *= 3
        time.sleep(AGAIN_SECONDS)


def _configs_of(asked: AskedClient, servers: str, names: Sequence[str], seconds: float) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    one = asked.now()
    answers = one.client.describe_configs(resources, request_timeout=FAR_SECONDS)
    if wait(answers.values(), seconds).not_done:
        asked.drop(one)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))
    found = {}
    for resource, future in answers.items():
        try:
            entries = future.result()
        except KafkaException as error:
            inner, right = of(error), f"DESCRIBE_CONFIGS topic {resource.name}"
            if may_not(inner, right, servers, "") is None:
                raise
            raise meaning(inner, "settings of topics", servers, right) from None
        found[resource.name] = {name: entry.value for name, entry in entries.items() if entry.value is not None}
    return found
