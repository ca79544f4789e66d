"""What `kstream send`, `tail` and `table` do, on a Kafka in memory; on a real one they are in tests/broker."""

from __future__ import annotations

import enum
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

import kstream
from kstream.cli import main
from kstream.cli.data.reading import clients_of, find, stores_of, topics_of
from kstream.cli.operate import Subject
from kstream.cli.send import Outgoing, from_lines, headers_of, send
from kstream.cli.table import read
from kstream.cli.tail import Record, follow, line, matching, positions, shown
from kstream.codecs.text import decoded, from_json, from_text, milliseconds, moment
from kstream.config import Settings
from kstream.errors import AbortRequired, UsageError
from kstream.escape import escaped
from kstream.runtime.cluster.records import Reading, bounds, to_end
from kstream.runtime.kafka import KafkaClients
from kstream.specs.schema import schema
from kstream.state.forms import WALL, WALL_ENTRIES, packed, timed_in
from kstream.state.forms import headers_of as form_headers
from kstream.testing import TestDriver
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster
from kstream.types import NewTopic, TopicPartition


class Click(msgspec.Struct):
    page: str
    seconds: float


class Colour(enum.Enum):
    RED = "red"


class Reversed:
    """A codec of a user's."""

    def encode(self, value: str) -> bytes:
        return value[::-1].encode()

    def decode(self, data: bytes) -> str:
        return data.decode()[::-1]


app = kstream.App("clicks")
clicks = app.topic("clicks", key=str, value=Click)
pages = app.topic("clicks-per-page", key=str, value=int)
app.stream(clicks).group_by(lambda click: click.page, key=str, name="by-page").count(name="per-page").to(pages)

PLAIN = Outgoing(None, None, 0, None)


def of(kind: Any) -> Any:
    return schema(kind, "a test").codec


class TestCoding:
    @pytest.mark.parametrize(
        "kind,text,data",
        [
            (str, "home", b"home"),
            (str | None, "null", b"null"),
            (bytes, "\u00fc", "\u00fc".encode()),
            (int, "7", b"7"),
            (Click, '{"seconds": 1, "page": "home"}', b'{"page":"home","seconds":1.0}'),
            (Click | None, "null", None),
            (UUID, "6ba7b810-9dad-11d1-80b4-00c04fd430c8", b'"6ba7b810-9dad-11d1-80b4-00c04fd430c8"'),
            (datetime, "2026-01-31T12:00:00Z", b'"2026-01-31T12:00:00Z"'),
            (Colour, "red", b'"red"'),
            (dict, '{"b": 1, "a": [2]}', b'{"b":1,"a":[2]}'),
            (Any, "7", b"7"),
        ],
    )
    def test_words_become_what_the_app_writes(self, kind: Any, text: str, data: bytes | None) -> None:
        assert from_text(of(kind), text, "the value") == data

    def test_a_codec_of_the_users_is_given_what_the_json_says(self) -> None:
        assert (
            from_text(of(Reversed()), '"abc"', "the value") == from_text(of(Reversed()), "abc", "the value") == b"cba"
        )

    @pytest.mark.parametrize(
        "kind,text,why",
        [
            (int, "seven", "the value is not JSON"),
            (Click, '{"page": "home"}', "the value is not Click: Object missing required field `seconds`"),
            (Click, "null", "the value is not Click"),
            (Any, "home", "the value is not JSON"),
            (float, "true", "the value is not float"),
            (Reversed(), '{"a": 1}', "the value is not"),
        ],
    )
    def test_what_does_not_fit_is_refused_in_one_line(self, kind: Any, text: str, why: str) -> None:
        with pytest.raises(UsageError) as raised:
            from_text(of(kind), text, "the value")
        assert str(raised.value).startswith(why) and "\n" not in str(raised.value)

    def test_text_is_quoted_in_json_lines(self) -> None:
        assert from_json(of(str), b'"home"', "the value") == b"home"
        assert from_json(of(str | None), b"null", "the value") is None
        assert from_json(of(bytes), b'"home"', "the value") == b"home"
        with pytest.raises(UsageError, match="is not str"):
            from_json(of(str), b"7", "the value")

    @pytest.mark.parametrize(
        "kind,data,plain,text",
        [
            (str, b"home", "home", "home"),
            (bytes, b"a\xff", "a\\xff", "a\\xff"),
            (int, b"7", 7, "7"),
            (Click, b'{"page":"home","seconds":1}', {"page": "home", "seconds": 1.0}, '{"page":"home","seconds":1.0}'),
            (Click | None, None, None, "null"),
            (str, b"\x1b[2J\n", "\x1b[2J\n", "\\u001b[2J\\n"),
            (str, "a\x9b".encode(), "a\x9b", "a\\u009b"),
        ],
    )
    def test_bytes_are_shown_as_the_app_reads_them(self, kind: Any, data: bytes | None, plain: Any, text: str) -> None:
        found = decoded(of(kind), data)
        assert (found.plain, found.text, found.error) == (plain, text, None)

    @pytest.mark.parametrize(
        "kind,data,text", [(Click, b"{", "{"), (int, b"\xff\x07", "\\xff\\u0007"), (str, None, "null")]
    )
    def test_what_cannot_be_decoded_says_why(self, kind: Any, data: bytes | None, text: str) -> None:
        found = decoded(of(kind), data)
        assert found.text == text and found.error and "\n" not in found.error

    def test_times_go_there_and_back(self) -> None:
        assert milliseconds("1700000000123", "--from") == 1_700_000_000_123
        assert milliseconds("2023-11-14T22:13:20.123", "--from") == 1_700_000_000_123, "without a zone it is UTC"
        assert milliseconds(moment(1_700_000_000_123), "--from") == 1_700_000_000_123
        assert moment(-1_000_000_000_000_000_000) == "-1000000000000000000 ms"
        with pytest.raises(UsageError, match="--from noon: not a time"):
            milliseconds("noon", "--from")

    def test_only_control_characters_are_escaped(self) -> None:
        assert escaped("a\t\x7f\u2028 \u00fc[/red]") == "a\\t\\u007f\\u2028 \u00fc[/red]"


class TestClients:
    def test_an_end_is_told_at_once_unless_somebody_wants_it_otherwise(self) -> None:
        key = "consumer.fetch.wait.max.ms"

        def waits(**kafka: str) -> str:
            clients = clients_of(Subject(app, Settings(kafka=kafka), {}))
            assert isinstance(clients, KafkaClients)
            return clients._options.raw[key]

        assert waits() == "100"
        assert waits(**{key: "700"}) == "700"


class TestNames:
    def test_repartition_topics_and_changelogs_are_found_too(self) -> None:
        topics = topics_of(app.topology())
        assert list(topics) == ["clicks", "clicks-per-page", "clicks-by-page-repartition", "clicks-per-page-changelog"]
        assert topics["clicks-per-page-changelog"].value.kind is int
        assert list(stores_of(app.topology())) == ["per-page"]

    def test_a_name_that_is_not_there(self) -> None:
        topics = topics_of(app.topology())
        with pytest.raises(UsageError, match="app clicks has no topic 'click'; did you mean clicks"):
            find("topic", "click", topics, "clicks")
        with pytest.raises(UsageError, match="no topic 'x'; it has clicks, clicks-per-page, "):
            find("topic", "x", topics, "clicks")


class TestSend:
    @pytest.fixture
    def cluster(self) -> MemoryCluster:
        cluster = MemoryCluster()
        cluster.create_topic("clicks", 4)
        return cluster

    def test_records_go_where_their_keys_belong(self, cluster: MemoryCluster) -> None:
        outgoing = [Outgoing(b"ann", b"1", 5, [("a", b"b")]), Outgoing(b"ann", None, 0, None)]
        assert send(MemoryClients(cluster), "clicks", outgoing) == 2
        first, second = cluster.records("clicks")
        assert first.partition == second.partition and (first.timestamp, list(first.headers or ())) == (
            5,
            [("a", b"b")],
        )
        assert second.value is None and second.timestamp > 5

    def test_a_full_queue_is_waited_for(self, cluster: MemoryCluster) -> None:
        cluster.produce_buffer_limit = 1
        assert send(MemoryClients(cluster), "clicks", [PLAIN] * 3, 2) == 3
        assert {record.partition for record in cluster.records("clicks")} == {2}

    def test_what_kafka_refuses_is_one_line(self, cluster: MemoryCluster) -> None:
        cluster.fail_next("flush", AbortRequired("a record to clicks was not delivered: too large"))
        with pytest.raises(UsageError, match="not delivered: too large"):
            send(MemoryClients(cluster), "clicks", [PLAIN])

    def test_lines_before_a_bad_one_are_sent_and_it_is_named(self, cluster: MemoryCluster, tmp_path: Path) -> None:
        (tmp_path / "v.jsonl").write_text('{"page":"home","seconds":1}\n\n{"page":7}\n')
        lines = from_lines(tmp_path / "v.jsonl", clicks, PLAIN, whole=False)
        with pytest.raises(UsageError, match=r"v.jsonl:3: the value is not Click: .*; 1 record before it sent"):
            send(MemoryClients(cluster), "clicks", lines)
        assert [record.value for record in cluster.records("clicks")] == [b'{"page":"home","seconds":1.0}']

    def test_whole_records_a_line_each(self, tmp_path: Path) -> None:
        path = tmp_path / "r.jsonl"
        value = {"page": "home", "seconds": 1}
        rows: list[dict[str, Any]] = [
            {"key": "ann", "value": value, "timestamp": 5, "headers": [["a", "b"]], "offset": 9},
            {"value": value, "timestamp": "1970-01-01T00:00:01", "headers": {"a": None}},
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        common = Outgoing(b"bob", None, 7, [("all", b"1")])
        first, second = from_lines(path, clicks, common, whole=True)
        assert (first.key, first.timestamp, first.headers) == (b"ann", 5, [("all", b"1"), ("a", b"b")])
        assert (second.key, second.timestamp, second.headers) == (b"bob", 1000, [("all", b"1"), ("a", None)])

    @pytest.mark.parametrize(
        "text,why",
        [("[]", "a line is"), ('{"value": 7}', "r:1: the value is not Click"), ("x", "a line is"),
         ('{"key": 7, "value": {"page":"home","seconds":1}}', "r:1: the key is not str"),
         ('{"value": {"page":"home","seconds":1}, "timestamp": "soon"}', "r:1: timestamp soon: not a time")],
    )  # fmt: skip
    def test_bad_records(self, tmp_path: Path, text: str, why: str) -> None:
        (tmp_path / "r").write_text(text)
        with pytest.raises(UsageError, match=why):
            list(from_lines(tmp_path / "r", clicks, PLAIN, whole=True))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="No such file"):
            list(from_lines(tmp_path / "no", clicks, PLAIN, whole=True))

    def test_headers(self) -> None:
        assert headers_of(["a=b=c", "d="]) == [("a", b"b=c"), ("d", b"")]
        with pytest.raises(UsageError, match="--header a: write --header NAME=VALUE"):
            headers_of(["a"])


Look = Callable[..., list[Record]]


class TestTail:
    @pytest.fixture
    def cluster(self) -> MemoryCluster:
        cluster = MemoryCluster()
        cluster.create_topic("clicks-per-page", 2)
        for number, (key, value) in enumerate([("home", b"1"), ("news", b"2"), ("home", b"x"), ("sport", b"4")]):
            cluster.append("clicks-per-page", key.encode(), value, number * 1000, [("n", b"%d" % number)], number % 2)
        return cluster

    @pytest.fixture
    def look(self, cluster: MemoryCluster) -> Iterator[Look]:
        readings = []

        def looked(start: str, count: int | None = None, grep: str | None = None) -> list[Record]:
            clients = MemoryClients(cluster)
            at = [TopicPartition("clicks-per-page", number) for number in (0, 1)]
            firsts, ends = bounds(clients.admin(), at)
            readings.append(Reading(clients, clients.admin(), positions(clients.admin(), start, firsts, ends), ends))
            return list(follow(readings[-1], pages, matching(grep), count=count, once=True))

        yield looked
        for reading in readings:
            reading.close()

    def offsets(self, records: list[Record]) -> list[tuple[int, int]]:
        return [(record.row.at.partition, record.row.offset) for record in records]

    def test_from_the_beginning_in_the_order_of_time(self, look: Look) -> None:
        assert self.offsets(look("beginning")) == [(0, 0), (1, 0), (0, 1), (1, 1)]

    def test_from_elsewhere(self, look: Look) -> None:
        assert self.offsets(look("end")) == []
        assert self.offsets(look("1")) == [(0, 1), (1, 1)]
        assert self.offsets(look("99")) == []
        assert self.offsets(look("1970-01-01T00:00:02Z")) == [(0, 1), (1, 1)]
        assert self.offsets(look("2970-01-01")) == []
        with pytest.raises(UsageError, match="--from yesterday: write beginning, end, an offset, or a time"):
            look("yesterday")

    def test_what_was_deleted_is_passed_over(self, cluster: MemoryCluster, look: Look) -> None:
        cluster.truncate("clicks-per-page", 0, 1)
        assert self.offsets(look("0")) == [(1, 0), (0, 1), (1, 1)]

    def test_what_is_deleted_meanwhile_too(self, cluster: MemoryCluster) -> None:
        clients, at = MemoryClients(cluster), TopicPartition("clicks-per-page", 0)
        reading = Reading(clients, clients.admin(), {at: 0}, {at: 2})
        cluster.truncate("clicks-per-page", 0, 1)
        assert [row.offset for row in to_end(reading)] == [1]
        reading.close()

    def test_count_and_grep(self, look: Look) -> None:
        assert self.offsets(look("beginning", 3)) == [(0, 0), (1, 0), (0, 1)]
        assert self.offsets(look("beginning", grep="^(home|sport) [0-9]")) == [(0, 0), (1, 1)]
        assert self.offsets(look("beginning", grep="n=3$")) == [(1, 1)]
        assert self.offsets(look("beginning", 1, "sport")) == [(1, 1)]
        with pytest.raises(UsageError, match=r"--grep \(: "):
            look("beginning", grep="(")

    def test_what_is_not_committed_is_not_shown(self, cluster: MemoryCluster, look: Look) -> None:
        producer = MemoryClients(cluster).producer("open")
        producer.init_transactions(1)
        producer.begin()
        producer.produce("clicks-per-page", b"5", b"late", 0)
        assert len(look("beginning")) == 4
        producer.abort(1)
        assert len(look("beginning")) == 4

    def test_one_that_cannot_be_decoded_is_shown_as_such(self, look: Look) -> None:
        records = look("beginning")
        assert line(records[0]).plain == "1970-01-01T00:00:00.000Z  0@0  home  1  n=0"
        assert line(records[2]).plain.startswith(
            "1970-01-01T00:00:02.000Z  0@1  home  x  n=2  value cannot be decoded: "
        )
        assert records[2].errors.keys() == {"value"}
        made = [json.loads(msgspec.json.encode(shown(record))) for record in records]
        assert made[0] == {"topic": "clicks-per-page", "partition": 0, "offset": 0, "timestamp": 0, "key": "home",
                           "value": 1, "headers": [["n", "0"]]}  # fmt: skip
        assert made[2]["value"] == "x" and made[2]["undecodable"].keys() == {"value"}

    def test_what_tail_writes_can_be_sent(self, look: Look, tmp_path: Path) -> None:
        record = look("beginning", 1)[0]
        (tmp_path / "r").write_bytes(msgspec.json.encode(shown(record)))
        (again,) = from_lines(tmp_path / "r", pages, PLAIN, whole=True)
        assert (again.key, again.value, again.headers) == (b"home", b"1", [("n", b"0")])

    def test_a_key_that_is_not_there(self, cluster: MemoryCluster, look: Look) -> None:
        cluster.append("clicks-per-page", None, b"7", 9000, None, 0)
        assert line(look("2")[0]).plain == "1970-01-01T00:00:09.000Z  0@2  -  7"

    def test_it_goes_on_when_new_ones_come(self, cluster: MemoryCluster) -> None:
        clients, at = MemoryClients(cluster), TopicPartition("clicks-per-page", 0)
        reading = Reading(clients, clients.admin(), {at: 2}, {at: 2})
        records = follow(reading, pages, lambda _: True, count=2, once=False)
        for value in (b"8", b"9"):
            cluster.append("clicks-per-page", b"home", value, None, None, 0)
            assert next(records).value.plain == int(value)
        assert list(records) == []
        reading.close()


class TestTable:
    def test_the_latest_value_of_each_key(self) -> None:
        with TestDriver(app, partitions=2) as d:
            for page in ("home", "news", "home"):
                d.send(clicks, Click(page, 1.0), key="ann")
            d.commit()
            d.send(clicks, Click("open", 1.0), key="ann")  # not committed
            clients = MemoryClients(d.cluster)
            progress: list[tuple[int, int]] = []
            name = "clicks-per-page-changelog"
            found = read(clients, clients.admin(), name, 2, None, lambda done, total: progress.append((done, total)))
            assert {key: value for (_, key), value in found.items()} == {b"home": b"2", b"news": b"1"}
            assert progress[-1][0] == progress[-1][1] > 0
            assert list(read(clients, clients.admin(), name, 2, b"news").values()) == [b"1"]
            assert read(clients, clients.admin(), name, 2, b"open") == {}

    def test_what_was_deleted_is_gone(self) -> None:
        cluster = MemoryCluster()
        cluster.create_topic("log", 1)
        for key, value in ((b"a", b"1"), (b"b", b"2"), (b"a", None)):
            cluster.append("log", key, value)
        clients = MemoryClients(cluster)
        assert read(clients, clients.admin(), "log", 1) == {(0, b"b"): b"2"}

    def test_the_latest_is_what_was_written_last_whatever_its_time_stamp(self) -> None:
        cluster = MemoryCluster()
        cluster.create_topic("log", 2)
        for partition, value, timestamp in ((0, b"1", 2000), (1, b"9", 1500), (0, b"2", 1000)):
            cluster.append("log", b"a", value, timestamp, None, partition)
        clients = MemoryClients(cluster)
        assert read(clients, clients.admin(), "log", 2) == {(0, b"a"): b"2", (1, b"a"): b"9"}


class TestCommands:
    """What is refused before Kafka is asked."""

    @pytest.fixture(autouse=True)
    def project(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        for name in [one for one in os.environ if one.startswith("KSTREAM_")]:
            monkeypatch.delenv(name)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", sys.path[:])
        (tmp_path / "shop_of_data.py").write_text(
            "import kstream\napp = kstream.App('shop')\norders = app.topic('orders', key=str, value=int)\n"
            "app.stream(orders).group_by_key().count(name='total')\n"
        )
        yield
        sys.modules.pop("shop_of_data", None)

    @pytest.mark.parametrize(
        "arguments,why",
        [
            (("send", "A", "order", "7"), "app shop has no topic 'order'; did you mean orders?"),
            (("send", "A", "orders", "seven"), "the value seven is not JSON"),
            (("send", "A", "orders", "7", "--header", "a"), "write --header NAME=VALUE"),
            (("send", "A", "orders", "7", "--timestamp", "soon"), "--timestamp soon: not a time"),
            (("send", "A", "orders", "7", "--file", "x"), "one of them"),
            (("send", "A", "shop-total-changelog", "7"), "internal"),
            (("tail", "A", "nothing"), "app shop has no topic 'nothing'; it has orders, "),
            (("tail", "A", "orders", "--grep", "("), "--grep ("),
            (("tail", "A", "orders", "--count", "0"), "--count"),
            (("table", "A", "totals"), "app shop has no table 'totals'; did you mean total?"),
            (("table", "shop_of_data:orders", "total"), "is not an App but a Topic"),
        ],
    )
    def test_bad_input_is_one_line(
        self, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
    ) -> None:
        assert main([one.replace("A", "shop_of_data:app") if one == "A" else one for one in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and why in err, err


def test_delay_topics_are_topics_of_the_app() -> None:
    """`kstream tail` shows what waits there, in the types of the topic that it is from; nobody sends there."""
    later = kstream.App("later", on_error=[kstream.RetryLater([5])])
    source = later.topic("in", key=str, value=Click)
    later.stream(source).group_by(lambda click: click.page, key=str, name="by").count(name="n")
    topics = topics_of(later.topology())
    for name, of in (("later-in-retry-5s", "in"), ("later-by-repartition-retry-5s", "later-by-repartition")):
        assert (topics[name].key, topics[name].value) == (topics[of].key, topics[of].value)
        assert topics[name].name == name and topics[name].internal


def test_a_table_with_a_ttl_is_shown_without_the_times_of_its_entries() -> None:
    cluster = MemoryCluster()
    clients = MemoryClients(cluster)
    admin, producer = clients.admin(), clients.producer(None)
    admin.create_topics([NewTopic("n-changelog", 1)], 1.0)
    for key, value, form in ((b"a", packed(5) + b"1", WALL), (b"b", timed_in(WALL_ENTRIES, 5, b"[2]"), WALL_ENTRIES)):
        producer.produce("n-changelog", value, key, 0, None, None, 0, form_headers(form))
    producer.produce("n-changelog", b"3", b"c", 0)
    producer.flush(1.0)
    assert read(clients, admin, "n-changelog", 1) == {(0, b"a"): b"1", (0, b"b"): b"[2]", (0, b"c"): b"3"}
