"""One code, deployed several times on one cluster: the variables `KSTREAM_APP_NAME`, `KSTREAM_TOPIC_PREFIX` and
`KSTREAM_SHARED_TOPICS`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

import kstream
from kstream.config import Settings
from kstream.config.deployment import FROM_ENVIRONMENT, variable_of
from kstream.config.sources import resolve_settings
from kstream.dsl import deployed
from kstream.errors import ConfigError, TopologyError, UsageError
from kstream.runtime.cluster.naming import snapshots_folder
from kstream.runtime.cluster.rights import rights_of
from kstream.specs.rights import Who
from kstream.testing import TestDriver
from kstream.testing import driver as drivers
from kstream.testing.clock import ManualClock
from kstream.testing.cluster import MemoryCluster


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FROM_ENVIRONMENT:
        monkeypatch.delenv(variable_of(name), raising=False)
    monkeypatch.setattr(deployed, "_renamed", {})


class Shop:
    """An app with everything that has a name in Kafka."""

    def __init__(self) -> None:
        on_error = [kstream.RetryLater([5.0]), kstream.DeadLetter("bad", on=ValueError), kstream.DeadLetter()]
        self.app = app = kstream.App("shop", on_error=on_error)
        self.orders = app.topic("orders", key=str, value=str)
        self.names = app.topic("names", key=str, value=str)
        self.counts = app.topic("counts", key=str, value=int)
        table = app.global_table(self.names)
        joined = app.stream(self.orders).join(table, lambda order, name: order + name, on=str)
        joined.group_by(str, key=str).count().to(self.counts)
        app.agent(app.topic("plain", key=str, value=str), group="apart")(self.look)

    def look(self, one: str) -> None:
        if one == "bad":
            raise ValueError(one)


def in_kafka(app: kstream.App) -> set[tuple[str, str]]:
    """All that it touches there, whoever works with it."""
    return {(right.kind, right.name) for who in get_args(Who) for right in rights_of(app.topology(), Settings(), who)}


def test_a_prefix_is_of_all_names_in_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = in_kafka(Shop().app)
    monkeypatch.setenv("KSTREAM_TOPIC_PREFIX", "staging.")
    shop = Shop()
    assert shop.app.name == "staging.shop" and snapshots_folder(shop.app.name) != snapshots_folder("shop")
    found = in_kafka(shop.app)
    assert len(found) == len(plain) > 15 and all(name.startswith("staging.") for _, name in found)
    # but for delay topics, in whose names both the app and the topic are
    assert {(kind, "staging." + name) for kind, name in plain if "-retry-" not in name} <= found


def test_shared_topics_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSTREAM_TOPIC_PREFIX", "staging.")
    monkeypatch.setenv("KSTREAM_SHARED_TOPICS", "names, bad")
    shop = Shop()
    assert {name for _, name in in_kafka(shop.app) if not name.startswith("staging.")} == {"names", "bad"}
    assert shop.orders.name == "staging.orders" and shop.names.name == "names"


def test_another_name_is_of_all_that_is_named_after_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = in_kafka(Shop().app)
    monkeypatch.setenv("KSTREAM_APP_NAME", "shop-b")
    found = in_kafka(Shop().app)
    theirs = {("topic", name) for name in ("orders", "names", "counts", "plain", "bad")}
    assert plain & found == theirs
    assert all(name.startswith("shop-b") for _, name in found - theirs)


def test_what_keeps_data_has_one_name_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """So commands, queries and savepoints name it alike in staging and in production."""

    def stores(app: kstream.App) -> list[str]:
        topology = app.topology()
        return [store.name for part in topology.parts for store in part.stores] + [one.name for one in topology.tables]

    plain = stores(Shop().app)
    monkeypatch.setenv("KSTREAM_TOPIC_PREFIX", "staging.")
    monkeypatch.setenv("KSTREAM_APP_NAME", "other")
    assert stores(Shop().app) == plain


def test_two_deployments_on_one_cluster_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = MemoryCluster(ManualClock())
    monkeypatch.setattr(drivers, "MemoryCluster", lambda _: cluster)
    production = Shop()
    monkeypatch.setenv("KSTREAM_TOPIC_PREFIX", "staging.")
    staging = Shop()
    with TestDriver(production.app) as one, TestDriver(staging.app) as two:
        for driver, shop, orders in ((one, production, 3), (two, staging, 2)):
            driver.send(shop.names, "a", key="a")
            for _ in range(orders):
                driver.send(shop.orders, "a", key="a")
            driver.commit()
        one.crash()  # what is restored is its own
        one.send(production.orders, "a", key="a")
        one.commit()
        assert max(one.values(production.counts)) == 4 and max(two.values(staging.counts)) == 2


def test_a_dead_letter_goes_where_the_deployment_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSTREAM_TOPIC_PREFIX", "staging.")
    app = kstream.App("shop", on_error=[kstream.DeadLetter("bad", phase="decode")])
    orders = app.topic("orders", key=str, value=int)

    @app.agent(orders, on_error=[kstream.DeadLetter("worse")])
    def look(one: int) -> None:
        raise ValueError(one)

    with TestDriver(app) as driver:
        driver.send(orders, 1, key="a")
        driver.commit()
        assert len(driver.cluster.records("staging.worse")) == 1
    app = kstream.App("shop", on_error=[kstream.DeadLetter("bad", phase="decode")])
    orders = app.topic("orders", key=str, value=int)
    app.agent(orders)(print)
    with TestDriver(app) as driver:
        driver.send_raw(orders, b"x", key=b"a")
        driver.commit()
        assert len(driver.cluster.records("staging.bad")) == 1


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("KSTREAM_APP_NAME", "a b", r"app_name: 'a b' is not a name .* \(from environment KSTREAM_APP_NAME\)"),
        ("KSTREAM_TOPIC_PREFIX", "a/", r"topic_prefix: 'a/' is not at most 60 .*\(from environment"),
        ("KSTREAM_SHARED_TOPICS", "a b", r"shared_topics: 'a b' is not a list of topics with commas"),
    ],
)
def test_names_that_cannot_be(variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=said):
        kstream.App("shop")


def test_a_name_that_the_prefix_makes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSTREAM_TOPIC_PREFIX", "p" * 60)
    with pytest.raises(TopologyError, match="has 101 letters, and kstream takes 100"):
        kstream.App("a" * 41)
    app = kstream.App("a")
    with pytest.raises(TopologyError, match="has 250 letters, and Kafka takes 249"):
        app.topic("t" * 190)


def test_one_name_is_not_for_two_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSTREAM_APP_NAME", "mine")
    assert kstream.App("shop").name == kstream.App("shop").name == "mine"
    with pytest.raises(ConfigError, match=r"is the name of app 'shop' already, and app 'bank' .* KSTREAM_TOPIC_PREFIX"):
        kstream.App("bank")


@pytest.mark.parametrize("name", FROM_ENVIRONMENT)
def test_it_is_said_in_the_environment_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it would be read after the names were made: silently staging would write to production."""
    variable = variable_of(name)
    given: dict[str, Any] = {name: "x"}
    with pytest.raises(ConfigError, match=f"set {variable}"):
        kstream.App("shop", **given)
    (tmp_path / "kstream.toml").write_text(f'{name} = "x"\n')
    with pytest.raises(ConfigError, match=f"set the variable {variable}"):
        resolve_settings({}, {}, tmp_path / "kstream.toml")
    with pytest.raises(ConfigError, match=f"set the variable {variable}"):
        resolve_settings({}, {name: "x"}, None)
    (tmp_path / "secret").write_text("x")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigError, match=f"set the variable {variable}"):
        resolve_settings({}, {}, None)
    monkeypatch.delenv(f"{variable}_FILE")
    monkeypatch.setenv(variable, "x")
    assert getattr(resolve_settings({}, {}, None)[0], name) == "x"


@pytest.mark.parametrize("name", ["app_name", "topic_prefix"])
def test_a_variable_that_comes_after_the_import_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    monkeypatch.setenv(variable_of(name), "x")
    with pytest.raises(ConfigError, match=f"{name}: 'x' comes too late"):
        shop.app.run()
    given: dict[str, Any] = {name: "x"}
    with pytest.raises(ConfigError, match=f"{name}: 'x' comes too late"):
        shop.app.run(settings=Settings(**given))


def test_commands_take_the_names_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from kstream.cli.data.reading import find, topics_of

    monkeypatch.setenv("KSTREAM_TOPIC_PREFIX", "staging.")
    shop = Shop()
    topics = topics_of(shop.app.topology())
    for typed in ("orders", "staging.orders"):
        name = shop.app.names.typed(typed, topics)
        found: Any = find("topic", name, topics, shop.app.name)
        assert found.name == "staging.orders"
    with pytest.raises(UsageError, match=r"has no topic 'ordes'"):
        find("topic", shop.app.names.typed("ordes", topics), topics, shop.app.name)


def test_a_sample_may_call_topics_as_the_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kstream.cli.planning.sample import from_file

    monkeypatch.setenv("KSTREAM_TOPIC_PREFIX", "staging.")
    shop = Shop()
    file = tmp_path / "sample.jsonl"
    file.write_text('{"topic": "orders", "value": "a"}\n{"topic": "staging.plain", "value": "b"}\n')
    assert from_file(file, shop.app.topology(), shop.app.names).topics == {"staging.orders", "staging.plain"}
