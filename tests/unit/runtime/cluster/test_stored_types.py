"""Types of stores that change: what a start reads, refuses and keeps."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

import kstream
from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.errors import StoredTypeChanged, TopicError
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.cluster.stored_types import check_types, misfits_of, read_types, topic_of
from kstream.testing import ManualClock, MemoryCluster
from kstream.testing.clients import MemoryClients
from kstream.topology import Topology


class Bid(msgspec.Struct):
    price: int


Noted = msgspec.defstruct("Bid", [("price", int), ("note", str, "")])
Text = msgspec.defstruct("Bid", [("price", str)])
Required = msgspec.defstruct("Bid", [("price", int), ("by", str)])
Nothing = msgspec.defstruct("Bid", [])
Float = msgspec.defstruct("Bid", [("price", float)])


class Kafka:
    def __init__(self) -> None:
        self.cluster = MemoryCluster(ManualClock())
        self.clients = MemoryClients(self.cluster)

    def topology(self, value: Any, key: Any = str) -> Topology:
        app = kstream.App("shop")
        bids = app.topic("bids", key=str, value=bytes)
        table = app.table("last", key=key, value=value)

        @app.agent(bids, tables=[table])
        def keep(bid: bytes) -> None:
            return

        return app.topology()

    def misfits(self, value: Any) -> list[str]:
        return misfits_of(self.topology(value), self.clients, self.clients.admin())

    def start(self, value: Any, key: Any = str, *, go_on: bool = False, entries: bool = True) -> None:
        """A start with this type; from the first on, there is an entry in the changelog."""
        admin, settings = self.clients.admin(), Settings(default_partitions=2)
        topology = self.topology(value, key)
        prepare_topics(topology, admin, settings)
        check_types(topology, self.clients, admin, SystemClock(), replication=1, go_on=go_on)
        if entries:
            producer = self.clients.producer(None)
            producer.produce("shop-last-changelog", b"1", b"k", 0)
            producer.flush(1.0)

    def kept(self) -> list[str]:
        return sorted(str(one.value) for one in self.types().values())

    def types(self) -> dict[bytes, Any]:
        return read_types(self.clients, self.clients.admin(), topic_of("shop"))  # type: ignore[return-value]


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


def test_the_first_start_keeps_the_types_and_the_next_leaves_them(kafka: Kafka) -> None:
    kafka.start(Bid)
    first = kafka.types()
    kafka.start(Bid)
    assert kafka.types() == first and kafka.kept() == ["Bid(price: int)"]


def test_a_field_with_a_default_is_welcome(kafka: Kafka) -> None:
    kafka.start(Bid)
    kafka.start(Noted)
    assert kafka.kept() == ["Bid(price: int)", "Bid(price: int, note: str = '')"]
    kafka.start(Bid)  # a deployment that is taken back reads what the other wrote


def test_an_incompatible_change_names_the_store_both_types_and_the_field(kafka: Kafka) -> None:
    kafka.start(Bid)
    before = kafka.types()
    with pytest.raises(StoredTypeChanged) as refused:
        kafka.start(Text)
    said = str(refused.value)
    assert "store 'last' holds values of the type Bid(price: int), and it is Bid(price: str) now" in said
    assert "field price was int, and is str now" in said and "changed_types=continue" in said
    assert kafka.types() == before, "what was refused is not kept"
    assert refused.value.exit_status == 2


def test_what_a_start_would_refuse_can_be_asked_for(kafka: Kafka) -> None:
    assert kafka.misfits(Bid) == [], "nothing is kept yet"
    kafka.start(Bid)
    before = kafka.types()
    assert kafka.misfits(Noted) == []
    (line,) = kafka.misfits(Text)
    assert "store 'last' holds values of the type Bid(price: int), and it is Bid(price: str) now" in line
    assert kafka.types() == before, "nothing is written"


def test_a_required_field_is_refused(kafka: Kafka) -> None:
    kafka.start(Bid)
    with pytest.raises(StoredTypeChanged, match="field by is new, and has no default"):
        kafka.start(Required)


def test_each_type_that_the_store_ever_had_counts(kafka: Kafka) -> None:
    """Entries are not written anew: between two changes that are fine there may be one that is not."""
    kafka.start(Bid)
    kafka.start(Nothing)
    again = msgspec.defstruct("Bid", [("price", str, "")])
    with pytest.raises(StoredTypeChanged, match="field price was int, and is str now"):
        kafka.start(again)


def test_keys_must_keep_their_bytes(kafka: Kafka) -> None:
    kafka.start(Bid, key=int)
    with pytest.raises(StoredTypeChanged, match="store 'last' holds keys of the type int, and it is float now"):
        kafka.start(Bid, key=float)


def test_a_store_without_entries_may_become_anything(kafka: Kafka) -> None:
    kafka.start(Bid, entries=False)
    kafka.start(Text, entries=False)
    assert kafka.kept() == ["Bid(price: str)"]


def test_a_changelog_that_is_made_anew_begins_anew(kafka: Kafka) -> None:
    kafka.start(Bid)
    kafka.clients.admin().delete_topics(["shop-last-changelog"], 1.0)
    kafka.start(Text)
    assert kafka.kept() == ["Bid(price: str)"]


def test_continue_warns_once_and_forgets_what_was(kafka: Kafka, caplog: pytest.LogCaptureFixture) -> None:
    kafka.start(Bid)
    with caplog.at_level(logging.WARNING):
        kafka.start(Text, go_on=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "field price was int, and is str now" in caplog.text
    caplog.clear()
    kafka.start(Text)
    assert kafka.kept() == ["Bid(price: str)"] and not caplog.records


def test_where_the_topic_cannot_be_read_the_app_starts(kafka: Kafka, caplog: pytest.LogCaptureFixture) -> None:
    kafka.start(Bid)
    kafka.cluster.faults.plan("admin.end_offsets", TopicError("gone"))
    kafka.start(Text)
    assert "cannot be compared, or not be kept: gone" in caplog.text


def test_a_record_of_a_later_version_is_left_alone(kafka: Kafka, caplog: pytest.LogCaptureFixture) -> None:
    kafka.start(Bid)
    producer = kafka.clients.producer(None)
    producer.produce(topic_of("shop"), b'{"v":9,"what":"else"}', b"last:x", 0)
    producer.flush(1.0)
    kafka.start(Float)
    assert "cannot be read, and is not compared" in caplog.text


def test_an_app_without_stores_has_no_such_topic() -> None:
    kafka = Kafka()
    app = kstream.App("shop")
    app.stream(app.topic("a", key=str, value=str)).to(app.topic("b", key=str, value=str))
    topology = app.topology()
    prepare_topics(topology, kafka.clients.admin(), Settings())
    check_types(topology, kafka.clients, kafka.clients.admin(), SystemClock(), replication=1, go_on=False)
    assert topic_of("shop") not in kafka.cluster.topics()
