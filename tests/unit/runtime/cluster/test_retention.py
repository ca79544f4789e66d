"""Which output topics lose records at once because they carry old event times, and what created ones get."""

from __future__ import annotations

from typing import Any

import pytest

import kstream
from kstream.config import Settings
from kstream.errors import KafkaUnavailable
from kstream.runtime.cluster.prepare import prepare_topics, tell
from kstream.runtime.cluster.retention import created_config, kept, mending, reaches, too_short
from kstream.testing import MemoryCluster, TestDriver
from kstream.testing.clients import MemoryClients

DAY = 24 * 3_600_000


def app_of(**more: Any) -> kstream.App:
    """Orders are summed behind a repartition; `more` is of the input topic."""
    app = kstream.App("shop")
    orders = app.topic("orders", key=str, value=dict, **more)
    totals = app.topic("totals", key=str, value=int)
    app.stream(orders).group_by(lambda order: str(order["who"]), key=str, name="who").count(name="n").to(totals)
    return app


@pytest.mark.parametrize(
    "config,milliseconds",
    [
        ({"retention.ms": "1000"}, 1000),
        ({"retention.ms": "-1"}, float("inf")),
        ({"retention.ms": "1000", "cleanup.policy": "compact"}, float("inf")),
        ({"retention.ms": "1000", "cleanup.policy": "compact,delete"}, 1000),
        ({}, float("inf")),
    ],
)
def test_how_long_a_topic_is_kept(config: dict[str, str], milliseconds: float) -> None:
    assert kept(config) == milliseconds


def test_event_times_reach_through_repartitions() -> None:
    assert reaches(app_of().topology(), {"orders": DAY}) == {"totals": DAY}
    assert reaches(app_of(timestamp="at").topology(), {"orders": DAY}) == {"totals": float("inf")}


def test_dead_letters_are_kept_however_old_their_records_are() -> None:
    app = kstream.App("shop", on_error=[kstream.DeadLetter(), kstream.DeadLetter("mine", on=(KeyError,))][::-1])
    app.stream(app.topic("orders", key=str, value=int)).to(app.topic("prices", key=str, value=int))
    cluster = MemoryCluster()
    prepare_topics(app.topology(), MemoryClients(cluster).admin(), Settings())
    for name in ("shop-dead-letters", "mine"):
        config = cluster.topic(name).config
        assert (config["retention.ms"], config["message.timestamp.after.max.ms"]) == ("-1", str(2**63 - 1))
        assert created_config(app.topology())[name] == {  # whatever the brokers' defaults are
            "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1",
            "message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1),
            "message.timestamp.before.max.ms": str(2**63 - 1),
        }  # fmt: skip
    month, week = {"retention.ms": str(30 * DAY)}, {"retention.ms": str(7 * DAY)}
    found = too_short(app.topology(), {"orders": month, "prices": month, "mine": week, "shop-dead-letters": month})
    assert list(found) == ["mine"] and "topic mine keeps records for 7 days" in found["mine"]


def test_a_compacted_topic_of_dead_letters_is_named() -> None:
    app = kstream.App("shop", on_error=[kstream.DeadLetter()])
    app.stream(app.topic("orders", key=str, value=int)).to(app.topic("prices", key=str, value=int))
    both = {"cleanup.policy": "compact,delete", "retention.ms": "-1"}
    configs = {"orders": both, "prices": both, "shop-dead-letters": both}
    assert too_short(app.topology(), configs) == {
        "shop-dead-letters": "topic shop-dead-letters is compacted: of the dead letters of a key Kafka keeps the last, "
        "and it takes none without a key; set cleanup.policy=delete there"
    }
    app.topic("shop-dead-letters", key=bytes, value=bytes, config={"cleanup.policy": "compact"})
    assert too_short(app.topology(), configs) == {}, "somebody has decided"


def test_a_topic_that_would_lose_records_is_named_with_what_mends_it() -> None:
    week = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY)}
    (line,) = too_short(app_of(timestamp="at").topology(), {"orders": week, "totals": week}).values()
    assert line.startswith(
        "topic totals keeps records for 7 days by their timestamps, which are event times of any age"
    )
    assert "--entity-name totals --add-config retention.ms=-1" in mending("totals")
    forever = {"cleanup.policy": "delete", "retention.ms": "-1"}
    assert "any age" in too_short(app_of().topology(), {"orders": forever, "totals": week})["totals"]
    month = {"retention.ms": str(30 * DAY)}
    assert "up to 30 days ago" in too_short(app_of().topology(), {"orders": month, "totals": week})["totals"]


def test_what_is_kept_long_enough_or_was_decided_is_not() -> None:
    week, forever = {"retention.ms": str(7 * DAY)}, {"retention.ms": "-1"}
    assert too_short(app_of().topology(), {"orders": week, "totals": week}) == {}
    assert too_short(app_of(timestamp="at").topology(), {"orders": week, "totals": forever}) == {}
    assert too_short(app_of(timestamp="at").topology(), {"orders": week}) == {}, "it is not there yet"
    by_broker = {**week, "message.timestamp.type": "LogAppendTime"}
    assert too_short(app_of(timestamp="at").topology(), {"orders": week, "totals": by_broker}) == {}
    assert too_short(app_of().topology(), {"orders": by_broker, "totals": week}) == {}
    app = kstream.App("shop")
    kept_for_a_day = app.topic("totals", key=str, value=str, config={"retention.ms": str(DAY)})
    app.stream(app.topic("orders", key=str, value=str, timestamp=lambda value: 0)).to(kept_for_a_day)
    assert too_short(app.topology(), {"orders": week, "totals": {"retention.ms": str(DAY)}}) == {}


def test_created_output_topics_get_what_their_use_needs() -> None:
    assert created_config(app_of().topology()) == {}
    assert created_config(app_of(config={"retention.ms": "-1"}).topology()) == {"totals": {"retention.ms": "-1"}}
    with TestDriver(app_of(timestamp=lambda order: order["at"])) as d:
        assert d.cluster.topic("totals").config["retention.ms"] == "-1"
        assert d.cluster.topic("orders").config["retention.ms"] == str(7 * DAY), "its time stamps are its producers'"
    app = kstream.App("shop")
    decided = app.topic("totals", key=str, value=str, config={"retention.ms": "1000"})
    app.stream(app.topic("orders", key=str, value=str, timestamp=lambda value: 0)).to(decided)
    with TestDriver(app) as d:
        assert d.cluster.topic("totals").config["retention.ms"] == "1000", "what is declared comes first"


def test_a_start_says_what_there_is_to_do_and_what_would_be_lost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kstream.runtime.cluster")
    cluster, topology = MemoryCluster(), app_of(timestamp="at").topology()
    cluster.create_topic("orders", 3)
    cluster.create_topic("totals", 2)
    admin = MemoryClients(cluster).admin()
    tell(topology, admin, prepare_topics(topology, admin, Settings()), Settings())
    created, tasks, warning = caplog.records
    assert created.getMessage() == ("created topics, with partitions: shop-who-repartition (3), shop-n-changelog (3)")
    assert tasks.getMessage() == "6 tasks; reads, with partitions: orders (3), shop-who-repartition (3)"
    assert warning.levelname == "WARNING" and warning.getMessage().startswith("topic totals keeps records for 7 days")
    caplog.clear()
    tell(topology, admin, prepare_topics(topology, admin, Settings()), Settings())
    assert "created" not in caplog.text, "only what was missing is told"


def test_a_cluster_that_does_not_say_is_no_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    cluster, topology = MemoryCluster(), app_of(timestamp="at").topology()
    admin = MemoryClients(cluster).admin()
    counts = prepare_topics(topology, admin, Settings())
    cluster.fail_next("topic_configs", KafkaUnavailable("we may not"))
    tell(topology, admin, counts, Settings())
    assert caplog.records == []
