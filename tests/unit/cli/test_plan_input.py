"""What `kstream plan` is given: rates, sizes, numbers of keys and samples, good and bad; of bad input one line."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.cli import main
from kstream.cli.plan import keys_of, rate_of, target_of
from kstream.cli.planning.measure import apart
from kstream.cli.planning.sample import Sample, SampleRecord, from_file, sources_of
from kstream.errors import ConfigError, UsageError
from kstream.topology import Topology


@dataclass
class Ride:
    start: datetime
    fare: float


class Reversed:
    """A codec of a user's."""

    def encode(self, value: str) -> bytes:
        return value[::-1].encode()

    def decode(self, data: bytes) -> str:
        return data.decode()[::-1]


app = kstream.App("cabs")
rides = app.topic("rides", key=str, value=Ride)
raw = app.topic("raw", key=bytes, value=bytes)
anything = app.topic("anything", key=int)
removed = app.topic("removed", key=str, value=str | None)
custom = app.topic("custom", key=str, value=Reversed())
for topic in (rides, raw, anything, removed, custom):
    app.stream(topic).map(lambda value: value).to(app.topic(f"{topic.name}-out", key=topic.key.kind))
app.stream(rides).group_by(lambda ride: str(ride.fare), key=str, name="by-fare").count(name="fares")

alone = kstream.App("alone")
alone.stream(alone.topic("only", key=str, value=int)).group_by_key().count(name="n")

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def lines(*given: Any) -> Path:
        path = tmp_path / "sample.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in given))
        return path

    return lines


def read(path: Path, of: Topology | None = None) -> list[SampleRecord]:
    return list(from_file(path, of or app.topology()).records)


def test_only_what_others_write_is_given() -> None:
    assert list(sources_of(app.topology())) == ["rides", "raw", "anything", "removed", "custom"]


def test_records_become_what_their_topics_carry(write: Write) -> None:
    bits = base64.b64encode(b"\x00\xff").decode()
    path = write(
        {"topic": "rides", "key": "ann", "value": {"start": "2026-11-23T10:00:00Z", "fare": 9.5}, "timestamp": 5},
        "",
        {"topic": "raw", "key": bits, "value": bits, "timestamp": "1970-01-01T00:00:02Z"},
        {"topic": "anything", "key": 7, "value": {"b": [1, None], "a": 2}},
        {"topic": "removed", "key": "gone", "value": None, "timestamp": "1970-01-01T00:00:03"},
        {"topic": "custom", "value": base64.b64encode(b"cba").decode()},
    )
    assert read(path) == [
        SampleRecord("rides", b"ann", b'{"start":"2026-11-23T10:00:00Z","fare":9.5}', 5),
        SampleRecord("raw", b"\x00\xff", b"\x00\xff", 2000),
        SampleRecord("anything", b"7", b'{"b":[1,null],"a":2}', 0),
        SampleRecord("removed", b"gone", None, 3000),
        SampleRecord("custom", None, b"cba", 0),
    ]


def test_the_only_topic_need_not_be_named(write: Write) -> None:
    assert read(write({"key": "a", "value": 3}), alone.topology()) == [SampleRecord("only", b"a", b"3", 0)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json", "JSON is malformed"),
        ('["a"]', "Expected `object`"),
        ({"topic": "rides", "key": "a"}, "missing required field `value`"),
        ({"topic": "rides", "value": {}, "offset": 3}, "unknown field `offset`"),
        ({"topic": "taxis", "value": 1}, "the app does not read a topic 'taxis', but rides, raw, anything"),
        ({"value": 1}, 'the app reads rides, raw, anything, removed, custom: say which one with "topic"'),
        ({"topic": "rides", "value": {"fare": "much"}}, "the value is not Ride: "),
        ({"topic": "rides", "value": None}, "the value is not Ride: "),
        ({"topic": "rides", "key": 5, "value": {}}, "the key is not str: Expected `str`, got `int`"),
        ({"topic": "raw", "value": "%%"}, "the value is not bytes: Invalid base64"),
        ({"topic": "custom", "value": "abc%"}, "the value is not base64 of what "),
        ({"topic": "raw", "value": "", "timestamp": "noon"}, "Invalid RFC3339"),
    ],
)
def test_a_bad_line_is_told_with_its_number(write: Write, line: Any, says: str) -> None:
    path = write({"topic": "anything", "value": 1}, "", line)
    with pytest.raises(ConfigError) as error:
        read(path)
    text = str(error.value)
    assert text.startswith(f"{path}:3: ") and says in text and "\n" not in text


def test_an_empty_file_and_one_that_is_not_there(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no records in it; one line each"):
        read(write("", ""))
    with pytest.raises(ConfigError, match=r"--records .*nowhere: No such file"):
        read(tmp_path / "nowhere")


def test_a_sample_goes_round() -> None:
    records = [SampleRecord("t", b"%d" % n, b"xy") for n in range(3)]
    sample = Sample([*records, SampleRecord("t", b"1", b"xyz"), SampleRecord("t", None, None)], "here")
    assert [one.key for one in sample.repeated(0, 7)] == [b"0", b"1", b"2", b"1", None, b"0", b"1"]
    assert [one.key for one in sample.repeated(7, 3)] == [b"2", b"1", None]
    assert (sample.keys, sample.hottest, sample.bytes) == (3, 0.4, 13 / 5)
    alike = Sample([SampleRecord("a", b"k", b""), SampleRecord("b", b"k", b"")], "here")
    assert alike.keys == 2, "keys of two topics are two keys"


# ---- options


@pytest.mark.parametrize(
    ("text", "rate"), [("5000", 5000), ("50k", 50e3), ("1.5M", 1.5e6), ("100M/s", 1e8), (" 2 K ", 2e3), ("1g", 1e9)]
)
def test_rates(text: str, rate: float) -> None:
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "50q", "k", "-5k", "0", "0.1", "1e6", "5 kk", "fast", "5k/min"])
def test_bad_rates(text: str) -> None:
    with pytest.raises(ConfigError, match="give records a second, 1 or more, such as 5000, 50k"):
        rate_of(text)


def test_numbers_of_keys() -> None:
    assert keys_of(["10M", "seen=2k", "odd=name=7"]) == {"": 10_000_000, "seen": 2000, "odd=name": 7}
    for bad in ("", "many", "seen=", "=5", "5/s"):
        with pytest.raises(ConfigError, match="--keys"):
            keys_of([bad])


def test_sizes_of_instances() -> None:
    target = target_of("5k", 8, "4GiB", 12, ["100"])
    assert (target.cores, target.memory, target.partitions) == (8, 4 << 30, 12)
    assert target_of("5k", None, None, None, []).cores >= 1
    with pytest.raises(UsageError, match="--memory plenty: is not a size"):
        target_of("5k", None, "plenty", None, [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing option '--rate'"),
        (["--rate", "50q"], "--rate 50q: give records a second"),
        (["--rate", "50k", "--keys", "nothing=5"], "the app has no store 'nothing', but n"),
        (["--rate", "50k", "--records", "/nowhere"], "--records /nowhere: No such file"),
        (["--rate", "50k", "--cores", "0"], "Invalid value for '--cores'"),
        (["--rate", "50k", "--bootstrap-servers", "127.0.0.1:1"], "or give a sample with --records FILE"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "planned.py").write_text(
        'import kstream\napp = kstream.App("alone")\n'
        'app.stream(app.topic("only", key=str, value=int)).group_by_key().count(name="n")\n'
    )
    monkeypatch.setattr("kstream.cli.planning.sample.TIMEOUT", 0.5)
    assert main(["plan", "planned:app", *arguments]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == "" and line.startswith("kstream: ") and says in line


# ---- what is measured together


def test_isolation_groups_are_measured_apart_unless_one_feeds_the_other() -> None:
    many = kstream.App("many")
    clicks = many.topic("clicks", key=str, value=str)
    many.stream(clicks).group_by_key().count(name="light")
    many.stream(clicks, group="heavy").group_by_key().count(name="heavy")
    many.stream(clicks, group="first").group_by(str.lower, key=str, name="by-word", group="second").count(name="words")
    found = [(bundle.groups, [part.name for part in bundle.parts]) for bundle in apart(many.topology())]
    assert found == [
        (["default"], ["clicks"]),
        (["heavy"], ["clicks@heavy"]),
        (["first", "second"], ["clicks@first", "many-by-word-repartition@second"]),
    ]
