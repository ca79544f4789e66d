"""What a dead letter is, whoever wrote it, and which of them are meant."""

from __future__ import annotations

from typing import Any

import pytest

import kstream
from kstream.errors import TopicError, UsageError
from kstream.runtime.cluster.dead_letters import (
    Filter,
    Letter,
    Place,
    letter_of,
    letter_topics,
    place_of,
    scan,
    source_topics,
    span_of,
)
from kstream.runtime.cluster.records import Row
from kstream.testing import TestDriver
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster
from kstream.types import Headers, TopicPartition

AT = TopicPartition("shop-dead-letters", 0)
FULL: dict[str, bytes] = {
    "__streams.errors.exception": b"builtins.ValueError",
    "__streams.errors.message": b"no number",
    "__streams.errors.stacktrace": b"Traceback ...",
    "__streams.errors.topic": b"orders",
    "__streams.errors.partition": b"2",
    "__streams.errors.offset": b"41",
    "kstream.app": b"shop",
    "kstream.task": b"orders/2",
    "kstream.time": b"1700000000123",
    "kstream.agent": b"price",
    "kstream.phase": b"process",
    "kstream.attempts": b"3",
}


def row(headers: Headers = (), value: bytes | None = b"v", timestamp: int = 5, offset: int = 7) -> Row:
    return Row(AT, offset, timestamp, b"k", value, headers)


def letter(**more: str | None) -> Letter:
    said = {**FULL, **{name: None if text is None else text.encode() for name, text in more.items()}}
    return letter_of(row([(name, text) for name, text in said.items() if text is not None]))


def test_all_that_ours_say() -> None:
    found = letter_of(row([("trace", b"1"), *FULL.items(), ("trace", None)]))
    assert found.source == Place("orders", 2, 41) and found.place == Place("shop-dead-letters", 0, 7)
    assert (found.exception, found.reason, found.message, found.stacktrace) == (
        "builtins.ValueError", "ValueError", "no number", "Traceback ...",
    )  # fmt: skip
    assert (found.app, found.task, found.agent, found.phase, found.attempts) == (
        "shop", "orders/2", "price", "process", 3,
    )  # fmt: skip
    assert (found.time, found.replays) == (1_700_000_000_123, 0)
    assert list(found.headers) == [("trace", b"1"), ("trace", None)], "the record's own, in their order"


def test_no_header_is_counted_on() -> None:
    bare = letter_of(row())
    assert (bare.reason, bare.source, bare.time, bare.attempts, bare.app) == ("?", None, 5, None, None)
    for name in FULL:
        letter_of(row([one for one in FULL.items() if one[0] != name]))


def test_those_of_kafka_streams() -> None:
    """It writes text, and a topic alone where it knows no more."""
    found = letter_of(row([
        ("__streams.errors.exception", b"org.apache.kafka.common.errors.SerializationException"),
        ("__streams.errors.topic", b"orders"), ("__streams.errors.message", None),
    ]))  # fmt: skip
    assert found.reason == "org.apache.kafka.common.errors.SerializationException"
    assert found.source == Place("orders", -1, -1) and found.message is None


@pytest.mark.parametrize("text", [b"-1", b"x", b"", b"9" * 30, "\u0663".encode(), b"\xff"])
def test_numbers_that_are_none_are_not_known(text: bytes) -> None:
    names = ("__streams.errors.partition", "__streams.errors.offset", "kstream.time", "kstream.attempts")
    found = letter_of(row([*FULL.items(), *((name, text) for name in names), ("kstream.replays", text)]))
    assert (found.source, found.time, found.attempts, found.replays) == (Place("orders", -1, -1), 5, None, 0)


def test_of_several_headers_the_last_one_holds() -> None:
    found = letter_of(row([*FULL.items(), ("__streams.errors.topic", b"later"), ("kstream.replays", b"2")]))
    assert found.source == Place("later", 2, 41) and found.replays == 2


def test_two_letters_about_one_record_have_one_digest() -> None:
    assert letter_of(row([("a", b"b")])).digest == letter_of(row(FULL.items())).digest  # type: ignore[arg-type]
    others = [row(value=None), row(value=b""), row(timestamp=6), Row(AT, 7, 5, None, b"v", ()), row(value=b"k")]
    assert len({letter_of(one).digest for one in [row(), *others]}) == 6


@pytest.mark.parametrize(
    "chosen,fits",
    [
        ({}, True),
        ({"reasons": {"ValueError"}}, True),
        ({"reasons": {"builtins.ValueError"}}, True),
        ({"reasons": {"Value"}}, False),
        ({"agents": {"price"}}, True),
        ({"agents": {"x"}}, False),
        ({"phases": {"process"}}, True),
        ({"phases": {"decode"}}, False),
        ({"sources": {"orders"}}, True),
        ({"sources": {"order"}}, False),
        ({"reasons": {"KeyError", "ValueError"}}, True),
        ({"reasons": {"ValueError"}, "phases": {"decode", "encode"}}, False),
        ({"since": 1_700_000_000_123}, True),
        ({"since": 1_700_000_000_124}, False),
        ({"until": 1_700_000_000_124}, True),
        ({"until": 1_700_000_000_123}, False),
        ({"places": frozenset({Place("shop-dead-letters", 0, 7)})}, True),
        ({"places": frozenset({Place("shop-dead-letters", 1, 7)})}, False),
    ],
)
def test_filters(chosen: dict[str, Any], fits: bool) -> None:
    assert Filter("shop", **chosen).wants(letter()) is fits
    if chosen.keys() & {"reasons", "agents", "phases", "sources"}:
        assert not Filter("shop", **chosen).wants(letter_of(row())), "what is not known does not fit"


def test_a_step_is_called_with_or_without_its_kind() -> None:
    step = letter(**{"kstream.agent": "agent price of all"})
    names = ("agent price of all", "price of all", "price", "agent")
    assert [Filter("shop", agents=frozenset({name})).wants(step) for name in names] == [True, True, False, False]


def test_whose_they_are() -> None:
    assert Filter("shop").is_ours(letter()) and Filter("shop").is_ours(letter_of(row()))
    assert not Filter("mill").is_ours(letter())
    assert Filter("shop", reasons=frozenset({"InvalidOperation"})).wants(
        letter(**{"__streams.errors.exception": "decimal.InvalidOperation"})
    )


def test_names_of_letters() -> None:
    assert place_of("1:20", ["a"]) == Place("a", 1, 20) == place_of("a:1:20", ["a"])
    assert place_of("b:1:20", ["a", "b"]) == Place("b", 1, 20)
    for text in ("", "1", "1:", ":1", "1:x", "a:b:1", "-1:2", "1:-2", "1:\u0663", f"1:{'9' * 19}"):
        with pytest.raises(UsageError, match=r"is no dead letter: write PARTITION:OFFSET"):
            place_of(text, ["a"])
    with pytest.raises(UsageError, match="of which topic"):
        place_of("1:2", ["a", "b"])
    with pytest.raises(UsageError, match="no dead letters are looked for in topic c; they are in a, b"):
        place_of("c:1:2", ["a", "b"])


# ---- where they are


def make_app(**more: Any) -> tuple[kstream.App, Any]:
    app = kstream.App("shop", **more)
    orders = app.topic("orders", key=str, value=int, partitions=2)
    app.stream(orders).map(lambda n: 100 // n).to(app.topic("prices", key=str, value=int))
    return app, orders


def test_the_topics_of_an_app() -> None:
    app, _ = make_app(on_error=[kstream.DeadLetter("slow", on=(TimeoutError,)), kstream.DeadLetter()])
    assert letter_topics(app.topology()) == ["slow", "shop-dead-letters"]
    assert letter_topics(make_app()[0].topology()) == []
    assert list(source_topics(app.topology())) == ["orders"]


def test_those_of_an_app_are_read() -> None:
    app, orders = make_app(on_error=[kstream.DeadLetter()])
    with TestDriver(app, partitions=2) as d:
        for number in (5, 0, 2, 0):
            d.send(orders, number, key=f"k{number}", timestamp=1000 + number)
        d.commit()
        d.crash()
        clients = MemoryClients(d.cluster)
        span = span_of(clients.admin(), "shop-dead-letters")
        told: list[tuple[int, int]] = []
        found = list(scan(clients, clients.admin(), span, None, lambda done, total: told.append((done, total))))
        assert [one.reason for one in found] == ["ZeroDivisionError"] * 2 and told[-1][0] == told[-1][1]
        first, second = (one.source for one in found)
        assert first and second and first.topic == "orders" and first.offset < second.offset
        assert [(one.row.key, one.row.value, one.row.timestamp) for one in found] == [(b"k0", b"0", 1000)] * 2
        only = [one.place for one in scan(clients, clients.admin(), span, frozenset({found[1].place}))]
        assert found[1].place in only
        assert list(scan(clients, clients.admin(), span, frozenset({Place("shop-dead-letters", 0, 99)}))) == []


def test_a_topic_that_is_not_there() -> None:
    with pytest.raises(TopicError, match="there is no topic none"):
        span_of(MemoryClients(MemoryCluster()).admin(), "none")
