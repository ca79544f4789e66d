from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future

import pytest

from kstream.errors import KafkaUnavailable, TopicError
from kstream.runtime.cluster.topics import DELETE_RETENTION_MS, FOREVER, INTERNAL, Kind, WantedTopic, ensure_topics
from kstream.types import NewTopic, TopicInfo, TopicPartition

DEFAULTS = {
    "cleanup.policy": "delete",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "delete.retention.ms": "86400000",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "3600000",
}


class Admin:
    """Topics in a dict. `meanwhile` are created by someone else just before our creation."""

    def __init__(self, *topics: NewTopic, meanwhile: Sequence[NewTopic] = ()) -> None:
        self.made: list[NewTopic] = []
        self.all = {topic.name: topic for topic in topics}
        self.meanwhile = meanwhile
        self.asked_configs: list[str] = []

    def topics(self, timeout: float) -> dict[str, TopicInfo]:
        return {name: TopicInfo(name, topic.partitions) for name, topic in self.all.items()}

    def topic_configs(self, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
        self.asked_configs += names
        return {name: {**DEFAULTS, **self.all[name].config} for name in names}

    def create_topics(self, topics: Sequence[NewTopic], timeout: float) -> None:
        for topic in (*self.meanwhile, *topics):
            if topic.name not in self.all:
                self.all[topic.name] = topic
                self.made.append(topic)

    def delete_topics(self, names: Sequence[str], timeout: float) -> None:
        raise NotImplementedError

    def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> Future[dict[TopicPartition, tuple[int, str] | None]]:
        raise NotImplementedError

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        raise NotImplementedError

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        raise NotImplementedError

    def delete_records(self, before: Mapping[TopicPartition, int]) -> Future[None]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def good(name: str, kind: str, partitions: int, **config: str) -> NewTopic:
    return NewTopic(name, partitions, config={**INTERNAL[kind], **{k.replace("_", "."): v for k, v in config.items()}})


CHANGELOG = WantedTopic("app-counts-changelog", "changelog", 3, owner="counts")
REPARTITION = WantedTopic("app-by-user", "repartition", 4, owner="by-user")


def test_missing_topics_are_created_as_declared_or_with_the_defaults() -> None:
    admin = Admin()
    counts = ensure_topics(
        admin,
        [
            WantedTopic("in", "source"),
            WantedTopic("out", "sink", 6, {"retention.ms": "1000"}),
            REPARTITION,
            CHANGELOG,
        ],
        auto_create=True,
        replication=3,
        default_partitions=2,
    )
    assert counts == {"in": 2, "out": 6, "app-by-user": 4, "app-counts-changelog": 3}
    made = {topic.name: topic for topic in admin.made}
    assert all(topic.replication == 3 for topic in admin.made)
    assert made["in"].config == {}
    assert made["out"].config == {"retention.ms": "1000"}
    kept = {
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": FOREVER,
    }
    assert made["app-by-user"].config == {**kept, "cleanup.policy": "delete", "segment.bytes": str(50 << 20)}
    assert made["app-counts-changelog"].config == {
        **kept,
        "cleanup.policy": "compact",
        "delete.retention.ms": str(DELETE_RETENTION_MS),
    }


@pytest.mark.parametrize("kind", ["repartition", "delay"])
def test_the_segments_of_what_is_purged_are_small_where_nobody_says(kind: Kind) -> None:
    """Brokers delete whole segments: a gigabyte of what is done would stay on the disk."""
    admin = Admin()
    ensure_topics(
        admin, [WantedTopic("a", kind, 1), WantedTopic("b", kind, 1, {"segment.bytes": "1"})], auto_create=False
    )
    assert [topic.config["segment.bytes"] for topic in admin.made] == [str(50 << 20), "1"]


@pytest.mark.parametrize("kind", ["repartition", "delay"])
def test_those_made_with_larger_segments_go_on(kind: Kind) -> None:
    admin = Admin(good("a", kind, 1, segment_bytes=str(1 << 30)))
    assert ensure_topics(admin, [WantedTopic("a", kind, 1)], auto_create=False) == {"a": 1}


def test_settings_of_internal_topics_win_over_the_declared_ones() -> None:
    admin = Admin()
    wanted = WantedTopic("c", "changelog", 1, {"retention.ms": "5", "segment.bytes": "1000000"})
    ensure_topics(admin, [wanted], auto_create=False)
    assert admin.made[0].config["retention.ms"] == "-1"
    assert admin.made[0].config["segment.bytes"] == "1000000"


def test_without_auto_creation_all_missing_user_topics_are_named_and_nothing_is_made() -> None:
    admin = Admin(NewTopic("there", 1))
    with pytest.raises(TopicError) as caught:
        ensure_topics(
            admin,
            [WantedTopic("there", "source"), WantedTopic("a", "source"), WantedTopic("b", "sink"), CHANGELOG],
            auto_create=False,
        )
    assert "a (source), b (sink)" in str(caught.value)
    assert "there" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not admin.made


def test_what_exists_and_fits_is_left_alone() -> None:
    admin = Admin(
        NewTopic("in", 8),
        good("app-by-user", "repartition", 4),
        good("app-counts-changelog", "changelog", 3, delete_retention_ms=str(2 * DELETE_RETENTION_MS)),
    )
    counts = ensure_topics(admin, [WantedTopic("in", "source"), REPARTITION, CHANGELOG], auto_create=True)
    assert counts == {"in": 8, "app-by-user": 4, "app-counts-changelog": 3}
    assert not admin.made
    assert "in" not in admin.asked_configs  # the user's settings are the user's


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        (good("app-counts-changelog", "changelog", 2), "has 2 partitions and needs 3"),
        (
            good("app-counts-changelog", "changelog", 3, cleanup_policy="compact,delete"),
            "cleanup.policy=compact,delete",
        ),
        (good("app-counts-changelog", "changelog", 3, delete_retention_ms="1000"), "--add-config delete.retention.ms="),
        (good("app-counts-changelog", "changelog", 3, retention_ms="604800000"), "--add-config retention.ms=-1"),
        (NewTopic("app-counts-changelog", 3), f"message.timestamp.after.max.ms={FOREVER}"),
    ],
)
def test_an_internal_topic_that_does_not_fit_is_one_line_with_what_to_do(topic: NewTopic, text: str) -> None:
    with pytest.raises(TopicError) as caught:
        ensure_topics(Admin(topic), [CHANGELOG], auto_create=True)
    assert text in str(caught.value)
    assert "app-counts-changelog (changelog of counts)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_declared_partitions_of_a_user_topic_must_be_the_actual_ones() -> None:
    with pytest.raises(TopicError, match=r"in \(source\) has 8 partitions, but 4 are declared"):
        ensure_topics(Admin(NewTopic("in", 8)), [WantedTopic("in", "source", 4)], auto_create=True)


def test_settings_that_the_broker_does_not_know_are_not_missed() -> None:
    class Old(Admin):
        def topic_configs(self, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
            configs = super().topic_configs(names, timeout)
            for config in configs.values():
                del config["message.timestamp.after.max.ms"]
            return configs

    assert ensure_topics(Old(good("app-by-user", "repartition", 4)), [REPARTITION], auto_create=True)


def test_what_another_instance_created_meanwhile_is_checked_too() -> None:
    fits = Admin(meanwhile=[good("app-by-user", "repartition", 4)])
    assert ensure_topics(fits, [REPARTITION], auto_create=True) == {"app-by-user": 4}
    with pytest.raises(TopicError, match="has 7 partitions"):
        ensure_topics(Admin(meanwhile=[good("app-by-user", "repartition", 7)]), [REPARTITION], auto_create=True)


class Cluster(Admin):
    """Several brokers: the one that is asked hears of new topics only after some more questions."""

    def __init__(self, questions: float) -> None:
        super().__init__()
        self.questions = questions

    def topics(self, timeout: float) -> dict[str, TopicInfo]:
        known = super().topics(timeout)
        self.questions -= bool(known)
        return known if self.questions < 0 else {}


def test_a_broker_that_has_not_heard_of_a_new_topic_yet_is_asked_again() -> None:
    assert ensure_topics(Cluster(3), [REPARTITION], auto_create=True) == {"app-by-user": 4}


def test_brokers_that_never_hear_of_a_topic_are_an_error_in_time() -> None:
    with pytest.raises(KafkaUnavailable, match="topics app-by-user were created, but not all brokers have them yet"):
        ensure_topics(Cluster(float("inf")), [REPARTITION], auto_create=True, creation_timeout=0.1)


def test_a_cluster_that_answers_may_take_its_time_to_make_topics() -> None:
    given: list[float] = []

    class Busy(Admin):
        def create_topics(self, topics: Sequence[NewTopic], timeout: float) -> None:
            given.append(timeout)
            super().create_topics(topics, timeout)

    assert ensure_topics(Busy(), [REPARTITION], auto_create=True, timeout=1) == {"app-by-user": 4}
    assert given[0] > 50


def test_an_internal_topic_without_a_count_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="needs a partition count"):
        ensure_topics(Admin(), [WantedTopic("x", "changelog")], auto_create=True)
