"""How large the records of internal topics may be.

What the producer sends is bounded by its `message.max.bytes`. A changelog or repartition topic that takes less refuses
records that the app was allowed to make, and their task stops. So they are made large enough, and those that were made
before are looked at.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from kstream.config import Settings
from kstream.errors import KStreamError, UsageError
from kstream.specs.store import StoreSpec
from kstream.topology import Topology
from kstream.types import AdminClient

log = logging.getLogger(__name__)

_TIMEOUT: Final = 30.0
SETTING: Final = "max.message.bytes"

CLIENT_BYTES: Final = 1_000_000
"""librdkafka's `message.max.bytes`, where it is not set."""

TOPIC_BYTES: Final = 1_048_588
"""Kafka's `max.message.bytes`, where it is not set: it is of a batch, with what that takes besides the records."""


OVERHEAD: Final = 512
"""Bytes that a record has besides key and value, at most."""


class Need(NamedTuple):
    """What an internal topic has to take.

    Attributes:
        least: bytes, below which it is too small.
        right: its `max.message.bytes` that is large enough.
        why: the reason, for messages.
    """

    least: int
    right: int
    why: str


class Finding(NamedTuple):
    """What is wrong, and what to do about it."""

    text: str
    advice: str


def sent(kafka: Mapping[str, str]) -> int:
    """Bytes that our producer sends at once, at most."""
    limit = kafka.get(_sent_by(kafka), "")
    return int(limit) if limit.isdigit() else CLIENT_BYTES


def _sent_by(kafka: Mapping[str, str]) -> str:
    """The key that says so."""
    return "producer.message.max.bytes" if "producer.message.max.bytes" in kafka else "message.max.bytes"


def limit_of(store: StoreSpec, settings: Settings) -> tuple[int, str]:
    """Bytes of key and value together that may be written to a store's changelog, once that is made anew; and what
    says so. What is declared of the topic is of a compressed batch: it says nothing of an entry that will be."""
    limit, why = sent(settings.kafka), f"kafka.{_sent_by(settings.kafka)} lets us send"
    declared = {**settings.changelog, **store.changelog}.get(SETTING, "")
    if settings.compression == "none" and declared.isdigit() and int(declared) < limit:
        limit, why = int(declared), f"its changelog is declared with {SETTING}"
    return limit - OVERHEAD, f"{why} {limit:,}"


def refuse_large(store: StoreSpec, key: bytes, value: bytes, limit: tuple[int, str]) -> None:
    """Raises UsageError where Kafka would refuse an entry."""
    if len(key) + len(value) > limit[0]:
        raise UsageError(
            f"an entry of {store.name} has {len(key) + len(value):,} bytes, and {limit[1]}: raise it, or leave the "
            f"entry out: its key is {key[:40]!r}"
        )


def batches_of(
    topology: Topology, stores: Mapping[str, StoreSpec], settings: Settings, admin: AdminClient
) -> dict[str, int]:
    """Bytes of a batch that the changelog of each store will take when it is made anew, by the keys of `stores`. Where
    nothing is declared that is the brokers' own limit, as the changelog that there is has it; none where there is none
    or it cannot be seen."""
    topics = {name: topology.changelog(store) for name, store in stores.items()}
    there = admin.topics(_TIMEOUT)
    try:
        configs = admin.topic_configs([topic for topic in topics.values() if topic in there], _TIMEOUT)
    except KStreamError as error:  # this user may lack the right to
        log.debug("the settings of changelogs cannot be read: %s", error)
        configs = {}
    found = {}
    for name, store in stores.items():
        ours = {**large_enough(settings), **settings.changelog, **store.changelog}.get(SETTING)
        size = ours or configs.get(topics[name], {}).get(SETTING, "")
        if size.isdigit():
            found[name] = int(size)
    return found


def refuse_batch(store: StoreSpec, key: bytes, value: bytes, most: int, compression: str) -> None:
    """Raises UsageError where an entry does not fit into a batch of `most` bytes, compressed either. Of zstd nobody
    knows before it is done."""
    size = len(key) + len(value)
    if size <= most - OVERHEAD or compression == "zstd":
        return
    if compression != "none":  # the others make nothing smaller than this
        size = len(zlib.compress(key + value))
    if size > most:
        raise UsageError(
            f"an entry of {store.name} has {size:,} bytes{'' if compression == 'none' else ' compressed'}, and its "
            f"changelog takes no batches of more than {most:,} ({SETTING}): declare more (changelog=), or leave the "
            f"entry out: its key is {key[:40]!r}"
        )


def large_enough(settings: Settings) -> dict[str, str]:
    """What internal topics are made with, so that they take what we may send; nothing where they do anyway."""
    ours = sent(settings.kafka)
    return {SETTING: str(_of_topic(ours))} if ours > CLIENT_BYTES else {}


def needs(topology: Topology, settings: Settings) -> dict[str, Need]:
    """What each changelog and repartition topic has to take, by its name: what is declared of it, else what we may
    send."""
    ours = sent(settings.kafka)
    by_producer = Need(ours, _of_topic(ours), f"kafka.{_sent_by(settings.kafka)} lets us send {ours}")
    found: dict[str, Need] = {}
    for part in topology.parts:
        found.update({sink.name: by_producer for sink in part.sinks if sink.internal})
        found.update({delay.topic: by_producer for delay in part.delays})
        for store in part.stores:
            declared = {**settings.changelog, **store.changelog}.get(SETTING, "")
            who = f"table {store.name}" if SETTING in store.changelog else f"changelog.{SETTING}"
            size = int(declared) if declared.isdigit() else None
            found[topology.changelog(store)] = by_producer if size is None else Need(size, size, f"{who} says {size}")
    return found


def too_small(needed: Mapping[str, Need], configs: Mapping[str, Mapping[str, str]]) -> dict[str, Finding]:
    """What is to be told of each internal topic, by its name, that takes less than it has to.

    Args:
        configs: Kafka's settings of the topics that there are.
    """
    found = {}
    for name, need in needed.items():
        have = configs.get(name, {}).get(SETTING, "")
        if have.isdigit() and int(have) < need.least:
            found[name] = Finding(
                f"topic {name} takes no batches of more than {have} bytes ({SETTING}), and {need.why}: a larger record"
                " would stop its task",
                f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config "
                f"{SETTING}={need.right}",
            )
    return found


def _of_topic(ours: int) -> int:
    """A topic's limit for what we send: it counts what a batch takes besides."""
    return ours * TOPIC_BYTES // CLIENT_BYTES
