"""How large the records of changelogs and repartition topics may be: what they are made with, and what is told of those
that are there."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest

import kstream
from kstream.config import Settings
from kstream.config.kinds import GUARANTEED
from kstream.errors import ConfigError, KafkaUnavailable, TopologyError, UsageError
from kstream.runtime.cluster.prepare import prepare_topics, tell
from kstream.runtime.cluster.sizes import batches_of, refuse_batch
from kstream.runtime.cluster.topics import INTERNAL
from kstream.testing import MemoryCluster
from kstream.testing.clients import MemoryClients
from kstream.types import NewTopic

SIZE = "max.message.bytes"
LARGE = {"kafka": {"message.max.bytes": "5000000"}}


def app_of(**more: Any) -> kstream.App:
    """A count behind a repartition, and a table that an agent writes; `more` is of the table."""
    app = kstream.App("shop")
    orders = app.topic("orders", key=str, value=str)
    app.stream(orders).group_by(str, key=str, name="who").count(name="n")
    notes = app.table("notes", key=str, value=str, **more)

    @app.agent(orders)
    async def note(stream: kstream.AgentStream[str, str]) -> None:
        async for event in stream.events():
            notes[event.key] = event.value

    return app


def made(app: kstream.App, settings: Settings) -> dict[str, Mapping[str, str]]:
    """The settings of all topics, made by a start."""
    cluster = MemoryCluster()
    prepare_topics(app.topology(), MemoryClients(cluster).admin(), settings)
    return {name: info.config for name, info in cluster.topics().items()}


def told(app: kstream.App, cluster: MemoryCluster, settings: Settings, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a start warns of."""
    admin = MemoryClients(cluster).admin()
    counts = prepare_topics(app.topology(), admin, settings)
    caplog.clear()
    tell(app.topology(), admin, counts, settings)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_tables_own_settings_go_before_those_of_the_app_and_those_before_what_the_producer_may_send() -> None:
    app = app_of(changelog={SIZE: "7000000", "min.cleanable.dirty.ratio": "0.1"})
    settings = Settings(changelog={SIZE: "6000000", "segment.bytes": "1048576"}, **LARGE)
    topics = made(app, settings)
    assert topics["shop-notes-changelog"][SIZE] == "7000000"
    assert topics["shop-notes-changelog"]["min.cleanable.dirty.ratio"] == "0.1"
    assert topics["shop-n-changelog"][SIZE] == "6000000"
    assert topics["shop-n-changelog"]["min.cleanable.dirty.ratio"] == "0.5"
    assert topics["shop-who-repartition"][SIZE] == "5242940", "no changelog"
    assert topics["orders"][SIZE] == "1048588"
    for name in ("shop-notes-changelog", "shop-n-changelog"):
        assert topics[name]["segment.bytes"] == "1048576"
        assert topics[name].items() >= INTERNAL["changelog"].items()
    assert topics["orders"]["segment.bytes"] == "1073741824"
    assert topics["shop-who-repartition"]["segment.bytes"] == "52428800", "as all repartition topics"


def test_what_kstream_guarantees_of_changelogs_is_refused_by_name() -> None:
    assert set(GUARANTEED) >= set(INTERNAL["changelog"])
    for name in GUARANTEED:
        with pytest.raises(TopologyError, match=f"^table 'notes': changelog may not hold {name}: .*; leave it out$"):
            app_of(changelog={name: "1"})
        with pytest.raises(ConfigError, match=f"^changelog: .* may not hold {name}: "):
            Settings(changelog={name: "1"})


def test_a_tables_settings_are_text() -> None:
    with pytest.raises(TopologyError, match=r"table 'notes': changelog=.* Kafka's settings and their values are text"):
        app_of(changelog={SIZE: 6000000})


def test_topics_that_refuse_what_may_be_sent_are_told_at_a_start(caplog: pytest.LogCaptureFixture) -> None:
    cluster = MemoryCluster()
    assert told(app_of(), cluster, Settings(), caplog) == []
    lines = told(app_of(), cluster, Settings(**LARGE), caplog)
    assert [line.split()[1] for line in lines] == ["shop-who-repartition", "shop-notes-changelog", "shop-n-changelog"]
    assert lines[2] == (
        "topic shop-n-changelog takes no batches of more than 1048588 bytes (max.message.bytes), and "
        "kafka.message.max.bytes lets us send 5000000: a larger record would stop its task; kafka-configs.sh --alter "
        "--entity-type topics --entity-name shop-n-changelog --add-config max.message.bytes=5242940"
    )
    raised = Settings(kafka={"producer.message.max.bytes": "5000000"})
    assert "kafka.producer.message.max.bytes lets us" in told(app_of(), cluster, raised, caplog)[0]
    for name in ("shop-who-repartition", "shop-notes-changelog", "shop-n-changelog"):
        cluster.configure(name, {SIZE: "5242940"})
    assert told(app_of(), cluster, Settings(**LARGE), caplog) == []
    cluster.configure("shop-n-changelog", {SIZE: "10000"})
    (line,) = told(app_of(), cluster, Settings(), caplog)
    assert line.startswith("topic shop-n-changelog takes no batches of more than 10000 bytes")
    assert "lets us send 1000000" in line, "where it is not set, too"


def test_what_is_declared_of_a_changelog_is_what_it_is_held_to(caplog: pytest.LogCaptureFixture) -> None:
    cluster, small = MemoryCluster(), app_of(changelog={SIZE: "50000"})
    assert told(small, cluster, Settings(), caplog) == [], "somebody has decided"
    (line,) = told(app_of(changelog={SIZE: "60000"}), cluster, Settings(), caplog)
    assert line.startswith("topic shop-notes-changelog takes no batches of more than 50000 bytes (max.message.bytes), ")
    assert "table notes says 60000" in line and line.endswith("--add-config max.message.bytes=60000")
    lines = told(app_of(), cluster, Settings(changelog={SIZE: "2000000"}), caplog)
    assert [line.split()[1] for line in lines] == ["shop-notes-changelog", "shop-n-changelog"]
    assert all("changelog.max.message.bytes says 2000000" in line for line in lines)


def test_a_cluster_that_does_not_say_is_no_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    cluster = MemoryCluster()
    admin, topology = MemoryClients(cluster).admin(), app_of().topology()
    counts = prepare_topics(topology, admin, Settings())
    for _ in range(2):  # it is asked for output topics first
        cluster.fail_next("topic_configs", KafkaUnavailable("we may not"))
    tell(topology, admin, counts, Settings(**LARGE))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("table", "cluster", "compression", "value", "refused"),
    [
        ({SIZE: "5000"}, {}, "none", bytes(6000), r"6,003 bytes, and its changelog takes no batches .* 5,000"),
        ({SIZE: "5000"}, {}, "lz4", bytes(6000), ""),
        ({SIZE: "5000"}, {}, "lz4", random.Random(1).randbytes(6000), r"bytes compressed, and its changelog takes no"),
        ({SIZE: "5000"}, {}, "zstd", random.Random(1).randbytes(6000), ""),
        ({}, {SIZE: "4000"}, "none", bytes(6000), r"more than 4,000"),
        ({}, {}, "none", bytes(6000), ""),
    ],
    ids=["declared", "smaller compressed", "not smaller compressed", "nobody knows", "of the brokers", "much"],
)  # fmt: skip
def test_an_entry_is_held_against_what_its_changelog_will_take(
    table: dict[str, str], cluster: dict[str, str], compression: Any, value: bytes, refused: str
) -> None:
    app, there = app_of(**({"changelog": table} if table else {})), MemoryCluster()
    admin, settings = MemoryClients(there).admin(), Settings(compression=compression)
    admin.create_topics([NewTopic("shop-notes-changelog", 4, -1, cluster)], 1.0)
    spec = next(store for part in app.topology().parts for store in part.stores if store.name == "notes")
    most = batches_of(app.topology(), {"notes": spec}, settings, admin)
    with pytest.raises(UsageError, match=refused) if refused else nullcontext():
        refuse_batch(spec, b"key", value, most["notes"], compression)
