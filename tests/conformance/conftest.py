"""One suite for the Kafka clients (the protocols of kstream/types.py), run over the real ones and those in memory.

What the real ones do is right: where a test fails in memory only, `kstream/testing` is mended.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kstream.types import AdminClient, Clients, ConsumerClient, ProducerClient
from support.clusters import SECONDS, Cluster, MemoryOne, RealCluster, make_topic, name


@pytest.fixture(params=["memory", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    found: Cluster
    found = MemoryOne() if request.param == "memory" else RealCluster(request.getfixturevalue("bootstrap_servers"))
    yield found
    found.close()


@pytest.fixture
def clients(cluster: Cluster) -> Clients:
    return cluster.clients


@pytest.fixture
def admin(clients: Clients) -> Iterator[AdminClient]:
    admin = clients.admin()
    yield admin
    admin.close()


@pytest.fixture
def topic(clients: Clients) -> str:
    """Of two partitions."""
    return make_topic(clients, 2)


@pytest.fixture
def reader(clients: Clients) -> Iterator[ConsumerClient]:
    reader = clients.reader()
    yield reader
    reader.close()


@pytest.fixture
def producer(clients: Clients) -> Iterator[ProducerClient]:
    """Transactional, with `init_transactions` done."""
    producer = clients.producer(name("tx"))
    producer.init_transactions(SECONDS)
    yield producer
    producer.close()
