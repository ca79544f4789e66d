"""Instances that find each other: what is announced, who is shown as what, and trouble that disturbs nobody."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from kstream.clock import SystemClock
from kstream.errors import KafkaUnavailable, ProducerLost
from kstream.observe.status import (
    CheckpointStatus,
    ErrorStatus,
    InputStatus,
    InstanceStatus,
    StoreStatus,
    TaskStatus,
    WorkerStatus,
)
from kstream.runtime.cluster import announce, announcement
from kstream.runtime.cluster import directory as directory_module
from kstream.runtime.cluster.announce import Announcer, encode, read_instances, topic_of
from kstream.runtime.cluster.directory import Announcement, Directory, Heard
from kstream.runtime.kafka import KafkaOptions
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster
from kstream.types import TopicPartition
from support.running import until


def status(name: str, tasks: int = 1, **more: Any) -> InstanceStatus:
    return InstanceStatus(
        app="a",
        instance=name,
        state="running",
        at=1.0,
        started=0.5,
        ready=True,
        workers=[WorkerStatus("0", "running")],
        tasks=[
            TaskStatus(f"orders/{n}", "0", "running", lag=n, inputs=[InputStatus("orders", n, 10, n, 99.5)])
            for n in range(tasks)
        ],
        **more,
    )


def heavy(name: str) -> InstanceStatus:
    return status(
        name,
        stores=[StoreStatus("s", "orders")],
        checkpoints=[CheckpointStatus(1.0, "0", 0.1)],
        errors=[ErrorStatus(1.0, "oh")],
        edges={"a>b": 3.0},
    )


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(SystemClock())


@pytest.fixture
def started(cluster: MemoryCluster) -> Iterator[Callable[..., Announcer]]:
    made: list[Announcer] = []

    def start(name: str, interval: float = 0.05, make: Callable[[], InstanceStatus] | None = None) -> Announcer:
        announcer = Announcer(MemoryClients(cluster), "a", interval, make or (lambda: status(name)))
        made.append(announcer)
        announcer.start()
        return announcer

    yield start
    for announcer in made:
        announcer.stop()


def names(announcer: Announcer) -> list[tuple[str, str]]:
    return [(one.instance, one.state) for one in announcer.others()]


class TestWhatIsAnnounced:
    def test_it_is_light_and_comes_back_the_same(self) -> None:
        said = msgspec.json.decode(encode(heavy("x"), 5.0), type=Announcement)
        assert (said.stores, said.checkpoints, said.errors, said.edges) == ([], [], [], {})
        assert (said.interval, said.workers, said.tasks) == (5.0, heavy("x").workers, heavy("x").tasks)

    def test_what_is_announced_is_left_as_it_was(self) -> None:
        original = heavy("x")
        encode(original, 5.0)
        assert original == heavy("x")

    @pytest.mark.parametrize("tasks,kept,inputs", [(64, 64, 1), (2200, 2200, 0), (10_000, 0, 0)])
    def test_it_stays_below_what_a_broker_takes(self, tasks: int, kept: int, inputs: int) -> None:
        data = encode(status("x", tasks), 5.0)
        said = msgspec.json.decode(data, type=Announcement)
        assert len(data) <= announcement.MAX_BYTES and len(said.tasks) == kept
        assert all(len(task.inputs) == inputs for task in said.tasks)

    def test_another_version_may_say_more(self) -> None:
        text = encode(status("x"), 5.0).replace(b'"app"', b'"news":[1,{}],"app"')
        assert msgspec.json.decode(text, type=Announcement).instance == "x"

    def test_quiet_options_keep_the_users_own(self) -> None:
        options = announce.quiet(KafkaOptions(raw={"sasl.mechanism": "PLAIN"}, linger=0.2))
        config = options.consumer("h:1", None, None)
        assert config["sasl.mechanism"] == "PLAIN" and config["fetch.wait.max.ms"] == "5000"
        assert options.producer("h:1", None)["linger.ms"] == 200


class TestDirectory:
    """Times are given: 10 s between announcements."""

    def shown(self, after: float) -> list[InstanceStatus]:
        directory = Directory()
        said = msgspec.json.decode(encode(status("x"), 10.0), type=Announcement)
        directory.hear("x", Heard(said, 100.0))
        return directory.instances(100.0 + after, 5000.0 + after)

    @pytest.mark.parametrize(
        "after,state,ready",
        [(0.0, "running", True), (30.0, "running", True), (30.1, "silent", False), (600.0, "silent", False)],
    )
    def test_three_intervals_of_silence(self, after: float, state: str, ready: bool) -> None:
        (one,) = self.shown(after)
        assert (one.state, one.ready, one.at) == (state, ready, 5000.0)
        assert one.reasons == ([] if ready else [f"not heard of for {after:.0f} s"])

    def test_forgotten_after_ten_minutes(self) -> None:
        assert self.shown(600.1) == []

    def test_slow_announcers_are_not_forgotten_before_they_are_silent(self) -> None:
        directory = Directory()
        directory.hear("x", Heard(msgspec.json.decode(encode(status("x"), 300.0), type=Announcement), 0.0))
        assert [one.state for one in directory.instances(899.0, 0.0)] == ["running"]
        assert [one.state for one in directory.instances(1199.0, 0.0)] == ["silent"]
        assert directory.instances(1201.0, 0.0) == []

    def test_one_that_comes_back(self) -> None:
        directory = Directory()
        said = msgspec.json.decode(encode(status("x"), 10.0), type=Announcement)
        directory.hear("x", Heard(said, 0.0))
        directory.hear("x", Heard(said, 100.0))
        assert [one.state for one in directory.instances(110.0, 0.0)] == ["running"]
        directory.hear("x", None)
        assert directory.instances(110.0, 0.0) == []


class TestAnnouncers:
    def test_they_see_each_other_and_not_themselves(self, started: Callable[..., Announcer]) -> None:
        began = time.time()
        a, b = started("a"), started("b")
        until(lambda: names(a) == [("b", "running")] and names(b) == [("a", "running")], "each other")
        (seen,) = a.others()
        assert seen.tasks == status("b").tasks and began - 1 < seen.at < time.time() + 1

    def test_a_clean_stop_is_told_at_once(self, started: Callable[..., Announcer], cluster: MemoryCluster) -> None:
        a, b = started("a"), started("b", interval=60.0)
        until(lambda: names(a) == [("b", "running")], "b")
        began = time.monotonic()
        b.stop(30)
        assert time.monotonic() - began < 30, "the next announcement was waited for"
        assert [r.key for r in cluster.records(topic_of("a")) if r.value is None] == [b"b"]
        until(lambda: names(a) == [], "b to be gone")

    def test_one_that_was_killed_falls_silent(self, started: Callable[..., Announcer], cluster: MemoryCluster) -> None:
        a = started("a")
        until(lambda: "a-instances" in cluster.topics(), "the topic")
        cluster.append("a-instances", b"dead", encode(status("dead"), 60.0))
        until(lambda: names(a) == [("dead", "running")], "it to be seen")
        cluster.append("a-instances", b"dead", encode(status("dead"), 0.01))  # and no more for three times as long
        until(lambda: names(a) == [("dead", "silent")], "it to fall silent")

    def test_an_announcement_on_demand(self, started: Callable[..., Announcer]) -> None:
        said = []

        def make() -> InstanceStatus:
            said.append(1)
            return status("a")

        a = started("a", interval=1000.0, make=make)
        until(lambda: said, "the first")
        a.announce()
        until(lambda: len(said) == 2, "the second")

    def test_the_topic_forgets(self, started: Callable[..., Announcer], cluster: MemoryCluster) -> None:
        started("a")
        until(lambda: "a-instances" in cluster.topics(), "the topic")
        info = cluster.topic("a-instances")
        assert (info.partitions, info.config["cleanup.policy"]) == (1, "compact,delete")
        assert info.config["message.timestamp.type"] == "LogAppendTime" and info.config["retention.ms"] == "3600000"

    def test_without_an_interval_there_is_none(self, cluster: MemoryCluster) -> None:
        with pytest.raises(ValueError, match="make no Announcer"):
            Announcer(MemoryClients(cluster), "a", 0.0, lambda: status("a"))

    def test_stop_before_start(self, cluster: MemoryCluster) -> None:
        Announcer(MemoryClients(cluster), "a", 1.0, lambda: status("a")).stop()


class TestTrouble:
    def test_kafka_away_at_first(
        self, started: Callable[..., Announcer], cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, announce.log.name)
        for _ in range(3):
            cluster.fail_next("admin.topics", KafkaUnavailable("no Kafka broker answers"))
        b = started("b")
        until(lambda: "this instance announces itself again" in caplog.text, "it to get over it")
        until(lambda: "b" in [one.instance for one in read_instances(MemoryClients(cluster), "a", 5)], "b")
        assert caplog.text.count("no Kafka broker answers") == 1
        assert names(b) == []

    def test_errors_are_logged_once_and_got_over_with_new_clients(
        self,
        started: Callable[..., Announcer],
        cluster: MemoryCluster,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A memory producer that failed stays failed, as a real one whose record was refused."""
        monkeypatch.setattr(announce, "RETRY_SECONDS", 0.5)
        caplog.set_level(logging.INFO, announce.log.name)
        a = started("a")
        until(lambda: len(read_instances(MemoryClients(cluster), "a", 5)) == 1, "a")
        before = len(cluster.records("a-instances"))
        cluster.fail_next("producer.produce", ProducerLost("refused"))
        until(lambda: "refused" in caplog.text, "the trouble")
        until(lambda: len(cluster.records("a-instances")) > before + 3, "it to go on")
        assert 1 <= caplog.text.count("other instances may not see this one") <= 3
        assert names(a) == []

    def test_a_status_that_cannot_be_made(
        self, started: Callable[..., Announcer], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, announce.log.name)
        calls: list[int] = []

        def make() -> InstanceStatus:
            calls.append(1)
            if len(calls) == 1:
                raise ZeroDivisionError("a bug")
            return status("a")

        a, b = started("a", make=make), started("b")
        until(lambda: names(b) == [("a", "running")], "a to go on")
        assert "ZeroDivisionError: a bug" in caplog.text and "Traceback" in caplog.text
        until(lambda: names(a) == [("b", "running")], "b")

    def test_nonsense_in_the_topic(self, started: Callable[..., Announcer], cluster: MemoryCluster) -> None:
        a = started("a")
        until(lambda: "a-instances" in cluster.topics(), "the topic")
        whole = encode(status("new"), 5.0)
        bad = whole.replace(b"running", b"dancing"), whole.replace(b'"new"', b'"\xff"'), b'{"x": ' + b"[" * 100_000
        for value in (b"\xff\x00", b"[]", b'{"app": 1}', *bad):
            cluster.append("a-instances", b"odd", value)
        cluster.write(TopicPartition("a-instances", 0), None, b"{}", None, None)  # from before it was compacted
        cluster.append("a-instances", b"b", encode(status("b"), 5.0))
        until(lambda: names(a) == [("b", "running")], "b")


class TestReadInstances:
    def test_none_ever_announced(self, cluster: MemoryCluster) -> None:
        assert read_instances(MemoryClients(cluster), "a", 5) == []

    def test_the_latest_of_each_with_its_age(self, cluster: MemoryCluster) -> None:
        cluster.create_topic("a-instances")
        now = time.time()
        cluster.append("a-instances", b"b", encode(status("b", 3), 5.0), timestamp=int((now - 4) * 1000))
        cluster.append("a-instances", b"b", encode(status("b", 2), 5.0), timestamp=int((now - 2) * 1000))
        cluster.append("a-instances", b"gone", encode(status("gone"), 5.0))
        cluster.append("a-instances", b"gone", None)
        cluster.append("a-instances", b"quiet", encode(status("quiet"), 5.0), timestamp=int((now - 60) * 1000))
        cluster.append("a-instances", b"old", encode(status("old"), 5.0), timestamp=int((now - 601) * 1000))
        b, quiet = read_instances(MemoryClients(cluster), "a", 5)
        assert (b.instance, b.state, len(b.tasks), round(now - b.at)) == ("b", "running", 2, 2)
        assert (quiet.instance, quiet.state, quiet.ready) == ("quiet", "silent", False)
        heard = re.fullmatch(r"not heard of for (\d+) s", quiet.reasons[0])
        assert heard is not None and 60 <= int(heard[1]) < 120


class TestWhoeverMayWriteToTheTopic:
    """What others claim is kept within limits, and nothing that is no announcement stops the reading."""

    @pytest.mark.parametrize(
        "value",
        [
            b"\xff\xfe", b"[" * 100_000, b"{}", b"null", b'"\\ud800"', b"1" * 5000, b'{"app":' + b"[" * 100_000,
            b" " * (2 * announcement.MAX_BYTES + 1),
        ],
        ids=["no-utf8", "deep", "empty", "null", "surrogate", "number", "deep-field", "long"],
    )  # fmt: skip
    def test_what_is_no_announcement_is_skipped(self, value: bytes) -> None:
        assert announcement.heard("app", "x", value, 0.0, 0.0) is None

    @pytest.mark.parametrize(
        ("interval", "taken"),
        [
            ("60", 60.0), ("0.5", 0.5), ("1e300", 3600.0), ("-1", 5.0), ("0", 5.0), ("-0.0", 5.0), ("1e999", 5.0),
            ("-1e999", 5.0), ("null", 5.0), ("true", 5.0), ('"60"', 5.0), ("[1]", 5.0), ("{}", 5.0), ("9" * 5000, 5.0),
        ],
        ids=[
            "a minute", "half a second", "too long", "negative", "0", "-0", "infinite", "less than infinite", "null",
            "true", "text", "list", "object", "long",
        ],
    )  # fmt: skip
    def test_an_interval_has_limits(self, interval: str, taken: float) -> None:
        """What is no interval does not take the announcement along."""
        value = encode(status("x"), 5.0).replace(b'"interval":5.0', b'"interval":' + interval.encode())
        heard = announcement.heard("app", "x", value, 0.0, 0.0)
        assert heard is not None and heard.said.instance == "x"
        assert heard.said.interval == taken

    def test_an_announcement_without_an_interval_has_the_usual_one(self) -> None:
        heard = announcement.heard("app", "x", encode(status("x"), 5.0).replace(b',"interval":5.0', b""), 0.0, 0.0)
        assert heard is not None and heard.said.interval == 5.0

    def test_instances_have_a_limit_and_the_latest_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directory_module, "MOST_INSTANCES", 3)
        directory = Directory()
        for name in ("mine", *(f"invented-{n}" for n in range(10)), "mine"):
            directory.hear(name, announcement.heard("app", "x", encode(status(name), 5.0), 0.0, 0.0))
        assert [one.instance for one in directory.instances(1.0, 1.0)] == ["invented-8", "invented-9", "mine"]

    def test_so_has_what_they_take(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encode(status("x"), 5.0)
        monkeypatch.setattr(directory_module, "MOST_HELD", 2 * len(data))
        directory = Directory()
        for name in "abc":
            directory.hear(name, announcement.heard("app", "x", data, 0.0, 0.0))
        assert len(directory.instances(1.0, 1.0)) == 2
        directory.hear("b", None)
        directory.hear("d", announcement.heard("app", "x", data, 0.0, 0.0))
        assert len(directory.instances(1.0, 1.0)) == 2
