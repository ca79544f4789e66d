"""Names that Kafka refuses are refused where they are declared, those of topics that are made of them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import kstream
from kstream.errors import TopologyError
from kstream.specs.names import LONGEST, check_name, cut

BAD = {
    "orders/eu": r"has '/'",
    "a b": r"has ' '",
    "größe": r"has 'ö', 'ß'",
    "a\n": r"has '\\n'",
    "": "is empty",
    ".": "cannot be '.' or '..'",
    "..": "cannot be '.' or '..'",
    "x" * 250: "has 250 letters, and Kafka takes 249",
}


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "x" * 249, "...", "__consumer_offsets"])
def test_what_kafka_takes(name: str) -> None:
    check_name(name, "topic")
    kstream.App("n").topic(name)


def refused(declare: Callable[[kstream.App], Any], match: str, app: str = "shop") -> None:
    with pytest.raises(TopologyError, match=match) as caught:
        declare(kstream.App(app))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", BAD)
def test_topics(name: str) -> None:
    refused(lambda app: app.topic(name), f"^topic '.*: the name {BAD[name]}")


@pytest.mark.parametrize("name", [5, None, b"in"])
def test_names_that_are_no_text(name: Any) -> None:
    refused(lambda app: app.topic(name), "the name is no text")


@pytest.mark.parametrize("name", ["a/b", "größe", "", "a b"])
def test_tables(name: str) -> None:
    refused(lambda app: app.table(name, key=str, value=int), f"^table {name!r}: the name {BAD.get(name, 'has')}")


def grouped(app: kstream.App, **given: Any) -> Any:
    return app.stream(app.topic("in", key=str, value=int)).group_by(str, key=str, **given)


@pytest.mark.parametrize("name", ["a/b", "größe", "", "a b"])
@pytest.mark.parametrize("method", ["count", "reduce"])
def test_aggregations(name: str, method: str) -> None:
    arguments: list[Any] = [max] if method == "reduce" else []
    refused(
        lambda app: getattr(grouped(app, name="g"), method)(*arguments, name=name),
        f"^{method} {name!r}: the name {BAD.get(name, 'has')}",
    )


@pytest.mark.parametrize("name", ["a/b", "größe", "", "a b"])
def test_groups(name: str) -> None:
    refused(lambda app: grouped(app, name=name), f"^group {name!r}: the name {BAD.get(name, 'has')}")
    refused(
        lambda app: app.stream(app.topic("in", key=str, value=int)).group_by_key(name=name),
        f"^group {name!r}: the name {BAD.get(name, 'has')}",
    )


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", ".", ".."])
def test_apps(name: str) -> None:
    with pytest.raises(TopologyError, match=f"^app {name!r}: the name {BAD.get(name, 'has')}"):
        kstream.App(name)


# ---- what is made of them


def test_an_app_s_name_leaves_room_for_what_is_made_of_it() -> None:
    kstream.App("a" * 100)
    with pytest.raises(TopologyError, match=r"has 101 letters, .* takes 100"):
        kstream.App("a" * 101)


def test_changelogs() -> None:
    fits = LONGEST - len("shop--changelog")
    kstream.App("shop").table("t" * fits, key=str, value=int)
    refused(
        lambda app: app.table("t" * (fits + 1), key=str, value=int),
        r"table 'tttt.*: its changelog 'shop-tttt.*-changelog' would have 250 letters, and Kafka takes 249: shorten it",
    )
    refused(
        lambda app: grouped(app, name="g").count(name="t" * (fits + 1)),
        r"count 'tttt.*: its changelog 'shop-tttt.*' would have 250 letters, .*: give it a shorter name=",
    )


def test_repartition_topics() -> None:
    fits = LONGEST - len("shop--repartition")
    grouped(kstream.App("shop"), name="g" * fits)
    refused(
        lambda app: grouped(app, name="g" * (fits + 1)),
        r"group 'gggg.*: its repartition topic 'shop-gggg.*' would have 250 letters, .*: give it a shorter name=",
    )


def test_names_that_nobody_gave_grow_with_the_path() -> None:
    def long(app: kstream.App) -> Any:
        stream: Any = app.stream(app.topic("in", key=str, value=str))
        for _ in range(63):
            stream = stream.map(str.strip, value=str)
        return stream

    refused(lambda app: long(app).group_by(str.lower, key=str), r"group 'in-map-map.*-by': .*: give it a name=")
    refused(lambda app: long(app).group_by_key().count(), r"count 'in-map-map.*-count': .*: give it a name=")


# ---- names that differ for us and not for Kafka


@pytest.mark.parametrize(
    ("declare", "names"),
    [
        (lambda app: (app.topic("a.b"), app.topic("a_b")), "'a.b' and 'a_b'"),
        (lambda app: (app.topic("a_.b"), app.topic("a..b")), "'a_.b' and 'a..b'"),
        (
            lambda app: (app.topic("shop-x.y-changelog"), counted(app, "x_y")),
            "'shop-x.y-changelog' and 'shop-x_y-changelog'",
        ),
        (lambda app: (counted(app, "x_y"), counted(app, "x.y")), "'shop-x_y-changelog' and 'shop-x.y-changelog'"),
        (
            lambda app: (app.topic("shop-g.h-repartition"), grouped(app, name="g_h").count(name="n")),
            "'shop-g.h-repartition' and 'shop-g_h-repartition'",
        ),
    ],
)  # fmt: skip
def test_dots_and_underscores(declare: Callable[[Any], Any], names: str) -> None:
    """Kafka makes no topic whose name differs from another's in those alone: its metrics would be the same."""
    app = kstream.App("shop")
    app.stream(app.topic("other")).peek(print)
    declare(app)
    with pytest.raises(TopologyError, match=f"topics {names} differ only in '.' and '_', .*: rename one"):
        app.topology()


def counted(app: kstream.App, name: str) -> Any:
    topic = app.topic(f"in-{len(name)}{name}".replace(".", "-"), key=str, value=int)
    return app.stream(topic).group_by_key().count(name=name)


def test_long_names_are_cut_in_the_middle() -> None:
    assert cut("short") == "'short'"
    assert cut("a" * 100 + "b" * 100) == f"'{'a' * 28}…{'b' * 28}'"
