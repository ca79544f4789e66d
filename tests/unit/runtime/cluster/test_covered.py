"""What a commit covered, beside its offsets."""

from __future__ import annotations

from kstream.runtime.cluster.covered import changelogs_of, inputs_of, lost_changelogs, lost_inputs, newest
from kstream.runtime.cluster.metadata import Said, decode, encode
from kstream.types import TopicPartition

ONE, TWO, THREE = (TopicPartition(name, 0) for name in ("one", "two", "three"))
ID = "FRd6Dh9RSoqMQIyo3w64KA"


def test_an_input_is_lost_that_the_last_commit_names() -> None:
    said = Said(inputs=inputs_of(["one", "two"]))
    assert lost_inputs({ONE: 5, TWO: None, THREE: None}, said) == [TWO]
    assert lost_inputs({ONE: 5, TWO: 7, THREE: None}, said) == []
    assert lost_inputs({ONE: 5, TWO: None}, Said()) == [], "of offsets that another tool set, nothing is known"
    assert lost_inputs({ONE: None, TWO: None}, Said()) == [ONE, TWO]
    assert inputs_of(["one"]) == ""


def test_a_changelog_is_lost_that_has_another_id_than_the_last_commit_names() -> None:
    said = Said(changelogs=changelogs_of({"a": ID, "b": "x"}, "ab", Said()))
    assert lost_changelogs(said, {"a": ID, "b": "x"}) == []
    assert lost_changelogs(said, {"a": ID, "b": "y", "c": "new"}) == ["b"]
    assert lost_changelogs(said, {"b": "x"}) == []
    assert lost_changelogs(Said(), {"a": ID}) == []


def test_the_newest_commit_says_it() -> None:
    found = {ONE: (5, encode(Said(ID, 7, inputs="00000001"))), TWO: (5, encode(Said(ID, 9))), THREE: None}
    assert newest(found) == Said(ID, 9)
    assert newest({ONE: None}) == Said()
    witness = Said(ID, 9, inputs="00000001")
    assert newest({ONE: (5, encode(Said(ID, 9))), TWO: (5, encode(witness))}) == witness, "not beside each"


def test_metadata_stays_below_what_brokers_take() -> None:
    """offset.metadata.max.bytes is 4096."""
    large = (1 << 63) - 1
    topics = [f"topic-{number}" for number in range(1000)]
    said = Said(
        ID,
        large,
        large,
        large,
        large,
        large,
        inputs_of(topics),
        changelogs_of(dict.fromkeys(topics, ID), topics, Said()),
    )
    assert len(encode(said)) < 4096
    assert decode(encode(said), ONE) == said
    assert lost_inputs({ONE: 5, TopicPartition("topic-199", 0): None}, said) == [TopicPartition("topic-199", 0)]
    assert lost_changelogs(said, {"topic-99": "other"}) == ["topic-99"]
