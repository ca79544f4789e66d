"""`kstream demo`, scaled down, on a real Kafka: the flights, and a query of Nexmark."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping

import pytest
from confluent_kafka import Producer
from rich.console import Console

from kstream.errors import UsageError
from kstream.runtime.kafka import KafkaClients
from kstream.types import NewTopic
from services.flights import audit, demo
from services.nexmark import demo as nexmark
from services.nexmark.queries.single import Offer


class Said(Console):
    """A console that is no terminal, and what it was told."""

    def __init__(self) -> None:
        super().__init__(file=io.StringIO(), width=200, highlight=False)

    @property
    def text(self) -> str:
        assert isinstance(self.file, io.StringIO)
        return self.file.getvalue()


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.mark.slow
def test_a_worker_is_killed_and_nothing_is_lost(bootstrap_servers: str, said: Said) -> None:
    status = demo.run(kill=True, workers=2, rate=4_000, bootstrap=bootstrap_servers, limit=16_000, console=said)
    assert status == 0, said.text
    assert re.search(r"16,000 flights in \d+\.\d s: 0 lost, 0 duplicated", said.text)
    killed = re.search(r"SIGKILL to worker (\d)", said.text)
    assert killed and f"worker {killed[1]} works again after" in said.text
    assert "flights" not in " ".join(topics(bootstrap_servers)), "the demo leaves no topics"


def test_the_audit_reads_what_is_committed_and_finds_a_record_too_many(
    bootstrap_servers: str, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, read = audit.read_csv()[:1_000], audit.read
    forged = json.dumps({"legs": 1}).encode()

    def with_forgeries(client: Mapping[str, str]) -> audit.Outputs:
        producer = Producer({**client, "transactional.id": "forger"})
        producer.init_transactions(60)
        producer.begin_transaction()
        producer.produce(audit.AIRCRAFT, forged, b"N1")
        producer.flush(60)
        producer.abort_transaction(60)
        assert audit.compare(audit.expect(rows), read(client), whole_year=False).ok
        producer.begin_transaction()
        producer.produce(audit.AIRCRAFT, forged, b"N1")
        producer.commit_transaction(60)
        return read(client)

    monkeypatch.setattr(audit, "read_csv", lambda: rows)
    monkeypatch.setattr(audit, "read", with_forgeries)
    assert demo.run(kill=False, workers=1, rate=None, bootstrap=bootstrap_servers, limit=1_000, console=said) == 1
    assert "0 lost, 1 duplicated" in said.text and "aircraft N1: 1 updates too many" in said.text


def test_topics_of_someone_else_are_left_alone(bootstrap_servers: str, said: Said) -> None:
    admin = KafkaClients(bootstrap_servers).admin()
    admin.create_topics([NewTopic("flights-of-fancy", 1)], 60)
    try:
        with pytest.raises(UsageError, match=r"has flights-of-fancy: the demo needs topics of its own; delete these"):
            demo.run(kill=False, workers=1, rate=None, bootstrap=bootstrap_servers, limit=10, console=said)
        assert "flights-of-fancy" in topics(bootstrap_servers)
    finally:
        admin.delete_topics(["flights-of-fancy"], 60)
        admin.close()


def test_a_query_of_nexmark_is_judged_by_sql(
    bootstrap_servers: str, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once() -> int:
        return nexmark.run(
            "q2", kill=False, workers=1, rate=None, bootstrap=bootstrap_servers, events=5_000, console=said
        )

    assert once() == 0, said.text
    assert re.search(r"4,604 records in .* 0 rows missing, 0 too many", said.text)
    assert "nexmark" not in " ".join(topics(bootstrap_servers)), "the demo leaves no topics"
    read = nexmark.committed
    monkeypatch.setattr(nexmark, "committed", lambda *given: [*read(*given)[1:], (1, Offer(1, 1))])
    assert once() == 1
    assert "1 rows missing, 1 too many" in said.text and "too many, 1 times: (1, 1)" in said.text
    with pytest.raises(UsageError, match="--nexmark q6: there is no such query; there are q0, q1, q2, "):
        nexmark.run("q6", kill=False, workers=1, rate=None, bootstrap=bootstrap_servers)


def topics(servers: str) -> list[str]:
    admin = KafkaClients(servers).admin()
    try:
        return list(admin.topics(60))
    finally:
        admin.close()
