"""Where a topic begins and ends, as a start and commands ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from kstream.errors import KafkaUnavailable
from kstream.runtime.cluster import regroup
from kstream.runtime.cluster.records import bounds
from kstream.types import TopicPartition

AT = TopicPartition("shop-control", 0)


class Cluster:
    """One of its brokers has just died: the first question of each kind goes to that one."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def start_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        return self._answer("start", dict.fromkeys(partitions, 3))

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> Future[dict[TopicPartition, int]]:
        return self._answer("end", dict.fromkeys(partitions, 7))

    def _answer(self, kind: str, offsets: dict[TopicPartition, int]) -> Future[dict[TopicPartition, int]]:
        future: Future[Any] = Future()
        if kind in self.asked:
            future.set_result(offsets)
        else:
            future.set_exception(KafkaUnavailable("Failed while waiting for controller: Local: Timed out"))
        self.asked.append(kind)
        return future


def test_a_broker_that_has_just_died_does_not_end_a_start() -> None:
    """Found by `make verify`: an instance that began just then ended with status 2, though two of three were there."""
    cluster: Any = Cluster()
    assert bounds(cluster, [AT]) == ({AT: 3}, {AT: 7})
    assert sorted(cluster.asked) == ["end", "end", "start", "start"]


def test_no_answer_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TimeoutError of Python's has no text: the line ended with a colon."""
    monkeypatch.setattr(regroup, "TIMEOUT", 0.0)
    silent: Any = Cluster()
    silent.start_offsets = lambda partitions: Future()
    with pytest.raises(KafkaUnavailable, match="the start offsets of topic shop-control cannot be read: no answer"):
        bounds(silent, [AT])


def test_of_no_partitions_nobody_is_asked() -> None:
    cluster: Any = Cluster()
    assert bounds(cluster, []) == ({}, {})
    assert cluster.asked == []
